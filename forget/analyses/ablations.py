"""Effects of one setting at a time, over cells that are equal in everything else."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product

import numpy as np
from scipy.stats import ConstantInputWarning, pearsonr, rankdata

from forget.analyses.cell_measures import Counted, counted, probe_kept
from forget.analyses.resampling import Draws, cohens_h, estimate, holm, p_value
from forget.analyses.study import Cell, Study
from forget.analyses.words import SPLIT_WORDS, flattened
from forget.results import measures
from forget.results.estimates import RESAMPLES, Estimate

PROBE = "probe skill kept"

SPLITS = ("train", "test")
"""Splits on which headline measures are compared."""

FEWEST_TASKS = 5
"""Tasks that a rank correlation needs."""

Matched = Sequence[tuple[Cell, Cell]]
"""Cells of one task that differ in the factor alone, with the seeds that both have."""


@dataclass(frozen=True)
class Effect:
    """A measure of cells that a setting may change."""

    panel: str
    """Its name without the split."""
    split: str
    name: str
    of: Callable[[Cell], Counted | None]
    share: bool
    """True for an accuracy, of which Cohen's h is an effect size."""


def effects() -> list[Effect]:
    """List the headline measures after forgetting, on each of SPLITS, and the probe's skill.

    A cell has the ratio of its labels alone, so a ratio is compared and averaged over cells that
    share its definition.
    """
    found = []
    for measure in measures.every_measure():
        if measure.headline:
            panel = measure.title if measure.change else f"{measure.title} after forgetting"
            for split in SPLITS:
                name = f"{panel}, {SPLIT_WORDS[split]}"
                of = partial(_headline, measure.name, split)
                found.append(Effect(panel, split, name, of, measure.name == "accuracy"))
    return [*found, Effect(PROBE, "test", PROBE, probe_kept, False)]


def _headline(name: str, split: str, cell: Cell) -> Counted | None:
    fitting = {measure.under(cell.flipped).name for measure in measures.MEASURES}
    return counted(cell, "forgotten", split, name) if name in fitting else None


@dataclass(frozen=True)
class Contrast:
    """Difference that two values of a factor make to one measure.

    It is the average over the tasks that have the measure with both; within a task it is the
    average over whatever else varies. The tasks are taken as they are: intervals and p are of items
    and seeds.
    """

    factor: str
    """Dotted name of the setting."""
    first: str
    other: str
    measure: str
    values: tuple[Estimate, Estimate]
    """The measure with `first` and with `other`."""
    difference: Estimate
    """other - first. Its n adds up, over the pairs of cells, the items of the smaller sample."""
    p: float
    """p of no difference (bootstrap)."""
    adjusted: float | None
    """p after Holm's correction for the factor's pairs of values."""
    effect: float | None
    """Cohen's h of accuracies: 0.2 is small, 0.8 large.

    Ratios and kept skill are shares of an effect already.
    """
    tasks: int


@dataclass(frozen=True)
class Pattern:
    """Agreement of two values of a factor on which tasks are forgotten most."""

    factor: str
    first: str
    other: str
    rho: Estimate
    """Spearman's rank correlation, over tasks, of the forget ratio on held-out examples.

    Its interval is of tasks as well as of items and seeds, n the number of tasks. Where something
    else varies too, it is the mean over its values. The flipped ratio is the plain one by a factor
    of two, so it has the same ranks.
    """


