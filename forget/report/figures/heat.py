"""Heat maps with their numbers, and the trees that order them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from scipy.cluster.hierarchy import dendrogram

from forget.report.figures.style import (
    GREY,
    INK,
    STYLE,
    VERMILION,
    WIDTH,
    blank,
    save,
    short,
)
from forget.results.estimates import Estimate


@rc_context(STYLE)
def matrices(
    path: Path,
    panels: Mapping[str, Sequence[Sequence[Estimate | None]]],
    rows: Sequence[str],
    columns: Sequence[str],
    x_axis: str,
    y_axis: str,
    scale: str,
    blanks: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Path:
    """Draw heat maps with their numbers: 0 is white, 1 dark, none grey.

    An entry whose row and column have one name is framed. Intervals are written where there is
    room.

    Args:
        path: of the PNG file.
        panels: tables by title.
        rows: their names.
        columns: their names.
        x_axis: label.
        y_axis: label.
        scale: label of the colours.
        blanks: by title, reasons for which entries are left out, which are dashes; "" for none.
    """
    # Row names on the left and the scale on the right take 2.9 inches, a panel's title 1.3, a
    # number 0.27.
    room = WIDTH - 2.9
    cell = min(0.72, max(0.27, room / len(panels) / len(columns) - 0.01))
    side, tall = max(1.3, cell * len(columns)), 1.7 + max(0.24, cell * 0.75) * len(rows)
    across = max(1, min(len(panels), int(room / side)))
    down = math.ceil(len(panels) / across)
    figure = blank((min(WIDTH, side * across + 2.9), tall * down))
    grid = figure.subplots(down, across, sharey=True, squeeze=False).flat
    colours = LinearSegmentedColormap.from_list(
        "ratio", ["#f7fbff", "#9ecae1", "#2171b5", "#08306b"]
    ).with_extremes(bad="#e3e5e8")
    image = None
    for place, ((title, estimates), axes) in enumerate(zip(panels.items(), grid, strict=False)):
        image = axes.imshow(_numbers(estimates), cmap=colours, vmin=0, vmax=1, aspect="auto")
        axes.set_title(title)
        axes.set_xlabel(x_axis)
        if place % across == 0:
            axes.set_ylabel(y_axis)
        axes.set_xticks(
            range(len(columns)),
            [short(name, 18) for name in columns],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set_yticks(range(len(rows)), [short(name, 18) for name in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        frame: dict[str, Any] = {"fill": False, "edgecolor": VERMILION, "linewidth": 1.2}
        for i, row in enumerate(estimates):
            for j, estimate in enumerate(row):
                _write(axes, i, j, estimate, cell > 0.6, bool(blanks and blanks[title][i][j]))
                if rows[i] == columns[j]:
                    axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, **frame))
        for inner in (*axes.texts, *axes.patches):
            # They lie within the frame, which the layout measures.
            inner.set_in_layout(False)
    for axes in grid:
        axes.remove()
    if image is not None:
        figure.colorbar(
            image,
            ax=figure.axes,
            label=scale,
            extend="both",
            shrink=min(0.8, 2.4 / (tall * down)),
            aspect=14,
        )
    return save(figure, path)


def _numbers(estimates: Sequence[Sequence[Estimate | None]]) -> np.ndarray:
    """Return the values of a table; NaN where there is none."""
    rows = []
    for row in estimates:
        values = [None if estimate is None else estimate.value for estimate in row]
        rows.append([math.nan if value is None else value for value in values])
    return np.array(rows)


@rc_context(STYLE)
def trees(path: Path, panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], axis: str) -> Path:
    """Draw dendrograms side by side.

    Args:
        path: of the PNG file.
        panels: by title, a linkage matrix and the names of its leaves, in the tree's order.
        axis: label of the x axis.
    """
    longest = max(len(names) for _, names in panels.values())
    figure = blank((WIDTH, 1.1 + 0.24 * longest))
    for axes, (title, (linkage, names)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        tree = dendrogram(linkage, no_plot=True)
        for place, height in zip(tree["icoord"], tree["dcoord"], strict=True):
            axes.plot(height, place, color=INK, linewidth=1.1)
        axes.set_title(title)
        axes.set_xlabel(axis)
        # scipy sets its leaves ten apart, the first at five.
        axes.set_yticks(
            [5 + 10 * i for i in range(len(names))], [short(name, 18) for name in names]
        )
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(10 * len(names), 0)
        axes.set_xlim(left=0)
        axes.spines["left"].set_visible(False)
    return save(figure, path)


def _write(
    axes: Axes, row: int, column: int, estimate: Estimate | None, interval: bool, left_out: bool
) -> None:
    """Write the number of an entry of a heat map, with its interval where there is room."""
    if estimate is None or estimate.value is None:
        word = "missing" if interval else "m"
        none = "\N{EN DASH}" if left_out else "·"
        text = none if estimate is None else word
        axes.text(column, row, text, ha="center", va="center", size=7, color=GREY)
        return
    value, low, high = estimate.numbers
    colour = "white" if value > 0.5 else INK
    axes.text(
        column,
        row - (0.12 if interval else 0),
        f"{value:z.2f}",
        ha="center",
        va="center",
        size=8.5 if interval else 5.8,
        color=colour,
    )
    if interval:
        axes.text(
            column,
            row + 0.24,
            f"{low:z.2f} to {high:z.2f}",
            ha="center",
            va="center",
            size=6,
            color=colour,
        )
