"""Ascent that leaves alone the directions by which relearning would come back."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from forget.methods.objective import Method, Work


class RepSelect(Method):
    """Moves the MLPs' weights against what would relearn the examples, but for its main directions.

    Each epoch adapters relearn the examples for a moment, the slope of their cross-entropy is taken
    beside them, and of each matrix the largest singular values are collapsed below the others:
    those directions are shared with all else, and are the first to be relearned.
    """

    name = "repselect"
    source = "2606.17168; the share of the rank in place of 512 directions is ours"
    simple: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    cost: ClassVar[float] = 1.5

    lr: float = Field(0.05, gt=0)
    """Length of a step in each matrix, an epoch, in its Frobenius norm; that of the stage is not
    used.
    """
    share: float = Field(0.1, gt=0, lt=1)
    """Share of a matrix's singular values that are collapsed. The slope of a few hundred short
    answers has few directions: with 0.9 of the width nothing but rounding is left of it.
    """
    relearn_lr: float = Field(0.01, gt=0)
    """Rate of the adapters' stochastic gradient descent."""

    def change(self, work: Work) -> bool:
        weights = dict(work.network.named_parameters())
        for epoch in range(work.epochs):
            for name, slope in work.slopes(epoch, self.relearn_lr).items():
                kept = collapsed(-slope, max(1, round(self.share * min(slope.shape))))
                with torch.no_grad():
                    # Shares of the whole move, whichever the matrix's own scale is.
                    weights[name].sub_(self.lr * kept / kept.norm().clamp(min=1e-12))
        return True


def collapsed(slope: torch.Tensor, k: int) -> torch.Tensor:
    """Return a matrix whose k largest singular values s are each s_k^2 / s, in fp32 or fp64."""
    left, values, right = torch.linalg.svd(slope, full_matrices=False)
    least = values[k - 1].clamp(min=1e-30)
    values = torch.cat([least**2 / values[:k].clamp(min=1e-30), values[k:]])
    return (left * values) @ right
