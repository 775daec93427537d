"""Trends of headline measures over the logarithm of the number of parameters.

A rate that is right for one size is too low or too high for another. So beside the trends at each
rate there are two that each size reads at a rate of its own: the one that takes most while other
tasks keep their skill (forget.analyses.frontier), and the one at which as much of the trained
examples' skill is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from forget.analyses import frontier
from forget.analyses.cell_measures import Counted, breadth, counted, from_chance, probe_kept
from forget.analyses.families import families
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Study
from forget.results.estimates import Estimate

FLAT = 0.1
"""A measure is flat where its change surely is smaller.

In the measure's units, which are shares of items, of skill or of probability, or nats.
"""

DOSE = 0.8
"""Share of the skill on trained examples that is lost where sizes are compared at equal dose."""

UTILITY = frontier.UTILITIES[0]


@dataclass(frozen=True)
class Trend:
    """A measure at each size of models that differ in nothing else."""

    metric: str
    family: str
    """The family of the models (forget.analyses.families)."""
    varied: str
    """The settings that the models share (forget.analyses.study.Condition)."""
    rate: float | None
    """Rate of forgetting; None where each size is read at one of its own (CHOSEN)."""
    models: tuple[str, ...]
    """Names of the models, the smallest first."""
    sizes: tuple[int, ...]
    """Parameters of each."""
    values: tuple[Estimate, ...]
    """Means over the tasks at each size.

    The tasks are taken as they are: the intervals are of items and seeds.
    """
    tasks: dict[str, tuple[Estimate, ...]]
    """Values of each task that has the measure at every size."""
    shape: str
    """A word for how it goes with size.

    One of monotone (it rises), inverse (it falls), U-shaped, inverted-U-shaped, flat, undecided,
    undecided (three sizes).
    """
    decides: Estimate
    """The change that the shape rests on, in the measure's units."""
    of: str
    """The sizes that the change is over."""


TRACED: dict[str, Callable[[Cell], Counted | None]] = {
    "forget ratio, trained examples": lambda cell: counted(cell, "forgotten", "train", cell.ratio),
    "forget ratio, held-out examples": lambda cell: counted(cell, "forgotten", "test", cell.ratio),
    "forget ratio, other tasks": breadth,
    "accuracy after learning": lambda cell: counted(cell, "learned", "test", "accuracy"),
    "accuracy after forgetting": lambda cell: counted(cell, "forgotten", "test", "accuracy"),
    "distance from chance": from_chance,
    "loss after forgetting": lambda cell: counted(cell, "forgotten", "test", "loss"),
    "entropy after forgetting": lambda cell: counted(cell, "forgotten", "test", "entropy"),
    "probe skill kept": probe_kept,
    "option mass after forgetting": lambda cell: counted(cell, "forgotten", "test", "option_mass"),
}
"""Measures that are followed over sizes; accuracies, their distance from chance, loss, entropy and
option mass are of held-out examples.
"""


def best(cells: Sequence[Cell]) -> Counted | None:
    """Return the held-out skill that one task's cells lose at the rate that takes most at UTILITY.

    None where no rate leaves so much.
    """
    points = [point for cell in cells if (point := frontier.point(cell))]
    if not points:
        return None
    lost = np.stack([point.lost for point in points])
    found = frontier.choose(lost, np.stack([point.utility for point in points]), UTILITY)
    return (found.lost, cells[0].n("forgotten", "test")) if found else None


def at_dose(cells: Sequence[Cell]) -> Counted | None:
    """Return the held-out skill lost where DOSE of the trained examples' is, of one task's cells.

    None where the rates do not enclose that dose.
    """
    rates, trained, held_out = [], [], []
    for cell in sorted(cells, key=lambda cell: cell.rate):
        dose, lost = cell.lost("train"), cell.lost("test")
        if dose is not None and lost is not None:
            rates.append(cell.rate)
            trained.append(dose)
            held_out.append(lost)
    if len(rates) < 2:
        return None
    _, found = interpolated(rates, np.stack(trained), np.stack(held_out), DOSE)
    return (found, cells[0].n("forgotten", "test")) if np.isfinite(found[0]) else None


