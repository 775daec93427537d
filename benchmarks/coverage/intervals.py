"""Coverage of 95 % intervals by the number of seeds and the spread of trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from benchmarks.coverage.simulated import LEARNED, Truth, alone, study
from forget.analyses.arms import lost
from forget.analyses.resampling import estimate

TASKS = "abcdefgh"
SEEDS = (2, 3, 5)
SPREADS = (0.0, 0.05, 0.08)

AFTER, ANYHOW = 0.65, 0.8
"""Accuracy after forgetting by random labels, and by true ones."""

NUMBERS = {
    "accuracy": AFTER,
    "forget ratio": (LEARNED - AFTER) / (LEARNED - 0.5),
    "random less true": (ANYHOW - AFTER) / (LEARNED - 0.5),
}
"""True values of what is estimated."""


def covered(
    seeds: int, spread: float, replicates: int, tick: Callable[[], None]
) -> dict[str, float]:
    """Return the share of the tasks' intervals that hold the truth, by number."""
    draw = np.random.default_rng([seeds, round(100 * spread)])
    truth = Truth(alone(TASKS, AFTER), trained=None, true_arm=alone(TASKS, ANYHOW), spread=spread)
    held: dict[str, list[bool]] = {name: [] for name in NUMBERS}
    for _ in range(replicates):
        for name, (low, high) in _intervals(truth, seeds, draw):
            held[name].append(low <= NUMBERS[name] <= high)
        tick()
    return {name: float(np.mean(found)) for name, found in held.items()}


def _intervals(
    truth: Truth, seeds: int, draw: np.random.Generator
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the 95 % intervals of each task of one simulated study."""
    for cell in study(truth, seeds, draw).cells:
        if cell.trial.arm == "random":
            numbers = {
                "accuracy": cell.draws("forgotten", "test", "accuracy"),
                "forget ratio": cell.lost("test"),
                "random less true": lost(cell, "test"),
            }
            for name, draws in numbers.items():
                assert draws is not None
                _, low, high = estimate(draws, 0).numbers
                yield name, (low, high)


def table(replicates: int, tick: Callable[[], None]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| seeds | spread of trainings | {' | '.join(NUMBERS)} |", "|---" * 5 + "|"]
    for seeds, spread in product(SEEDS, SPREADS):
        found = covered(seeds, spread, replicates, tick)
        shown = " | ".join(f"{share:.3f}" for share in found.values())
        lines.append(f"| {seeds} | {spread:g} | {shown} |")
    return lines
