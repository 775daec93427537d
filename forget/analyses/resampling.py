"""Numbers that carry their uncertainty: arrays of a value and of the same on resampled data.

The value comes first. Whatever is computed of such arrays, elementwise along the last axis, is
again one: the ratio of two accuracies on the same items, the share of a variance, a slope over
sizes. So no analysis has error formulas of its own. scipy's bootstrap resamples for one statistic
at a time; here the same resampled items serve every trial and phase that was scored on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_effectsize

from forget.results.estimates import RESAMPLES, Estimate
from forget.settings.identity import digest

Draws = np.ndarray
"""[..., 1 + RESAMPLES], a value and its resamples."""


def item_weights(n: int, key: object) -> np.ndarray:
    """Draw items with replacement and return their weights in each resample.

    Args:
        n: items.
        key: anything that JSON can hold; equal keys give equal draws.

    Returns:
        [1 + RESAMPLES, n]: equal weights first, then as often as each item was drawn.
    """
    weights: np.ndarray = item_counts(n, key) / float(n)
    return weights


def item_counts(n: int, key: object) -> np.ndarray:
    """Draw items as `item_weights` does and return how often each was: small integers, to keep.

    Returns:
        [1 + RESAMPLES, n]: ones first.
    """
    draw = np.random.default_rng(int(digest(key), 16))
    picked = draw.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(picked.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n)
    every: np.ndarray = np.concatenate([np.ones((1, n), int), counts])
    return every.astype(np.min_scalar_type(every.max(initial=0)))


def of_estimate(estimate: Estimate, key: object) -> Draws:
    """Draw a number of which only the interval is known, taken for normal.

    Equal keys give equal draws; of a missing number all are NaN.
    """
    if estimate.value is None:
        return np.full(1 + RESAMPLES, np.nan)
    value, low, high = estimate.numbers
    noise = np.random.default_rng(int(digest(key), 16)).standard_normal(RESAMPLES)
    return np.concatenate([[value], value + noise * (high - low) / (2 * 1.959964)])


def estimate(draws: Draws, n: int) -> Estimate:
    """Return the value with its 95 % percentile interval; missing where it is not finite."""
    if not np.isfinite(draws[0]):
        return Estimate(None, None, None, n)
    low, high = np.nanquantile(draws[1:], (0.025, 0.975))
    return Estimate(float(draws[0]), float(low), float(high), n)


def p_value(draws: Draws, null: float = 0.0, degrees: float = math.inf) -> float:
    """Compute the two-sided p of the value being `null` by a Wald test.

    Its standard error is the resamples' standard deviation. The share of resamples beyond `null`
    would have 1 / RESAMPLES as its floor, too coarse for many corrected comparisons. Resamples that
    hold Student's t may have no standard deviation: there it comes of the side of the 95 % interval
    towards `null`.

    Args:
        draws: the number.
        null: what it is compared with.
        degrees: degrees of freedom of Student's t that the resamples hold
            (forget.analyses.replicates).
    """
    distance = abs(draws[0] - null)
    if not np.isfinite(distance):
        return math.nan
    if math.isinf(degrees):
        error = float(np.nanstd(draws[1:]))
    else:
        low, high = np.nanquantile(draws[1:], (0.025, 0.975))
        reach = max(0.0, draws[0] - low if null < draws[0] else high - draws[0])
        error = float(reach / student.ppf(0.975, degrees))
    return float(2 * student.sf(distance / error, degrees)) if error > 0 else float(distance == 0)


def cohens_h(before: float, after: float) -> float:
    """Compute the effect size between two shares, positive where it rose.

    0.2 is small, 0.8 large (Cohen 1988, chapter 6).
    """
    # A mean of ones can be above 1 by a rounding error.
    return float(proportion_effectsize(min(after, 1.0), min(before, 1.0)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for their number (Holm 1979).

    A missing one stays missing and counts for nothing.
    """
    # By hand: statsmodels collects the garbage of the whole program at every call.
    taken = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted, highest = list(ps), 0.0
    for rank, (p, place) in enumerate(taken):
        highest = max(highest, min(1.0, (len(taken) - rank) * p))
        adjusted[place] = highest
    return adjusted
