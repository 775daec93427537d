"""Groups, colours and series that several sections of the report draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from forget.analyses.study import Cell, Condition, Study
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.section import Datum, Picture
from forget.results.estimates import Estimate
from forget.settings.parts import Position

ARM_COLOURS = {
    "learned": PHASE_COLOURS["learned"],
    "forgotten": figures.VERMILION,
    "never": figures.GREY,
    "scrambled": figures.INK,
    "again": figures.BLUE,
}
"""Colours of the arms of audits that are drawn."""

ARM_NAMES = {
    "never": "never taught",
    "scrambled": "forgot without learning",
    "again": "learned again",
}
"""Words for arms, where their name is none."""

SHOWN = 4
"""Settings that are drawn, and rates of each; the tables have all."""


class Group:
    """The cells of one setting, as a grid of tasks and rates."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.setting = cells[0].setting
        self.tasks = list(dict.fromkeys(cell.task for cell in cells))
        self.rates = sorted({cell.rate for cell in cells})
        self.at = {(cell.task, cell.rate): cell for cell in cells}
        self.of = {cell.task: cell for cell in reversed(cells)}
        """A cell of each task, for what comes before forgetting, which is the same at each rate."""
        n = len(self.rates)
        self.looks = list(zip(self.rates, figures.ramp(n), figures.markers(n), strict=True))
        """(rate, colour, marker) of each rate."""

    def splits(self, measure: str) -> list[str]:
        """List the splits on which the measure was taken after forgetting."""
        taken = []
        for split in SPLIT_WORDS:
            if any(cell.get("forgotten", split, measure) for cell in self.cells):
                taken.append(split)
        return taken

    def before(self, split: str, measure: str) -> list[Series]:
        """Return the series of the untouched and of the learned model, a mark for each task."""
        series = []
        for phase, label in (("base", "untouched"), ("learned", "after learning")):
            values = [self.of[task].get(phase, split, measure) for task in self.tasks]
            colour = PHASE_COLOURS[phase]
            series.append(Series(label, colour, values, hollow=phase == "base"))
        return series

    def after(self, split: str, measure: str) -> list[Series]:
        """Return a series for each rate of forgetting, a mark for each task."""
        series = []
        for rate, colour, marker in self.looks:
            cells = [self.at.get((task, rate)) for task in self.tasks]
            values = [cell.get("forgotten", split, measure) if cell else None for cell in cells]
            series.append(Series(after_label(rate), colour, values, marker=marker))
        return series


def place(cell: Cell) -> dict[str, Datum]:
    """Return the columns that say which cell a row of a table is of."""
    return {"setting": cell.setting, "rate": rate_name(cell.rate), "task": cell.task}


def after_label(rate: float) -> str:
    return f"after forgetting, rate {rate_name(rate)}"


def groups(study: Study) -> list[Group]:
    """Group the cells by setting."""
    by_setting: dict[str, list[Cell]] = defaultdict(list)
    for cell in study.cells:
        by_setting[cell.setting].append(cell)
    return [Group(cells) for cells in by_setting.values()]


def setting_pictures(
    study: Study, folder: Path, name: str, draw: Callable[[Group, Path], Picture | None]
) -> list[Picture]:
    """Draw a figure of each setting that has one, as <name>-1.png, <name>-2.png, ..."""
    found = (draw(part, folder / f"{name}-{i}.png") for i, part in enumerate(groups(study), 1))
    return [picture for picture in found if picture]


def drawn_conditions(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    """Choose, by setting, the conditions that are drawn.

    They are those of the first settings, at rates that rise and are evenly spread over all.
    """
    by_setting: dict[str, list[Condition]] = defaultdict(list)
    for condition in conditions:
        by_setting[condition.setting].append(condition)
    chosen = {}
    for setting, found in list(by_setting.items())[:SHOWN]:
        ordered = sorted(found, key=lambda condition: condition.rate)
        picked = np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(int)
        chosen[setting] = [ordered[i] for i in picked]
    return chosen


def rate_series(
    conditions: Sequence[Condition], values: Sequence[Sequence[Estimate | None]]
) -> list[Series]:
    """Return a series for each condition of one setting, named and coloured by its rate."""
    n = len(conditions)
    looks = zip(conditions, figures.ramp(n), figures.markers(n), values, strict=True)
    series = []
    for condition, colour, marker, found in looks:
        series.append(Series(f"rate {rate_name(condition.rate)}", colour, found, marker=marker))
    return series


def layers(
    cell: Cell, phase: str, label: str, colour: str, position: Position | None = None
) -> Series:
    """Return probe accuracy by layer as a line."""
    found = cell.probes(phase, position)
    return Series(label, colour, list(found.values()), list(found), hollow=phase == "base")


def layer_figure(path: Path, panels: Mapping[str, Sequence[Series]], guess: float) -> Path:
    """Draw probe accuracy by layer, a panel for each task.

    Args:
        path: of the PNG file.
        panels: series by task.
        guess: accuracy of a guess.
    """
    axis = "layer (0: embedding)"
    limits = (guess - 0.15, 1.02)
    return figures.curves(
        path, panels, axis, "probe accuracy", guess=guess, limits=limits, whole=True
    )


def arm_line(arm: str, values: Sequence[Estimate], at: Sequence[float]) -> Series:
    """Return the line of an arm of audits; of "again", which learned as well, it is dashed."""
    label = ARM_NAMES.get(arm, arm)
    return Series(label, ARM_COLOURS[arm], values, at, hollow=arm == "again")
