"""Measures of a cell that analyses of sizes and settings share."""

from __future__ import annotations

import numpy as np

from forget.analyses.arms import mean
from forget.analyses.probes import readings
from forget.analyses.resampling import Draws
from forget.analyses.study import Cell
from forget.analyses.treatments import forgotten_tasks

Counted = tuple[Draws, int]
"""A measure of one cell, and the items it rests on."""


def counted(cell: Cell, phase: str, split: str, measure: str) -> Counted | None:
    """Return a measure of the cell's own task; None where it was not taken."""
    draws = cell.draws(phase, split, measure)
    return None if draws is None else (draws, cell.n(phase, split))


def probe_kept(cell: Cell) -> Counted | None:
    """Return the share of the probe's skill that forgetting left, at the first position probed.

    See forget.analyses.probes.
    """
    found = next((reading for reading in readings(cell)), None)
    return None if found is None or found.lost is None else (1 - found.lost, found.learned.n)


def from_chance(cell: Cell) -> Counted | None:
    """Return the distance of the held-out accuracy after forgetting from that of a guess."""
    found = counted(cell, "forgotten", "test", "forget_gap")
    return None if found is None else (np.abs(found[0]), found[1])


def breadth(cell: Cell) -> Counted | None:
    """Average the share of the skill lost on the other tasks that the learned model masters."""
    taken, n = [], 0
    for task in cell.trial.tasks:
        lost = cell.lost("test", task)
        other = task not in forgotten_tasks(cell.trial)
        if other and lost is not None and np.isfinite(lost[0]) and cell.masters(task):
            taken.append(lost)
            n += cell.n("forgotten", "test", task)
    averaged = mean(taken)
    return None if averaged is None else (averaged, n)
