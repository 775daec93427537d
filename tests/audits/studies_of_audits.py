"""Audits made up for studies: accuracies of their arms are known to the digit."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from studies import answer

from forget.results.rows import Row


def audited(
    id: str,
    task: str,
    audit: str,
    dose: str,
    accuracy: Mapping[str, float],
    n: int = 200,
    split: str = "test",
    seed: object = 0,
) -> list[Row]:
    """Make Rows of an audit, round(p n) of each arm right, in places that the seed decides."""
    rows = []
    for arm, p in accuracy.items():
        right = [True] * round(p * n) + [False] * (n - round(p * n))
        random.Random(f"{seed}/{arm}/{audit}/{dose}/{split}").shuffle(right)
        for i, ok in enumerate(right):
            row = answer(id, arm, task, split, i, ok)
            rows.append(replace(row, audit=audit, dose=dose))
    return rows


def spread(
    rows: Mapping[str, Sequence[Row]], more: Mapping[str, Sequence[Row]]
) -> dict[str, list[Row]]:
    """Add Rows of audits to those of trials."""
    return {id: [*found, *more.get(id, ())] for id, found in rows.items()}
