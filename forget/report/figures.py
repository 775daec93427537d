"""Estimates drawn as PNG files in one style. Nothing here knows what a trial is; forget.report decides what is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

from forget.results.metrics import Estimate

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
    """Estimates that share a look. `at` are their places on the x axis, where the kind of figure needs any."""

    label: str
    colour: str
    values: Sequence[Estimate | None]
    at: Sequence[float] = ()
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
    """Colours of `n` ordered values, light to dark, so that the order survives any colour vision and a grey printer."""
    if n == 1:
        return [VERMILION]
    shades = LinearSegmentedColormap.from_list("rates", ["#f2a553", VERMILION, "#6e2500"])
    return [to_hex(shades(i / (n - 1))) for i in range(n)]


def markers(n: int) -> list[str]:
    """As many marks, told apart without colour."""
    return [MARKERS[i % len(MARKERS)] for i in range(n)]


def short(name: str, length: int = 26) -> str:
    """The name on one line, cut where it would push the figure aside."""
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
    """A row for each name, a panel for each split, a mark with its interval for each series.

    What lies beyond the limits becomes an arrow with its number, what is missing the word. `lines`
    are labelled vertical lines; `chance` is one value a row.
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
        guesses = [(y, guess) for y, guess in enumerate(chance) if guess is not None]
        if guesses:
            edges = [edge for y, _ in guesses for edge in (y - 0.5, y + 0.5)]
            axes.plot(
                np.repeat([guess for _, guess in guesses], 2),
                edges,
                "--",
                color=INK,
                linewidth=0.9,
                zorder=1,
            )
            _above(axes, "chance", guesses[0][1])
        for lane, one in enumerate(series):
            _marks(axes, one, 0.8 * ((lane + 0.5) / lanes - 0.5), limits)
    entries = {one.label: _handle(one) for series in panels.values() for one in series}
    figure.legend(
        handles=list(entries.values()),
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
    """Lines with their interval as a band. `whole`: the x axis counts things, so its ticks are whole numbers."""
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
            points = sorted(
                (x, e.numbers)
                for x, e in zip(one.at, one.values, strict=True)
                if e and e.value is not None
            )
            if not points:
                continue
            x, (value, low, high) = (
                [x for x, _ in points],
                zip(*(numbers for _, numbers in points), strict=True),
            )
            style = "--" if one.hollow else "-"
            mark = "o" if len(points) == 1 else ""
            axes.plot(
                x, value, style, marker=mark, color=one.colour, linewidth=1.5, label=one.label
            )
            axes.fill_between(x, low, high, color=one.colour, alpha=0.15, linewidth=0)
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
    entries = {one.label: _handle(one, line=True) for series in panels.values() for one in series}
    figure.legend(
        handles=list(entries.values()), loc="outside upper left", ncols=5, columnspacing=1.4
    )
    return _save(figure, path)


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
    """Heat maps with their numbers: 0 is white, 1 dark, none grey, and where row and column are the same a frame.

    Intervals are written where there is room.
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
        numbers = np.array(
            [
                [math.nan if e is None or e.value is None else e.value for e in row]
                for row in estimates
            ]
        )
        image = axes.imshow(numbers, cmap=colours, vmin=0, vmax=1, aspect="auto")
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
        for i, row in enumerate(estimates):
            for j, estimate in enumerate(row):
                _write(axes, i, j, estimate, interval=cell > 0.6)
                if rows[i] == columns[j]:
                    axes.add_patch(
                        Rectangle(
                            (j - 0.47, i - 0.47),
                            0.94,
                            0.94,
                            fill=False,
                            edgecolor=VERMILION,
                            linewidth=1.2,
                        )
                    )
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


@rc_context(STYLE)
def trees(path: Path, panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], axis: str) -> Path:
    """Dendrograms side by side: a linkage matrix and the names of its leaves in the order in which it puts them."""
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
    """A panel for each x axis. Every point has both intervals and its name."""
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
    entries = {cloud.label: _handle(cloud) for clouds in panels.values() for cloud in clouds}
    figure.legend(
        handles=list(entries.values()),
        loc="outside upper left",
        ncols=3,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    figure.draw_without_rendering()
    for axes, clouds in zip(grid, panels.values(), strict=True):
        _name(
            axes,
            [
                (short(n, 20), x, y)
                for c in clouds
                for n, x, y in zip(c.names, c.x, c.y, strict=True)
            ],
        )
    return _save(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    """
    Args:
        size: width and height in inches.
    """
    figure = Figure(figsize=size)
    # A figure without a canvas makes one whenever it is asked for the size of a text.
    FigureCanvasAgg(figure)
    return figure


def _name(axes: Axes, points: Sequence[tuple[str, Estimate, Estimate]]) -> None:
    """Write each name beside its uppermost point, on the side where it covers least of the points and of other names."""
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
    return box.width * box.height if box else 0.0


def _marks(axes: Axes, series: Series, lane: float, limits: tuple[float, float] | None) -> None:
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
    """How far the interval reaches below and above the value, [2, 1]."""
    value, low, high = estimate.numbers
    # A bound can miss its value by a rounding error, which matplotlib refuses.
    return np.array([[max(0.0, value - low)], [max(0.0, high - value)]])


def _above(axes: Axes, text: str, x: float) -> None:
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
    if estimate is None or estimate.value is None:
        text = "·" if estimate is None else "missing" if interval else "m"
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
    # savefig would draw everything once, without ink, for the layout alone.
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(path, metadata={"Software": None})
    return path
