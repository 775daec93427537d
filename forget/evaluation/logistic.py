"""Logistic regressions with an L2 penalty, for several labelings and penalties of one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid

TOLERANCE = 1e-5
"""Largest entry of the gradient at which a fit is done; a tenth of scikit-learn's. float32 reaches
about 1e-7.
"""
STEPS = 8
"""Conjugate gradient steps before the curvature is taken anew."""
LIMIT = 500
"""Most steps of a fit, after which it is given up; 3 to 10 are usual."""
BLOCK = 128
"""Rows of X'X taken in one product: few products, little above the diagonal."""


class NotConverged(FloatingPointError):
    """A fit whose gradient stayed above the tolerance; the same numbers would do so again."""


def fit(
    features: torch.Tensor, labels: torch.Tensor, penalties: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise the mean logistic loss + l2/2 |w|^2; the intercept has no penalty.

    Each fit starts from the one before on the path of penalties. Conjugate gradients (Polak and
    Ribiere's, with restarts) go along directions corrected by an approximation of the Hessian,
    c X'X/n + l2, where c is the mean of the losses' second derivatives: X'X is taken once. A fit
    that eight such steps have not brought to its minimum takes the Hessian itself, anew every eight
    steps.

    Args:
        features: [n, width] in float32, finite, best with columns of mean 0 and variance 1.
        labels: [labelings, n] of true and false.
        penalties: l2 of each fit, above 0, best the strongest first.

    Returns:
        Weights [labelings, penalties, width] and intercepts [labelings, penalties] at the minima.

    Raises:
        NotConverged: a gradient is still above the tolerance after 500 steps.
    """
    n, width = features.shape
    if n < width:
        # The weights lie in the span of the examples, and a rotation changes neither the margins
        # nor |w|.
        basis, corner = torch.linalg.qr(features.T)
        weights, intercepts = fit(corner.T.contiguous(), labels, penalties)
        return weights @ basis.T, intercepts
    gram = _gram(features) / n
    found = features.new_empty(len(labels), len(penalties), width + 1)
    for labeling, target in enumerate(labels.double()):
        weights = torch.zeros(width + 1, dtype=torch.double, device=features.device)
        for place, l2 in enumerate(penalties):
            weights = _minimise(features, gram, target, l2, weights)
            found[labeling, place] = weights
    return found[..., :-1], found[..., -1]


def _gram(features: torch.Tensor) -> torch.Tensor:
    """Return the lower triangle of X'X, which is all that a Cholesky factorisation reads."""
    width = features.shape[1]
    gram = features.new_zeros(width, width)
    for start in range(0, width, BLOCK):
        stop = start + BLOCK
        gram[start:stop, :stop] = features[:, start:stop].T @ features[:, :stop]
    return gram


def _minimise(
    features: torch.Tensor,
    gram: torch.Tensor,
    target: torch.Tensor,
    l2: float,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Return the weights at the minimum of one fit.

    Args:
        features: [n, width].
        gram: lower triangle of X'X/n.
        target: [n] of 0 and 1.
        l2: the penalty.
        weights: [width + 1], the intercept's last, from which the fit starts.

    Raises:
        NotConverged: the gradient is still above the tolerance after 500 steps.
    """
    n = len(features)
    penalty = torch.full_like(weights, l2)
    penalty[-1] = 0
    width = features.shape[1]
    # Only products with the features are in float32, whose rounding would hide from a line search
    # the gain of a step.
    margins = (features @ weights[:width].float()).double() + weights[width]
    for step in range(LIMIT):
        chance = margins.sigmoid()
        error = (chance - target) / n
        gradient = torch.cat([error.float() @ features, error.sum()[None]]) + penalty * weights
        if gradient.abs().max() <= TOLERANCE:
            return weights
        if step % STEPS == 0:
            curvatures = chance * (1 - chance)
            curvature = curvatures.mean()
            # Later on, a mean of the curvatures is too coarse: a few examples are hard and all
            # others easy, as with few examples of a wide space.
            if step == 0:
                hessian = curvature.float() * gram
            else:
                hessian = _gram(features * curvatures.sqrt().float()[:, None]) / n
            hessian.diagonal().add_(l2)
            factor = torch.linalg.cholesky(hessian)
            # A restart: the next direction is that of descent alone.
            direction = torch.zeros_like(weights)
            last, last_slope = gradient, weights.new_tensor(-torch.inf)
        solved = torch.cholesky_solve(gradient[:width, None].float(), factor)[:, 0]
        descent = -torch.cat([solved, gradient[width:] / curvature])
        direction = descent + ((gradient - last) @ descent / last_slope).clamp_min(0) * direction
        last, last_slope = gradient, gradient @ descent
        change = (features @ direction[:width].float()).double() + direction[width]
        linear, square = (penalty * weights) @ direction, (penalty * direction) @ direction
        length = _length(margins, change, target, linear, square)
        weights = weights + length * direction
        margins = margins + length * change
    raise NotConverged(
        f"a logistic regression with an l2 of {l2} has not converged after {LIMIT} steps; with more"
        " probe.examples it may, and 0 leaves the probes out"
    )


def _length(
    margins: torch.Tensor,
    change: torch.Tensor,
    target: torch.Tensor,
    linear: torch.Tensor,
    square: torch.Tensor,
) -> torch.Tensor:
    """Return how far to go along a direction.

    It is two of Newton's steps where they descend enough (Armijo's condition), otherwise the step
    that is sure to descend, since no second derivative of a logistic loss is above 1/4. It is 0
    along a direction that only rises, after which the next direction is a new one.

    Args:
        margins: [n], of the examples before the step.
        change: [n], of the margins by a length of 1.
        target: [n] of 0 and 1.
        linear: the penalty changes by length * linear + length^2 square / 2.
        square: see `linear`.
    """
    n = len(target)
    length, slopes = torch.zeros_like(linear), []
    for _ in range(2):
        chance = (margins + length * change).sigmoid()
        slopes.append((chance - target) @ change / n + linear + length * square)
        length = length - slopes[-1] / ((chance * (1 - chance)) @ change.square() / n + square)
    rise = (
        logsigmoid(-margins) - logsigmoid(-margins - length * change) - length * target * change
    ).mean()
    enough = rise + length * linear + length.square() * square / 2 <= 1e-4 * length * slopes[0]
    sure = -slopes[0] / (change.square().mean() / 4 + square)
    return torch.where(enough & (length > 0), length, sure).clamp_min(0)
