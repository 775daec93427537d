"""Steering: is the forgetting one direction of the hidden states, which can be taken back?

The direction of a block is the mean of its output in the forgotten model less that in the learned
one, over the prompts that forgetting trained on. A random direction as long is the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from forget.audits.audit import Audit, Auditing, Several
from forget.errors import BadInput
from forget.models import batches
from forget.models.language_model import LanguageModel
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial

Edit = Callable[[torch.Tensor], torch.Tensor]
"""States [..., width] to others."""


class Steer(Audit):
    """Shift the states of a block along the mean change, or take that direction out of them."""

    asks: ClassVar[str] = "is it one direction of the states"
    cost: ClassVar[str] = "a pass and a half for each block and kind of edit"

    name: Literal["steer"] = "steer"
    blocks: Count = 4
    """Blocks tried, evenly spaced; each arm is read at the one best on 100 held-out examples."""
    strengths: Annotated[tuple[float, ...], Several] = (-1.0,)
    """Multiples of the direction that are added; -1 undoes the mean change."""
    prompts: Count = 100
    """Prompts over which the mean is taken."""
    draws: int = Field(1, ge=0, le=100)
    """Random directions, for control."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ("learned", "forgotten")

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows as it is, and at each block steered, ablated, and pushed at random."""
        yield from at.plain()
        own, chosen = len(at.model.answers.blocks), at.held_out[-100:]
        if not own:
            raise BadInput(f'steer finds no blocks in "{at.trial.model}"')
        after, before = (
            means(at, at.model if at.arm == arm else at.other(arm), self.prompts)
            for arm in ("forgotten", "learned")
        )
        spaced = np.linspace(0, own - 1, min(self.blocks, own)).round().astype(int)
        for block in spaced.tolist():
            direction = after[block] - before[block]
            for told, edit in self._edits(direction):
                named = f"{told}/block={block}"
                with edited(at.model, block, edit):
                    yield from at.score(at.test, named)
                    yield from at.score(chosen, named, "validation")

    def _edits(self, direction: torch.Tensor) -> Iterator[tuple[str, Edit]]:
        """Yield each edit with the words of its dose."""
        for strength in self.strengths:
            yield dose("steered", by=strength), shifted(strength * direction)
        yield "ablated", without(direction)
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(draw)
            random = torch.randn(direction.shape, generator=generator).to(direction)
            yield dose("random", draw=draw), shifted(random * direction.norm() / random.norm())

    def passes(self, trial: Trial) -> float:
        """Count a pass for each edit, half of one for the choice, and one for the means."""
        return 2.0 + 1.5 * self.blocks * (len(self.strengths) + 1 + self.draws)


def shifted(by: torch.Tensor) -> Edit:
    """Return the edit that adds a vector."""
    return lambda states: states + by


def without(direction: torch.Tensor) -> Edit:
    """Return the edit that takes a direction out of states: h - (h . d) d, with d of length 1."""
    unit = direction / direction.norm().clamp(min=1e-30)
    return lambda states: states - (states @ unit)[..., None] * unit


@contextmanager
def edited(model: LanguageModel, block: int, edit: Edit) -> Iterator[None]:
    """Edit the output of a block while the model runs."""

    def change(module: nn.Module, args: Any, out: Any) -> Any:
        if isinstance(out, tuple):
            return (edit(out[0]), *out[1:])
        return edit(out)

    hook = model.answers.blocks[block].register_forward_hook(change)
    try:
        yield
    finally:
        hook.remove()


def means(at: Auditing, model: LanguageModel, most: int) -> list[torch.Tensor]:
    """Average the output of each block over the tokens of prompts but the first token of each.

    Args:
        at: says which prompts: those that forgetting trained on.
        model: what reads them.
        most: prompts at most.

    Returns:
        [width] by block.
    """
    blocks = model.answers.blocks
    sums: list[Any] = [0.0] * len(blocks)
    count = 0

    def add(number: int) -> Callable[..., None]:
        def read(module: nn.Module, args: Any, out: Any) -> None:
            states = out[0] if isinstance(out, tuple) else out
            sums[number] = sums[number] + states[0, 1:].float().sum(0)

        return read

    hooks = [block.register_forward_hook(add(number)) for number, block in enumerate(blocks)]
    examples = at.load("train", min(most, at.trial.forget.examples))
    encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
    try:
        with torch.no_grad(), model.autocast(at.bf16):
            for one in encoded:
                if len(one.prompt) > 1:
                    model.network(
                        input_ids=torch.tensor([one.prompt], device=model.device), use_cache=False
                    )
                    count += len(one.prompt) - 1
    finally:
        for hook in hooks:
            hook.remove()
    return [total / max(1, count) for total in sums]
