"""Predictors of how much is forgotten: of a task, of a pair of tasks, of an example.

The paper finds that difficulty does not, and that low confidence and low variability go, weakly,
with more forgetting across tasks, not within one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import permutation_test, rankdata

from forget.analyses import arms
from forget.analyses.correlation import (
    Correlation,
    Paired,
    by_replicate,
    corrected,
    mean,
    missing,
    over_examples,
    pearson,
    spearman,
)
from forget.analyses.matrix import Matrix
from forget.analyses.replicates import pool
from forget.analyses.resampling import estimate, item_counts, item_weights
from forget.analyses.study import Cell, degrees, kept, replicate
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

TASK = {
    "accuracy": ("learned", "test", "accuracy"),
    "confidence": ("learned", "test", "confidence"),
    "variability": ("learned", "test", "variability"),
    "confidence, untouched model": ("base", "test", "confidence"),
    "variability, training data": ("base", "train", "variability"),
}
"""Predictors of a task, each with its phase, split and measure.

Three are of the learned model on held-out examples: its difficulty (accuracy after learning), its
mean confidence and its variability. Two are those that the paper's abstract names: the confidence
of the initial predictions, and the variability of the representations of the training data.
"""

PAIR = ("answers", "wording", "states")
"""Predictors of a pair of tasks: fields of forget.results.outcome.Likeness."""

EXAMPLE = {"confidence": "confidence", "variability": "spread", "similarity": "similarity"}
"""Predictors of an example, each with its column of the learned model's Rows.

