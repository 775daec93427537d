"""Numbers that audits of hidden states note with each item (Row.value), resampled by item."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from forget.analyses.recovery import labels
from forget.analyses.resampling import Draws, item_weights
from forget.analyses.study import Cell, Study
from forget.results.doses import read
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

Place = Literal["own", "other"]
"""The task that was forgotten, or the first other one that the audit read."""


def label_of(cell: Cell, audit: str) -> str | None:
    """Return the label of an audit that every replicate of a cell has; of several the first."""
    return next((label for label in labels(cell) if label.partition(",")[0] == audit), None)


def layers(cell: Cell, label: str, group: str, place: Place = "own") -> list[int]:
    """Return the layers at which a group of doses was noted of the forgotten arm, in order."""
    outcome = cell.outcomes[0]
    task = task_of(cell, outcome, label, place)
    found = set()
    for of_task, arm, told in _noted(cell.study, outcome.id, label):
        if (of_task, arm, read(told).group) == (task, "forgotten", group):
            found.add(int(read(told).numbers["layer"]))
    return sorted(found)


def task_of(cell: Cell, outcome: Outcome, label: str, place: Place) -> str | None:
    """Return the task of a place; None where no other one was read."""
    if place == "own":
        return cell.task
    read_tasks = dict.fromkeys(task for task, _, _ in _noted(cell.study, outcome.id, label))
    return next((task for task in read_tasks if task != cell.task), None)


def mean(
    cell: Cell,
    outcome: Outcome,
    label: str,
    dose: str,
    arm: str,
    place: Place = "own",
    column: str = "value",
) -> Draws | None:
    """Average the numbers of an arm at a dose, or their options; None where there are none.

    The arms of a trial share their resampled items.
    """
    task = task_of(cell, outcome, label, place)
    found = _noted(cell.study, outcome.id, label).get((task or "", arm, dose))
    if found is None:
        return None
    weights = item_weights(len(found), [task, "test", tuple(found.index)])
    return np.asarray(weights @ found[column].to_numpy())


def count(cell: Cell, label: str, dose: str, arm: str, place: Place = "own") -> int:
    """Count the items that a number rests on, over replicates."""
    n = 0
    for outcome in cell.outcomes:
        task = task_of(cell, outcome, label, place)
        n += len(_noted(cell.study, outcome.id, label).get((task or "", arm, dose), ()))
    return n


@lru_cache(maxsize=64)
def _noted(study: Study, id: str, label: str) -> Mapping[tuple[str, str, str], pd.DataFrame]:
    """Return the numbers and the options of test items, in order, by (task, arm, dose)."""
    frame = study.audited[id]
    own = frame[(frame["audit"] == label) & (frame["split"] == "test") & frame["value"].notna()]
    found = {}
    for (task, arm, told), rows in own.groupby(["task", "phase", "dose"], sort=False):
        found[task, arm, told] = rows.set_index("example")[["value", "options"]].sort_index()
    return found
