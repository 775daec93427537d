"""Slopes of the examples' cross-entropy in the MLPs' weights, beside adapters that relearn them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from forget.models import memory
from forget.models.adapting import with_adapters
from forget.models.language_model import LanguageModel
from forget.settings.parts import Lora, Stage
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.items import layouts
from forget.training.passes import Pass
from forget.training.terms import Steps, Term


def slopes(
    model: LanguageModel,
    examples: Sequence[Example],
    stage: Stage,
    *,
    seed: int,
    epoch: int,
    rate: float,
    bf16: bool,
) -> dict[str, torch.Tensor]:
    """Return the slope of the mean cross-entropy of the true answers in each of the MLPs' weights.

    Each process computes all of it, so that all have the same. The model stays as it was.

    Args:
        model: whole, in evaluation mode.
        examples: on true labels.
        stage: has the batch.
        seed: decides the order and the adapters' first weights.
        epoch: the number of the pass, which decides them as well.
        rate: of the adapters' stochastic gradient descent, one pass long.
        bf16: autocast to bfloat16.
    """
    wide = _mlps(model.answers.blocks)
    named = [(name, p) for name, p in model.network.named_parameters() if id(p) in wide]
    adapters = with_adapters(model.network, Lora(), hash((seed, epoch)))
    once = stage.model_copy(update={"epochs": 1})
    term = Term(lambda _: labels.true(examples), name=f"relearn {epoch}")
    steps = Steps(term, once, term.name, seed)
    one = Pass(term, steps, model, bf16, len(steps))
    trained = [p for p in model.network.parameters() if p.requires_grad]
    descent = torch.optim.SGD(trained, lr=rate)
    for step in range(len(steps)):
        _backward(one, step)
        descent.step()
        descent.zero_grad()
    for p in trained:
        p.requires_grad_(False)
    for _, p in named:
        p.requires_grad_(True)
    for step in range(len(steps)):
        _backward(one, step)
    found = {}
    for name, p in named:
        if p.grad is not None:
            found[name] = p.grad.detach().float() / len(steps)
        p.grad = None
    adapters.unload()
    model.answers.unfreeze()
    return found


def _backward(one: Pass, step: int) -> None:
    """Add up the gradients of the mean loss over the tokens of a step, in this process alone."""
    items = one.items(step)
    budget = memory.budget("training", one.model.network, one.model.device)
    scored = sum(sum(item.encoded.scored) for item in items)
    with one.model.autocast(one.bf16):
        for layout in layouts(one.way, items, budget):
            (one.loss(layout, epoch=0) / scored).backward()


def _mlps(blocks: Sequence[nn.Module]) -> set[int]:
    """Return the ids of the weights of linear layers that are not square, but for attention's."""
    found = set()
    for block in blocks:
        for name, module in block.named_modules():
            plain = isinstance(module, nn.Linear | Conv1D) and "att" not in name.lower()
            if plain and len(set(module.weight.shape)) == 2:
                found.add(id(module.weight))
    return found