An example's spread is its share of the task's variability.
"""

FEWEST = 5
"""Tasks that a correlation over tasks, or over their pairs, needs."""

DIGITS = 9
"""Decimals that are kept, so that what is equal but for a rounding error has one rank."""

PERMUTATIONS = 2000
"""The most permutations that are drawn; of six tasks or fewer every one is taken."""


@dataclass(frozen=True)
class Within:
    """Correlations with forgetting from example to example of a task."""

    name: str
    tasks: dict[str, Correlation]
    """Correlations by task, Holm-adjusted over the tasks."""
    mean: Correlation | None
    """Mean over the tasks."""


def across_tasks(cells: Sequence[Cell]) -> list[Correlation]:
    """Correlate each of TASK with the share of the skill lost on held-out examples.

    The share is less what true labels took, where that arm was run. They are correlated over the
    tasks of a condition that have a ratio.

    Accuracy after learning is itself a part of the ratio, (a_ft - a_fg) / (a_ft - chance), so noise
    in it moves both: their correlation is no evidence by itself (mathematical coupling, Archie
    1981). The same holds, less so, for confidence.

    The interval is of resampled tasks. The values of a task hold the noise of its items, so the
    spread over tasks holds it too; items resampled within the tasks drawn would count it twice and
    pull the correlation towards 0 (Davison and Hinkley 1997, section 3.8). With five tasks such
    intervals hold the truth nine times in ten rather than 19 in 20.
    """
    ratios = [(cell, arms.lost(cell, "test")) for cell in cells]
    found = []
    for name, (phase, split, measure) in TASK.items():
        points = []
        for cell, ratio in ratios:
            draws = cell.draws(phase, split, measure)
            if ratio is not None and np.isfinite(ratio[0]) and draws is not None:
                points.append((cell.task, draws[0], ratio[0]))
        if len(points) < FEWEST:
            found.append(missing(name, len(points)))
            continue
        points.sort()
        x, y = (np.array(part).round(DIGITS) for part in list(zip(*points, strict=True))[1:])
        weights = item_weights(len(points), [task for task, *_ in points])
        found.append(_tested(name, x, y, weights, partial(np.take, x), len(points)))
    return corrected(found)


def across_pairs(matrix: Matrix, cells: Sequence[Cell]) -> list[Correlation]:
    """Correlate each of PAIR with FR[i, j], i forgotten and j measured.

    They are correlated over the pairs of different tasks that have both.

    FR compares with the trial's own model after learning i, which is what forgetting starts from,
    less what true labels took where that arm was run.
    Pairs share tasks, so their p comes of permuting the tasks, in rows and columns alike (Mantel
    1967; Krackhardt 1988, QAP), and their interval of resampled tasks with the pairs among them
    (Snijders and Borgatti 1999), those of a task with itself left out.

    Args:
        matrix: FR of one condition.
        cells: of the same condition.
    """
    forgotten = {cell.task: cell for cell in cells}
    tasks = sorted(set(matrix.rows) & set(matrix.columns) & forgotten.keys())
    places = {task: place for place, task in enumerate(tasks)}
    ratios = np.full((len(tasks), len(tasks)), np.nan)
    for row, column, ratio in zip(*matrix.pairs(matrix.judged), strict=True):
        i, j = places.get(matrix.rows[row]), places.get(matrix.columns[column])
        if i is not None and j is not None:
            ratios[i, j] = ratio[0].round(DIGITS)
    found = []
    for name in PAIR:
        found.append(_over_pairs(name, _alike(name, tasks, forgotten), ratios, tasks))
    return corrected(found)


def _alike(name: str, tasks: Sequence[str], cells: dict[str, Cell]) -> np.ndarray:
    """Return the mean likeness over the seeds, [tasks, tasks]; NaN where it was not taken."""
    table = np.full((len(tasks), len(tasks)), np.nan)
    for i, task in enumerate(tasks):
        taken: dict[str, list[float]] = {other: [] for other in tasks}
        for outcome in cells[task].outcomes:
            for like in outcome.likeness:
                value = getattr(like, name)
                if like.task in taken and value is not None:
                    taken[like.task].append(value)
        for j, other in enumerate(tasks):
            if i != j and taken[other]:
                table[i, j] = np.mean(taken[other]).round(DIGITS)
    return table


def _over_pairs(
    name: str, alike: np.ndarray, ratios: np.ndarray, tasks: Sequence[str]
) -> Correlation:
    """Correlate likeness and ratio, both [tasks, tasks], over the pairs that have both."""
    rows, columns = np.nonzero(np.isfinite(ratios) & np.isfinite(alike))
    if len(np.union1d(rows, columns)) < FEWEST:
        return missing(name, len(rows))
    drawn = item_weights(len(tasks), list(tasks))
    weights = drawn[:, rows] * drawn[:, columns]
    return _tested(
        name,
        alike[rows, columns],
        ratios[rows, columns],
        weights,
        lambda places: alike[places[..., rows], places[..., columns]],
        len(tasks),
    )


def _tested(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    permuted: Callable[[np.ndarray], np.ndarray],
    tasks: int,
) -> Correlation:
    """Correlate two numbers over tasks, and test both correlations by permutation.

    Args:
        name: of the correlation.
        x: [n], finite.
        y: [n], finite.
        weights: [1 + RESAMPLES, n] of resampled tasks.
        permuted: from the places [..., tasks] to which the tasks are dealt out anew to x, [..., n];
            NaN where there is none.
        tasks: how many there are to permute.
    """
    ranks, numbers = spearman(x, y, weights), pearson(x, y, weights)
    if not np.isfinite(ranks[0]):
        return missing(name, len(x))

    def statistic(places: np.ndarray, axis: int, ranked: bool) -> np.ndarray:
        dealt = permuted(places)
        there = np.isfinite(dealt)
        a, b = np.where(there, dealt, np.nan), np.where(there, y, np.nan)
        # Spearman's correlation is Pearson's of the ranks.
        if ranked:
            a, b = (rankdata(side, axis=-1, nan_policy="omit") for side in (a, b))
        a, b = (np.nan_to_num(side - np.nanmean(side, -1, keepdims=True)) for side in (a, b))
        scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        return np.vecdot(a, b) / np.where(scale > 0, scale, np.inf)

    def p(ranked: bool) -> float:
        test = permutation_test(
            (np.arange(tasks),),
            partial(statistic, ranked=ranked),
            permutation_type="pairings",
            vectorized=True,
            n_resamples=PERMUTATIONS,
            rng=0,
        )
        return float(test.pvalue)

    return Correlation(
        name, estimate(ranks, len(x)), estimate(numbers, len(x)), p(True), p(False), draws=ranks
    )


def within_tasks(cells: Sequence[Cell]) -> list[Within]:
    """Correlate each of EXAMPLE with forgetting, example by example, for every task."""
    paired = {cell.task: pairs_within(cell) for cell in cells}
    free = degrees(cells)
    found = []
    for name in EXAMPLE:
        numbers = [by_replicate(task, pairs[name]) for task, pairs in paired.items()]
        spread = pool([number for number in numbers if number])
        alone = []
        for task, pairs in paired.items():
            alone.append(over_examples(name, pairs[name], task, spread))
        tasks = dict(zip(paired, corrected(alone), strict=True))
        found.append((name, tasks, mean(name, list(tasks.values()), free)))
    means = iter(corrected([one for _, _, one in found if one]))
    return [Within(name, tasks, next(means) if one else None) for name, tasks, one in found]


def within_task(cell: Cell) -> list[Correlation]:
    """Correlate each of EXAMPLE with forgetting for one task alone."""
    return [over_examples(name, pairs, cell.task) for name, pairs in pairs_within(cell).items()]


@kept
def pairs_within(cell: Cell) -> dict[str, list[Paired]]:
    """Pair each of EXAMPLE with being forgotten (1, else 0), for each trial of the cell.

    The examples are the held-out ones that the learned model answers right. Negative: a low value
    goes with more forgetting, as across tasks. An answer given with little confidence turns at the
    smallest change of the model, whatever changes it: so what true labels turned as well is taken
    off, example by example, where that arm was run.
    """
    other = arms.control(cell)
    further = {replicate(one.trial): one for one in other.outcomes} if other else {}
    paired: dict[str, list[Paired]] = {name: [] for name in EXAMPLE}
    for outcome in cell.outcomes:
        name = replicate(outcome.trial)
        before, after = (_held_out(cell, outcome, phase) for phase in ("learned", "forgotten"))
        examples = before["example"].to_numpy(dtype=object)
        if not len(examples) or not _same(examples, after):
            continue
        right = before["correct"].to_numpy() > 0.5
        lost = (after["correct"].to_numpy() <= 0.5).astype(float)
        if name in further:
            anyhow = _held_out(cell, further[name], "forgotten")
            if not _same(examples, anyhow):
                continue
            lost -= (anyhow["correct"].to_numpy() <= 0.5).astype(float)
        # The draws of the whole set, as everywhere: seeds that share examples share their
        # resamples.
        n = len(examples)
        counts = item_counts(n, [cell.task, "test", tuple(examples)])[:, right]
        for predictor, column in EXAMPLE.items():
            x = before[column].to_numpy(dtype=float)[right]
            there = np.isfinite(x)
            pairs = examples[right][there], x[there], lost[right][there], counts[:, there]
            paired[predictor].append(Paired(*pairs, n, name))
    return paired


def _held_out(cell: Cell, outcome: Outcome, phase: str) -> pd.DataFrame:
    """Return the Rows of a phase on held-out examples of the cell's task, by name."""
    frame = cell.study.frames[outcome.id]
    own = (frame["split"] == "test") & (frame["task"] == cell.task) & frame["step"].isna()
    return frame[own & (frame["phase"] == phase)].sort_values("example")


def _same(examples: np.ndarray, rows: pd.DataFrame) -> bool:
    return np.array_equal(examples, rows["example"].to_numpy(dtype=object))
