"""From task to task: FR[i, j], what forgetting task i does to task j, and which of the two decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Sample, Study, forget_ratio
from forget.results.metrics import RESAMPLES, Estimate
from forget.settings.trial import Trial

BASELINES = ("learned on j", "learned on i", "untouched")
"""What FR[i, j] compares with: the model that learned j, the trial's own after learning i, the one
before any training.
"""


@dataclass(frozen=True)
class Matrix:
    """FR[i, j]: share of the skill on held-out examples of task j that forgetting task i took; 1 is at chance."""

    setting: str
    rate: float
    rows: tuple[str, ...]
    """Tasks forgotten, similar rows side by side."""
    columns: tuple[str, ...]
    """Tasks measured, likewise."""
    ratios: dict[str, list[list[Draws | None]]]
    """By baseline; None where the trial it needs is not there."""
    n: list[list[int]]
    """Items of each entry, over all seeds."""
    trees: tuple[np.ndarray | None, np.ndarray | None]
    """UPGMA linkage (scipy) of the rows and of the columns as they stand; None for fewer than three."""

    def estimates(self, baseline: str) -> list[list[Estimate | None]]:
        return [
            [None if e is None else estimate(e, n) for e, n in zip(row, counts, strict=True)]
            for row, counts in zip(self.ratios[baseline], self.n, strict=True)
        ]

    def pairs(self, baseline: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, column, ratio [1 + RESAMPLES]) of the pairs of different tasks, stacked.

        Only of those where the skill to lose is above chance in every resample: elsewhere the ratio
        is mostly noise.
        """
        found = [
            (i, j, e)
            for i, line in enumerate(self.ratios[baseline])
            for j, e in enumerate(line)
            if self.rows[i] != self.columns[j] and e is not None and np.isfinite(e).all()
        ]
        if not found:
            return np.empty(0, int), np.empty(0, int), np.empty((0, 1 + RESAMPLES))
        rows, columns, ratios = zip(*found, strict=True)
        return np.array(rows), np.array(columns), np.stack(ratios)


@dataclass(frozen=True)
class Shares:
    """How much of the variance of FR[i, j], the diagonal aside, goes with each task, and how much with neither."""

    evaluated: Estimate
    """j, the task measured."""
    trained: Estimate
    """i, the task forgotten."""
    rest: Estimate
    """Their interaction."""
    lead: Estimate
    """evaluated - trained."""
    rows: int
    columns: int
    baseline: str


@lru_cache(maxsize=1)
def cross(study: Study) -> list[Matrix]:
    """The cross-task matrix of each setting and rate that measured a task after forgetting another one."""
    # Trials that share the learned model have the same rows of it, whatever their forgetting.
    learned_on = {
        (_learning(o.trial), o.trial.task): o.id for cell in study.cells for o in cell.outcomes
    }

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
    for (setting, rate), cells in study.conditions.items():
        columns = list(dict.fromkeys(task for cell in cells for task in cell.trial.tasks))
        if len(columns) < 2:
            continue
        ratios = {
            b: [[against(cell, task, b) for task in columns] for cell in cells] for b in BASELINES
        }
        fullest = max(
            (values(table) for table in ratios.values()), key=lambda found: np.isfinite(found).sum()
        )
        trees = upgma(fullest), upgma(fullest.T)
        down, across = (
            [*range(n)] if tree is None else leaves(tree)
            for tree, n in zip(trees, fullest.shape, strict=True)
        )
        names = tuple(cells[i].task for i in down), tuple(columns[j] for j in across)
        counts = [[cells[i].n("forgotten", "test", columns[j]) for j in across] for i in down]
        ordered = {b: [[table[i][j] for j in across] for i in down] for b, table in ratios.items()}
        crossed.append(Matrix(setting, rate, *names, ordered, counts, trees))
    return crossed


def shares(matrix: Matrix, baseline: str) -> Shares | None:
    """Two-way decomposition of the pairs of different tasks: type II sums of squares of an additive model.

    The sampling of items alone makes rows, columns and the rest differ. What it adds to each sum of
    squares is measured by the resamples and taken off, as far as it goes. The shares are of the sum
    of the three. None with fewer than three rows or columns, or where nothing is left.
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
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: np.where(total > 0, part / total, np.nan) for name, part in left.items()}
    found["lead"] = found["evaluated"] - found["trained"]
    estimates = {name: estimate(draws, len(rows)) for name, draws in found.items()}
    return Shares(**estimates, rows=counts[0], columns=counts[1], baseline=baseline)


def _design(names: np.ndarray) -> np.ndarray:
    return (names[:, None] == np.unique(names)[None]).astype(float)


def _projection(design: np.ndarray) -> np.ndarray:
    return design @ np.linalg.pinv(design)


def _learning(trial: Trial) -> str:
    """What two trials share where the learned model of one is the baseline of the other."""
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
    """Values of a table; NaN where there is none."""
    return np.array([[np.nan if e is None else e[0] for e in row] for row in table], dtype=float)


def upgma(table: np.ndarray) -> np.ndarray | None:
    """Average-linkage clustering of the rows (scipy's linkage matrix); None for fewer than three.

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
    return [int(i) for i in leaves_list(tree)]
