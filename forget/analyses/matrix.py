"""The cross-task matrix FR[i, j] of how much forgetting task i takes of task j.

Its variance is shared out between the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from forget.analyses.arms import control, lost
from forget.analyses.resampling import Draws, estimate
from forget.analyses.states import silent
from forget.analyses.study import Cell, Condition, Study, forget_ratio
from forget.results.estimates import RESAMPLES, Estimate
from forget.results.outcome import Outcome
from forget.settings.trial import Trial

BASELINES = ("learned on j", "learned on i", "untouched")
"""Models that FR[i, j] compares with.

In this order: the one that learned j, the trial's own after learning i, the one before any
training.
"""

NET = "learned on i, less true labels"
"""FR[i, j] against the trial's own model, less that of the arm with true labels."""

Blank = Literal["", "not mastered", "silent"]
"""The reason for which an entry is left out."""


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
    """FR by baseline; None where the trial it needs is not there, or the entry is left out."""
    blanks: dict[str, list[list[Blank]]]
    """Reasons for which entries are left out, by baseline.

    Of a task that the baseline has not mastered there is no skill to lose, and of a model whose
    options lost their probability no accuracy to read.
    """
    n: list[list[int]]
    """Items of each entry, over all seeds."""
    trees: tuple[np.ndarray | None, np.ndarray | None]
    """UPGMA linkage (scipy) of the rows and of the columns as they stand.

    None for fewer than three.
    """

    @property
    def judged(self) -> str:
        """The baseline that claims are put to: less true labels where that arm was run."""
        return NET if NET in self.ratios else "learned on i"

    def estimates(self, baseline: str) -> list[list[Estimate | None]]:
        """Return FR against one baseline with its intervals."""
        table = []
        for row, counts in zip(self.ratios[baseline], self.n, strict=True):
            pairs = zip(row, counts, strict=True)
            table.append([None if draws is None else estimate(draws, n) for draws, n in pairs])
        return table

    def pairs(self, baseline: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stack the pairs of different tasks: (row, column, ratio [1 + RESAMPLES]).

        Those with a resample in which nothing was learned are left out: mostly noise.
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

    def by_column(self, baseline: str) -> Iterator[tuple[str, Draws | None, list[Draws]]]:
        """Yield each task measured, what its own labels took, and what each other task's took."""
        for j, column in enumerate(self.columns):
            own, others = None, []
            for i, row in enumerate(self.rows):
                draws = self.ratios[baseline][i][j]
                if draws is None or not np.isfinite(draws[0]):
                    continue
                if row == column:
                    own = draws
                else:
                    others.append(draws)
            yield column, own, others

    def counted_blanks(self, baseline: str) -> dict[Blank, int]:
        """Count the pairs of different tasks that are left out, by their reason."""
        found: Counter[Blank] = Counter()
        for i, line in enumerate(self.blanks[baseline]):
            for j, blank in enumerate(line):
                if blank and self.rows[i] != self.columns[j]:
                    found[blank] += 1
        return dict(found)


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


Entry = tuple[Draws | None, Blank]


@lru_cache(maxsize=1)
def cross(study: Study) -> list[Matrix]:
    """Return the matrix of each condition that measured a task after forgetting another one."""
    # Trials that share the learned model have the same rows of it, whatever their forgetting.
    learners: dict[tuple[str, str], Outcome] = {}
    for cell in study.cells:
        for outcome in cell.outcomes:
            learners[_learning(outcome.trial), cell.task] = outcome
    crossed = []
    for condition, cells in study.conditions.items():
        measured = list(dict.fromkeys(chain.from_iterable(cell.trial.tasks for cell in cells)))
        if len(measured) < 2:
            continue
        find: dict[str, Callable[[Cell, str], Entry]] = {
            name: partial(_against, learners, name) for name in BASELINES
        }
        if any(control(cell) for cell in cells):
            find[NET] = _net
        entries: dict[str, list[list[Entry]]] = {}
        for baseline, one in find.items():
            entries[baseline] = []
            for cell in cells:
                entries[baseline].append([one(cell, task) for task in measured])
        crossed.append(_clustered(condition, cells, measured, entries))
    return crossed


def _against(
    learners: Mapping[tuple[str, str], Outcome], baseline: str, cell: Cell, task: str
) -> Entry:
    """Compare the accuracy on a task after forgetting the cell's own with that of a baseline."""
    source, phase = cell, "base" if baseline == "untouched" else "learned"
    if baseline == "learned on j" and task != cell.task:
        found = [learners.get((_learning(o.trial), task)) for o in cell.outcomes]
        outcomes = tuple(outcome for outcome in found if outcome)
        if len(outcomes) < len(found):
            return None, ""
        learner = next(c for c in cell.study.cells if c.task == task and outcomes[0] in c.outcomes)
        source = learner if learner.outcomes == outcomes else replace(learner, outcomes=outcomes)
    a_ft, a_fg = (
        source.draws(phase, "test", "accuracy", task),
        cell.draws("forgotten", "test", "accuracy", task),
    )
    chance = cell.chance("test", task)
    same = source.items(phase, "test", task) == cell.items("forgotten", "test", task)
    if a_ft is None or a_fg is None or chance is None or not same:
        return None, ""
    if not source.masters(task, phase):
        return None, "not mastered"
    if silent(cell, "test", task):
        return None, "silent"
    return forget_ratio(a_ft, a_fg, chance), ""


def _net(cell: Cell, task: str) -> Entry:
    """Compare with the trial's own model, and take off what true labels took."""
    other = control(cell)
    own, blank = _against({}, "learned on i", cell, task)
    if other is None or own is None:
        return None, blank
    further, blank = _against({}, "learned on i", other, task)
    return (None, blank) if further is None else (lost(cell, "test", task), "")


def _clustered(
    condition: Condition,
    cells: Sequence[Cell],
    measured: Sequence[str],
    entries: dict[str, list[list[Entry]]],
) -> Matrix:
    """Put similar rows, and similar columns, side by side.

    Args:
        condition: of the cells.
        cells: one for each row.
        measured: the task of each column.
        entries: FR by baseline; the one with most numbers decides the order.
    """
    tables = []
    for table in entries.values():
        tables.append(values(_draws(table)))
    fullest = max(tables, key=lambda table: np.isfinite(table).sum())
    trees = upgma(fullest), upgma(fullest.T)
    down, across = (
        [*range(n)] if tree is None else leaves(tree)
        for tree, n in zip(trees, fullest.shape, strict=True)
    )
    rows, columns = [cells[i] for i in down], [measured[j] for j in across]
    ratios: dict[str, list[list[Draws | None]]] = {}
    blanks: dict[str, list[list[Blank]]] = {}
    for baseline, table in entries.items():
        ordered = []
        for i in down:
            ordered.append([table[i][j] for j in across])
        ratios[baseline] = _draws(ordered)
        blanks[baseline] = []
        for row in ordered:
            blanks[baseline].append([blank for _, blank in row])
    counts = []
    for cell in rows:
        counts.append([cell.n("forgotten", "test", task) for task in columns])
    names = tuple(cell.task for cell in rows)
    return Matrix(condition, names, tuple(columns), ratios, blanks, counts, trees)


def _draws(table: Sequence[Sequence[Entry]]) -> list[list[Draws | None]]:
    """Return the numbers of a table without the reasons for which some are left out."""
    found = []
    for row in table:
        found.append([draws for draws, _ in row])
    return found


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
        "member",
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
