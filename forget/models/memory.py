"""Batches that fit the device: how many tokens, and what to do where they do not fit after all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from transformers import PreTrainedModel

from forget.errors import OutOfMemory

Work = Literal["scoring", "training"]

BUDGET: dict[Work, dict[str, int]] = {
    "scoring": {"cpu": 512, "cuda": 32768},
    "training": {"cpu": 512, "cuda": 8192},
}
"""Tokens of a batch at most, by device: as many as keep it busy. On a CPU, more would no longer fit
in its caches.
"""

LEAST = 256
"""Tokens of a batch below which no GPU is ever filled."""

BLOCKS = 48
"""Blocks that are assumed of a model whose configuration does not count them."""

SHARE = 0.8
"""Share of a GPU's free memory that a batch may take; the rest is for what grows beside it."""

T = TypeVar("T")


def budget(work: Work, network: PreTrainedModel, device: torch.device) -> int:
    """Return the tokens of a batch: as many as keep the device busy and fit its free memory.

    A power of two, so that a little more or less of free memory changes nothing.
    """
    most = BUDGET[work][device.type]
    if device.type != "cuda":
        return most
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    # Trials that share a GPU have a part each. What torch holds and does not use is free, too.
    free = min(free, int(total * torch.cuda.get_per_process_memory_fraction(device)) - held)
    free += held - torch.cuda.memory_allocated(device)
    fitting = int(SHARE * free) // _bytes_a_token(work, network)
    return max(LEAST, min(most, 2 ** (max(1, fitting).bit_length() - 1)))


def _bytes_a_token(work: Work, network: PreTrainedModel) -> int:
    """Estimate the bytes that a token of a batch takes beside the weights, in fp32."""
    config = network.config.get_text_config()
    embedding: Any = network.get_input_embeddings()
    vocabulary, embedded = embedding.weight.shape
    width = getattr(config, "hidden_size", None) or embedded
    # Logits are made of a fourth of the tokens, and of training kept for their gradient.
    logits = vocabulary * (1 if work == "scoring" else 3)
    if work == "training":
        blocks = getattr(config, "num_hidden_layers", None) or BLOCKS
        # Korthikanti et al. 2022, 4.1, attention scores left out.
        return 68 * width * blocks + logits
    # One block at a time: its input, queries, keys, values, and two of the inner width.
    inner = getattr(config, "intermediate_size", None) or 4 * width
    return 4 * (8 * width + 3 * inner) + logits


def halved(batch: list[list[int]]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Part a batch, indices of examples by row, into two; None where it holds one example.

    Rows stay whole while there are several.
    """
    if len(batch) > 1:
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]
    (row,) = batch
    if len(row) > 1:
        return [row[: len(row) // 2]], [row[len(row) // 2 :]]
    return None


def in_halves(batch: list[list[int]], run: Callable[[list[list[int]]], T]) -> Iterator[T]:
    """Run a batch, and where the device has no memory for it its halves, one after the other.

    Raises:
        torch.OutOfMemoryError: there is none for a single example either.
    """
    left = [batch]
    while left:
        part = left.pop()
        try:
            result = run(part)
        except torch.OutOfMemoryError:
            parts = halved(part)
            if parts is None:
                raise
        else:
            yield result
            continue
        # Only here, where the error no longer holds what filled the memory.
        free()
        left.extend(reversed(parts))


def shrinking(
    budget: int, least: float, run: Callable[[int], T], undo: Callable[[], None]
) -> tuple[T, int]:
    """Run with a budget of tokens, halved until the device has memory for it.

    Args:
        budget: tokens of a batch.
        least: the budget below which halving it changes nothing.
        run: computes with a budget.
        undo: takes back what a run that ran out of memory has done.

    Returns:
        What `run` returned, and the budget with which it did.

    Raises:
        torch.OutOfMemoryError: there is no memory for the least either.
    """
    while True:
        try:
            return run(budget), budget
        except torch.OutOfMemoryError:
            if budget <= least:
                raise
        undo()
        free()
        budget //= 2


def free() -> None:
    """Give memory that torch holds and does not use back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def naming_cures() -> Iterator[None]:
    """Say what helps where a model does not fit the memory.

    Raises:
        OutOfMemory: it does not.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = str(error).partition(". ")[0] or type(error).__name__
        raise OutOfMemory(
            f"the model does not fit the memory, one example at a time ({reason}):"
            ' tuning = "lora" trains small adapters alone, [resources] shard = true shares the'
            " model out over workers, and fewer trials at once leave more to each (gpus = 1 gives a"
            " whole GPU, concurrent = 1 the machine)"
        ) from error
