"""Mean over items that were tested in folds, with an interval that knows of the fits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from forget.results.estimates import Estimate

FOLDS = 5
"""Parts of the questions that probes are fit on: each is asked of a fit on the others."""


def widening(folds: int, tested: float, fitted: float) -> float:
    """Return by how much the variance over items is to be multiplied, since fits share items.

    That is 1 + folds * tested / fitted: the variance over splits, with a term for the share of the
    items that all fits have in common (Nadeau and Bengio 2003, section 3).

    Args:
        folds: fits that are tested, each on its own items.
        tested: items that a fit is tested on.
        fitted: items that it is fit on.
    """
    return 1 + folds * tested / fitted


def mean_over_folds(values: np.ndarray, groups: Sequence[str], wider: float) -> Estimate:
    """Compute a mean with the 95 % score interval (Wilson 1927) for what its items are worth.

    Items of one group are not independent: their number is divided by the design effect, the
    variance by groups over that of as many single items (Kish 1965, section 8.2).

    Args:
        values: [items], between 0 and 1.
        groups: by item, the name of the source that it shares with others.
        wider: the factor of `widening`.
    """
    n, mean = len(values), float(values.mean())
    _, group = np.unique(groups, return_inverse=True)
    residuals = np.bincount(group, values - mean)
    apart = len(residuals)
    worth = float(apart)
    if 0 < mean < 1 and apart > 1:
        by_group = float(np.square(residuals).sum()) / n**2 * apart / (apart - 1)
        worth = min(float(n), mean * (1 - mean) / by_group) if by_group else float(n)
    worth /= wider
    z = float(norm.ppf(0.975))
    centre = (mean + z * z / (2 * worth)) / (1 + z * z / worth)
    reach = math.sqrt(mean * (1 - mean) / worth + z * z / (4 * worth**2)) / (1 + z * z / worth)
    return Estimate(mean, max(0.0, centre - z * reach), min(1.0, centre + z * reach), n)
