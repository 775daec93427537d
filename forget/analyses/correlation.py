"""Correlations over tasks, pairs of tasks or examples; their intervals come from resamples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm, rankdata

from forget.analyses.replicates import Pool, Replicate, Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, estimate, holm, p_value
from forget.results.estimates import RESAMPLES, Estimate

FEWEST_EXAMPLES = 10
"""Examples that a correlation over examples needs."""


@dataclass(frozen=True)
class Correlation:
    """Correlation of one thing with how much, or how early, is forgotten."""

    name: str
    spearman: Estimate
    pearson: Estimate
    """Missing where only the order means something."""
    p_spearman: float | None
    """Two-sided, by permutation."""
    p_pearson: float | None
    draws: Draws
    """Spearman's with its resamples; NaN where it is missing."""
    adjusted: float | None = None
    """`p_spearman` after Holm's correction for what it is shown with."""


@dataclass(frozen=True)
class Paired:
    """Two numbers of each of some of a seed's examples, and how often each was drawn."""

    examples: np.ndarray
    """[n] names"""
    x: np.ndarray
    """[n]"""
    y: np.ndarray
    """[n]"""
    counts: np.ndarray
    """[1 + RESAMPLES, n] of `forget.analyses.resampling.item_counts`"""
    of: int
    """Examples drawn in each resample, these among them."""
    replicate: Replicate = (0, 0)
    """The trial that they are of."""

    @property
    def weights(self) -> np.ndarray:
        """[1 + RESAMPLES, n]: made anew each time, since it is eight times as large as `counts`."""
        weights: np.ndarray = self.counts / float(self.of)
        return weights


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Draws:
    """Correlate two numbers in each resample; NaN where one is constant.

    Args:
        x: [n]
        y: [n]
        weights: [1 + RESAMPLES, n]
    """
    weights = _shares(weights)
    a, b = _scaled(x), _scaled(y)
    return _of_moments(weights @ a**2, weights @ (a * b), weights @ b**2, weights @ a, weights @ b)


