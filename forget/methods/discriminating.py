"""A loss that learns of each example whether its label is hard to fit, and lets it count less."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field

from forget.methods.objective import Method, Objective, Packed, Said, Setting, Unit

DECAY = 0.9
"""Share of the old in running means of losses, and of the old direction in a step of sigma."""

LOWEST, HIGHEST = math.log(0.05), math.log(20)
"""Bounds of log sigma."""

SHARPENED = 3
"""Epochs in which the loss counts less, from a tenth upwards."""


class Discrim(Method):
    """DiscrimLoss on drawn labels: a weight for each example, learned beside the model.

    The running mean of an example's loss, against that of all, moves its sigma, and its gradient is
    divided by sigma. Of a loss that is small, sigma falls: easy examples come to count more. The
    gradient is about a tenth of plain cross-entropy's in the first epochs, so the rate should be
    larger.
    """

    name = "discrim"
    source = "DiscrimLoss, 2208.09884, whose text recipes take lr_sigma 100 and q 10"
    packs: ClassVar[Packed] = "drawn"
    unit: ClassVar[Unit] = "example"

    lr_sigma: float = Field(1.0, gt=0)
    """Rate of log sigma; with 1e-3 it hardly moves within a thousand steps."""
    a: float = Field(0.2, ge=0)
    """Half the range of the factor by which the mean loss, as a bar, grows over the epochs."""
    p: float = Field(1.2, gt=0)
    """Steepness of that growth."""
    q: float = Field(3.0, ge=0)
    """Epoch in its middle."""
    decay: float = Field(1e-6, ge=0)
    """Weight of the squares of log sigma."""

    def start(self, setting: Setting) -> Objective:
        return Sigmas(self, setting.examples)


class Sigmas(Objective):
    """`Discrim` in a stage: the running mean loss and log sigma of each example.

    The loss that it returns has the gradient of DiscrimLoss, whose value (`values`) needs the mean
    over the whole step, and which moves no weight by it.
    """

    unit: ClassVar[Unit] = "example"

    def __init__(self, settings: Discrim, examples: int) -> None:
        self._settings = settings
        self.mean = torch.zeros(examples, dtype=torch.float64)
        self.log_sigma = torch.zeros(examples, dtype=torch.float64)
        self._moves = torch.zeros(examples, dtype=torch.float64)
        self._bar = math.nan
        self._seen: dict[int, float] = {}

    def loss(self, said: Said) -> torch.Tensor:
        each = said.by_example(-said.sums / said.lengths)
        self._seen |= dict(zip(said.places, each.detach().tolist(), strict=True))
        factors = _emphasis(said.epoch) * (1 - DECAY) / _debias(said.epoch)
        sigma = self.log_sigma[list(said.places)].exp()
        return each * (factors / sigma).to(each)

    def noted(self) -> Mapping[int, float]:
        return self._seen

    def weights(self) -> Mapping[int, float]:
        return dict(enumerate((-self.log_sigma).exp().tolist()))

    def after(self, losses: Mapping[str, float], noted: Mapping[int, float], epoch: int) -> None:
        places = sorted(noted)
        self.update(places, torch.tensor([noted[i] for i in places], dtype=torch.float64), epoch)
        self._seen = {}

    def update(self, places: Sequence[int], losses: torch.Tensor, epoch: int) -> torch.Tensor:
        """Take the losses of a step's examples into account; return their DiscrimLoss.

        Args:
            places: of the examples.
            losses: cross-entropy of each, in nats.
            epoch: of the step, from 0.
        """
        settings, own = self._settings, list(places)
        self.mean[own] = DECAY * self.mean[own] + (1 - DECAY) * losses
        level = self.mean[own] / _debias(epoch)
        now = level.mean().item()
        self._bar = now if math.isnan(self._bar) else DECAY * self._bar + (1 - DECAY) * now
        grows = settings.a * math.tanh(settings.p * (epoch - settings.q)) + settings.a + 1
        values = _emphasis(epoch) * (level - grows * self._bar) / self.log_sigma[own].exp()
        slope = settings.decay * self.log_sigma[own] - values / len(own)
        self._moves[own] = DECAY * self._moves[own] + slope
        moved = self.log_sigma[own] - settings.lr_sigma * self._moves[own]
        self.log_sigma[own] = moved.clamp(LOWEST, HIGHEST)
        return values

    def state(self) -> dict[str, torch.Tensor]:
        bar = torch.tensor([self._bar], dtype=torch.float64)
        each = torch.stack([self.mean, self.log_sigma, self._moves])
        return {"each": each, "bar": bar}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.mean, self.log_sigma, self._moves = (row.clone() for row in state["each"])
        self._bar = state["bar"].item()


def _emphasis(epoch: int) -> float:
    """Return the factor of the loss in an epoch: a tenth, two, three, then all of it."""
    return (epoch + 1) / 10 if epoch < SHARPENED else 1.0


def _debias(epoch: int) -> float:
    """Return what a running mean that began at 0 has gathered of its weights by an epoch."""
    return 1 - DECAY ** (epoch + 1)
