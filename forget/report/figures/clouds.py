"""Clouds of named points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from forget.report.figures.style import (
    INK,
    STYLE,
    WIDTH,
    Cloud,
    blank,
    handle,
    reach,
    save,
    short,
)
from forget.results.estimates import Estimate


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
    figure = blank((WIDTH if len(panels) > 1 else WIDTH / 1.6, 4.4))
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
                xerr=np.concatenate([reach(x) for x in cloud.x], axis=1),
                yerr=np.concatenate([reach(y) for y in cloud.y], axis=1),
                color=cloud.colour,
                linestyle="none",
                marker=cloud.marker,
                markersize=6,
                markeredgecolor="white",
                elinewidth=0.8,
                alpha=0.85,
            )
    grid[0].set_ylabel(y_axis)
    handles = {cloud.label: handle(cloud) for cloud in chain.from_iterable(panels.values())}
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
    return save(figure, path)


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
