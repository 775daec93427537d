"""Mixtures of forget sets: what a share of one task's examples takes of it, and of the others.

If half of a mixture took half of what the whole takes, the loss would be linear in the share. The
mixture excess is how far above that line it lies: a little of a task in the mix may already take
it. That a smaller share still takes much is one thing, and that the examples of another task take
some as well is another: so the share is also filled up with made texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.resampling import Draws
from forget.analyses.study import Cell, Study
from forget.analyses.treatments import besides
from forget.results.metrics import DEFINED_ABOVE_CHANCE

FEWEST_RISE = DEFINED_ABOVE_CHANCE
"""Least difference between the whole set and none of it of which the excess is a share."""


def excess(shares: Sequence[float], lost: np.ndarray) -> tuple[Draws, Draws]:
    """Compute how far the loss between a share of 0 and of 1 lies above the line between both.

    Args:
        shares: rising from 0 to 1, with one between them at least.
        lost: [shares, 1 + RESAMPLES], share of the skill lost.

    Returns:
        The mean over the shares between, and the same over what the whole set takes more than none
        of it; the latter is NaN where that is too little.
    """
    first, last = lost[0], lost[-1]
    rise = last - first
    line = first + np.multiply.outer(np.array(shares), rise)
    found: Draws = (lost - line)[1:-1].mean(axis=0)
    if not rise[0] >= FEWEST_RISE:
        return found, np.full_like(found, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return found, np.where(rise > 0, found / rise, np.nan)


@dataclass(frozen=True)
class Line:
    """Losses of one task over the shares of a mixture."""

    task: str
    mixed: bool
    """True for a task of the mixture, whose shares these are; of another task they are those of the
    trial's own.
    """
    shares: tuple[float, ...]
    lost: np.ndarray
    """[shares, 1 + RESAMPLES], share of the skill lost on held-out examples."""
    filled: dict[float, Draws]
    """Losses by share, where made texts take the place of the other task's."""
    n: int

    @property
    def whole(self) -> bool:
        """True where the task was mixed in shares of 0, of 1 and between."""
        return self.mixed and len(self.shares) > 2 and (self.shares[0], self.shares[-1]) == (0, 1)

    @property
    def excess(self) -> tuple[Draws, Draws] | None:
        """The mixture excess (see `excess`); None where the line is not whole."""
        return excess(self.shares, self.lost) if self.whole else None

    @property
    def by_others(self) -> Draws | None:
        """The loss that the other task's examples add to that of made texts, mean over shares."""
        both = [share for share in self.shares if share in self.filled]
        if not both:
            return None
        added = [self.lost[self.shares.index(share)] - self.filled[share] for share in both]
        mean: Draws = np.mean(added, axis=0)
        return mean


@dataclass(frozen=True)
class Mixture:
    """The mixtures of two tasks, which differ in nothing but their shares."""

    model: str
    setting: str
    rate: float
    tasks: tuple[str, str]
    """The trial's own task, and the other."""
    lines: list[Line]
    answers: float | None
    """Likeness of the answers' formats (forget.tasks.similarity.answers): tasks with the same
    options may lose them together, which is no loss of a skill.
    """


def mixtures(study: Study) -> list[Mixture]:
    """Return the mixtures of two tasks in three shares at least."""
    found: dict[tuple[str, str, float, tuple[str, str]], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        others = [name for name in cell.trial.forget_set.names if name != cell.task]
        if cell.trial.forget_set.name == "mix" and len(others) == 1:
            setting = besides(cell, ["forget_set"])
            key = cell.trial.model, setting, cell.rate, (cell.task, others[0])
            found[key].append(cell)
    made = []
    for (model, setting, rate, tasks), cells in found.items():
        lines = _lines(cells, tasks)
        if lines:
            alike = {one.task: one.answers for one in cells[0].outcomes[0].likeness}
            answers = alike.get(tasks[1])
            made.append(Mixture(model, setting, rate, tasks, lines, answers))
    return made


def _lines(cells: Sequence[Cell], tasks: tuple[str, str]) -> list[Line]:
    """Return a line for each task that was measured at all shares, and mastered."""
    mixed = [cell for cell in cells if not cell.trial.forget_set.fill]
    filled = [cell for cell in cells if cell.trial.forget_set.fill]
    if len(mixed) < 3:
        return []
    lines = []
    for task in mixed[0].trial.tasks:
        of = task if task in tasks else tasks[0]
        by_share = _lost(mixed, task, of)
        if len(by_share) == len(mixed):
            shares = tuple(sorted(by_share))
            lost = np.stack([by_share[share] for share in shares])
            n = mixed[0].n("forgotten", "test", task)
            line = Line(task, task in tasks, shares, lost, _lost(filled, task, of), n)
            lines.append(line)
    return lines


def _lost(cells: Sequence[Cell], task: str, of: str) -> dict[float, Draws]:
    """Return what a task lost, by the share of a task in the mixture."""
    found = {}
    for cell in cells:
        lost = cell.lost("test", task)
        if lost is not None and np.isfinite(lost[0]) and cell.masters(task):
            found[dict(cell.trial.forget_set.tasks).get(of, 0.0)] = lost
    return found
