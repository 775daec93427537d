"""Content share: what forgetting on made or foreign texts takes, of what the task's own take.

A forget set that has nothing of the task but its options may take the skill as well. What its texts
buy is one less the share that such a set takes of what the task's own examples take.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.replicates import Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, item_weights
from forget.analyses.study import Cell, Study, kept, replicate
from forget.analyses.treatments import OWN, besides, set_name
from forget.results.metrics import DEFINED_ABOVE_CHANCE

FEWEST_LOST = DEFINED_ABOVE_CHANCE
"""Least share of the skill that the task's own examples take, of which another is a share."""


def share(lost: Draws, own: Draws) -> Draws:
    """Divide what a forget set takes by what the task's own examples take; NaN of too little."""
    if not own[0] >= FEWEST_LOST:
        return np.full_like(lost, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own > 0, lost / own, np.nan)


@dataclass(frozen=True)
class Kind:
    """A forget set on one task, beside the task's own examples."""

    cell: Cell
    name: str
    lost: Draws
    """Share of the skill lost on held-out examples."""
    share: Draws | None
    """Part of what the task's own examples take; None for these."""


@dataclass(frozen=True)
class Content:
    """The forget sets of one task, which differ in nothing else; the task's own first."""

    model: str
    setting: str
    rate: float
    task: str
    kinds: list[Kind]


def contents(study: Study) -> list[Content]:
    """Return the tasks that were forgotten by their own examples and by others.

    Mixtures are left out: they teach and forget more than one task (forget.analyses.mixture).
    """
    found: dict[tuple[str, str, float, str], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        if set_name(cell.trial) != "mix" and cell.mastered:
            setting = besides(cell, ["forget_set"])
            found[cell.trial.model, setting, cell.rate, cell.task].append(cell)
    made = []
    for key, cells in found.items():
        kinds = _kinds(cells)
        if len(kinds) > 1:
            made.append(Content(*key, kinds))
    return made


def _kinds(cells: Sequence[Cell]) -> list[Kind]:
    """Return the forget sets with a loss to read, the task's own first; none without that one."""
    own = next((cell for cell in cells if set_name(cell.trial) == OWN), None)
    whole = own.lost("test") if own else None
    if own is None or whole is None or not np.isfinite(whole[0]):
        return []
    kinds = [Kind(own, OWN, whole, None)]
    for cell in cells:
        lost = cell.lost("test")
        if cell is not own and lost is not None and np.isfinite(lost[0]):
            kinds.append(Kind(cell, str(cell.trial.forget_set), lost, share(lost, whole)))
    return kinds


@kept
def drawn_loss(cell: Cell) -> tuple[Draws, int] | None:
    """Return the mean -log share of the drawn label on trained examples after forgetting, in nats.

    It tells how well the forget set itself was fit: of two options, coins cost log 2 at best where
    they are not memorised.

    Returns:
        It and the items it rests on; None unless all have two options and a label.
    """
    names, taken, n = [], [], 0
    for outcome in cell.outcomes:
        frame = cell.study.frames[outcome.id]
        rows = frame[(frame["task"] == cell.task) & (frame["split"] == "train")]
        rows = rows[rows["step"].isna() & (rows["phase"] == "forgotten")].sort_values("example")
        if rows.empty or rows["drawn"].isna().any() or not (rows["options"] == 2).all():
            return None
        right = (rows["drawn"] == rows["truth"]).to_numpy()
        truth = rows["confidence"].to_numpy()
        shares = np.where(right, truth, 1 - truth).clip(np.finfo(float).tiny)
        weights = item_weights(len(rows), [cell.task, "train", tuple(rows["example"])])
        names.append(replicate(outcome.trial))
        taken.append(weights @ -np.log(shares))
        n += len(rows)
    number = Replicated(cell.task, tuple(names), tuple(taken))
    return over_replicates(number, pool([number])), n
