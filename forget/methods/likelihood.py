"""Losses of the likelihood of the answer's tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from forget.methods.objective import Method, Need, Objective, Packed, Said


class CrossEntropy(Objective):
    """-log p(target), by which a task is learned."""

    def loss(self, said: Said) -> torch.Tensor:
        return said.nll


class RandomLabels(Method):
    """-log p(answer) of the labels that the arm of the trial gives."""

    name = "random_labels"
    source = "Zhang, Choshen, Andreas 2024, section 3"
    packs: ClassVar[Packed] = "drawn"

    def loss(self, said: Said) -> torch.Tensor:
        return said.nll


class GradientAscent(Method):
    """log p(truth): it has no lower bound, so it takes few steps at a low rate."""

    name = "gradient_ascent"
    source = "Jang et al. 2023, eq. 1"

    def loss(self, said: Said) -> torch.Tensor:
        return -said.nll


class GradDiff(GradientAscent):
    """log p(truth), beside the loss of a retain set."""

    name = "grad_diff"
    source = "Liu, Liu, Stone 2022; weights 1 and 1 as in open-unlearning"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})


class Wga(Method):
    """p^beta log p of each token of the truth: what is hardly likely any more counts little."""

    name = "wga"
    source = "Wang et al. 2025, 2502.19301; beta 1 as in open-unlearning"

    beta: float = Field(1.0, ge=0)
    """Power of the probability by which a token is weighed; 0 is gradient ascent."""

    def loss(self, said: Said) -> torch.Tensor:
        return -(torch.exp(-self.beta * said.nll.detach()) * said.nll)


class SatImp(Method):
    """p^beta1 (1 - p)^beta2 log p of each token of the truth."""

    name = "satimp"
    source = "Yang et al. 2025, 2505.11953; defaults of open-unlearning's configuration"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})

    weight: float = Field(0.1, gt=0)
    beta1: float = Field(5.0, ge=0)
    """Power of the probability: what is not saturated counts less."""
    beta2: float = Field(1.0, ge=0)
    """Power of what it lacks to 1: what is not important counts less."""

    def loss(self, said: Said) -> torch.Tensor:
        p = torch.exp(-said.nll.detach())
        return -(p**self.beta1 * (1 - p) ** self.beta2 * said.nll)


class Unlikelihood(Method):
    """-log(1 - p) of each token of the truth; CE-U has the same gradient, and is LAT's "away"."""

    name = "unlikelihood"
    source = "Welleck et al. 2020, eq. 2"

    def loss(self, said: Said) -> torch.Tensor:
        # Above, the gradient would be infinite.
        return -torch.log1p(-torch.exp(-said.nll).clamp(max=1 - 1e-6))
