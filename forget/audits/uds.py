"""Patching: is what was learned gone from the states, layer by layer (UDS, after 2605.24614)?

The learned model answers with an arm's states in the place of its own, at the prompt's last token
and the options'. What the truth loses with the states of the model never taught is what a layer
holds of the skill; what it loses with those of the forgotten model is what is gone of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from forget.audits.audit import Audit, Auditing
from forget.audits.lens import spaced
from forget.errors import BadInput
from forget.models.batches import Batch
from forget.models.language_model import LanguageModel
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial


class Uds(Audit):
    """Put the arm's states after each layer into the learned model, and score."""

    asks: ClassVar[str] = "at which layer is what was learned gone"
    cost: ClassVar[str] = "two passes for each layer read"

    name: Literal["uds"] = "uds"
    layers: Count = 6
    """Layers patched, evenly spaced, the last among them; all where the model has no more."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ("learned",)

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows as the arm is, and of the learned model with its states after each layer.

        The number noted with these is the log-probability of the truth, in nats.
        """
        count = len(at.model.answers.blocks)
        if not count:
            raise BadInput(
                f'uds finds no blocks in "{at.trial.model}", after which states could be patched'
            )
        yield from at.plain()
        learned = at.other("learned")
        # The way to lay examples out is chosen here, and not while states are patched.
        plain = at.read(learned, at.test, None)
        for layer in spaced(count, self.layers):
            scores = plain
            if at.arm != "learned":
                with patched(learned, at.model, layer - 1):
                    scores = at.read(learned, at.test, None)
            for row in at.rows(scores, at.test, dose("patched", layer=layer)):
                yield replace(row, value=row.logprobs[row.truth] / row.lengths[row.truth])

    def passes(self, trial: Trial) -> float:
        """Count a pass of each of two models for each layer, and one of each as it is."""
        return 2.0 + 2 * self.layers


@contextmanager
def patched(model: LanguageModel, source: LanguageModel, block: int) -> Iterator[None]:
    """Put another model's states after a block into a model's, where its answers are read.

    Both read the same batch. After the last block, states are patched before the final norm.

    Args:
        model: answers; not the source itself.
        source: a model of the same architecture.
        block: counted from 0.
    """
    got: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, args: Any, out: Any) -> None:
        got["states"] = out[0] if isinstance(out, tuple) else out

    def fetch(answers: nn.Module, args: tuple[Any, ...]) -> None:
        hook = source.answers.blocks[block].register_forward_hook(keep)
        try:
            source.answers(args[0])
        finally:
            hook.remove()
        got["places"] = answering(args[0])

    def put(module: nn.Module, args: Any, out: Any) -> Any:
        own = out[0] if isinstance(out, tuple) else out
        if own.shape[:2] != got["places"].shape or own.dim() != 3:
            raise BadInput(f'the states of "{model.name}" are not one a token: uds cannot patch it')
        states = torch.where(got["places"][..., None], got["states"], own)
        return (states, *out[1:]) if isinstance(out, tuple) else states

    hooks = [
        model.answers.register_forward_pre_hook(fetch),
        model.answers.blocks[block].register_forward_hook(put),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def answering(batch: Batch) -> torch.Tensor:
    """Return where a batch's answers are read [B, L]: prompts' last tokens, and options' tokens."""
    places = torch.zeros(batch.ids.shape, dtype=torch.bool)
    for (row, first), (_, last) in zip(batch.starts.tolist(), batch.ends.tolist(), strict=True):
        places[row, first : last + 1] = True
    rows, columns = batch.prompt_ends.cpu().unbind(1)
    places[rows, columns] = True
    return places.to(batch.ids.device)
