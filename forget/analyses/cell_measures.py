"""Measures of a cell that analyses of sizes and settings share."""

from __future__ import annotations

from forget.analyses.probes import readings
from forget.analyses.resampling import Draws
from forget.analyses.study import Cell

Measured = tuple[Draws, int]
"""A measure of one cell, and the items it rests on."""


def measured(cell: Cell, phase: str, split: str, measure: str) -> Measured | None:
    draws = cell.draws(phase, split, measure)
    return None if draws is None else (draws, cell.n(phase, split))


def probe_kept(cell: Cell) -> Measured | None:
    """Share of the probe's skill that forgetting left, at the first position probed (forget.analyses.probes)."""
    found = next((reading for reading in readings(cell)), None)
    return None if found is None or found.lost is None else (1 - found.lost, found.learned.n)
