"""What grows with the model: each headline measure against the logarithm of the number of parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.cell_measures import Measured, measured, probe_kept
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Study
from forget.results.metrics import Estimate

FLAT = 0.1
"""A measure is flat where its change surely is smaller; in the measure's units: shares of items, of
skill, of probability.
"""


@dataclass(frozen=True)
class Trend:
    """A measure at each size of models that differ in nothing else."""

    metric: str
    setting: str
    """What varies in the sweep beside task, model, rate and seed; empty where nothing does."""
    rate: float
    models: tuple[str, ...]
    """By size."""
    sizes: tuple[int, ...]
    """Parameters."""
    values: tuple[Estimate, ...]
    """Mean over the tasks. The tasks are taken as they are: the intervals are of items and seeds."""
    tasks: dict[str, tuple[Estimate, ...]]
    """Those that have the measure at every size."""
    shape: str
    """monotone (it rises with size), inverse (it falls), U-shaped, inverted-U-shaped, flat, or
    undecided.
    """
    decides: Estimate
    """The change that the shape rests on, in the measure's units."""
    of: str
    """Over which sizes that change is."""


METRICS: dict[str, Callable[[Cell], Measured | None]] = {
    "forget ratio, trained examples": lambda cell: measured(cell, "forgotten", "train", cell.ratio),
    "forget ratio, held-out examples": lambda cell: measured(cell, "forgotten", "test", cell.ratio),
    "accuracy after learning": lambda cell: measured(cell, "learned", "test", "accuracy"),
    "accuracy after forgetting": lambda cell: measured(cell, "forgotten", "test", "accuracy"),
    "probe skill kept": probe_kept,
    "option mass after forgetting": lambda cell: measured(cell, "forgotten", "test", "option_mass"),
}
"""Accuracies and option mass are of held-out examples."""


def families(study: Study) -> dict[tuple[str, float], list[list[Cell]]]:
    """By setting without its model, and rate: the cells of each model, the smallest model first; two sizes at least."""
    found: dict[tuple[str, float], list[list[Cell]]] = defaultdict(list)
    for (setting, rate), cells in study.conditions.items():
        found[setting.removeprefix(cells[0].trial.model).removeprefix(", "), rate].append(cells)
    ordered = {
        key: sorted(models, key=lambda cells: _size(cells[0])) for key, models in found.items()
    }
    return {
        key: models for key, models in ordered.items() if _size(models[0][0]) < _size(models[-1][0])
    }


def trends(study: Study) -> list[Trend]:
    """The trend of each measure that some task has at every size, family by family."""
    found = []
    for (setting, rate), family in families(study).items():
        models = tuple(cells[0].trial.model for cells in family)
        sizes = tuple(_size(cells[0]) for cells in family)
        for metric, measure in METRICS.items():
            by_task = _at_every_size(family, measure)
            if not by_task:
                continue
            draws = np.mean([[draws for draws, _ in line] for line in by_task.values()], axis=0)
            counts = [
                sum(n)
                for n in zip(*([n for _, n in line] for line in by_task.values()), strict=True)
            ]
            values = tuple(estimate(mean, n) for mean, n in zip(draws, counts, strict=True))
            tasks = {
                task: tuple(estimate(draws, n) for draws, n in line)
                for task, line in by_task.items()
            }
            found.append(
                Trend(
                    metric,
                    setting,
                    rate,
                    models,
                    sizes,
                    values,
                    tasks,
                    *shape(sizes, draws, min(counts)),
                )
            )
    return found


def shape(sizes: Sequence[int], draws: np.ndarray, n: int) -> tuple[str, Estimate, str]:
    """The shape of a measure over sizes, the change that decides it, and which sizes that change is over.

    A change is that of a least-squares line in the logarithm of the size. From three sizes on there
    are two more lines, up to the turn and from it on: the measure is U-shaped where both are sure
    and opposite (two-lines test, Simonsohn 2018; a quadratic alone calls a measure that merely
    levels off U-shaped). The turn is the size nearest to the vertex of the quadratic, the two ends
    aside. Flat takes every line.

    Args:
        draws: [sizes, 1 + RESAMPLES]
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
    if sides and sides[0] * sides[1] < 0:
        of = min(
            list(changes)[1:], key=lambda of: min(abs(bound) for bound in changes[of].numbers[1:])
        )
        return "U-shaped" if sides[1] > 0 else "inverted-U-shaped", changes[of], of
    if whole:
        return "monotone" if whole > 0 else "inverse", changes["all sizes"], "all sizes"
    reach = {of: max(abs(bound) for bound in change.numbers[1:]) for of, change in changes.items()}
    if max(reach.values()) <= FLAT:
        of = max(reach, key=lambda of: reach[of])
        return "flat", changes[of], of
    return "undecided", changes["all sizes"], "all sizes"


def _change(x: np.ndarray, y: np.ndarray) -> Draws:
    """From the smallest to the largest x, by least squares."""
    centred = x - x.mean()
    return centred @ y / (centred @ centred) * (x.max() - x.min())


def _sign(change: Estimate) -> int:
    """0 where the interval holds it."""
    _, low, high = change.numbers
    return int(low > 0) - int(high < 0)


def _size(cell: Cell) -> int:
    return cell.outcomes[0].parameters


def _at_every_size(
    family: Sequence[Sequence[Cell]], measure: Callable[[Cell], Measured | None]
) -> dict[str, list[Measured]]:
    """By task, the measure at each size; without the tasks that lack it, or have it missing, at some."""
    models = [{cell.task: measure(cell) for cell in cells} for cells in family]
    found = {
        task: [one for model in models if (one := model.get(task)) and np.isfinite(one[0][0])]
        for task in models[0]
    }
    return {task: line for task, line in found.items() if len(line) == len(models)}
