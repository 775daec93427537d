"""Slopes of a loss after a step in the weights of the examples that the step is taken on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

LENGTH = 0.01
"""Length of the two steps along the slope between which losses of examples are compared."""


def weight_slopes(
    weights: Sequence[torch.nn.Parameter],
    rate: float,
    meta: Callable[[], None],
    each: Callable[[], Mapping[int, float]],
) -> dict[int, float]:
    """Return the slope of the meta loss, after a step, in the weight of each of its examples.

    With the meta loss's slope u at theta - rate g, that of example i's weight is
    -rate/B (l_i(theta + e u) - l_i(theta - e u)) / 2e, exact to e^2 and without a graph of second
    order (as in DARTS, Liu et al. 2019, eq. 8).

    Args:
        weights: theta, with the slope g of the weighed mean loss; both stay as they are.
        rate: of the step.
        meta: adds the slope of the meta loss to the weights' own.
        each: returns the loss of each of the B examples at the present weights.
    """
    kept = [p.detach().clone() for p in weights]
    slopes = [p.grad.detach().clone() if p.grad is not None else None for p in weights]
    try:
        with torch.no_grad():
            for p, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    p.sub_(rate * slope)
                p.grad = None
        meta()
        steepest = [p.grad for p in weights]
        norms = [one.float().norm() for one in steepest if one is not None]
        reach = LENGTH / max(1e-12, float(torch.stack(norms).norm()))
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, before, one in zip(weights, kept, steepest, strict=True):
                    p.copy_(before if one is None else before + sign * reach * one)
                ends.append(each())
    finally:
        with torch.no_grad():
            for p, before, slope in zip(weights, kept, slopes, strict=True):
                p.copy_(before)
                p.grad = slope
    above, below = ends
    share = rate / len(above)
    return {i: -share * (above[i] - below[i]) / (2 * reach) for i in above}
