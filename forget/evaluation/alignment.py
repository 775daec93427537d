"""Alignment of two models' hidden states of the same inputs: CKA without bias, item by item.

Linear CKA of a few hundred items is far from 0 for states that have nothing in common, since they
are as wide as the items are many. HSIC_1 has no such bias (Song et al. 2012, eq. 5).
"""

from __future__ import annotations

import torch

LEAST = 5
"""Items below which CKA is not given: without one of them, HSIC_1 needs four."""


def cka(x: torch.Tensor, y: torch.Tensor, biased: bool = False) -> float | None:
    """Return the linear CKA of states of the same items (Kornblith et al. 2019, eq. 4).

    It is the cosine of the centred Gram matrices: between -1 and 1, 1 where the states are the same
    up to rotation and scale, and without bias around 0 where they are independent.

    Args:
        x: [n, width].
        y: [n, another width].
        biased: centre as the paper does, its diagonal kept, for comparison.

    Returns:
        None where the states of a set do not vary.
    """
    a, b = (_centred(_gram(states), biased) for states in (x, y))
    whole = (a.norm() * b.norm()).item()
    return (a * b).sum().item() / whole if whole else None


def by_item(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
    """Return each item's part in the unbiased CKA [n], whose mean is the CKA.

    Parts are the CKA less n - 1 times what an item adds to it: the jackknife's pseudo-values, about
    the CKA itself. So resampled parts have the variance that CKA has over items; resampled rows of
    a Gram matrix would not, since an item drawn twice is like itself.

    Args:
        x: [n, width], n at least LEAST.
        y: [n, another width].

    Returns:
        None where there are too few items, or the states of a set do not vary.
    """
    whole = cka(x, y) if len(x) >= LEAST else None
    if whole is None:
        return None
    a, b = _gram(x), _gram(y)
    both, own, other = (_without_each(*pair) for pair in ((a, b), (a, a), (b, b)))
    without = both / (own * other).sqrt()
    if not without.isfinite().all():
        return None
    return whole + (len(x) - 1) * (without.mean() - without)


def _gram(states: torch.Tensor) -> torch.Tensor:
    """Return the inner products [n, n] of states less their mean, which changes no CKA."""
    centred = states.double() - states.double().mean(0)
    return centred @ centred.T


def _centred(gram: torch.Tensor, biased: bool) -> torch.Tensor:
    """Centre rows and columns; without bias the diagonal is left out (Székely and Rizzo 2014)."""
    n = len(gram)
    if biased:
        return gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    off = gram - gram.diag().diag()
    sums = off.sum(0)
    found = off - (sums + sums[:, None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return found - found.diag().diag()


def _without_each(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return HSIC_1 [n] of two Gram matrices [n, n] without each item in turn.

    Every sum of the others is the whole one less what the item has in it.
    """
    a, b = (gram - gram.diag().diag() for gram in (a, b))
    n = len(a) - 1
    of_a, of_b = a.sum(0), b.sum(0)
    shared = (a * b).sum(0)
    products = shared.sum() - 2 * shared
    sums = (of_a.sum() - 2 * of_a) * (of_b.sum() - 2 * of_b)
    rows = of_a @ of_b - of_a * of_b - b @ of_a - a @ of_b + shared
    return (products + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))
