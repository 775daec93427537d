"""Before and after, by task: accuracy, what forgetting took, and whether the model still answers at all."""

from __future__ import annotations

import math
from pathlib import Path

from forget.analyses.study import Study
from forget.analyses.words import NAMES, rate_name
from forget.report import figures
from forget.report.findings import COLLAPSE, collapsed
from forget.report.layout import Group, drawn
from forget.report.section import Picture, Section, show
from forget.results.metrics import DEFINED_ABOVE_CHANCE


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
    text += (
        f"It fell {below} on: {'; '.join(collapses)}."
        if collapses
        else f"Nowhere did it fall {below}."
    )
    pictures = drawn(study, folder, "mass", _mass) + drawn(study, folder, "entropy", _entropy)
    return (
        Section("mass", "Option mass and entropy: at chance, or broken?", text, pictures)
        if pictures
        else None
    )


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
    lines = (
        {"untouched": 0.0, "at chance": 0.5, "reversed": 1.0}
        if cell.flipped
        else {"untouched": 0.0, "at chance": 1.0}
    )
    panels = {NAMES[s]: part.after(s, cell.ratio) for s in splits}
    axis = cell.ratio.replace("_", " ")
    return Picture(
        figures.dots(path, part.tasks, panels, axis, limits=(-0.5, 1.5), lines=lines), part.setting
    )


def _mass(part: Group, path: Path) -> Picture | None:
    splits = part.splits("option_mass")
    if not splits:
        return None
    panels = {
        NAMES[s]: part.before(s, "option_mass") + part.after(s, "option_mass") for s in splits
    }
    # Down to a power of ten below the lowest mass that is not 0.
    masses = [
        e.value for marks in panels.values() for one in marks for e in one.values if e and e.value
    ]
    limits = (
        min([0.1, *(10.0 ** math.floor(math.log10(mass)) for mass in masses)]),
        max([1.0, *masses]),
    )
    return Picture(
        figures.dots(
            path, part.tasks, panels, "option mass (probability)", limits=limits, log=True
        ),
        part.setting,
    )


def _entropy(part: Group, path: Path) -> Picture | None:
    splits = part.splits("entropy")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "entropy") + part.after(s, "entropy") for s in splits}
    axis = "entropy of the options' shares"
    return Picture(
        figures.dots(path, part.tasks, panels, axis, lines={"no preference": 1.0}), part.setting
    )
