"""Codes: bits that the labels of (question, answer) pairs cost, coded by a layer's states.

The audit "probes" codes each block of questions by a fit on those before (Voita and Titov 2020), so
that what a probe has to learn costs as well. The compression is labels over bits: about 1 where the
states tell nothing, and below 1 where a fit on noise misleads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from forget.analyses.noted import count, label_of, layers, mean
from forget.analyses.recovery import averaged
from forget.analyses.resampling import estimate
from forget.analyses.study import Cell, kept
from forget.results.doses import dose
from forget.results.estimates import Estimate
from forget.results.rows import ARMS

AUDIT = "probes"
"""Name of the audit whose Rows are read."""

GROUP = "mdl"
"""Words of the doses that hold codes."""


@dataclass(frozen=True)
class Code:
    """Codes of a layer, by arm."""

    layer: int
    bits: Mapping[str, Estimate]
    """Bits by question."""
    compression: Mapping[str, Estimate]
    """Labels over bits."""


@kept
def codes(cell: Cell) -> list[Code]:
    """Return the codes of each layer; none where there are none."""
    label = label_of(cell, AUDIT)
    if label is None:
        return []
    found = []
    for layer in layers(cell, label, GROUP):
        told = dose(GROUP, layer=layer)
        n = count(cell, label, told, "forgotten")
        bits: dict[str, Estimate] = {}
        compressed: dict[str, Estimate] = {}
        for arm in ARMS:
            cost = averaged(cell, partial(mean, label=label, dose=told, arm=arm))
            pairs = averaged(cell, partial(mean, label=label, dose=told, arm=arm, column="options"))
            if cost is not None and pairs is not None:
                bits[arm] = estimate(cost, n)
                compressed[arm] = estimate(compression(pairs, cost), n)
        found.append(Code(layer, bits, compressed))
    return found


def compression(labels: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Compute labels over bits; infinite where labels cost nothing."""
    with np.errstate(divide="ignore"):
        return np.asarray(labels / bits)
