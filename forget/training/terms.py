"""The terms that a stage minimises a weighted sum of, and the steps it takes on each."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

from forget.methods.likelihood import CrossEntropy
from forget.methods.objective import Objective
from forget.settings.parts import Stage
from forget.tasks.labels import Labelled

Labels = Callable[[int], Sequence[Labelled]]
"""Epoch -> the examples with their labels, the same examples in every epoch."""


META = "meta"
"""Name of a term that no step minimises: an objective learns from it how examples should weigh."""


@dataclass(frozen=True)
class Term:
    """Examples with their labels, and the loss that a stage takes of them.

    A stage minimises the sum of its terms, each the mean loss over its own units times its weight.
    """

    labelled: Labels
    objective: Objective = field(default_factory=CrossEntropy)
    name: str = "forget"
    """Name under which its loss is told apart."""
    weight: float = 1.0
    part: Callable[[int], Sequence[int]] | None = None
    """Epoch -> places of the examples that are trained on in it, in order; None for all."""


@dataclass(frozen=True)
class Steps:
    """The steps of a stage: which examples of its first term each trains on, with what labels.

    A step is a function of the seed and its number alone, so that a training that goes on from a
    checkpoint takes the steps that it would have taken.
    """

    term: Term
    settings: Stage
    name: str
    """Name of the stage, which draws the order."""
    seed: int

    def __len__(self) -> int:
        return self._starts[-1]

    def epoch(self, step: int) -> int:
        """Return the epoch that a step is of."""
        return bisect_right(self._starts, step) - 1

    def before(self, epoch: int) -> int:
        """Return the number of steps that come before an epoch."""
        return self._starts[epoch]

    def __getitem__(self, step: int) -> list[tuple[int, Labelled]]:
        """Return the examples of a step, each with its place among those of the term."""
        epoch, batch = self.epoch(step), self.settings.batch
        place = step - self._starts[epoch]
        labels = self._labels(epoch)
        chosen = self._order(epoch)[place * batch : (place + 1) * batch]
        return [(i, labels[i]) for i in chosen]

    @cached_property
    def _starts(self) -> list[int]:
        """Steps before each epoch, and before the end."""
        sizes = (len(self._places(epoch)) for epoch in range(self.settings.epochs))
        return [0, *accumulate(math.ceil(size / self.settings.batch) for size in sizes)]

    def _places(self, epoch: int) -> Sequence[int]:
        if self.term.part is None:
            return range(len(self._labels(0)))
        return self.term.part(epoch)

    # Both are asked for at every step of an epoch, and drawn once.
    @lru_cache(maxsize=2)  # noqa: B019  it lives as long as its stage
    def _labels(self, epoch: int) -> Sequence[Labelled]:
        return self.term.labelled(epoch)

    @lru_cache(maxsize=1)  # noqa: B019
    def _order(self, epoch: int) -> list[int]:
        draw = random.Random(f"{self.seed}/{self.name}/{epoch}")
        places = self._places(epoch)
        return draw.sample(places, len(places))


@dataclass(frozen=True)
class Cycled:
    """The steps of a further term: as many examples as the first, over and over in an order.

    The order is drawn anew for each epoch of the first term.
    """

    term: Term
    leader: Steps
    seed: int

    def epoch(self, step: int) -> int:
        """Return the epoch of the first term that a step is of."""
        return self.leader.epoch(step)

    def __getitem__(self, step: int) -> list[tuple[int, Labelled]]:
        """Return the examples of a step, each with its place among those of the term."""
        epoch = self.leader.epoch(step)
        first = (step - self.leader.before(epoch)) * self.leader.settings.batch
        order = self._order(epoch)
        if not order:
            return []
        labels = self._labels(epoch)
        places = (order[(first + k) % len(order)] for k in range(len(self.leader[step])))
        return [(i, labels[i]) for i in places]

    @lru_cache(maxsize=1)  # noqa: B019  as above
    def _labels(self, epoch: int) -> Sequence[Labelled]:
        return self.term.labelled(epoch)

    @lru_cache(maxsize=1)  # noqa: B019
    def _order(self, epoch: int) -> list[int]:
        draw = random.Random(f"{self.seed}/{self.term.name}/{epoch}")
        places = self.term.part(epoch) if self.term.part else range(len(self._labels(0)))
        return draw.sample(places, len(places))
