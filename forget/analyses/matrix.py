"""The cross-task matrix FR[i, j] of how much forgetting task i takes of task j.

Its variance is shared out between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Condition, Sample, Study, forget_ratio
from forget.results.estimates import RESAMPLES, Estimate
from forget.settings.trial import Trial

BASELINES = ("learned on j", "learned on i", "untouched")
"""Models that FR[i, j] compares with.

In this order: the one that learned j, the trial's own after learning i, the one before any
training.
"""


@dataclass(frozen=True)
class Matrix:
    """FR[i, j], the share of the skill on held-out examples of j that forgetting i took.

    1 is at chance.
    """

    condition: Condition
    rows: tuple[str, ...]
    """Tasks forgotten, similar rows side by side."""
    columns: tuple[str, ...]
    """Tasks measured, likewise."""
    ratios: dict[str, list[list[Draws | None]]]
    """FR by baseline; None where the trial it needs is not there."""
    n: list[list[int]]
    """Items of each entry, over all seeds."""
    trees: tuple[np.ndarray | None, np.ndarray | None]
    """UPGMA linkage (scipy) of the rows and of the columns as they stand.

    None for fewer than three.
    """

    def estimates(self, baseline: str) -> list[list[Estimate | None]]:
        """Return FR against one baseline with its intervals."""
        table = []
        for row, counts in zip(self.ratios[baseline], self.n, strict=True):
            pairs = zip(row, counts, strict=True)
            table.append([None if draws is None else estimate(draws, n) for draws, n in pairs])
        return table

    def pairs(self, baseline: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stack the pairs of different tasks: (row, column, ratio [1 + RESAMPLES]).

        Pairs whose skill to lose is not above chance in every resample are left out: their ratio is
        mostly noise.
        """
        found = []
        for i, line in enumerate(self.ratios[baseline]):
            for j, draws in enumerate(line):
                if self.rows[i] == self.columns[j] or draws is None:
                    continue
                if np.isfinite(draws).all():
                    found.append((i, j, draws))
        if not found:
            return np.empty(0, int), np.empty(0, int), np.empty((0, 1 + RESAMPLES))
        rows, columns, ratios = zip(*found, strict=True)
        return np.array(rows), np.array(columns), np.stack(ratios)


@dataclass(frozen=True)
class Shares:
    """Shares of the variance of FR[i, j], i and j different, that go with each of the two."""

    evaluated: Estimate
    """The share of j, the task measured."""
    trained: Estimate
    """The share of i, the task forgotten."""
    rest: Estimate
    """The share of their interaction."""
    lead: Estimate
    """evaluated - trained."""
    rows: int
    columns: int
    baseline: str


@lru_cache(maxsize=1)
def cross(study: Study) -> list[Matrix]:
    """Return the matrix of each condition that measured a task after forgetting another one."""
    # Trials that share the learned model have the same rows of it, whatever their forgetting.
    learned_on = {}
    for cell in study.cells:
        for outcome in cell.outcomes:
            learned_on[_learning(outcome.trial), cell.task] = outcome.id

    def before(cell: Cell, task: str, baseline: str) -> list[Sample]:
        if baseline == "learned on j":
            sources = [learned_on.get((_learning(o.trial), task), "") for o in cell.outcomes]
            found = [study.samples.get((source, "learned", task, "test")) for source in sources]
            return [sample for sample in found if sample] if all(found) else []
        return cell.samples("learned" if baseline == "learned on i" else "base", "test", task)

    def against(cell: Cell, task: str, baseline: str) -> Draws | None:
        learned, forgotten = before(cell, task, baseline), cell.samples("forgotten", "test", task)
        return forget_ratio(learned, forgotten) if learned and forgotten else None

    crossed = []
    for condition, cells in study.conditions.items():
        measured = list(dict.fromkeys(chain.from_iterable(cell.trial.tasks for cell in cells)))
        if len(measured) < 2:
            continue
        ratios: dict[str, list[list[Draws | None]]] = {}
        for baseline in BASELINES:
            ratios[baseline] = []
            for cell in cells:
                ratios[baseline].append([against(cell, task, baseline) for task in measured])
        crossed.append(_clustered(condition, cells, measured, ratios))
    return crossed


