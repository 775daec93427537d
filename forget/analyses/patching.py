"""Patching: how much of what a layer holds of the skill is gone from the forgotten arm's states.

S_1 and S_2 are what the truth loses, in nats, where the learned model has the states of the arm
never taught or of the forgotten one. A layer's erasure is S_2 / S_1, clipped to 0 to 1; UDS is its
mean over the layers whose S_1 is above TAU, weighed by S_1 (2605.24614).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from forget.analyses.noted import count, label_of, layers, mean
from forget.analyses.recovery import averaged
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, kept
from forget.results.doses import dose
from forget.results.estimates import Estimate

AUDIT = "uds"
"""Name of the audit whose Rows are read."""

ARMS = ("forgotten", "never", "scrambled", "again")

TAU = 0.05
"""Nats that the truth loses, above which a layer holds something of the skill."""


@dataclass(frozen=True)
class Patching:
    """Result of the audit in a cell."""

    lost: Mapping[int, Mapping[str, Estimate]]
    """Nats that the truth loses with the states of an arm, by layer and arm."""
    erasure: Mapping[int, Estimate]
    """By layer; missing where it holds nothing of the skill."""
    score: Estimate
    """UDS: 1 where what was learned is gone, 0 where it is all there; missing where no layer holds
    anything.
    """


@kept
def patching(cell: Cell) -> Patching | None:
    """Return how much is gone from each layer; None where it was not audited."""
    label = label_of(cell, AUDIT)
    read = layers(cell, label, "patched") if label else []
    if label is None or not read:
        return None
    lost = {layer: _lost(cell, label, layer) for layer in read}
    if any(not {"forgotten", "never"} <= found.keys() for found in lost.values()):
        return None
    n = count(cell, label, dose("patched", layer=read[0]), "forgotten")
    held = np.stack([found["never"] for found in lost.values()])
    gone = np.stack([found["forgotten"] for found in lost.values()])
    estimates = {}
    erased = {}
    for place, (layer, found) in enumerate(lost.items()):
        estimates[layer] = {arm: estimate(draws, n) for arm, draws in found.items()}
        erased[layer] = estimate(uds(held[place : place + 1], gone[place : place + 1]), n)
    return Patching(estimates, erased, estimate(uds(held, gone), n))


def uds(held: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Compute UDS [...], missing where no layer holds anything.

    Args:
        held: S_1 [layers, ...].
        gone: S_2 [layers, ...].
    """
    weights = np.where(held > TAU, held, 0.0)
    shares = np.clip(np.divide(gone, held, out=np.zeros_like(held), where=weights > 0), 0, 1)
    whole = weights.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, (weights * shares).sum(0) / whole, np.nan)


def _lost(cell: Cell, label: str, layer: int) -> dict[str, Draws]:
    """Return the nats that the truth loses by arm."""
    found: dict[str, Draws] = {}
    told = dose("patched", layer=layer)
    learned = averaged(cell, partial(mean, label=label, dose=told, arm="learned"))
    if learned is None:
        return found
    for arm in ARMS:
        number = averaged(cell, partial(mean, label=label, dose=told, arm=arm))
        if number is not None:
            found[arm] = learned - number
    return found
