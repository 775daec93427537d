"""The rows of GPUs, as far as a machine without one can run them."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks import rooms
from benchmarks.compare import run
from benchmarks.training import accelerators
from forget import tasks
from forget.errors import BadInput
from forget.models import loading


@pytest.mark.parametrize("other", [accelerators.flexing, accelerators.apart])
def test_both_ways_of_attention_score_alike(other: object) -> None:
    model = loading.load("tiny")
    some = tasks.load("science", "test", 12, seed=0)
    row = accelerators.scoring(lambda: model, "score", some, "another way", other)  # type: ignore[arg-type]
    # torch 2.13 compiles flex attention for GPUs; for CPUs its code does not always compile.
    with torch.compiler.set_stance("force_eager"):
        found = run(row, 1)
    assert found.equal, found.note
    before = model.network.config._attn_implementation, model.answers.choice
    with other(model):  # type: ignore[operator]
        pass
    assert before == (model.network.config._attn_implementation, model.answers.choice)


def test_the_kernel_that_attends_is_named() -> None:
    states = torch.randn(1, 2, 8, 16)
    found = accelerators.attending(lambda: scaled_dot_product_attention(states, states, states))
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in found


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_a_machine_without_a_gpu_is_told_so() -> None:
    assert accelerators.comparisons(quick=True) == []
    with pytest.raises(BadInput, match="has no GPU"):
        rooms.named(True, "accelerators")
