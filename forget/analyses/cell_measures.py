"""Measures of a cell that analyses of sizes and settings share."""

from __future__ import annotations

from forget.analyses.probes import readings
from forget.analyses.resampling import Draws
from forget.analyses.study import Cell

Counted = tuple[Draws, int]
"""A measure of one cell, and the items it rests on."""


def counted(cell: Cell, phase: str, split: str, measure: str) -> Counted | None:
    """Return a measure of the cell's own task; None where it was not taken."""
    draws = cell.draws(phase, split, measure)
    return None if draws is None else (draws, cell.n(phase, split))


def probe_kept(cell: Cell) -> Counted | None:
    """Return the share of the probe's skill that forgetting left, at the first position probed.

    See forget.analyses.probes.
    """
    found = next((reading for reading in readings(cell)), None)
    return None if found is None or found.lost is None else (1 - found.lost, found.learned.n)
