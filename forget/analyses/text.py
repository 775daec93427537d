"""Neutral text: how many bits a byte of it takes, by arm, and how many more after forgetting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from forget.analyses.recovery import averaged, labels
from forget.analyses.resampling import Draws, estimate, item_weights
from forget.analyses.study import Cell, kept
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

AUDIT = "text"
"""Name of the audit whose Rows are read."""

SHOWN = ("base", "learned", "forgotten", "never")


@dataclass(frozen=True)
class Reading:
    """Result of the audit in a cell."""

    bits: dict[str, Estimate]
    """Bits a byte by arm."""
    more: Estimate
    """Bits a byte of the forgotten arm less those of the learned one, on the same chunks."""


@kept
def reading(cell: Cell) -> Reading | None:
    """Return how a cell's models read neutral text; None where they were not asked."""
    found = [label for label in labels(cell) if label.partition(",")[0] == AUDIT]
    if not found:
        return None
    numbers: dict[str, Draws] = {}
    for arm in SHOWN:
        draws = averaged(cell, partial(_bits, label=found[0], arm=arm))
        if draws is None:
            return None
        numbers[arm] = draws
    n = sum(len(_of(cell, outcome, found[0], "forgotten")) for outcome in cell.outcomes)
    more = numbers["forgotten"] - numbers["learned"]
    return Reading({arm: estimate(one, n) for arm, one in numbers.items()}, estimate(more, n))


def bits(nats: Draws, bytes_: Draws) -> Draws:
    """Compute bits a byte of sums over chunks: nats / (bytes log 2)."""
    return nats / (bytes_ * math.log(2))


def _of(cell: Cell, outcome: Outcome, label: str, arm: str) -> pd.DataFrame:
    frame = cell.study.audited[outcome.id]
    return frame[(frame["audit"] == label) & (frame["phase"] == arm)]


def _bits(cell: Cell, outcome: Outcome, label: str, arm: str) -> Draws | None:
    rows = _of(cell, outcome, label, arm).sort_values("example")
    if rows.empty:
        return None
    chunks = tuple(rows["example"])
    # Chunks are of one text whatever the task is, so arms and tasks share their resamples.
    weights = item_weights(len(rows), [AUDIT, chunks])
    nats, length = (rows[name].to_numpy(float) for name in ("nats", "length"))
    return bits(weights @ nats, weights @ length)
