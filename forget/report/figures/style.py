"""The one style of all figures: colours, marks, and what every figure needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from forget.results.estimates import Estimate

STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043",
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "grid.color": "#e8eaed",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    # A task may be called "$x": names are text, never formulas.
    "text.parse_math": False,
    "xtick.color": "#5f6368",
    "xtick.labelsize": 8.5,
    "ytick.color": "#5f6368",
    "ytick.labelsize": 8.5,
}

GREY, BLUE, VERMILION, INK = "#8a8f98", "#0072b2", "#d55e00", "#3c4043"
"""Blue and vermilion are told apart by every kind of colour vision (Okabe and Ito 2008)."""

PHASE_COLOURS = {"base": GREY, "learned": BLUE, "forgotten": VERMILION}
MARKERS = "DsP^vX"
WIDTH = 9.6
"""Inches: 1440 pixels, sharp in a column of 960."""


@dataclass(frozen=True)
class Series:
    """Estimates that share a look."""

    label: str
    colour: str
    values: Sequence[Estimate | None]
    at: Sequence[float] = ()
    """Places on the x axis, where the kind of figure needs any."""
    marker: str = "o"
    hollow: bool = False
    """An open mark, a dashed line."""


@dataclass(frozen=True)
class Cloud:
    """Named points of a scatter plot."""

    label: str
    colour: str
    marker: str
    names: Sequence[str]
    x: Sequence[Estimate]
    y: Sequence[Estimate]


def ramp(n: int) -> list[str]:
    """Return colours of `n` ordered values, light to dark.

    Their order survives any colour vision and a grey printer.
    """
    if n == 1:
        return [VERMILION]
    shades = LinearSegmentedColormap.from_list("rates", ["#f2a553", VERMILION, "#6e2500"])
    return [to_hex(shades(i / (n - 1))) for i in range(n)]


def markers(n: int) -> list[str]:
    """Return `n` marks that are told apart without colour, as far as there are so many."""
    return [MARKERS[i % len(MARKERS)] for i in range(n)]


def short(name: str, length: int = 26) -> str:
    """Put a name on one line, cut where it would push the figure aside."""
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def blank(size: tuple[float, float]) -> Figure:
    """Make a figure of the given width and height in inches."""
    figure = Figure(figsize=size)
    # A figure without a canvas makes one whenever it is asked for the size of a text.
    FigureCanvasAgg(figure)
    return figure


def reach(estimate: Estimate) -> np.ndarray:
    """Return the distances of the interval's ends from the value, [2, 1]."""
    value, low, high = estimate.numbers
    # A bound can miss its value by a rounding error, which matplotlib refuses.
    return np.array([[max(0.0, value - low)], [max(0.0, high - value)]])


def handle(one: Series | Cloud, line: bool = False) -> Line2D:
    """Make the mark, or the line, that stands for a series in the legend."""
    hollow = isinstance(one, Series) and one.hollow
    if line:
        return Line2D([], [], color=one.colour, linestyle="--" if hollow else "-", label=one.label)
    face = "white" if hollow else one.colour
    return Line2D(
        [],
        [],
        color=one.colour,
        linestyle="none",
        marker=one.marker,
        markerfacecolor=face,
        label=one.label,
    )


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file."""
    # savefig would draw everything once, without ink, for the layout alone.
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(path, metadata={"Software": None})
    return path
