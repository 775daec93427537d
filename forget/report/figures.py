"""Estimates drawn as PNG files in one style.

Nothing here knows what a trial is; forget.report decides what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import dendrogram

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
    figure = _figure((WIDTH if len(panels) > 1 else 0.7 * WIDTH, height))
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
    handles = {one.label: _handle(one) for one in chain.from_iterable(panels.values())}
    figure.legend(
        handles=list(handles.values()),
        loc="outside upper left",
        ncols=5,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    return _save(figure, path)


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
    figure = _figure((width, 0.8 + 2.3 * rows))
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
    handles = {one.label: _handle(one, line=True) for one in chain.from_iterable(panels.values())}
    figure.legend(
        handles=list(handles.values()), loc="outside upper left", ncols=5, columnspacing=1.4
    )
    return _save(figure, path)


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


@rc_context(STYLE)
def matrices(
    path: Path,
    panels: Mapping[str, Sequence[Sequence[Estimate | None]]],
    rows: Sequence[str],
    columns: Sequence[str],
    x_axis: str,
    y_axis: str,
    scale: str,
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
    """
    # Row names on the left and the scale on the right take 2.9 inches, a panel's title 1.3, a
    # number 0.27.
    room = WIDTH - 2.9
    cell = min(0.72, max(0.27, room / len(panels) / len(columns) - 0.01))
    side, tall = max(1.3, cell * len(columns)), 1.7 + max(0.24, cell * 0.75) * len(rows)
    across = max(1, min(len(panels), int(room / side)))
    down = math.ceil(len(panels) / across)
    figure = _figure((min(WIDTH, side * across + 2.9), tall * down))
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
                _write(axes, i, j, estimate, interval=cell > 0.6)
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
    return _save(figure, path)


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
    figure = _figure((WIDTH, 1.1 + 0.24 * longest))
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
    return _save(figure, path)


@rc_context(STYLE)
def scatter(
    path: Path, panels: Mapping[str, Sequence[Cloud]], y_axis: str, limits: tuple[float, float]
) -> Path:
    """Draw clouds of points, each with both intervals and its name.

    Args:
        path: of the PNG file.
        panels: clouds by the label of their x axis.
        y_axis: label.
        limits: of the y axis.
    """
    figure = _figure((WIDTH if len(panels) > 1 else WIDTH / 1.6, 4.4))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (x_axis, clouds) in zip(grid, panels.items(), strict=True):
        axes.set_xlabel(x_axis)
        axes.set_ylim(*limits)
        axes.margins(x=0.12)
        axes.grid()
        axes.set_axisbelow(True)
        for cloud in clouds:
            axes.errorbar(
                [x.numbers[0] for x in cloud.x],
                [y.numbers[0] for y in cloud.y],
                xerr=np.concatenate([_reach(x) for x in cloud.x], axis=1),
                yerr=np.concatenate([_reach(y) for y in cloud.y], axis=1),
                color=cloud.colour,
                linestyle="none",
                marker=cloud.marker,
                markersize=6,
                markeredgecolor="white",
                elinewidth=0.8,
                alpha=0.85,
            )
    grid[0].set_ylabel(y_axis)
    handles = {cloud.label: _handle(cloud) for cloud in chain.from_iterable(panels.values())}
    figure.legend(
        handles=list(handles.values()),
        loc="outside upper left",
        ncols=3,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    figure.draw_without_rendering()
    for axes, clouds in zip(grid, panels.values(), strict=True):
        points: list[tuple[str, Estimate, Estimate]] = []
        for cloud in clouds:
            names = [short(name, 20) for name in cloud.names]
            points += zip(names, cloud.x, cloud.y, strict=True)
        _name(axes, points)
    return _save(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    """Make a figure of the given width and height in inches."""
    figure = Figure(figsize=size)
    # A figure without a canvas makes one whenever it is asked for the size of a text.
    FigureCanvasAgg(figure)
    return figure


def _name(axes: Axes, points: Sequence[tuple[str, Estimate, Estimate]]) -> None:
    """Write each name beside its uppermost point.

    It stands on the side where it covers least of the points and of other names.
    """
    if not points:
        return
    centres = axes.transData.transform([(x.numbers[0], y.numbers[0]) for _, x, y in points])
    reach = 3 * axes.figure.dpi / 72
    taken = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in centres]
    frame = axes.get_window_extent()
    top = {
        name: (x.numbers[0], y.numbers[0])
        for name, x, y in sorted(points, key=lambda point: point[2].numbers[0])
    }
    for name, at in top.items():
        choices: list[tuple[float, Annotation, Bbox]] = []
        for across, up in (
            ("left", "bottom"),
            ("right", "bottom"),
            ("left", "top"),
            ("right", "top"),
        ):
            offset = 5 if across == "left" else -5, 3 if up == "bottom" else -3
            text = axes.annotate(
                name, at, offset, textcoords="offset points", ha=across, va=up, size=7.5, color=INK
            )
            # A name may stand outside the frame; it must not shrink the frame.
            text.set_in_layout(False)
            box = text.get_window_extent()
            covered = sum(_area(Bbox.intersection(box, other)) for other in taken)
            choices.append(
                (covered + 4 * (_area(box) - _area(Bbox.intersection(box, frame))), text, box)
            )
        best = min(choices, key=lambda choice: choice[0])
        taken.append(best[2])
        for choice in choices:
            if choice is not best:
                choice[1].remove()


def _area(box: Bbox | None) -> float:
    """Return the area of an intersection, which is None where the boxes do not meet."""
    return box.width * box.height if box else 0.0


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
        bars = np.concatenate([_reach(estimate) for estimate in estimates], axis=1)
        axes.errorbar(
            values,
            places,
            xerr=bars,
            marker=series.marker,
            markerfacecolor=face,
            elinewidth=1.3,
            **look,
        )


def _reach(estimate: Estimate) -> np.ndarray:
    """Return the distances of the interval's ends from the value, [2, 1]."""
    value, low, high = estimate.numbers
    # A bound can miss its value by a rounding error, which matplotlib refuses.
    return np.array([[max(0.0, value - low)], [max(0.0, high - value)]])


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


def _write(axes: Axes, row: int, column: int, estimate: Estimate | None, interval: bool) -> None:
    """Write the number of an entry of a heat map, with its interval where there is room."""
    if estimate is None or estimate.value is None:
        word = "missing" if interval else "m"
        text = "·" if estimate is None else word
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


def _handle(one: Series | Cloud, line: bool = False) -> Line2D:
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


def _save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file."""
    # savefig would draw everything once, without ink, for the layout alone.
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(path, metadata={"Software": None})
    return path
