"""Uncertainty over replicates: trials of a cell that differ in seed or member alone.

A trial that is run again gives another number, for reasons that its items do not show: another
order, other draws, another start. With two or three replicates of a task their spread is hardly
known; with those of every task of a condition, pooled, it is. A mean over S replicates of T tasks
has the variance s^2 / S, where s^2 is the mean square of the deviations from each task's own mean,
with T (S - 1) degrees of freedom, and its interval takes the quantile of Student's t. It is never
narrower than the items alone make it. Items that replicates share add their own variance, which no
spread of replicates shows. `python -m
benchmarks.coverage` measures how often such intervals hold the truth.

All this is put into the resamples themselves, so that whatever is computed of them (a ratio, a
difference of two arms, a mean over tasks) has its interval: the deviations of the condition's tasks
are dealt out with random signs and sizes, the same for every measure of a task, as they fall
together in truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtri, stdtrit

from forget.analyses.resampling import Draws
from forget.results.estimates import RESAMPLES
from forget.settings.identity import digest

Replicate = tuple[int, int]
"""(seed, member) of a trial."""

NO_DEGREES = math.inf
"""Degrees of freedom where nothing was replicated: the interval is of this run alone."""


@dataclass(frozen=True)
class Replicated:
    """A number of one task, replicate by replicate."""

    task: str
    names: tuple[Replicate, ...]
    draws: tuple[Draws, ...]

    def only(self, names: Sequence[Replicate]) -> Replicated:
        """Keep the given replicates."""
        pairs = zip(self.names, self.draws, strict=True)
        kept = {name: draws for name, draws in pairs if name in names}
        return Replicated(self.task, tuple(kept), tuple(kept.values()))

    @property
    def by_unit(self) -> Replicated:
        """Return it by seed where there are several seeds, each the mean over its members.

        Members of a seed share its data, so that several seeds are the replicates where there are
        several; of one seed its members are.
        """
        seeds = dict.fromkeys(seed for seed, _ in self.names)
        if len(seeds) < 2:
            return self
        means = []
        for wanted in seeds:
            pairs = zip(self.names, self.draws, strict=True)
            means.append(np.mean([draws for (seed, _), draws in pairs if seed == wanted], axis=0))
        return Replicated(self.task, tuple((seed, 0) for seed in seeds), tuple(means))


@dataclass(frozen=True)
class Pool:
    """Deviations of a number from each task's mean, over every task of a condition."""

    names: tuple[tuple[str, Replicate], ...]
    """Task and replicate of each deviation."""
    deviations: np.ndarray
    """[deviations]"""
    degrees: int
    of_items: float
    """Variance of a replicate that the sampling of its items alone gives."""

    @property
    def variance(self) -> float:
        """The variance of a replicate."""
        return float(self.deviations @ self.deviations) / self.degrees


def pool(numbers: Sequence[Replicated]) -> Pool | None:
    """Pool the spread of a number over its tasks; None where no task has two replicates."""
    names: list[tuple[str, Replicate]] = []
    deviations, of_items, degrees = [], 0.0, 0
    for number in sorted((one.by_unit for one in numbers), key=lambda one: (one.task, one.names)):
        if len(number.draws) < 2:
            continue
        every = np.stack(number.draws)
        if not np.isfinite(every[:, 0]).all():
            continue
        names += [(number.task, name) for name in number.names]
        deviations.append(every[:, 0] - every[:, 0].mean())
        noise = every[:, 1:] - every[:, :1]
        of_items += (len(every) - 1) * float(np.nanmean(noise.var(axis=0, ddof=1)))
        degrees += len(every) - 1
    if not degrees:
        return None
    return Pool(tuple(names), np.concatenate(deviations), degrees, of_items / degrees)


def over_replicates(own: Replicated, pooled: Pool | None) -> Draws:
    """Average a number over a task's replicates, with the uncertainty of both levels.

    Args:
        own: of the task.
        pooled: of every task of its condition, this one among them; None leaves the items'
            uncertainty alone.
    """
    number = own.by_unit
    mean = np.mean(number.draws, axis=0)
    if pooled is None or not np.isfinite(mean[0]):
        return mean
    count = len(number.draws)
    of_mean = (mean - mean[0])[1:]
    of_items = float(np.nanvar(of_mean))
    spread = pooled.variance / count
    # Items that replicates share show in the mean, and not in the spread of replicates.
    shared = max(0.0, of_items - pooled.of_items / count)
    whole = shared + spread
    if spread == 0:
        return mean
    # Satterthwaite's degrees of freedom: those of shared items count as many.
    degrees = round(pooled.degrees * (whole / spread) ** 2, 3)
    reach = float(stdtrit(degrees, 0.975)) * math.sqrt(whole)
    if reach <= float(ndtri(0.975)) * math.sqrt(of_items):
        # Replicates that agree by chance do not make the items' noise less.
        return mean
    excess = spread - pooled.of_items / count
    if excess > 0:
        key = number.task, pooled.names
        dealt = _dealt(key, len(pooled.deviations)) @ pooled.deviations
        scale = math.sqrt(excess / (pooled.variance * pooled.degrees))
        of_mean = of_mean + scale * dealt
    elif of_items > 0:
        of_mean = of_mean * math.sqrt(whole / of_items)
    of_mean = of_mean * _student(pooled.names, degrees)
    return np.concatenate([mean[:1], mean[0] + of_mean])


@lru_cache(maxsize=256)
def _dealt(key: object, count: int) -> np.ndarray:
    """Draw the signs and sizes with which deviations are dealt out, [RESAMPLES, count]."""
    return np.random.default_rng(int(digest(key), 16)).standard_normal((RESAMPLES, count))


@lru_cache(maxsize=256)
def _student(key: object, degrees: float) -> np.ndarray:
    """Draw what makes a normal number one of Student's t, in equal steps of its distribution."""
    steps = (np.arange(RESAMPLES) + 0.5) / RESAMPLES
    order = np.random.default_rng(int(digest(["student", key]), 16)).permutation(RESAMPLES)
    factors: np.ndarray = np.sqrt(degrees / (2 * gammaincinv(degrees / 2, steps[order])))
    return factors
