"""Arms of the forget stage: what random labels take, less what further training alone takes.

A model that is trained on goes on changing, whatever the labels. The arm with true labels takes the
same steps on the same inputs, so that what it loses as well is no effect of the labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from forget.analyses.resampling import Draws
from forget.analyses.study import Cell, Study, kept, replicate
from forget.analyses.words import REPLICATED, flattened
from forget.settings.trial import Trial

TRUE = "true"

CONTROLS = (TRUE, "untaught")
"""Arms that others are compared with; no claim is put to them."""

DRAWN = ("random", "balanced", "shuffled_inputs", "untaught")
"""Arms whose labels were drawn once, so that a model can memorise them."""


def draws_all(trial: Trial) -> bool:
    """Tell whether every label of a trial was drawn once, so that agreement is memory of them."""
    return trial.arm in DRAWN and trial.noise == 1


@kept
def control(cell: Cell) -> Cell | None:
    """Return the cell that differs in nothing but true labels, with the replicates of both.

    None where it was not run, and for a control itself.
    """
    if cell.trial.arm in CONTROLS:
        return None
    wanted = _besides(cell)
    names = {replicate(outcome.trial) for outcome in cell.outcomes}
    for other in _controls(cell.study).get(cell.task, ()):
        if _besides(other) == wanted:
            return _only(other, names)
    return None


@lru_cache(maxsize=1)
def _controls(study: Study) -> dict[str, list[Cell]]:
    """Return the cells with true labels, by task."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for cell in study.cells:
        if cell.trial.arm == TRUE:
            found[cell.task].append(cell)
    return dict(found)


def _besides(cell: Cell) -> dict[str, str]:
    """List what the cell's settings are beside its arm and its replicates."""
    left_out = {"arm", *REPLICATED}
    return {key: value for key, value in flattened(cell.trial).items() if key not in left_out}


def _only(cell: Cell, names: set[tuple[int, int]]) -> Cell | None:
    """Keep the named replicates of a cell; None where it has none of them."""
    outcomes = tuple(outcome for outcome in cell.outcomes if replicate(outcome.trial) in names)
    if not outcomes:
        return None
    return cell if len(outcomes) == len(cell.outcomes) else replace(cell, outcomes=outcomes)


def net(cell: Cell, number: Callable[[Cell], Draws | None]) -> Draws | None:
    """Return a number of the cell less that of the arm with true labels, paired by replicate.

    Where that arm was not run it is the number itself (see `told`).
    """
    other = control(cell)
    if other is None:
        return number(cell)
    own = _only(cell, {replicate(outcome.trial) for outcome in other.outcomes})
    taken = number(own) if own else None
    further = number(other)
    return None if taken is None or further is None else taken - further


def lost(cell: Cell, split: str, task: str | None = None) -> Draws | None:
    """Return the share of the learned skill that the labels took (see `net`)."""
    return net(cell, lambda one: one.lost(split, task))


def pooled(cells: Sequence[Cell], split: str) -> Draws | None:
    """Compute the share of the skill on all tasks together that forgetting took.

    It is the sum of a_ft - a_fg over the sum of a_ft - chance: a mean of ratios would be ruled by
    the tasks that were hardly learned. Tasks without a ratio are left out.
    """
    taken, skill = [], []
    for cell in cells:
        a_ft, a_fg = (cell.draws(phase, split, "accuracy") for phase in ("learned", "forgotten"))
        lost, chance = cell.lost(split), cell.chance(split)
        if a_ft is None or a_fg is None or chance is None or lost is None:
            continue
        if np.isfinite(lost[0]):
            skill.append(a_ft - chance)
            taken.append(a_ft - a_fg)
    if not skill:
        return None
    whole = np.sum(skill, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, np.sum(taken, axis=0) / whole, np.nan)


def pooled_lost(cells: Sequence[Cell], split: str) -> Draws | None:
    """Return the share of the skill on all tasks together that the labels took.

    See `pooled`; where the arm with true labels was run on some of the tasks,
    it is of these.
    """
    controls = [other for cell in cells if (other := control(cell))]
    if not controls:
        return pooled(cells, split)
    tasks = {other.task for other in controls}
    taken = pooled([cell for cell in cells if cell.task in tasks], split)
    further = pooled(controls, split)
    return None if taken is None or further is None else taken - further


def told(cells: Sequence[Cell]) -> str:
    """Say in words whether what further training alone takes is taken off."""
    controlled = sum(control(cell) is not None for cell in cells)
    if not controlled:
        return "no true-label arm was run, so what further training alone takes is counted"
    if controlled == len(cells):
        return "less what true labels took"
    return f"less what true labels took, on {controlled} of {len(cells)} tasks"


def mean(numbers: Sequence[Draws]) -> Draws | None:
    """Average numbers over tasks; None without any."""
    averaged: Draws | None = np.mean(numbers, axis=0) if numbers else None
    return averaged
