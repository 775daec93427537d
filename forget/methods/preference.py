"""Losses that prefer another answer, or none, to the truth."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch.nn.functional import logsigmoid

from forget.methods.objective import Method, Need, Packed, Said, Unit


class Npo(Method):
    """Preference optimisation by the truth as the answer that is not preferred.

    With beta to 0 its gradient is that of ascent; the larger it is, the sooner it lets go of an
    answer that has become less likely than it was.
    """

    name = "npo"
    source = "Zhang et al. 2024, 2404.05868, eq. 3; beta as in open-unlearning"
    unit: ClassVar[Unit] = "answer"
    needs: ClassVar[frozenset[Need]] = frozenset({"sums", "retain"})

    beta: float = Field(0.1, gt=0)
    """Inverse temperature."""

    def loss(self, said: Said) -> torch.Tensor:
        return -2 / self.beta * logsigmoid(-self.beta * said.gained)


class SimNpo(Method):
    """As npo, of the mean over the answer's tokens and without a reference."""

    name = "simnpo"
    source = "Fan et al. 2024, 2410.07163; beta, delta and weight as in open-unlearning"
    unit: ClassVar[Unit] = "answer"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})

    weight: float = Field(0.125, gt=0)
    beta: float = Field(4.5, gt=0)
    """Inverse temperature."""
    delta: float = Field(0.0, ge=0)
    """Cross-entropy a token, in nats, down to which an answer is pushed with most force."""

    def loss(self, said: Said) -> torch.Tensor:
        short = -said.sums / said.lengths - self.delta
        return -2 / self.beta * logsigmoid(self.beta * short)


class Dpo(Method):
    """Preference optimisation that prefers a wrong answer, drawn once an example, to the truth."""

    name = "dpo"
    source = "Rafailov et al. 2023, eq. 7, times 2/beta as open-unlearning has it"
    packs: ClassVar[Packed] = "wrong"
    unit: ClassVar[Unit] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"sums", "retain"})
    cost: ClassVar[float] = 1.1

    beta: float = Field(0.1, gt=0)
    """Inverse temperature."""

    def loss(self, said: Said) -> torch.Tensor:
        truth = said.gained[said.truth]
        wrong = said.by_example(said.gained) - truth
        return -2 / self.beta * logsigmoid(self.beta * (wrong - truth))
