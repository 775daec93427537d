"""The section on one factor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from forget.analyses.ablations import (
    FEWEST_TASKS,
    Contrast,
    Pattern,
    contrasts,
    effects,
    patterns,
)
from forget.analyses.study import Study
from forget.analyses.words import SPLIT_WORDS
from forget.report import figures
from forget.report.figures import BLUE, VERMILION, Series
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    "What a setting changes by itself: the difference between cells that are equal in everything "
    "else, averaged over the tasks that both values have. Intervals and p are of items and seeds; "
    "p is corrected for the pairs of values of the setting (Holm). Cohen's h is the effect size of "
    "accuracies: 0.2 is small, 0.8 large. Forgetting by flipped labels has a forget ratio of its "
    "own, which is compared with itself alone; between flipped and other labels, compare the "
    "accuracies. The rank correlation says whether the same tasks are forgotten most with both "
    f"values; it needs {FEWEST_TASKS} tasks, and the noise of each task's ratio pulls it, and its "
    "interval further, towards 0. More examples at the same number of epochs also means more steps."
)

LOOKS = {"train": (BLUE, "s"), "test": (VERMILION, "o")}
"""Colour and marker of each split."""


def section(study: Study, folder: Path) -> Section | None:
    """Return None where nothing but task, model and seed varies, or no two cells match."""
    found = contrasts(study)
    if not found:
        return None
    pictures = []
    for i, (factor, some) in enumerate(groupby(found, key=lambda contrast: contrast.factor), 1):
        pictures.append(_picture(factor, list(some), folder / f"ablation-{i}.png"))
    tables = [
        Table("ablations", [_row(contrast) for contrast in found]),
        Table("patterns", [_pattern_row(pattern) for pattern in patterns(study)]),
    ]
    return Section("ablations", "One factor at a time", TEXT, pictures, tables)


def _picture(factor: str, found: Sequence[Contrast], path: Path) -> Picture:
    """Draw the differences by one factor, a panel for each measure and a mark for each split."""
    pairs = list(dict.fromkeys((one.first, one.other) for one in found))
    at = {(one.measure, one.first, one.other): one.difference for one in found}
    taken = {one.measure for one in found}
    panels: dict[str, list[Series]] = {}
    for panel, group in groupby(effects(), key=lambda effect: effect.panel):
        series, shown = [], set()
        for effect in group:
            colour, marker = LOOKS[effect.split]
            values = [at.get((effect.name, *pair)) for pair in pairs]
            series.append(Series(SPLIT_WORDS[effect.split], colour, values, marker=marker))
            shown.add(effect.name)
        if shown & taken:
            panels[panel] = series
    # Without spaces, so that the longest names of labels fit.
    names = [f"{first}→{other}" for first, other in pairs]
    figures.dots(path, names, panels, "difference", limits=(-1, 1), lines={"no difference": 0.0})
    return Picture(path, factor, "The second value less the first.")


def _row(c: Contrast) -> dict[str, Datum]:
    return {
        "setting": c.factor,
        "first": c.first,
        "other": c.other,
        "measure": c.measure,
        "with first": c.values[0],
        "with other": c.values[1],
        "difference": c.difference,
        "p": c.p,
        "p (Holm)": c.adjusted,
        "Cohen's h": c.effect,
        "tasks": c.tasks,
    }


def _pattern_row(p: Pattern) -> dict[str, Datum]:
    return {
        "setting": p.factor,
        "first": p.first,
        "other": p.other,
        "rank correlation of the tasks' held-out forget ratios": p.rho,
        "tasks": p.rho.n,
    }
