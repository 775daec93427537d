"""Lines with their intervals as bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from forget.report.figures.style import (
    INK,
    STYLE,
    WIDTH,
    Series,
    blank,
    handle,
    save,
    short,
)


@rc_context(STYLE)
def curves(
    path: Path,
    panels: Mapping[str, Sequence[Series]],
    x_axis: str,
    y_axis: str,
    *,
    guess: float | None = None,
    limits: tuple[float, float] | None = None,
    whole: bool = False,
) -> Path:
    """Draw lines with their intervals as bands, at most three panels in a row.

    Args:
        path: of the PNG file.
        panels: series by title; each has its places on the x axis.
        x_axis: label.
        y_axis: label.
        guess: place of a dashed line that is named chance.
        limits: of the y axis.
        whole: the x axis counts things, so its ticks are whole numbers.
    """
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width = min(WIDTH, 2.2 + 3.6 * columns)
    figure = blank((width, 0.8 + 2.3 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for place, ((title, series), axes) in enumerate(zip(panels.items(), grid, strict=False)):
        axes.set_title(short(title, 34))
        axes.grid()
        axes.set_axisbelow(True)
        axes.tick_params(labelbottom=True)
        if place + columns >= len(panels):
            axes.set_xlabel(x_axis)
        if place % columns == 0:
            axes.set_ylabel(y_axis)
        if limits:
            axes.set_ylim(*limits)
        if whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
        for one in series:
            _curve(axes, one)
        if guess is not None:
            axes.axhline(guess, color=INK, linewidth=0.9, linestyle="--")
            side: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "ha": "right",
                "va": "top",
            }
            axes.text(0.99, guess, "chance", size=7.5, color=INK, **side)
    for axes in grid:
        axes.remove()
    handles = {one.label: handle(one, line=True) for one in chain.from_iterable(panels.values())}
    figure.legend(
        handles=list(handles.values()), loc="outside upper left", ncols=5, columnspacing=1.4
    )
    return save(figure, path)


def _curve(axes: Axes, series: Series) -> None:
    """Draw one line with its band; a single point becomes a mark."""
    points = []
    for x, estimate in zip(series.at, series.values, strict=True):
        if estimate and estimate.value is not None:
            points.append((x, *estimate.numbers))
    if not points:
        return
    at, value, low, high = zip(*sorted(points), strict=True)
    look: dict[str, Any] = {"color": series.colour, "linewidth": 1.5, "label": series.label}
    mark = "o" if len(points) == 1 else ""
    axes.plot(at, value, "--" if series.hollow else "-", marker=mark, **look)
    axes.fill_between(at, low, high, color=series.colour, alpha=0.15, linewidth=0)
