"""Logistic regressions with an L2 penalty on the same features, for several labelings and a path of penalties."""

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
"""Steps after which a fit is given up; 3 to 10 are usual."""
BLOCK = 128
"""Rows of X'X taken in one product: few products, little above the diagonal."""


class NotConverged(ArithmeticError):
    """The gradient stayed above the tolerance."""


def fit(
    features: torch.Tensor, labels: torch.Tensor, penalties: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [labelings, penalties, width] and intercepts [labelings, penalties] at the minima.

    What is minimised is the mean logistic loss + l2/2 |w|^2, the intercept without a penalty. Each
    fit starts from the one before on the path. Conjugate gradients (Polak and Ribiere's, with
    restarts) go along directions corrected by an approximation of the Hessian, c X'X/n + l2, where
    c is the mean of the losses' second derivatives: X'X is taken once. A fit that eight such steps
    have not brought to its minimum takes the Hessian itself, anew every eight steps.

    Args:
        features: [n, width] in float32, finite, best with columns of mean 0 and variance 1.
        labels: [labelings, n] of true and false.
        penalties: l2 of each fit, above 0, best the strongest first.

    Raises:
        NotConverged: a gradient still above the tolerance after 500 steps.
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
    """The lower triangle of X'X, which is all that a Cholesky factorisation reads."""
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
    """The weights [width], the intercept's last, at the minimum for a target [n] of 0 and 1, from those given."""
    n = len(features)
    penalty = torch.full_like(weights, l2)
    penalty[-1] = 0
    width = features.shape[1]
    # Only products with the features are in float32: its rounding would hide from a line search
    # what a step gains.
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
            # Where a few examples are as hard as all others are easy, as in few examples of a wide
            # space, a mean is too coarse.
            hessian = (
                _gram(features * curvatures.sqrt().float()[:, None]) / n
                if step
                else curvature.float() * gram
            )
            hessian.diagonal().add_(l2)
            factor = torch.linalg.cholesky(hessian)
            direction, last, last_slope = (
                torch.zeros_like(weights),
                gradient,
                weights.new_tensor(-torch.inf),
            )
        solved = torch.cholesky_solve(gradient[:width, None].float(), factor)[:, 0]
        descent = -torch.cat([solved, gradient[width:] / curvature])
        direction = descent + ((gradient - last) @ descent / last_slope).clamp_min(0) * direction
        last, last_slope = gradient, gradient @ descent
        change = (features @ direction[:width].float()).double() + direction[width]
        length = _length(
            margins,
            change,
            target,
            (penalty * weights) @ direction,
            (penalty * direction) @ direction,
        )
        weights = weights + length * direction
        margins = margins + length * change
    raise NotConverged(
        f"a logistic regression with an l2 of {l2} has not converged after {LIMIT} steps"
    )


def _length(
    margins: torch.Tensor,
    change: torch.Tensor,
    target: torch.Tensor,
    linear: torch.Tensor,
    square: torch.Tensor,
) -> torch.Tensor:
    """How far to go along a direction that changes the margins [n], and the penalty by length * linear + length^2 square / 2.

    Two of Newton's steps where they descend enough (Armijo's condition). Else the step that is sure
    to descend, since no second derivative of a logistic loss is above 1/4; 0 along a direction that
    only rises, after which the next one is new.
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