def _clustered(
    condition: Condition,
    cells: Sequence[Cell],
    measured: Sequence[str],
    ratios: dict[str, list[list[Draws | None]]],
) -> Matrix:
    """Put similar rows, and similar columns, side by side.

    Args:
        condition: of the cells.
        cells: one for each row.
        measured: the task of each column.
        ratios: FR by baseline; the one with most numbers decides the order.
    """
    tables = [values(table) for table in ratios.values()]
    fullest = max(tables, key=lambda table: np.isfinite(table).sum())
    trees = upgma(fullest), upgma(fullest.T)
    down, across = (
        [*range(n)] if tree is None else leaves(tree)
        for tree, n in zip(trees, fullest.shape, strict=True)
    )
    rows, columns = [cells[i] for i in down], [measured[j] for j in across]
    ordered: dict[str, list[list[Draws | None]]] = {}
    for baseline, table in ratios.items():
        ordered[baseline] = []
        for i in down:
            ordered[baseline].append([table[i][j] for j in across])
    counts = []
    for cell in rows:
        counts.append([cell.n("forgotten", "test", task) for task in columns])
    names = tuple(cell.task for cell in rows)
    return Matrix(condition, names, tuple(columns), ordered, counts, trees)


def shares(matrix: Matrix, baseline: str) -> Shares | None:
    """Decompose the variance over the pairs of different tasks by an additive model.

    The sums of squares are of type II. The sampling of items alone makes rows, columns and the rest
    differ. The resamples measure how much it adds to each sum of squares, which is taken off, as
    far as it goes. The shares are of the sum of the three.

    Returns:
        None with fewer than three rows or columns, or where nothing is left.
    """
    rows, columns, ratios = matrix.pairs(baseline)
    counts = len(set(rows.tolist())), len(set(columns.tolist()))
    if min(counts) < 3 or len(rows) <= sum(counts) - 1:
        return None
    row, column = (_design(names) for names in (rows, columns))
    both = _projection(np.hstack([row, column]))
    parts = {
        "evaluated": both - _projection(row),
        "trained": both - _projection(column),
        "rest": np.eye(len(rows)) - both,
    }
    noise = ratios[:, 1:] - ratios[:, 1:].mean(axis=1, keepdims=True)

    def squares(projection: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("pb,pq,qb->b", y, projection, y)

    def corrected(projection: np.ndarray) -> np.ndarray:
        added = squares(projection, noise).mean()
        # A resample carries the noise of the data and its own on top.
        return np.maximum(
            0, squares(projection, ratios) - np.r_[added, np.full(RESAMPLES, 2 * added)]
        )

    left = {name: corrected(projection) for name, projection in parts.items()}
    total = np.sum(list(left.values()), axis=0)
    if total[0] <= 0:
        return None
    # A resample in which nothing is left has no shares.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: np.where(total > 0, part / total, np.nan) for name, part in left.items()}
    found["lead"] = found["evaluated"] - found["trained"]
    estimates = {name: estimate(draws, len(rows)) for name, draws in found.items()}
    return Shares(**estimates, rows=counts[0], columns=counts[1], baseline=baseline)


def _design(names: np.ndarray) -> np.ndarray:
    """Return the indicators of the distinct names, [n, distinct]."""
    return (names[:, None] == np.unique(names)[None]).astype(float)


def _projection(design: np.ndarray) -> np.ndarray:
    """Return the projection onto the columns of a design."""
    return design @ np.linalg.pinv(design)


def _learning(trial: Trial) -> str:
    """Name what two trials share where the learned model of one is the baseline of the other."""
    fields = {
        "model",
        "learn",
        "tuning",
        "lora",
        "precision",
        "options",
        "template",
        "normalise",
        "seed",
        "evaluation_examples",
    }
    return trial.model_dump_json(include=fields)


def values(table: Sequence[Sequence[Draws | None]]) -> np.ndarray:
    """Return the values of a table; NaN where there is none."""
    rows = []
    for row in table:
        rows.append([np.nan if draws is None else draws[0] for draws in row])
    return np.array(rows, dtype=float)


def upgma(table: np.ndarray) -> np.ndarray | None:
    """Cluster the rows by average linkage (scipy's linkage matrix); None for fewer than three.

    The distance of two rows is the root mean square over the columns that both have; rows that
    share none are as far apart as any two are.
    """
    if len(table) < 3:
        return None
    squared = (table[:, None] - table[None]) ** 2
    shared = np.isfinite(squared)
    distances = np.sqrt(np.where(shared, squared, 0).sum(-1) / np.maximum(shared.sum(-1), 1))
    distances[~shared.any(-1)] = distances.max()
    np.fill_diagonal(distances, 0)
    return linkage(squareform(distances), "average", optimal_ordering=True)


def leaves(tree: np.ndarray) -> list[int]:
    """Return the rows in the order in which the tree has them side by side."""
    return [int(i) for i in leaves_list(tree)]
