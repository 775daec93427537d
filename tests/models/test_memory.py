"""Batches that fit a GPU's free memory, of which a stand-in tells."""

from collections.abc import Callable

import pytest
import torch

from forget.models import language_model, memory
from forget.models.memory import BUDGET, LEAST, Work

GPU = torch.device("cuda")

Free = Callable[..., None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Make this machine one whose GPU has so many bytes free, a tenth of them held by torch."""

    def become(amount: int, part: float = 1) -> None:
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: part)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (amount * 9 // 10, 2**40))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: amount // 5)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: amount // 10)

    return become


@pytest.mark.parametrize("work", BUDGET)
def test_a_batch_takes_what_is_free_and_no_more_than_keeps_the_gpu_busy(
    free: Free, work: Work
) -> None:
    network = language_model.tiny().network
    a_token = memory._bytes_a_token(work, network)
    free(2**40)
    assert memory.budget(work, network, GPU) == BUDGET[work]["cuda"]
    free(1000 * a_token)
    # A little more or less of free memory makes no other batches.
    assert memory.budget(work, network, GPU) == 512
    free(1200 * a_token)
    assert memory.budget(work, network, GPU) == 512
    # A trial that shares the GPU takes no more than its part, all of which is allocated here.
    free(2**40, 0.1)
    assert memory.budget(work, network, GPU) == LEAST
    free(0)
    assert memory.budget(work, network, GPU) == LEAST
    assert memory.budget(work, network, torch.device("cpu")) == BUDGET[work]["cpu"]


def test_a_batch_is_parted_by_its_rows_then_by_its_examples() -> None:
    tried: list[list[list[int]]] = []

    def run(batch: list[list[int]]) -> list[int]:
        tried.append(batch)
        if sum(map(len, batch)) > 1:
            raise torch.OutOfMemoryError
        return batch[0]

    assert list(memory.in_halves([[0, 1], [2]], run)) == [[0], [1], [2]]
    assert tried == [[[0, 1], [2]], [[0, 1]], [[0]], [[1]], [[2]]]
