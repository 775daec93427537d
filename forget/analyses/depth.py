"""Depth of return: the first layer after which the answer can be read (audit "lens")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.recovery import LEAST_SKILL, ROUNDING, Recovery, by_group, recoveries
from forget.analyses.study import Cell, kept

AUDIT = "lens"
"""Name of the audit whose Rows are read."""


@dataclass(frozen=True)
class Depth:
    """Result of the audit in a cell, by one decoder."""

    audit: str
    """Its label."""
    decoder: str
    """Group of the doses: whose norm and head read the states."""
    first: Mapping[str, int | None]
    """By arm, the first layer read with half of the learned model's skill; None where there is no
    such layer, and without arms where the learned model has hardly any skill.
    """
    most: Recovery | None
    """Result at the layer with the largest R; None where no layer has one."""


@kept
def depths(cell: Cell) -> list[Depth]:
    """Return the depth of return by decoder; none where layers were not read."""
    found = []
    every = recoveries(cell)
    for label in dict.fromkeys(one.audit for one in every):
        if label.partition(",")[0] != AUDIT:
            continue
        groups = dict(by_group(every, label))
        # By its own decoder the last layer says what the model says.
        whole = max((some[-1] for some in groups.values()), key=lambda one: one.dose.at)
        for decoder, layers in groups.items():
            there = [one for one in layers if np.isfinite(one.draws[0])]
            most = max(there, key=lambda one: float(one.draws[0]), default=None)
            found.append(Depth(label, decoder, _first(layers, whole), most))
    return found


def _first(layers: Sequence[Recovery], whole: Recovery) -> dict[str, int | None]:
    """Return by arm the first of the layers, in their order, with half of the learned skill."""
    learned, chance = whole.accuracy["learned"].numbers[0], whole.chance
    if learned - chance < LEAST_SKILL - ROUNDING:
        return {}
    bar = chance + (learned - chance) / 2 - ROUNDING
    first: dict[str, int | None] = dict.fromkeys(whole.accuracy)
    for one in reversed(layers):
        for arm, accuracy in one.accuracy.items():
            if accuracy.numbers[0] >= bar:
                first[arm] = round(one.dose.at)
    return first
