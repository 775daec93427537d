"""One factor at a time: what a setting of the trial changes, over cells that are equal in everything else."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import ConstantInputWarning, pearsonr, rankdata

from forget.analyses.cell_measures import Measured, measured, probe_kept
from forget.analyses.resampling import Draws, cohens_h, estimate, holm, p_value
from forget.analyses.study import Cell, Study
from forget.analyses.words import flattened
from forget.results.metrics import RESAMPLES, Estimate

MEASURES: dict[str, Callable[[Cell], Measured | None]] = {
    "accuracy after forgetting, trained examples": lambda cell: measured(
        cell, "forgotten", "train", "accuracy"
    ),
    "accuracy after forgetting, held-out examples": lambda cell: measured(
        cell, "forgotten", "test", "accuracy"
    ),
    "forget ratio, trained examples": lambda cell: _ratio(cell, "forget_ratio", "train"),
    "forget ratio, held-out examples": lambda cell: _ratio(cell, "forget_ratio", "test"),
    "flipped forget ratio, trained examples": lambda cell: _ratio(
        cell, "flipped_forget_ratio", "train"
    ),
    "flipped forget ratio, held-out examples": lambda cell: _ratio(
        cell, "flipped_forget_ratio", "test"
    ),
    "probe skill kept": probe_kept,
}
"""A cell has the ratio of its labels alone, so a ratio is compared and averaged over cells that
share its definition.
"""

LEAST = 5
"""Tasks that a rank correlation needs."""

Pairs = Sequence[tuple[Cell, Cell]]
"""Cells of one task that differ in the factor alone, with the seeds that both have."""


@dataclass(frozen=True)
class Comparison:
    """What two values of a factor do to one measure, on average over the tasks that have it with both.

    Within a task it is the average over whatever else varies. The tasks are taken as they are:
    intervals and p are of items and seeds.
    """

    factor: str
    """Dotted name of the setting."""
    first: str
    other: str
    measure: str
    values: tuple[Estimate, Estimate]
    """With `first` and with `other`."""
    difference: Estimate
    """other - first. Its n adds up the items of every pair of cells, the smaller sample of the two."""
    p: float
    """Of no difference (bootstrap)."""
    adjusted: float | None
    """p after Holm's correction for the factor's pairs of values."""
    effect: float | None
    """Cohen's h of accuracies: 0.2 is small, 0.8 large. Ratios and kept skill are shares of an effect
    already.
    """
    tasks: int


@dataclass(frozen=True)
class Pattern:
    """Whether the same tasks are forgotten most with two values of a factor."""

    factor: str
    first: str
    other: str
    rho: Estimate
    """Spearman's rank correlation, over tasks, of the forget ratio on held-out examples; its interval
    is of tasks as well as of items and seeds, n the number of tasks. Where something else varies
    too, the mean over its values. The flipped ratio is the plain one by a factor of two, so it
    has the same ranks.
    """


def factors(study: Study) -> dict[str, list[str]]:
    """Values, in the order in which they come, of each setting that varies beside task, model and seed."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for cell in study.cells:
        for name, value in flattened(cell.trial).items():
            found[name][value] = None
    return {
        name: list(values)
        for name, values in found.items()
        if len(values) > 1 and name not in ("model", "seed")
    }


