"""Null studies of audits: the forgotten arm is as good as another, with noise of its own items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.coverage.simulated import ITEMS, LEARNED, outcome_of
from forget.analyses import Study
from forget.analyses.recovery import recoveries
from forget.results.files import frame
from forget.results.rows import Row

NEVER = 0.5
"""True accuracy of the arm that was never taught."""

TRUTHS = {"as learned": 1.0, "as never taught": 0.0}
"""Values of R by what the forgotten arm is: the name of an audit here."""


def missed(replicates: int, tick: Callable[[], None]) -> dict[str, float]:
    """Return the share of the intervals of R that leave out the truth, by truth."""
    draw = np.random.default_rng(7)
    outside: dict[str, list[bool]] = {name: [] for name in TRUTHS}
    for _ in range(replicates):
        outcome = outcome_of("a", (), 0, "random")
        rows = list(_rows(outcome.id, draw))
        (cell,) = Study([outcome], {outcome.id: frame(rows)}).cells
        for one in recoveries(cell):
            _, low, high = one.number.numbers
            outside[one.audit].append(not low <= TRUTHS[one.audit] <= high)
        tick()
    return {name: float(np.mean(found)) for name, found in outside.items()}


def _rows(id: str, draw: np.random.Generator) -> Iterator[Row]:
    """Yield Rows of the three arms under each truth; which answers are right is drawn for each."""
    for audit, truth in TRUTHS.items():
        forgotten = NEVER + truth * (LEARNED - NEVER)
        skills = {"forgotten": forgotten, "learned": LEARNED, "never": NEVER}
        for arm, skill in skills.items():
            for item, right in enumerate(draw.random(ITEMS) < skill):
                row = RIGHT if right else WRONG
                yield replace(row, trial=id, phase=arm, example=str(item), audit=audit)


RIGHT = Row("", "", "a", "test", "", 0, (-0.4, -1.2), (1, 1), dose="dose")
WRONG = replace(RIGHT, truth=1)


def table(replicates: int, tick: Callable[[], None]) -> list[str]:
    """Return the lines of a table in Markdown."""
    found = missed(replicates, tick)
    lines = ["| the forgotten arm is | R | 95 % intervals without it |", "|---|---|---|"]
    return lines + [f"| {name} | {TRUTHS[name]:g} | {share:.3f} |" for name, share in found.items()]
