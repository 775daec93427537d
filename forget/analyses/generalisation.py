"""How far forgetting generalises within a task: trained examples, near-duplicates of them, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

from forget.analyses.draws import Draws
from forget.analyses.study import Cell, Study
from forget.metrics import Estimate

if TYPE_CHECKING:
    import pandas as pd

BINS = (0.0, 0.1, 0.2, 0.35, 0.5, 1.0)
"""Bounds of the bins of similarity to the nearest trained example. Similar ones are rare, so the upper bins are wide."""

LEAST = 10
"""Items that a bin needs to be shown."""


@dataclass(frozen=True)
class Reach:
    """What one cell lost, and how sure that is."""

    cell: Cell
    ratios: dict[str, Estimate]
    """Forget ratio by split."""
    excess: Draws | None
    """Ratio on held-out examples less half of the ratio on trained ones: above 0 forgetting generalises, below it does not."""
    p: float | None
    """Of accuracy on held-out examples being the same before and after (exact McNemar test over the items of all seeds)."""
    adjusted: float | None
    """p after Holm's correction for the tasks of the setting and rate."""
    effect: float | None
    """Cohen's h between accuracy after learning and after forgetting, held out: 0.2 is small, 0.8 large."""
    p_chance: float | None
    """Of accuracy after forgetting being that of a guess (binomial test), Holm-adjusted likewise."""


@dataclass(frozen=True)
class Bin:
    """Held-out examples by their similarity to the nearest trained one."""

    low: float
    high: float
    learned: Estimate
    """Accuracy."""
    forgotten: Estimate
    ratio: Estimate


def reaches(cells: Sequence[Cell]) -> list[Reach]:
    """What the cells of one setting and rate lost."""
    tested = [_tested(cell) for cell in cells]
    adjusted, chances = (_holm([test[i] for test in tested]) for i in (0, 1))
    return [
        Reach(cell, _ratios(cell), _excess(cell), test[0], p, _effect(cell), chance)
        for cell, test, p, chance in zip(cells, tested, adjusted, chances, strict=True)
    ]


def _ratios(cell: Cell) -> dict[str, Estimate]:
    found = {split: cell.get("forgotten", split, cell.ratio) for split in ("train", "near", "test")}
    return {split: ratio for split, ratio in found.items() if ratio}


def _excess(cell: Cell) -> Draws | None:
    trained, held_out = (cell.draws("forgotten", split, cell.ratio) for split in ("train", "test"))
    return None if trained is None or held_out is None else held_out - trained / 2


def _effect(cell: Cell) -> float | None:
    before, after = (cell.get(phase, "test", "accuracy") for phase in ("learned", "forgotten"))
    return float(proportion_effectsize(before.numbers[0], after.numbers[0])) if before and after else None


def _tested(cell: Cell) -> tuple[float | None, float | None]:
    """(p of no change, p of chance) over the held-out items of all seeds."""
    pairs, guesses = [], []
    for outcome in cell.outcomes:
        frame = cell.study.frames[outcome.id]
        rows = frame[(frame["task"] == cell.task) & (frame["split"] == "test")]
        by_phase = {phase: part.set_index("example")["correct"] for phase, part in rows.groupby("phase")}
        if not {"learned", "forgotten"} <= by_phase.keys():
            return None, None
        before, after = by_phase["learned"].align(by_phase["forgotten"], join="inner")
        pairs.append(np.stack([before.to_numpy() > 0.5, after.to_numpy() > 0.5]))
        guesses.append(1 / rows[rows["phase"] == "forgotten"]["options"].to_numpy())
    right, still = np.concatenate(pairs, axis=1)
    table = [
        [int((right & still).sum()), int((right & ~still).sum())],
        [int((~right & still).sum()), int((~right & ~still).sum())],
    ]
    chance = float(np.concatenate(guesses).mean())
    return float(mcnemar(table, exact=True).pvalue), float(binomtest(int(still.sum()), len(still), chance).pvalue)


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    taken = [p for p in ps if p is not None]
    adjusted = iter(multipletests(taken, method="holm")[1].tolist() if taken else [])
    return [None if p is None else next(adjusted) for p in ps]


def bins(study: Study) -> dict[tuple[str, float, str], list[Bin]]:
    """By setting, rate and task: held-out examples and near-duplicates, binned by similarity to the nearest trained one."""
    found: dict[tuple[str, float, str], list[Bin]] = {(c.setting, c.rate, c.task): [] for c in study.cells}
    for low, high in pairwise(BINS):
        within = Study(study.outcomes, {id: _within(frame, low, high) for id, frame in study.frames.items()})
        for cell in within.cells:
            learned, forgotten, ratio = (
                cell.get(phase, "test", measure)
                for phase, measure in (("learned", "accuracy"), ("forgotten", "accuracy"), ("forgotten", cell.ratio))
            )
            if learned and forgotten and ratio and forgotten.n >= LEAST:
                found[cell.setting, cell.rate, cell.task].append(Bin(low, high, learned, forgotten, ratio))
    return found


def _within(frame: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    similar = frame["similarity"]
    inside = (similar >= low) & ((similar < high) | (high == BINS[-1]))
    return frame[inside].assign(split="test")
