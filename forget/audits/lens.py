"""Lens: at which layer is the answer still there (nostalgebraist 2020)?

The states after a layer are read by the final norm and the head, as if no layers were above: by the
arm's own, and by those of the learned model, which see through a head that was masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from forget.audits.audit import Audit, Auditing
from forget.errors import BadInput
from forget.models.language_model import LanguageModel
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial


class Lens(Audit):
    """Score the options by the states after each layer."""

    asks: ClassVar[str] = "at which layer is the answer still there"
    cost: ClassVar[str] = "two passes for each layer read"

    name: Literal["lens"] = "lens"
    layers: Count = 6
    """Layers read, evenly spaced, the last among them; all where the model has no more."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ("learned",)

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows for each layer, by the arm's own decoder and by that of the learned arm."""
        count = len(at.model.answers.blocks)
        if not count:
            raise BadInput(
                f'lens finds no blocks in "{at.trial.model}", between which states could be read'
            )
        chosen = spaced(count, self.layers)
        for layer in chosen:
            with cut(at.model, layer):
                yield from at.score(at.test, dose("own head", layer=layer))
        with decoded(at.model, at.other("learned")):
            for layer in chosen:
                with cut(at.model, layer):
                    yield from at.score(at.test, dose("learned head", layer=layer))

    def passes(self, trial: Trial) -> float:
        """Count a pass for each layer and decoder."""
        return 2.0 * self.layers


def spaced(count: int, most: int) -> list[int]:
    """Return at most so many of the layers 1 to `count`, evenly spaced, the last among them."""
    return np.linspace(0, count, min(most, count) + 1).round().astype(int)[1:].tolist()


@contextmanager
def cut(model: LanguageModel, layer: int) -> Iterator[None]:
    """Pass the states after so many blocks to the final norm: blocks above give what they get."""

    def skip(block: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        return (states, *out[1:]) if isinstance(out, tuple) else states

    hooks = [
        block.register_forward_hook(skip, with_kwargs=True)
        for block in model.answers.blocks[layer:]
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def decoded(model: LanguageModel, other: LanguageModel) -> Iterator[None]:
    """Decode states by the final norm and the head of another model of the same architecture.

    A head that is tied to the embedding is parted from it meanwhile.
    """
    before = _decoder(model)
    for (module, name), (theirs, _) in zip(before, _decoder(other), strict=True):
        setattr(module, name, nn.Parameter(getattr(theirs, name).detach().clone()))
    try:
        yield
    finally:
        for (module, name), weight in before.items():
            setattr(module, name, weight)


def _decoder(model: LanguageModel) -> dict[tuple[nn.Module, str], nn.Parameter]:
    """Return the weights outside the blocks that read states: all but those of embeddings."""
    inside: set[nn.Module] = set()
    for block in model.answers.blocks:
        inside.update(block.modules())
    found = {}
    for module in model.network.modules():
        if module not in inside and not isinstance(module, nn.Embedding):
            for name, weight in module.named_parameters(recurse=False):
                found[module, name] = weight
    return found
