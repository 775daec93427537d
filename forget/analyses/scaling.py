"""Trends of headline measures over the logarithm of the number of parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.cell_measures import Counted, counted, probe_kept
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Study
from forget.results.estimates import Estimate

FLAT = 0.1
"""A measure is flat where its change surely is smaller.

In the measure's units, which are shares of items, of skill or of probability.
"""


@dataclass(frozen=True)
class Trend:
    """A measure at each size of models that differ in nothing else."""

    metric: str
    varied: str
    """The settings that the models share (forget.analyses.study.Condition)."""
    rate: float
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

    One of monotone (it rises), inverse (it falls), U-shaped, inverted-U-shaped, flat, undecided.
    """
    decides: Estimate
    """The change that the shape rests on, in the measure's units."""
    of: str
    """The sizes that the change is over."""


TRACED: dict[str, Callable[[Cell], Counted | None]] = {
    "forget ratio, trained examples": lambda cell: counted(cell, "forgotten", "train", cell.ratio),
    "forget ratio, held-out examples": lambda cell: counted(cell, "forgotten", "test", cell.ratio),
    "accuracy after learning": lambda cell: counted(cell, "learned", "test", "accuracy"),
    "accuracy after forgetting": lambda cell: counted(cell, "forgotten", "test", "accuracy"),
    "probe skill kept": probe_kept,
    "option mass after forgetting": lambda cell: counted(cell, "forgotten", "test", "option_mass"),
}
"""Measures that are followed over sizes; accuracies and option mass are of held-out examples."""

Family = list[list[Cell]]
"""The cells of each model, the smallest model first."""


def families(study: Study) -> dict[tuple[str, float], Family]:
    """Return, by what varies beside the model and by rate, models of two sizes at least."""
    found: dict[tuple[str, float], Family] = defaultdict(list)
    for condition, cells in study.conditions.items():
        found[condition.varied, condition.rate].append(cells)
    families = {}
    for key, models in found.items():
        models.sort(key=lambda cells: _size(cells[0]))
        if _size(models[0][0]) < _size(models[-1][0]):
            families[key] = models
    return families


def trends(study: Study) -> list[Trend]:
    """Return the trend of each measure that some task has at every size, family by family."""
    found = []
    for (varied, rate), family in families(study).items():
        models = tuple(cells[0].trial.model for cells in family)
        sizes = tuple(_size(cells[0]) for cells in family)
        for metric, measure in TRACED.items():
            by_task = _at_every_size(family, measure)
            if not by_task:
                continue
            draws, counts, tasks = [], [], {}
            for task, line in by_task.items():
                draws.append([draw for draw, _ in line])
                counts.append([n for _, n in line])
                tasks[task] = tuple(estimate(draw, n) for draw, n in line)
            means, ns = np.mean(draws, axis=0), np.sum(counts, axis=0).tolist()
            values = tuple(estimate(mean, n) for mean, n in zip(means, ns, strict=True))
            decided = shape(sizes, means, min(ns))
            found.append(Trend(metric, varied, rate, models, sizes, values, tasks, *decided))
    return found


def shape(sizes: Sequence[int], draws: np.ndarray, n: int) -> tuple[str, Estimate, str]:
    """Decide the shape of a measure over sizes.

    A change is that of a least-squares line in the logarithm of the size. From three sizes on there
    are two more lines, up to the turn and from it on: the measure is U-shaped where both are sure
    and opposite (two-lines test, Simonsohn 2018; a quadratic alone calls a measure that merely
    levels off U-shaped). The turn is the size nearest to the vertex of the quadratic, the two ends
    aside. Flat takes every line.

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
    inner = np.unique(x)[1:-1]
    if len(inner):
        curvature, slope, _ = np.polyfit(x, y[:, 0], 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = inner[np.argmin(np.abs(inner + slope / (2 * curvature)))]
        size = f"{round(10**turn):,}"
        changes[f"up to {size}"], changes[f"from {size} on"] = (
            estimate(_change(x[side], y[side]), n) for side in (x <= turn, x >= turn)
        )
    whole, *sides = (_sign(change) for change in changes.values())
    nearest, farthest = {}, {}
    for of, change in changes.items():
        _, low, high = change.numbers
        nearest[of], farthest[of] = min(abs(low), abs(high)), max(abs(low), abs(high))
    if sides and sides[0] * sides[1] < 0:
        # The less sure of the two lines decides.
        of = min(list(changes)[1:], key=lambda of: nearest[of])
        return "U-shaped" if sides[1] > 0 else "inverted-U-shaped", changes[of], of
    if whole:
        return "monotone" if whole > 0 else "inverse", changes["all sizes"], "all sizes"
    if max(farthest.values()) <= FLAT:
        of = max(farthest, key=lambda of: farthest[of])
        return "flat", changes[of], of
    return "undecided", changes["all sizes"], "all sizes"


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


def _at_every_size(
    family: Family, measure: Callable[[Cell], Counted | None]
) -> dict[str, list[Counted]]:
    """Return the measure at each size by task.

    Tasks that lack it at some size, or have it missing there, are left out.
    """
    found: dict[str, list[Counted]] = {cell.task: [] for cell in family[0]}
    for cells in family:
        for cell in cells:
            one = measure(cell)
            if cell.task in found and one and np.isfinite(one[0][0]):
                found[cell.task].append(one)
    return {task: line for task, line in found.items() if len(line) == len(family)}