def spearman(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Draws:
    """Correlate the ranks, as if each item were there as often as its weight says.

    The arguments are those of `pearson`.
    """
    weights = _shares(weights)
    a = midranks(x, weights)
    # Two values correlate as their ranks do.
    b = (
        midranks(y, weights)
        if len(np.unique(y)) > 2
        else np.broadcast_to(_scaled(y), weights.shape)
    )
    heavy = weights * a
    squares = np.einsum("ij,ij,ij->i", weights, b, b)
    return _of_moments(
        np.vecdot(heavy, a),
        np.vecdot(heavy, b),
        squares,
        np.zeros(len(weights)),
        np.vecdot(weights, b),
    )


def midranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank the values by the weight below each plus half of the weight at it.

    The mean rank, 1/2, is taken off.

    Args:
        values: [n]
        weights: [R, n], each row of sum 1.

    Returns:
        [R, n]
    """
    found, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ordered = weights[:, np.argsort(place, kind="stable")]
    at = (
        ordered
        if len(found) == len(values)
        else np.add.reduceat(ordered, np.cumsum(counts) - counts, axis=1)
    )
    ranks = np.cumsum(at, axis=1)
    ranks -= at / 2
    ranks -= 0.5
    return ranks[:, place]


def _shares(weights: np.ndarray) -> np.ndarray:
    """Scale each row to a sum of 1."""
    # A resample may leave out everything.
    with np.errstate(invalid="ignore"):
        return weights / weights.sum(-1, keepdims=True)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale values to mean 0 and range 1; all become 0 where they are the same."""
    return (
        (values - values.mean()) / np.ptp(values) if np.ptp(values) > 0 else np.zeros_like(values)
    )


def _of_moments(
    xx: np.ndarray, xy: np.ndarray, yy: np.ndarray, x: np.ndarray, y: np.ndarray
) -> Draws:
    """Correlate two numbers, whose range is about 1, by the means of them and their products."""
    across, down = xx - x * x, yy - y * y
    # What is left of a constant is a rounding error.
    varies = (across > 1e-12) & (down > 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varies, (xy - x * y) / np.sqrt(across * down), np.nan)


def by_replicate(task: str, seeds: Sequence[Paired]) -> Replicated | None:
    """Return Spearman's correlation over examples of each trial that has one; None of none."""
    found = [
        (seed.replicate, spearman(seed.x, seed.y, seed.weights))
        for seed in seeds
        if len(seed.x) >= FEWEST_EXAMPLES
    ]
    found = [(name, draws) for name, draws in found if np.isfinite(draws[0])]
    if not found:
        return None
    names, draws = zip(*found, strict=True)
    return Replicated(task, names, draws)


def over_examples(
    name: str, seeds: Sequence[Paired], task: str = "", pooled: Pool | None = None
) -> Correlation:
    """Average Spearman's correlation over examples over the trials that have one.

    It is missing where none has. The p is that of permuting y over the examples, in all seeds
    alike, by the normal limit: under permutation a correlation of n pairs has mean 0 and variance 1
    / (n - 1), whatever the two numbers are (Hoeffding 1951). With the same example in several
    seeds, the correlations of two seeds go together as their numbers do.

    Args:
        name: of the correlation.
        seeds: pairs of each trial.
        task: that the examples are of.
        pooled: spread of the correlation over trials; by default that of these.
    """
    found = by_replicate(task, seeds)
    if found is None:
        return missing(name, sum(len(seed.x) for seed in seeds))
    used = [seed for seed in seeds if seed.replicate in found.names]
    draws = over_replicates(found, pooled or pool([found]))
    names = np.unique(np.concatenate([seed.examples for seed in used]))
    n = np.array([len(seed.x) for seed in used])
    # Covariance of the seeds' correlations under permutation, but for their number of examples.
    together = np.ones((len(used), len(used)))
    for side in ("x", "y"):
        scores = np.zeros((len(used), len(names)))
        for line, seed in zip(scores, used, strict=True):
            ranks = rankdata(getattr(seed, side))
            ranks = ranks - ranks.mean()
            line[np.searchsorted(names, seed.examples)] = ranks / np.linalg.norm(ranks)
        together *= scores @ scores.T
    deviation = np.sqrt((together / np.sqrt(np.outer(n - 1, n - 1))).sum()) / len(used)
    p = float(2 * norm.sf(abs(draws[0]) / deviation))
    return Correlation(
        name,
        estimate(draws, int(n.sum())),
        Estimate(None, None, None, int(n.sum())),
        p,
        None,
        draws,
    )


def mean(
    name: str, correlations: Sequence[Correlation], degrees: float = math.inf
) -> Correlation | None:
    """Average Spearman's correlation over tasks; None where none has one.

    It is the mean of these very tasks: the interval and p are of resampled examples and seeds, not
    of other tasks that might have been taken.

    Args:
        name: of the mean.
        correlations: of the tasks.
        degrees: see forget.analyses.resampling.p_value.
    """
    found = [c for c in correlations if c.spearman.value is not None]
    if not found:
        return None
    every = np.stack([c.draws for c in found])
    defined = np.isfinite(every)
    # A resample in which a task has no correlation, e.g. nothing forgotten, is the mean of the
    # others.
    with np.errstate(invalid="ignore"):
        draws = np.where(defined, every, 0).sum(0) / defined.sum(0)
    n = sum(c.spearman.n for c in found)
    return Correlation(
        name,
        estimate(draws, n),
        Estimate(None, None, None, n),
        p_value(draws, 0, degrees),
        None,
        draws,
    )


def missing(name: str, n: int) -> Correlation:
    """Return a missing correlation of `n` items."""
    none = Estimate(None, None, None, n)
    return Correlation(name, none, none, None, None, np.full(1 + RESAMPLES, np.nan))


def corrected(correlations: Sequence[Correlation]) -> list[Correlation]:
    """Adjust the p of correlations for their number (forget.analyses.resampling.holm)."""
    adjusted = holm([correlation.p_spearman for correlation in correlations])
    return [
        replace(correlation, adjusted=p)
        for correlation, p in zip(correlations, adjusted, strict=True)
    ]
