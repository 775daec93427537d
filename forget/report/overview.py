"""Before and after, by task: accuracy, what forgetting took, and whether the model still answers at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from forget.analyses.study import NAMES, Cell, Study, rate_name
from forget.metrics import DEFINED_ABOVE_CHANCE
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.findings import COLLAPSE, collapsed
from forget.report.section import Picture, Section, show


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
        self.looks = list(zip(self.rates, figures.ramp(len(self.rates)), figures.markers(len(self.rates)), strict=True))

    def splits(self, measure: str) -> list[str]:
        """Where the measure was taken after forgetting."""
        return [split for split in NAMES if any(cell.get("forgotten", split, measure) for cell in self.cells)]

    def before(self, split: str, measure: str) -> list[Series]:
        """A mark for each task: untouched, and after learning."""
        named = (("base", "untouched"), ("learned", "after learning"))
        return [
            Series(
                label, PHASE_COLOURS[phase], [self.of[t].get(phase, split, measure) for t in self.tasks], hollow=phase == "base"
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
    return [Group([cell for cell in study.cells if cell.setting == setting]) for setting in settings]


def drawn(study: Study, folder: Path, name: str, draw: Callable[[Group, Path], Picture | None]) -> list[Picture]:
    """A figure for each setting that has one."""
    found = (draw(part, folder / f"{name}-{i}.png") for i, part in enumerate(groups(study), 1))
    return [picture for picture in found if picture]


def accuracy(study: Study, folder: Path) -> Section | None:
    text = (
        "Share of examples whose true option scores highest: untouched, after learning the task, and after forgetting it. "
        "Trained examples are those that forgetting was run on. Bars are 95 % intervals; the dashed line is chance."
    )
    pictures = drawn(study, folder, "accuracy", _accuracy)
    return Section("accuracy", "Accuracy before and after", text, pictures) if pictures else None


def ratio(study: Study, folder: Path) -> Section | None:
    text = (
        "The share of the learned skill that forgetting took, (a_ft - a_fg) / (a_ft - chance): 0 is untouched, 1 is at chance. "
        f"It is missing, and says so, where learning brought the task less than {DEFINED_ABOVE_CHANCE} above chance. An arrow "
        "gives a value beyond the axis. (For flipped labels the denominator is 2 a_ft - 1: 0.5 is at chance, 1 reversed.)"
    )
    pictures = drawn(study, folder, "ratio", _ratio)
    return Section("ratio", "Forget ratio", text, pictures) if pictures else None


def mass(study: Study, folder: Path) -> Section | None:
    text = (
        "Total probability of the options, and the entropy of their shares over its maximum. A model that lost a task still "
        "answers with one of the options, without preference (entropy near 1) or with a wrong one; one that is broken says "
        "something else, and its accuracy means little. "
    )
    collapses = [
        f"{cell.task}, {cell.setting}, rate {rate_name(cell.rate)} ({show(before, '.2g')} after learning, {show(after, '.2g')} "
        "after forgetting)"
        for cell, before, after in collapsed(study.cells)
    ]
    below = f"below {round(100 * COLLAPSE)} % of its value after learning"
    text += f"It fell {below} on: {'; '.join(collapses)}." if collapses else f"Nowhere did it fall {below}."
    pictures = drawn(study, folder, "mass", _mass) + drawn(study, folder, "entropy", _entropy)
    return Section("mass", "Option mass and entropy: at chance, or broken?", text, pictures) if pictures else None


def _accuracy(part: Group, path: Path) -> Picture | None:
    splits = part.splits("accuracy")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "accuracy") + part.after(s, "accuracy") for s in splits}
    guesses = [part.of[task].chance(splits[-1]) for task in part.tasks]
    return Picture(figures.dots(path, part.tasks, panels, "accuracy", chance=guesses), part.setting)


def _ratio(part: Group, path: Path) -> Picture | None:
    cell = part.cells[0]
    splits = part.splits(cell.ratio)
    if not splits:
        return None
    lines = {"untouched": 0.0, "at chance": 0.5, "reversed": 1.0} if cell.flipped else {"untouched": 0.0, "at chance": 1.0}
    panels = {NAMES[s]: part.after(s, cell.ratio) for s in splits}
    axis = cell.ratio.replace("_", " ")
    return Picture(figures.dots(path, part.tasks, panels, axis, limits=(-0.5, 1.5), lines=lines), part.setting)


def _mass(part: Group, path: Path) -> Picture | None:
    splits = part.splits("option_mass")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "option_mass") + part.after(s, "option_mass") for s in splits}
    # Down to a power of ten below the lowest mass that is not 0.
    masses = [e.value for marks in panels.values() for one in marks for e in one.values if e and e.value]
    limits = min([0.1, *(10.0 ** math.floor(math.log10(mass)) for mass in masses)]), max([1.0, *masses])
    return Picture(figures.dots(path, part.tasks, panels, "option mass (probability)", limits=limits, log=True), part.setting)


def _entropy(part: Group, path: Path) -> Picture | None:
    splits = part.splits("entropy")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "entropy") + part.after(s, "entropy") for s in splits}
    axis = "entropy of the options' shares"
    return Picture(figures.dots(path, part.tasks, panels, axis, lines={"no preference": 1.0}), part.setting)
