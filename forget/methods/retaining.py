"""Losses of a retain set, on true labels."""

from __future__ import annotations

from typing import ClassVar

import torch

from forget.methods.distributions import cross_entropy_to, jensen_shannon, kl, of_reference
from forget.methods.likelihood import CrossEntropy
from forget.methods.objective import Need, Objective, Said
from forget.methods.representations import RetainStates

LOGITS: frozenset[Need] = frozenset({"logits"})


class RetainKl(Objective):
    """KL(reference || model) at the answer's tokens."""

    needs: ClassVar[frozenset[Need]] = LOGITS

    def loss(self, said: Said) -> torch.Tensor:
        return kl(of_reference(said), said.logprobs)


class RetainJs(Objective):
    """Jensen-Shannon divergence of model and reference at the answer's tokens."""

    needs: ClassVar[frozenset[Need]] = LOGITS

    def loss(self, said: Said) -> torch.Tensor:
        return jensen_shannon(of_reference(said), said.logprobs)


class RetainCrossEntropy(Objective):
    """Cross-entropy to the reference at the answer's tokens: `RetainKl` and a constant."""

    needs: ClassVar[frozenset[Need]] = LOGITS

    def loss(self, said: Said) -> torch.Tensor:
        return cross_entropy_to(of_reference(said).exp(), said.logprobs)


RETAIN_LOSSES: dict[str, type[Objective]] = {
    "nll": CrossEntropy,
    "kl": RetainKl,
    "js": RetainJs,
    "ce_ref": RetainCrossEntropy,
    "states": RetainStates,
}
"""Losses by name (`Retain.loss`)."""
