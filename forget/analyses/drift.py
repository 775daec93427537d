"""Drift: how alike the arms' hidden states are, by layer, and how much of the learned is erased.

The erasure is (CKA(f, n) - CKA(l, n)) / (1 - CKA(l, n)), clipped to 0 to 1, of the forgotten, the
learned and the never taught arm: 1 where the forgotten arm's states are those of a model never
taught, 0 where they are no nearer to them than the learned arm's are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from forget.analyses.noted import Place, count, label_of, layers, mean
from forget.analyses.recovery import averaged
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, kept
from forget.results.doses import dose
from forget.results.estimates import Estimate
from forget.results.rows import ARMS

AUDIT = "drift"
"""Name of the audit whose Rows are read."""


LEAST_APART = 0.01
"""Least 1 - CKA(l, n) of which a share can be told."""


@dataclass(frozen=True)
class Drift:
    """States of a layer, compared by arm with the learned arm's."""

    task: Place
    layer: int
    alike: Mapping[str, Estimate]
    """Unbiased CKA by arm: 1 where nothing moved but by rotation and scale."""
    distance: Mapping[str, Estimate]
    """Mean over items of the distance, over the norm of the learned arm's state."""
    cosine: Mapping[str, Estimate]
    erasure: Estimate
    """Missing where the learned arm's states are those of the arm never taught."""


@kept
def drifts(cell: Cell) -> list[Drift]:
    """Return what moved at each layer; none where it was not audited."""
    label = label_of(cell, AUDIT)
    if label is None:
        return []
    places: tuple[Place, ...] = ("own", "other")
    found = []
    for place in places:
        for layer in layers(cell, label, "distance", place):
            found.append(_drift(cell, label, place, layer))
    return found


def erasure(forgotten: Draws, learned: Draws, one: Draws | float = 1.0) -> Draws:
    """Compute the erasure from CKAs with the arm never taught.

    Args:
        forgotten: of the forgotten arm.
        learned: of the learned arm.
        one: of the arm never taught itself.
    """
    apart = one - learned
    if not apart[0] >= LEAST_APART:
        return np.full_like(forgotten, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(apart > 0, (forgotten - learned) / apart, np.nan)
    return np.clip(shares, 0, 1)


def _drift(cell: Cell, label: str, place: Place, layer: int) -> Drift:
    def by_arm(told: str) -> dict[str, Draws]:
        found = {}
        for arm in ARMS:
            find = partial(mean, label=label, dose=dose(told, layer=layer), arm=arm, place=place)
            number = averaged(cell, find)
            if number is not None:
                found[arm] = number
        return found

    n = count(cell, label, dose("distance", layer=layer), "forgotten", place)

    def estimates(told: str) -> dict[str, Estimate]:
        return {arm: estimate(number, n) for arm, number in by_arm(told).items()}

    to_never = by_arm("cka never")
    erased = Estimate(None, None, None, n)
    if {"forgotten", "learned", "never"} <= to_never.keys():
        draws = erasure(to_never["forgotten"], to_never["learned"], to_never["never"])
        erased = estimate(draws, n)
    return Drift(
        place, layer, estimates("cka learned"), estimates("distance"), estimates("cosine"), erased
    )
