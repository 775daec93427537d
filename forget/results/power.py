"""The smallest effects that a study can decide, from its size alone.

An effect is decided where the 95 % interval leaves out the border of the claim's rule. With so many
tasks, replicates and items it will do so in four studies of five if the truth lies as far from the
border as is said here (a power of 0.8). Holm's correction over the page asks for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import norm
from scipy.stats import t as student

SPREAD = 0.05
"""Standard deviation of an accuracy over trainings, beyond its items' noise.

Measured on eight tasks and two seeds of the study `laptop`: 0.049 held out after forgetting.
"""

SKILL = 0.4
"""Skill that is taken for what a task has to lose: an accuracy of 0.9 where chance is 0.5."""

POWER = 0.8


@dataclass(frozen=True)
class Size:
    """Size of a study."""

    tasks: int
    replicates: int
    """Trials of each task that differ in seed (or in member, of a single seed) alone."""
    items: int
    """Examples measured of a split."""

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the spread over replicates, pooled over the tasks."""
        return float(self.tasks * (self.replicates - 1)) or math.inf


def of_accuracy(size: Size, tasks: int = 1) -> float:
    """Return the smallest decidable distance of a mean accuracy over `tasks` of the tasks.

    With one replicate it is that of this run alone, which knows its items' noise.
    """
    # That of an accuracy at chance, the largest there is.
    variance = 0.25 / size.items
    if size.replicates > 1:
        variance += SPREAD**2
    error = math.sqrt(variance / size.replicates / tasks)
    reach = float(student.ppf(0.975, size.degrees)) + float(student.ppf(POWER, size.degrees))
    return reach * error


def of_correlation(n: int) -> float:
    """Return the smallest decidable correlation of n numbers, by Fisher's z; 1 for n below 5."""
    if n < 5:
        return 1.0
    reach = float(norm.ppf(0.975) + norm.ppf(POWER))
    return math.tanh(reach / math.sqrt(n - 3))


def told(size: Size) -> list[str]:
    """Say in words what the study can decide of each kind of claim."""
    run = "" if size.replicates > 1 else " in this run alone: no replicates (seed or member)"
    one, every = of_accuracy(size), of_accuracy(size, size.tasks)
    # The accuracy must lie within 0.1 of chance by as much as is decided.
    left = 0.1 - every
    parts = [
        f"trained: near random where within {left:.2f} of chance" if left > 0 else "trained: never",
        f"near, probes: {every / SKILL:.2f} of the skill",
        f"some, elsewhere, own: {one / SKILL:.2f} of the skill of a task, before Holm's correction",
    ]
    if size.tasks >= 5:
        rho = of_correlation(size.tasks)
        parts.append(f"difficulty, confidence, variability: a correlation of {rho:.2f}")
    else:
        parts.append("difficulty, confidence, variability: never, for five tasks are needed")
    if size.tasks < 3:
        parts.append("insensitive, probes: never, for three tasks are needed")
    return [f"{part}{run}" if "never" not in part else part for part in parts]