def factors(study: Study) -> dict[str, list[str]]:
    """Return the values of each setting that varies beside task, model and seed, as they come."""
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
    """Pair the cells with the first and with the other value that are equal in all else."""
    alike: dict[tuple[str, ...], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in study.cells:
        alike[cell.task, *_rest(cell, factor)][flattened(cell.trial).get(factor, "")].append(cell)
    pairs = []
    for values in alike.values():
        for a, b in product(values[first], values[other]):
            seeds = _seeds(a) & _seeds(b)
            if seeds:
                pairs.append((_with_seeds(a, seeds), _with_seeds(b, seeds)))
    return pairs


def contrasts(study: Study) -> list[Contrast]:
    """Contrast every two values of each factor by each effect that some matched cells have."""
    found = []
    for factor, values in factors(study).items():
        pairs = {two: matched(study, factor, *two) for two in combinations(values, 2)}
        for effect in effects():
            made = []
            for two, cells in pairs.items():
                contrast = _contrast(factor, *two, effect, cells)
                if contrast:
                    made.append(contrast)
            adjusted = holm([one.p for one in made])
            found += [replace(one, adjusted=p) for one, p in zip(made, adjusted, strict=True)]
    return found


def patterns(study: Study) -> list[Pattern]:
    """Compare which tasks are forgotten most with every two values of each factor.

    The correlation is missing where fewer than 5 tasks have a ratio with both.
    """
    found = []
    for factor, values in factors(study).items():
        for first, other in combinations(values, 2):
            rho = _correlation(factor, matched(study, factor, first, other))
            found.append(Pattern(factor, first, other, rho))
    return found


def _rest(cell: Cell, factor: str) -> tuple[str, ...]:
    """List the settings beside factor and seed.

    Full fine-tuning has no adapters, so theirs keep no cell from its match.
    """
    free = (factor, "seed")
    return tuple(
        f"{name} {value}"
        for name, value in flattened(cell.trial).items()
        if name not in free and not (factor == "tuning" and name.startswith("lora."))
    )


def _seeds(cell: Cell) -> set[int]:
    return {outcome.trial.seed for outcome in cell.outcomes}


def _with_seeds(cell: Cell, seeds: set[int]) -> Cell:
    """Keep the given seeds, in their order: resamples of seeds take the same ones in both cells."""
    shared = (outcome for outcome in cell.outcomes if outcome.trial.seed in seeds)
    ordered = tuple(sorted(shared, key=lambda outcome: outcome.trial.seed))
    # Mostly the cell has them already; then it stays, with what is cached on it.
    if [*map(id, ordered)] == [*map(id, cell.outcomes)]:
        return cell
    return replace(cell, outcomes=ordered)


def _contrast(
    factor: str, first: str, other: str, effect: Effect, pairs: Matched
) -> Contrast | None:
    """Contrast two values of a factor; None where no pair of cells has the measure with both."""
    tasks: dict[str, list[tuple[Draws, Draws]]] = defaultdict(list)
    n, free = 0, math.inf
    for a, b in pairs:
        one, two = effect.of(a), effect.of(b)
        if one and two and np.isfinite(one[0][0]) and np.isfinite(two[0][0]):
            tasks[a.task].append((one[0], two[0]))
            n += min(one[1], two[1])
            free = min(free, a.degrees, b.degrees)
    if not tasks:
        return None
    before, after = np.mean([np.mean(found, axis=0) for found in tasks.values()], axis=0)
    # A rounding error that all resamples share is no difference.
    difference = (after - before).round(12)
    p = p_value(difference, 0, free)
    return Contrast(
        factor=factor,
        first=first,
        other=other,
        measure=effect.name,
        values=(estimate(before, n), estimate(after, n)),
        difference=estimate(difference, n),
        p=p,
        adjusted=p,
        effect=cohens_h(before[0], after[0]) if effect.share else None,
        tasks=len(tasks),
    )


def _correlation(factor: str, pairs: Matched) -> Estimate:
    """Correlate, over tasks, the ratios with the two values; the mean over what else varies."""
    backgrounds: dict[tuple[str, ...], list[tuple[Draws, Draws]]] = defaultdict(list)
    for a, b in pairs:
        one, two = (cell.draws("forgotten", "test", cell.ratio) for cell in (a, b))
        if one is not None and two is not None and np.isfinite(one[0]) and np.isfinite(two[0]):
            backgrounds[_rest(a, factor) + _rest(b, factor)].append((one, two))
    tasks = max((len(found) for found in backgrounds.values()), default=0)
    enough = [
        np.stack(found, axis=1) for found in backgrounds.values() if len(found) >= FEWEST_TASKS
    ]
    if not enough:
        return Estimate(None, None, None, tasks)
    return estimate(np.mean([_spearman(*found) for found in enough], axis=0), tasks)


def _spearman(x: np.ndarray, y: np.ndarray) -> Draws:
    """Correlate ranks over the tasks of x and y, both [tasks, 1 + RESAMPLES].

    The b-th resample of tasks takes the b-th resamples of their items. A resample carries the noise
    of the items twice, so the interval errs towards 0.
    """
    count = len(x)
    picked = np.random.default_rng(count).integers(0, count, (count, RESAMPLES))
    order = np.concatenate([np.arange(count)[:, None], picked], axis=1)
    ranks = (rankdata(np.take_along_axis(of, order, axis=0), axis=0) for of in (x, y))
    with warnings.catch_warnings():
        # A resample of one task, over and over, has no correlation and is left out.
        warnings.simplefilter("ignore", ConstantInputWarning)
        return np.asarray(pearsonr(*ranks, axis=0).statistic)
