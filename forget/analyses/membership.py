"""Membership: the area under the curve of the truth's probability for having been trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.dose import areas
from forget.analyses.recovery import averaged, labels
from forget.analyses.resampling import Draws, estimate, item_weights
from forget.analyses.study import Cell, kept
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

AUDIT = "mia"
"""Name of the audit whose Rows are read."""

SHOWN = ("base", "learned", "forgotten", "never")


@dataclass(frozen=True)
class Membership:
    """Result of the audit in a cell."""

    areas: dict[str, Estimate]
    """By arm."""
    leak: Estimate
    """Distance from the arm never taught, in percent of it: below 0 members are told, above 0 the
    model was driven off them (Shi et al. 2024, MUSE).
    """
    sound: bool
    """False where the untouched model tells members from others, so that the two were no samples of
    one distribution.
    """


@kept
def membership(cell: Cell) -> Membership | None:
    """Return how scores tell what was trained on; None where it was not asked."""
    found = [label for label in labels(cell) if label.partition(",")[0] == AUDIT]
    if not found:
        return None
    numbers: dict[str, Draws] = {}
    for arm in SHOWN:
        draws = averaged(cell, partial(_area, label=found[0], arm=arm))
        if draws is None:
            return None
        numbers[arm] = draws
    frames = [_of(cell, outcome, found[0], "forgotten") for outcome in cell.outcomes]
    n = sum(map(len, frames))
    told = {arm: estimate(draws, n) for arm, draws in numbers.items()}
    low, high = told["base"].numbers[1:]
    sound = low <= 0.5 <= high
    leak = leakage(numbers["forgotten"], numbers["never"])
    return Membership(told, estimate(leak if sound else leak * np.nan, n), sound)


def leakage(area: Draws, reference: Draws) -> Draws:
    """Compute ((1 - AUC) - (1 - reference)) / (1 - reference), in percent (privleak)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100 * (reference - area) / (1 - reference)


def _of(cell: Cell, outcome: Outcome, label: str, arm: str) -> pd.DataFrame:
    frame = cell.study.audited[outcome.id]
    return frame[(frame["audit"] == label) & (frame["phase"] == arm)]


def _area(cell: Cell, outcome: Outcome, label: str, arm: str) -> Draws:
    rows = _of(cell, outcome, label, arm).sort_values(["split", "example"])
    member = (rows["split"] == "train").to_numpy()
    # The probability of the truth: its share of all options times theirs.
    likely = (rows["confidence"] * rows["mass"]).to_numpy()
    names = tuple(rows["split"] + "/" + rows["example"])
    return areas(likely, member, item_weights(len(rows), [cell.task, "members", names]))
