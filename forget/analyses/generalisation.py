"""Generalisation of forgetting within a task.

From trained examples it may reach near-duplicates of them, and the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar

from forget.analyses.resampling import Draws, cohens_h, holm
from forget.analyses.study import Cell, Condition, Study

if TYPE_CHECKING:
    import pandas as pd

BINS = (0.0, 0.1, 0.2, 0.35, 0.5, 1.0)
"""Bounds of the bins of similarity to the nearest trained example.

Similar examples are rare, so the upper bins are wide.
"""

FEWEST_ITEMS = 10
"""Items that a bin needs to be shown."""


@dataclass(frozen=True)
class Change:
    """Tested change of a cell's accuracy on held-out examples."""

    cell: Cell
    p: float
    """p of the accuracy being the same before and after, over the items of all seeds.

    By the exact McNemar test.
    """
    p_chance: float
    """p of the accuracy after forgetting being that of a guess, by the binomial test."""
    effect: float
    """Cohen's h from before to after."""
    adjusted: float | None = None
    """p after Holm's correction for the tasks of the condition."""
    adjusted_chance: float | None = None


@dataclass(frozen=True)
class Bin:
    """Held-out examples and near-duplicates of about one similarity to a trained example.

    The trained example is the nearest.
    """

    low: float
    high: float
    cell: Cell
    """A cell that is measured on the examples of the bin alone, as its split "test"."""


def excess(cell: Cell) -> Draws | None:
    """Return the share of the skill lost on held-out examples less half of that on trained ones.

    Above 0, forgetting generalises.
    """
    trained, held_out = cell.lost("train"), cell.lost("test")
    return None if trained is None or held_out is None else held_out - trained / 2


def changes(cells: Sequence[Cell]) -> list[Change]:
    """Test the change of each of the cells of one condition."""
    tested = [change for cell in cells if (change := _change(cell))]
    ps = holm([change.p for change in tested])
    chances = holm([change.p_chance for change in tested])
    return [
        replace(change, adjusted=p, adjusted_chance=chance)
        for change, p, chance in zip(tested, ps, chances, strict=True)
    ]


def _change(cell: Cell) -> Change | None:
    pairs, guesses = [], []
    for outcome in cell.outcomes:
        frame = cell.study.frames[outcome.id]
        rows = frame[
            (frame["task"] == cell.task) & (frame["split"] == "test") & frame["step"].isna()
        ]
        # Items are paired by their names; what one phase lacks is left out of both.
        by_phase = {
            phase: part.set_index("example")["correct"] for phase, part in rows.groupby("phase")
        }
        if not {"learned", "forgotten"} <= by_phase.keys():
            return None
        before, after = by_phase["learned"].align(by_phase["forgotten"], join="inner")
        pairs.append(np.stack([before.to_numpy() > 0.5, after.to_numpy() > 0.5]))
        guesses.append(1 / rows[rows["phase"] == "forgotten"]["options"].to_numpy())
    right, still = np.concatenate(pairs, axis=1)
    table = [
        [(right & still).sum(), (right & ~still).sum()],
        [(~right & still).sum(), (~right & ~still).sum()],
    ]
    chance = float(np.concatenate(guesses).mean())
    return Change(
        cell,
        p=float(mcnemar(np.array(table), exact=True).pvalue),
        p_chance=float(binomtest(int(still.sum()), len(still), chance).pvalue),
        effect=cohens_h(right.mean(), still.mean()),
    )


@lru_cache(maxsize=1)
def bins(study: Study) -> dict[tuple[Condition, str], list[Bin]]:
    """Return, by condition and task, the bins that hold enough examples, from far to near."""
    found: dict[tuple[Condition, str], list[Bin]] = {
        (cell.condition, cell.task): [] for cell in study.cells
    }
    own = {o.id: _own(study.frames[o.id], o.trial.task) for o in study.outcomes}
    for low, high in pairwise(BINS):
        within = Study(study.outcomes, {id: _within(frame, low, high) for id, frame in own.items()})
        for cell in within.cells:
            n = min(cell.n("learned", "test"), cell.n("forgotten", "test"))
            if n >= FEWEST_ITEMS:
                found[cell.condition, cell.task].append(Bin(low, high, cell))
    return found


def _own(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """Take the Rows of the task forgotten, all as of the split "test"."""
    return frame[(frame["task"] == task) & frame["step"].isna()].assign(split="test")


def _within(own: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """Take the Rows whose similarity lies between the bounds; the last bin has its upper one."""
    similar = own["similarity"]
    return own[(similar >= low) & ((similar < high) | (high == BINS[-1]))]
