"""Estimates drawn as PNG files in one style.

Nothing here knows what a trial is; forget.report decides what is drawn.
"""

from forget.report.figures.clouds import scatter
from forget.report.figures.heat import matrices, trees
from forget.report.figures.lines import curves
from forget.report.figures.marks import dots
from forget.report.figures.style import (
    BLUE,
    GREY,
    INK,
    PHASE_COLOURS,
    VERMILION,
    Cloud,
    Series,
    markers,
    ramp,
    short,
)

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "PHASE_COLOURS",
    "VERMILION",
    "Cloud",
    "Series",
    "curves",
    "dots",
    "markers",
    "matrices",
    "ramp",
    "scatter",
    "short",
    "trees",
]