CHOSEN: dict[str, Callable[[Sequence[Cell]], Counted | None]] = {
    f"forget ratio, held-out examples, at the best rate that keeps {UTILITY:g} elsewhere": best,
    f"forget ratio, held-out examples, where {DOSE:g} of the trained is lost": at_dose,
}
"""Measures that each size is read at a rate of its own by, of the cells of a task at all rates."""


def interpolated(
    rates: Sequence[float], trained: np.ndarray, held_out: np.ndarray, dose: float
) -> tuple[Draws, Draws]:
    """Read the held-out loss where the trained examples' loss first reaches a dose, over log rate.

    Args:
        rates: rising.
        trained: [rates, 1 + RESAMPLES], share of the skill lost on trained examples.
        held_out: [rates, 1 + RESAMPLES], the same on held-out ones.
        dose: share lost on trained examples.

    Returns:
        log10 of the rate, and what is lost held out there. Both are NaN where no rate reaches the
        dose, and where the lowest one is beyond it already.
    """
    over = trained >= dose
    after = over.argmax(axis=0)
    enclosed = over.any(axis=0) & (after > 0)
    columns = np.arange(trained.shape[1])
    before = np.maximum(after - 1, 0)
    low, high = trained[before, columns], trained[after, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(enclosed, (dose - low) / (high - low), np.nan)
    log = np.log10(rates)
    return (
        log[before] + part * (log[after] - log[before]),
        held_out[before, columns] + part * (held_out[after, columns] - held_out[before, columns]),
    )


Sizes = list[list[Cell]]
"""The cells of each model, the smallest model first."""

Key = tuple[str, str, float | None]
"""(family, what varies beside the model, rate); no rate stands for the cells of all."""


def by_size(study: Study) -> dict[Key, Sizes]:
    """Return the cells that differ in the size of the model alone, of two sizes at least.

    Where a model has several rates, all of them together are there too, without a rate.
    """
    found: dict[Key, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for name, members in families(cell.trial.model for cell in study.cells).items():
        for condition, cells in study.conditions.items():
            if condition.model in members:
                found[name, condition.varied, condition.rate][condition.model] += cells
    for (name, varied, rate), models in list(found.items()):
        for model, cells in models.items():
            if rate is not None:
                found[name, varied, None][model] += cells
    sizes: dict[Key, Sizes] = {}
    for key, by_model in found.items():
        ordered = sorted(by_model.values(), key=lambda cells: _size(cells[0]))
        several = len({cell.rate for cell in chain.from_iterable(ordered)}) > 1
        if _size(ordered[0][0]) < _size(ordered[-1][0]) and (key[2] is not None or several):
            sizes[key] = ordered
    return sizes


def measured(key: Key) -> tuple[str, ...]:
    """Name the measures that are followed at a rate, or over all rates."""
    return tuple(CHOSEN if key[2] is None else TRACED)


def trends(study: Study) -> list[Trend]:
    """Return the trend of each measure that some task has at every size, family by family."""
    found = []
    for key, sizes in by_size(study).items():
        for metric in measured(key):
            by_task = _at_every_size(sizes, metric)
            if by_task:
                found.append(_trend(key, metric, sizes, by_task))
    return found


def _trend(key: Key, metric: str, sizes: Sizes, by_task: Mapping[str, Sequence[Counted]]) -> Trend:
    parameters = tuple(_size(cells[0]) for cells in sizes)
    draws, counts, tasks = [], [], {}
    for task, line in by_task.items():
        draws.append([draw for draw, _ in line])
        counts.append([n for _, n in line])
        tasks[task] = tuple(estimate(draw, n) for draw, n in line)
    means, ns = np.mean(draws, axis=0), np.sum(counts, axis=0).tolist()
    values = tuple(estimate(mean, n) for mean, n in zip(means, ns, strict=True))
    models = tuple(cells[0].trial.model for cells in sizes)
    decided = shape(parameters, means, min(ns))
    return Trend(metric, *key, models, parameters, values, tasks, *decided)


def shape(sizes: Sequence[int], draws: np.ndarray, n: int) -> tuple[str, Estimate, str]:
    """Decide the shape of a measure over sizes.

    A change is that of a least-squares line in the logarithm of the size. From three sizes on there
    are two more lines, on either side of the turn: the measure is U-shaped where both are sure and
    opposite (two-lines test, Simonsohn 2018; a quadratic alone calls a measure that merely levels
    off U-shaped). With three sizes each of them is a line through two points, which any noise of
    the sizes themselves bends as well, so that no U is called. Flat takes every line.

    Args:
        sizes: parameters of each model, rising.
        draws: [sizes, 1 + RESAMPLES]
        n: items that each change rests on.

    Returns:
        The shape, the change that decides it, and the sizes that the change is over.
    """
    x = np.log10(sizes)
    # A rounding error that all resamples share is no trend.
    y = (draws - draws[0]).round(12)
    changes = {"all sizes": estimate(_change(x, y), n)}
    few = len(np.unique(x)) < FEWEST_OF_U
    turn = _turn(x, y[:, 0])
    if turn:
        up_to, since = turn
        for of, side in (
            (f"up to {round(10**up_to):,}", x <= up_to + NO_DISTANCE),
            (f"from {round(10**since):,} on", x >= since - NO_DISTANCE),
        ):
            changes[of] = estimate(_change(x[side], y[side]), n)
    whole, *sides = (_sign(change) for change in changes.values())
    nearest, farthest = {}, {}
    for of, change in changes.items():
        _, low, high = change.numbers
        nearest[of], farthest[of] = min(abs(low), abs(high)), max(abs(low), abs(high))
    if sides and sides[0] * sides[1] < 0:
        # The less sure of the two lines decides.
        of = min(list(changes)[1:], key=lambda of: nearest[of])
        if few:
            return "undecided (three sizes)", changes[of], of
        return "U-shaped" if sides[1] > 0 else "inverted-U-shaped", changes[of], of
    if whole:
        return "monotone" if whole > 0 else "inverse", changes["all sizes"], "all sizes"
    if max(farthest.values()) <= FLAT:
        of = max(farthest, key=lambda of: farthest[of])
        return "flat", changes[of], of
    return "undecided", changes["all sizes"], "all sizes"


FEWEST_OF_U = 4
"""Sizes from which on a measure can be called U-shaped."""

NO_DISTANCE = 1e-9
"""Distance on the axis of log sizes that is rounding."""


def _turn(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Return the last size of the line up to the turn and the first of the line from it on.

    The turn is a size, which belongs to both lines, or the gap between two; of those with two other
    sizes at least on either side it is the one nearest to the vertex of the quadratic. Three sizes
    have the middle one. None of two.
    """
    sizes = np.unique(x)
    beside = 2 if len(sizes) >= FEWEST_OF_U else 1
    turns = [(place, place) for place in range(beside, len(sizes) - beside)]
    if len(sizes) >= FEWEST_OF_U:
        turns += [(place - 1, place) for place in range(beside, len(sizes) - beside + 1)]
    if not turns:
        return None
    curvature, slope, _ = np.polyfit(x, y, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -slope / (2 * curvature)
    middles = [(sizes[low] + sizes[high]) / 2 for low, high in turns]
    low, high = turns[int(np.argmin(np.abs(np.array(middles) - vertex)))]
    return float(sizes[low]), float(sizes[high])


def _change(x: np.ndarray, y: np.ndarray) -> Draws:
    """Compute the change from the smallest to the largest x, by least squares."""
    centred = x - x.mean()
    return centred @ y / (centred @ centred) * (x.max() - x.min())


def _sign(change: Estimate) -> int:
    """Return 1 or -1 for a change that surely rises or falls; 0 where the interval holds 0."""
    _, low, high = change.numbers
    return int(low > 0) - int(high < 0)


def _size(cell: Cell) -> int:
    return cell.outcomes[0].parameters


def _at_every_size(sizes: Sizes, metric: str) -> dict[str, list[Counted]]:
    """Return the measure at each size by task.

    Tasks that lack it at some size, or have it missing there, are left out.
    """
    found: dict[str, list[Counted]] = {cell.task: [] for cell in sizes[0]}
    for cells in sizes:
        for task in dict.fromkeys(cell.task for cell in cells):
            some = [cell for cell in cells if cell.task == task]
            one = CHOSEN[metric](some) if metric in CHOSEN else TRACED[metric](some[0])
            if task in found and one and np.isfinite(one[0][0]):
                found[task].append(one)
    return {task: line for task, line in found.items() if len(line) == len(sizes)}