def matched(study: Study, factor: str, first: str, other: str) -> list[tuple[Cell, Cell]]:
    """Pairs of cells, first and other, that are equal in all but the factor."""
    alike: dict[tuple[str, ...], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in study.cells:
        alike[cell.task, *_rest(cell, factor)][flattened(cell.trial).get(factor, "")].append(cell)
    pairs = [(a, b) for values in alike.values() for a in values[first] for b in values[other]]
    shared = [
        (a, b, {o.trial.seed for o in a.outcomes} & {o.trial.seed for o in b.outcomes})
        for a, b in pairs
    ]
    return [(_with_seeds(a, seeds), _with_seeds(b, seeds)) for a, b, seeds in shared if seeds]


def comparisons(study: Study) -> list[Comparison]:
    """Of every two values of each factor, by each measure that some matched pair of cells has."""
    found = []
    for factor, values in factors(study).items():
        pairs = {two: matched(study, factor, *two) for two in combinations(values, 2)}
        for name, measure in MEASURES.items():
            some = [_compared(factor, *two, name, measure, cells) for two, cells in pairs.items()]
            made = [comparison for comparison in some if comparison]
            found += [
                replace(c, adjusted=p) for c, p in zip(made, holm([c.p for c in made]), strict=True)
            ]
    return found


def patterns(study: Study) -> list[Pattern]:
    """Of every two values of each factor; missing where fewer than 5 tasks have a ratio with both."""
    return [
        Pattern(factor, *two, _correlation(factor, matched(study, factor, *two)))
        for factor, values in factors(study).items()
        for two in combinations(values, 2)
    ]


def _ratio(cell: Cell, name: str, split: str) -> Measured | None:
    return measured(cell, "forgotten", split, name) if cell.ratio == name else None


def _rest(cell: Cell, factor: str) -> tuple[str, ...]:
    """The settings beside factor and seed. Full fine-tuning has no adapters, so theirs keep no cell from its match."""
    free = (factor, "seed")
    return tuple(
        f"{name} {value}"
        for name, value in flattened(cell.trial).items()
        if name not in free and not (factor == "tuning" and name.startswith("lora."))
    )


def _with_seeds(cell: Cell, seeds: set[int]) -> Cell:
    """In the seeds' order, so that resamples of seeds are of the same ones in both cells."""
    shared = (outcome for outcome in cell.outcomes if outcome.trial.seed in seeds)
    ordered = tuple(sorted(shared, key=lambda outcome: outcome.trial.seed))
    # Mostly it has them already, and then what is known of it stays known.
    return (
        cell
        if [*map(id, ordered)] == [*map(id, cell.outcomes)]
        else replace(cell, outcomes=ordered)
    )


def _compared(
    factor: str,
    first: str,
    other: str,
    name: str,
    measure: Callable[[Cell], Measured | None],
    pairs: Pairs,
) -> Comparison | None:
    tasks: dict[str, list[tuple[Draws, Draws]]] = defaultdict(list)
    n = 0
    for a, b in pairs:
        one, two = measure(a), measure(b)
        if one and two and np.isfinite(one[0][0]) and np.isfinite(two[0][0]):
            tasks[a.task].append((one[0], two[0]))
            n += min(one[1], two[1])
    if not tasks:
        return None
    before, after = np.mean([np.mean(found, axis=0) for found in tasks.values()], axis=0)
    # A rounding error that all resamples share is no difference.
    difference = (after - before).round(12)
    p = p_value(difference)
    effect = cohens_h(before[0], after[0]) if name.startswith("accuracy") else None
    values = estimate(before, n), estimate(after, n)
    return Comparison(
        factor, first, other, name, values, estimate(difference, n), p, p, effect, len(tasks)
    )


def _correlation(factor: str, pairs: Pairs) -> Estimate:
    backgrounds: dict[tuple[str, ...], list[tuple[Draws, Draws]]] = defaultdict(list)
    for a, b in pairs:
        one, two = (cell.draws("forgotten", "test", cell.ratio) for cell in (a, b))
        if one is not None and two is not None and np.isfinite(one[0]) and np.isfinite(two[0]):
            backgrounds[_rest(a, factor) + _rest(b, factor)].append((one, two))
    tasks = max((len(found) for found in backgrounds.values()), default=0)
    enough = [np.stack(found, axis=1) for found in backgrounds.values() if len(found) >= LEAST]
    if not enough:
        return Estimate(None, None, None, tasks)
    return estimate(np.mean([_spearman(*found) for found in enough], axis=0), tasks)


def _spearman(x: np.ndarray, y: np.ndarray) -> Draws:
    """Over the tasks of [tasks, 1 + RESAMPLES], the b-th resample of tasks with the b-th resamples of their items.

    A resample carries the noise of the items twice, so the interval errs towards 0.
    """
    count = len(x)
    picked = np.random.default_rng(count).integers(0, count, (count, RESAMPLES))
    order = np.concatenate([np.arange(count)[:, None], picked], axis=1)
    ranks = (rankdata(np.take_along_axis(of, order, axis=0), axis=0) for of in (x, y))
    with warnings.catch_warnings():
        # A resample of one task, over and over, has no correlation and is left out.
        warnings.simplefilter("ignore", ConstantInputWarning)
        return np.asarray(pearsonr(*ranks, axis=0).statistic)
