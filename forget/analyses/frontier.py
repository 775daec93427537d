"""Methods at matched utility: how much each takes while other tasks keep most of their skill.

Every method forgets all at some rate, so a comparison at one rate compares rates. Each has a grid
of settings, and of those that keep enough of the other tasks' skill the one that takes most is
chosen. It is chosen anew in each resample, since the best of many numbers is best by luck too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from forget.analyses.resampling import Draws
from forget.analyses.study import Cell, Study, kept
from forget.analyses.treatments import (
    besides,
    forgotten_tasks,
    of_paper,
    retain_kind,
    retain_weight,
)
from forget.analyses.words import rate_name

UTILITIES = (0.9, 0.8)
"""Shares of the other tasks' skill that are to be kept."""

GRID = ("forget.epochs", "retain")
"""Settings that say, beside the rate, how hard a method is pressed: its grid, of which a point is
chosen. Of the retain set that is the weight; what it holds belongs to the method.
"""


@dataclass(frozen=True)
class Point:
    """One setting of a method on one task."""

    cell: Cell
    name: str
    """The values of what varies of GRID."""
    lost: Draws
    """Share of the skill lost on held-out examples."""
    utility: Draws
    """Mean share of the skill that other tasks keep (see `utility`)."""


@dataclass(frozen=True)
class Method:
    """The points of a method on one task."""

    model: str
    task: str
    name: str
    """Settings that vary in the study beside GRID, e.g. the method and its parameters."""
    points: tuple[Point, ...]
    reference: bool
    """True for random labels, which the others are compared with."""

    def choose(self, floor: float) -> Choice | None:
        """Choose the point that takes most among those that keep `floor` of the utility."""
        lost = np.stack([point.lost for point in self.points])
        return choose(lost, np.stack([point.utility for point in self.points]), floor)


@dataclass(frozen=True)
class Choice:
    """The point that takes most at a utility, chosen anew in each resample."""

    place: int
    """Index of the point that is chosen of all items."""
    lost: Draws
    """Share of the held-out skill lost at the point of each resample; NaN where none is admitted.
    """
    random: Draws
    """Mean over all admitted points: what a choice at random would take."""
    again: float
    """Share of the resamples that choose the same point."""
    reached: float
    """Share of the resamples in which some point is admitted."""
    luck: float
    """Mean by which the resamples' own choices take more than the point chosen of all items."""


def choose(lost: np.ndarray, utility: np.ndarray, floor: float) -> Choice | None:
    """Choose, in each resample, the point that takes most among those of enough utility.

    A share above 1 is a skill turned into its opposite, which is as far from forgotten as one that
    much below 1; so the choice is by the distance from 1.

    Args:
        lost: [points, 1 + RESAMPLES], share of the skill lost on held-out examples.
        utility: [points, 1 + RESAMPLES], share of the skill that other tasks keep.
        floor: least utility of a point.

    Returns:
        None where no point has it.
    """
    admitted = (utility >= floor) & np.isfinite(lost)
    if not admitted[:, 0].any():
        return None
    places = np.where(admitted, -np.abs(1 - lost), -np.inf).argmax(axis=0)
    some = admitted.any(axis=0)
    taken = np.where(some, np.take_along_axis(lost, places[None], axis=0)[0], np.nan)
    with np.errstate(invalid="ignore"):
        random = np.where(admitted, lost, 0).sum(axis=0) / admitted.sum(axis=0)
    same, there = places[1:] == places[0], some[1:]
    own = lost[places[0], 1:]
    return Choice(
        int(places[0]),
        taken,
        random,
        float(np.mean(same & there)),
        float(there.mean()),
        float(np.nanmean(np.where(there, taken[1:] - own, np.nan))) if there.any() else 0.0,
    )


@kept
def utility(cell: Cell, tasks: tuple[str, ...] | None = None) -> Draws | None:
    """Average the share of the skill that other tasks keep, each within 0 and 1.

    It is (a_fg - chance) / (a_ft - chance), over the tasks that the learned model masters and that
    are not forgotten themselves.

    Args:
        cell: that forgets something else.
        tasks: by default all that it was measured on.

    Returns:
        None where there is no such task.
    """
    shares = []
    for task in cell.trial.tasks if tasks is None else tasks:
        if task in forgotten_tasks(cell.trial):
            continue
        lost = cell.lost("test", task)
        if lost is not None and np.isfinite(lost[0]) and cell.masters(task):
            shares.append(np.clip(1 - lost, 0, 1))
    mean: Draws | None = np.mean(shares, axis=0) if shares else None
    return mean


def point(cell: Cell, tasks: tuple[str, ...] | None = None) -> Point | None:
    """Return the cell as a point; None where it has no skill to lose, or no other task any.

    Args:
        cell: of the study.
        tasks: that the utility is over (see `utility`).
    """
    lost, kept_elsewhere = cell.lost("test"), utility(cell, tasks)
    if lost is None or kept_elsewhere is None or not cell.mastered or not np.isfinite(lost[0]):
        return None
    words = [rate_name(cell.rate)]
    if "forget.epochs" in cell.study.varying:
        words.append(f"epochs {cell.trial.forget.epochs}")
    weights = {retain_weight(outcome.trial) for outcome in cell.study.outcomes} - {None}
    weight = retain_weight(cell.trial)
    if weight is not None and len(weights) > 1:
        words.append(f"weight {weight:g}")
    return Point(cell, ", ".join(words), lost, kept_elsewhere)


def name(cell: Cell) -> str:
    """Name a cell's method: what varies in the study beside the grid."""
    words = [besides(cell, GRID)]
    if len({retain_kind(outcome.trial) for outcome in cell.study.outcomes}) > 1:
        words.append(f"retaining {retain_kind(cell.trial)}")
    return ", ".join(words)


@lru_cache(maxsize=1)
def methods(study: Study) -> list[Method]:
    """Return the methods of each model and task of which two or more can be compared.

    Their utility is over the tasks that each of them was measured on.
    """
    cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        cells[cell.trial.model, cell.task].append(cell)
    found: dict[tuple[str, str], dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for place, some in cells.items():
        shared = set.intersection(*(set(cell.trial.tasks) for cell in some))
        for cell in some:
            tasks = tuple(task for task in cell.trial.tasks if task in shared)
            one = point(cell, tasks)
            if one:
                found[place][name(cell)].append(one)
    compared = []
    for (model, task), by_name in found.items():
        if len(by_name) > 1:
            for words, points in by_name.items():
                plain = [of_paper(one.cell.trial) for one in points]
                random = points[0].cell.trial.arm == "random"
                compared.append(Method(model, task, words, tuple(points), all(plain) and random))
    return compared


def over_tasks(found: Sequence[Method], floor: float) -> Choice | None:
    """Average a method's choices over its tasks; None where some task has none."""
    choices = [method.choose(floor) for method in found]
    if not all(choices):
        return None
    some = [choice for choice in choices if choice]
    return Choice(
        -1,
        np.mean([choice.lost for choice in some], axis=0),
        np.mean([choice.random for choice in some], axis=0),
        float(np.mean([choice.again for choice in some])),
        float(np.mean([choice.reached for choice in some])),
        float(np.mean([choice.luck for choice in some])),
    )
