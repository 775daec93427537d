"""Weights of the examples, learned so that what is not trained on is forgotten as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from forget.methods.objective import Method, Objective, Packed, Said, Setting, Unit
from forget.settings.parts import Count


class Weighted(Method):
    """Random labels of which a small network weighs each by its loss (CMW-Net).

    Some of the examples are held out of the training. Every few steps the network moves so that a
    step on the weighed examples lowers the loss of the held-out ones on their own drawn labels, and
    that of the retain set. It weighs by the loss alone: all examples are one group.
    """

    name = "weighted"
    source = "CMW-Net, 2202.05613, without its pseudo-labels and mixup; its rate is 1e-4"
    packs: ClassVar[Packed] = "drawn"
    unit: ClassVar[Unit] = "example"
    cost: ClassVar[float] = 1.25

    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the examples that the network is judged by."""
    every: Count = 10
    """Steps from one of the network to the next."""
    net_lr: float = Field(1e-3, gt=0)
    """Rate of Adam for the network."""
    hidden: Count = 100
    """Units of the network's one hidden layer."""

    def start(self, setting: Setting) -> Objective:
        return Weighing(self, setting.examples, setting.seed)

    def holds(self, examples: int) -> Sequence[int]:
        return range(examples - max(1, round(self.held_out * examples)), examples)


class Weighing(Objective):
    """`Weighted` in a stage: the network, and the last loss that was seen of each example."""

    unit: ClassVar[Unit] = "example"

    def __init__(self, settings: Weighted, examples: int, seed: int) -> None:
        self._every = settings.every
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = nn.Sequential(
                nn.Linear(1, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 1)
            )
        self._adam = torch.optim.Adam(self._net.parameters(), lr=settings.net_lr)
        self._last = torch.full((examples,), torch.nan)
        self._seen: dict[int, float] = {}

    def weight(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the weight, between 0 and 1, of examples with these losses, on the CPU."""
        found: torch.Tensor = self._net(losses.float().cpu()[:, None]).sigmoid()[:, 0]
        return found

    def loss(self, said: Said) -> torch.Tensor:
        each = said.by_example(-said.sums / said.lengths)
        self._seen |= dict(zip(said.places, each.detach().tolist(), strict=True))
        with torch.no_grad():
            known = self._last[~self._last.isnan()]
            # The mean over all that was seen, for that over a step is known only at its end.
            mean = self.weight(known).mean() if len(known) else torch.tensor(0.5)
            share = self.weight(each.detach()) / mean
        return each * share.to(each)

    def noted(self) -> Mapping[int, float]:
        return self._seen

    def weights(self) -> Mapping[int, float]:
        # Those that are held out are never trained on, and have none.
        places = (~self._last.isnan()).nonzero()[:, 0]
        with torch.no_grad():
            found = self.weight(self._last[places])
        return dict(zip(places.tolist(), found.tolist(), strict=True))

    def after(self, losses: Mapping[str, float], noted: Mapping[int, float], epoch: int) -> None:
        for place, value in noted.items():
            self._last[place] = value
        self._seen = {}

    def due(self, step: int) -> bool:
        return step % self._every == 0

    def learn(self, losses: Mapping[int, float], slopes: Mapping[int, float]) -> None:
        places = sorted(slopes)
        self._adam.zero_grad()
        found = self.weight(torch.tensor([losses[i] for i in places]))
        found.backward(torch.tensor([slopes[i] for i in places]))
        self._adam.step()

    def state(self) -> dict[str, torch.Tensor]:
        found = {f"net.{name}": value.clone() for name, value in self._net.state_dict().items()}
        for index, moments in self._adam.state_dict()["state"].items():
            found |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        return found | {"last": self._last}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        parts = {key.removeprefix("net."): v for key, v in state.items() if key.startswith("net.")}
        self._net.load_state_dict(parts)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})
        self._last = state["last"].clone()
