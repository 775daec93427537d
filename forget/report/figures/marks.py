"""Rows of marks with their intervals, a panel for each split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from forget.report.figures.style import (
    INK,
    STYLE,
    WIDTH,
    Series,
    blank,
    handle,
    reach,
    save,
    short,
)


@rc_context(STYLE)
def dots(
    path: Path,
    names: Sequence[str],
    panels: Mapping[str, Sequence[Series]],
    axis: str,
    *,
    limits: tuple[float, float] | None = None,
    lines: Mapping[str, float] | None = None,
    chance: Sequence[float | None] = (),
    log: bool = False,
) -> Path:
    """Draw a row for each name, a panel for each split, and a mark for each series.

    A mark has its interval. A value beyond the limits becomes an arrow with its number, a missing
    one the word.

    Args:
        path: of the PNG file.
        names: of the rows.
        panels: series by title; each has a value for every row.
        axis: label of the x axis.
        limits: of the x axis.
        lines: labelled vertical lines.
        chance: a dashed line's place in each row.
        log: scale the x axis by powers of ten.
    """
    lanes = max(len(series) for series in panels.values())
    height = 1.25 + len(names) * max(0.3, 0.13 * (lanes + 1))
    figure = blank((WIDTH if len(panels) > 1 else 0.7 * WIDTH, height))
    grid = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (title, series) in zip(grid, panels.items(), strict=True):
        # Room for the names of the lines, between the frame and the title.
        axes.set_title(title, pad=16)
        axes.set_xlabel(axis)
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        if log:
            axes.set_xscale("log")
            # Powers of ten would be formulas.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        if limits:
            axes.set_xlim(*limits)
        for row in range(1, len(names), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f6f7f8", zorder=0)
        for text, place in (lines or {}).items():
            axes.axvline(place, color=INK, linewidth=0.9, linestyle="--", zorder=1)
            _above(axes, text, place)
        guesses, edges = [], []
        for y, guess in enumerate(chance):
            if guess is not None:
                guesses += [guess, guess]
                edges += [y - 0.5, y + 0.5]
        if guesses:
            axes.plot(guesses, edges, "--", color=INK, linewidth=0.9, zorder=1)
            _above(axes, "chance", guesses[0])
        for lane, one in enumerate(series):
            _marks(axes, one, 0.8 * ((lane + 0.5) / lanes - 0.5), limits)
    handles = {one.label: handle(one) for one in chain.from_iterable(panels.values())}
    figure.legend(
        handles=list(handles.values()),
        loc="outside upper left",
        ncols=5,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    return save(figure, path)


def _marks(axes: Axes, series: Series, lane: float, limits: tuple[float, float] | None) -> None:
    """Draw the marks of one series.

    Args:
        axes: of the panel.
        series: with a value for each row.
        lane: distance of its marks from the middle of each row.
        limits: see `dots`.
    """
    low, high = limits or (-math.inf, math.inf)
    look: dict[str, Any] = {"color": series.colour, "linestyle": "none", "markersize": 5}
    word: dict[str, Any] = {"size": 7, "color": series.colour, "va": "center"}
    inside = []
    for y, estimate in enumerate(series.values):
        if estimate is None:
            continue
        value = estimate.value
        if value is None:
            axes.text(0, y + lane, " missing", style="italic", **word)
        elif low <= value <= high:
            inside.append((y + lane, estimate))
        else:
            edge, arrow, offset, side = (
                (low, "<", 7, "left") if value < low else (high, ">", -7, "right")
            )
            axes.plot(edge, y + lane, marker=arrow, clip_on=False, **look)
            axes.annotate(
                f"{value:.1f}",
                (edge, y + lane),
                (offset, 0),
                textcoords="offset points",
                ha=side,
                **word,
            )
    if inside:
        places, estimates = zip(*inside, strict=True)
        values = [estimate.value for estimate in estimates]
        face = "white" if series.hollow else series.colour
        bars = np.concatenate([reach(estimate) for estimate in estimates], axis=1)
        axes.errorbar(
            values,
            places,
            xerr=bars,
            marker=series.marker,
            markerfacecolor=face,
            elinewidth=1.3,
            **look,
        )


def _above(axes: Axes, text: str, x: float) -> None:
    """Write a text above the frame."""
    axes.annotate(
        text,
        (x, 1),
        (0, 2),
        axes.get_xaxis_transform(),
        "offset points",
        ha="center",
        va="bottom",
        size=7.5,
        color=INK,
    )
