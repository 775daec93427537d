"""Groups, colours and series that several sections of the report draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forget.analyses.study import Cell, Study
from forget.analyses.words import NAMES, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.section import Picture
from forget.results.metrics import Estimate


class Group:
    """The cells of one setting, as a grid of tasks and rates."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.setting = cells[0].setting
        self.tasks = list(dict.fromkeys(cell.task for cell in cells))
        self.rates = sorted({cell.rate for cell in cells})
        self.at = {(cell.task, cell.rate): cell for cell in cells}
        self.of = {cell.task: cell for cell in reversed(cells)}
        """A cell of each task, for what comes before forgetting and is the same at each rate."""
        self.looks = list(
            zip(
                self.rates,
                figures.ramp(len(self.rates)),
                figures.markers(len(self.rates)),
                strict=True,
            )
        )

    def splits(self, measure: str) -> list[str]:
        """Where the measure was taken after forgetting."""
        return [
            split
            for split in NAMES
            if any(cell.get("forgotten", split, measure) for cell in self.cells)
        ]

    def before(self, split: str, measure: str) -> list[Series]:
        """A mark for each task: untouched, and after learning."""
        named = (("base", "untouched"), ("learned", "after learning"))
        return [
            Series(
                label,
                PHASE_COLOURS[phase],
                [self.of[t].get(phase, split, measure) for t in self.tasks],
                hollow=phase == "base",
            )
            for phase, label in named
        ]

    def after(self, split: str, measure: str) -> list[Series]:
        """A mark for each task and rate."""
        return [
            Series(
                after_label(rate),
                colour,
                [c.get("forgotten", split, measure) if c else None for c in self.column(rate)],
                marker=marker,
            )
            for rate, colour, marker in self.looks
        ]

    def column(self, rate: float) -> list[Cell | None]:
        return [self.at.get((task, rate)) for task in self.tasks]


def after_label(rate: float) -> str:
    return f"after forgetting, rate {rate_name(rate)}"


def groups(study: Study) -> list[Group]:
    """By setting."""
    settings = dict.fromkeys(cell.setting for cell in study.cells)
    return [
        Group([cell for cell in study.cells if cell.setting == setting]) for setting in settings
    ]


def drawn(
    study: Study, folder: Path, name: str, draw: Callable[[Group, Path], Picture | None]
) -> list[Picture]:
    """A figure for each setting that has one."""
    found = (draw(part, folder / f"{name}-{i}.png") for i, part in enumerate(groups(study), 1))
    return [picture for picture in found if picture]


SHOWN = 4
"""Settings that are drawn, and rates of each; the tables have all."""

Condition = tuple[str, float]


def series(
    places: Sequence[Condition], values: Sequence[Sequence[Estimate | None]]
) -> list[Series]:
    """A look for each rate."""
    n = len(places)
    looks = zip(places, figures.ramp(n), figures.markers(n), values, strict=True)
    return [
        Series(f"rate {rate_name(rate)}", colour, found, marker=marker)
        for (_, rate), colour, marker, found in looks
    ]
