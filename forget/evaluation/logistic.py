"""Logistic regressions with an L2 penalty: many fits at once on the rows of one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

TOLERANCE = 1e-5
"""Largest entry of the gradient at which a fit is done; a tenth of scikit-learn's. float32 reaches
about 1e-7.
"""
STEPS = 50
"""Conjugate gradient steps before the curvature is taken anew."""
LIMIT = 500
"""Most steps of a fit, after which it is given up; 5 to 100 are usual."""


@dataclass(frozen=True)
class Fits:
    """Minima of several fits."""

    weights: torch.Tensor
    """[fits, width]"""
    intercepts: torch.Tensor
    """[fits]"""
    converged: torch.Tensor
    """[fits], false where the gradient was still above the tolerance when the fit was given up."""

    def margins(self, features: torch.Tensor) -> torch.Tensor:
        """Return the margins [fits, n] of features [n, width]: above 0 a row is called true."""
        return self.weights @ features.T + self.intercepts[:, None]


def fit(features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, l2: torch.Tensor) -> Fits:
    """Minimise the mean logistic loss + l2/2 |w|^2 of every fit; the intercept has no penalty.

    All fits go on together, since products of matrices cost little more for many fits than for
    one. Conjugate gradients (Polak and Ribiere's, with restarts) go along directions corrected by
    the diagonal of the Hessian, in the basis of the features' principal components: there, what all
    rows have of the Hessian has little off its diagonal.

    Args:
        features: [n, width] in float32, finite, best with columns of mean 0 and variance 1.
        labels: [fits, n] of true and false.
        rows: [fits, n], true where a fit has the row for an example.
        l2: [fits], the penalties, above 0.

    Returns:
        The fits in the order of their labels. One that has not converged after 500 steps says so.
    """
    n, width = features.shape
    if n < width:
        # The weights lie in the span of the examples, and a rotation changes neither the margins
        # nor |w|.
        basis, corner = torch.linalg.qr(features.T)
        found = fit(corner.T.contiguous(), labels, rows, l2)
        return Fits(found.weights @ basis.T, found.intercepts, found.converged)
    # In float64: in float32 LAPACK gives up on features that hardly vary in most directions.
    axes = torch.linalg.eigh((features.T @ features).double())[1].float()
    weights, converged = _minimise(features @ axes, labels.double(), rows.double(), l2.double())
    return Fits((weights[:, :-1].float()) @ axes.T, weights[:, -1].float(), converged)


def _minimise(
    features: torch.Tensor, target: torch.Tensor, rows: torch.Tensor, l2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights [fits, width + 1], the intercept's last, and which fits have converged.

    Args:
        features: [n, width], rotated to their principal components.
        target: [fits, n] of 0 and 1.
        rows: [fits, n] of 0 and 1.
        l2: [fits].
    """
    width = features.shape[1]
    transposed, squares = features.T.contiguous(), features.square()
    share = rows / rows.sum(1, keepdim=True)
    penalty = l2[:, None].expand(-1, width + 1).clone()
    penalty[:, -1] = 0
    # Only products with the features are in float32, whose rounding would hide from a line search
    # the gain of a step.
    found = target.new_zeros(len(target), width + 1)
    converged = torch.zeros(len(target), dtype=torch.bool)
    going = torch.arange(len(target))
    weights, margins = found.clone(), torch.zeros_like(target)
    scale = direction = last = slope = torch.empty(0)
    for step in range(LIMIT):
        chance = margins.sigmoid()
        error = (chance - target) * share
        gradient = torch.cat([(error.float() @ features).double(), error.sum(1, True)], 1)
        gradient += penalty * weights
        done = gradient.abs().amax(1) <= TOLERANCE
        if done.any():
            found[going[done]], converged[going[done]] = weights[done], True
            left = ~done
            going, gradient, weights, margins = (
                part[left] for part in (going, gradient, weights, margins)
            )
            target, share, penalty, chance = (
                part[left] for part in (target, share, penalty, chance)
            )
            if step:
                scale, direction, last, slope = (
                    part[left] for part in (scale, direction, last, slope)
                )
            if not len(going):
                break
        if step % STEPS == 0:
            curvature = chance * (1 - chance) * share
            scale = torch.cat([(curvature.float() @ squares).double(), curvature.sum(1, True)], 1)
            scale += penalty
            # A restart: the next direction is that of descent alone.
            direction, last = torch.zeros_like(gradient), gradient
            slope = torch.full((len(going),), -torch.inf, dtype=torch.double)
        descent = -gradient / scale
        turn = (((gradient - last) * descent).sum(1) / slope).clamp_min(0)
        direction = descent + turn[:, None] * direction
        last, slope = gradient, (gradient * descent).sum(1)
        change = (direction[:, :-1].float() @ transposed).double() + direction[:, -1:]
        linear = (penalty * weights * direction).sum(1, True)
        square = (penalty * direction.square()).sum(1, True)
        length = _length(margins, change, target, share, linear, square)
        weights = weights + length * direction
        margins = margins + length * change
    else:
        found[going] = weights
    return found, converged


def _length(
    margins: torch.Tensor,
    change: torch.Tensor,
    target: torch.Tensor,
    share: torch.Tensor,
    linear: torch.Tensor,
    square: torch.Tensor,
) -> torch.Tensor:
    """Return how far to go along a direction, [fits, 1].

    It is two of Newton's steps where they descend enough (Armijo's condition), otherwise the step
    that is sure to descend, since no second derivative of a logistic loss is above 1/4. It is 0
    along a direction that only rises, after which the next direction is a new one.

    Args:
        margins: [fits, n], of the examples before the step.
        change: [fits, n], of the margins by a length of 1.
        target: [fits, n] of 0 and 1.
        share: [fits, n], of each example in the fit's mean loss.
        linear: [fits, 1]; the penalty changes by length * linear + length^2 square / 2.
        square: see `linear`.
    """
    length, slopes = torch.zeros_like(linear), []
    for _ in range(2):
        chance = (margins + length * change).sigmoid()
        slope = ((chance - target) * share * change).sum(1, True)
        slopes.append(slope + linear + length * square)
        curvature = (chance * (1 - chance) * share * change.square()).sum(1, True)
        length = length - slopes[-1] / (curvature + square)
    moved = margins + length * change
    rise = (logsigmoid(-margins) - logsigmoid(-moved) - length * target * change) * share
    rise = rise.sum(1, True) + length * linear + length.square() * square / 2
    enough = rise <= 1e-4 * length * slopes[0]
    sure = -slopes[0] / ((change.square() * share).sum(1, True) / 4 + square)
    return torch.where(enough & (length > 0), length, sure).clamp_min(0)
