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

from forget.analyses import arms, dose
from forget.analyses.resampling import Draws, cohens_h, holm, p_value
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
    """p of the accuracy being the same before and after.

    Of one trial by the exact McNemar test, of several by their spread.
    """
    p_chance: float
    """p of the accuracy after forgetting being that of a guess, likewise; the exact test is the
    binomial one.
    """
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

    Above 0, forgetting generalises. It is read where DOSE of the skill on trained examples is lost,
    if the looks on the way reach it, and at the end of forgetting otherwise; either way less what
    true labels took, where that arm was run.
    """
    at_dose = dose.matched(cell)
    if at_dose is not None:
        return at_dose.held_out - dose.DOSE / 2
    trained, held_out = cell.lost("train"), arms.lost(cell, "test")
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
    """Test the change of a cell: of one trial over its items, of several over the trials.

    The items of several trials are no independent cases of the same change: another trial would
    give another one. So there the tests are Wald tests with the spread over trials
    (forget.analyses.replicates).
    """
    before, after, gap = (
        cell.draws("learned", "test", "accuracy"),
        cell.draws("forgotten", "test", "accuracy"),
        cell.draws("forgotten", "test", "forget_gap"),
    )
    same = cell.items("learned", "test") == cell.items("forgotten", "test")
    if before is None or after is None or gap is None or not same:
        return None
    effect = cohens_h(before[0], after[0])
    if len(cell.outcomes) == 1:
        return Change(cell, *_exact(cell), effect)
    p, p_chance = (p_value(draws, 0, cell.degrees) for draws in (after - before, gap))
    return Change(cell, p, p_chance, effect)


def _exact(cell: Cell) -> tuple[float, float]:
    """Return McNemar's exact p of no change, and the binomial p of a guess, of a single trial."""
    (outcome,) = cell.outcomes
    frame = cell.study.frames[outcome.id]
    rows = frame[(frame["task"] == cell.task) & (frame["split"] == "test") & frame["step"].isna()]
    by_phase = {
        phase: part.set_index("example")["correct"] for phase, part in rows.groupby("phase")
    }
    before, after = by_phase["learned"].align(by_phase["forgotten"], join="inner")
    right, still = before.to_numpy() > 0.5, after.to_numpy() > 0.5
    table = [
        [(right & still).sum(), (right & ~still).sum()],
        [(~right & still).sum(), (~right & ~still).sum()],
    ]
    chance = float(np.mean(1 / rows[rows["phase"] == "forgotten"]["options"]))
    p = float(mcnemar(np.array(table), exact=True).pvalue)
    return p, float(binomtest(int(still.sum()), len(still), chance).pvalue)


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
