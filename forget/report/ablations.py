"""The section on one factor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from forget.analyses.ablations import LEAST, Comparison, Pattern, comparisons, patterns
from forget.analyses.study import Study
from forget.report import figures
from forget.report.figures import BLUE, VERMILION, Series
from forget.report.section import Entry, Picture, Section, Table

TEXT = f"""\
What a setting changes by itself: the difference between cells that are equal in everything else, averaged over the tasks \
that both values have. Intervals and p are of items and seeds; p is corrected for the pairs of values of the setting (Holm). \
Cohen's h is the effect size of accuracies: 0.2 is small, 0.8 large. Forgetting by flipped labels has a forget ratio of its \
own, which is compared with itself alone; between flipped and other labels, compare the accuracies. The rank correlation \
says whether the same tasks are forgotten most with both values; it needs {LEAST} tasks, and the noise of each task's ratio \
pulls it, and its interval further, towards 0. More examples at the same number of epochs also means more steps."""

PANELS = {
    "accuracy after forgetting": {
        "trained examples": "accuracy after forgetting, trained examples",
        "held-out examples": "accuracy after forgetting, held-out examples",
    },
    "forget ratio": {
        "trained examples": "forget ratio, trained examples",
        "held-out examples": "forget ratio, held-out examples",
    },
    "flipped forget ratio": {
        "trained examples": "flipped forget ratio, trained examples",
        "held-out examples": "flipped forget ratio, held-out examples",
    },
    "probe skill kept": {"held-out examples": "probe skill kept"},
}
"""Measures by panel and by split."""

LOOKS = {"trained examples": (BLUE, "s"), "held-out examples": (VERMILION, "o")}


def section(study: Study, folder: Path) -> Section | None:
    """None where nothing but task, model and seed varies, or no two cells are equal but for one setting."""
    found = comparisons(study)
    if not found:
        return None
    by_factor = {
        factor: list(group)
        for factor, group in groupby(found, key=lambda comparison: comparison.factor)
    }
    pictures = [
        _picture(factor, some, folder / f"ablation-{i}.png")
        for i, (factor, some) in enumerate(by_factor.items(), 1)
    ]
    tables = [
        Table("ablations", [_row(c) for c in found]),
        Table("patterns", [_pattern_row(p) for p in patterns(study)]),
    ]
    return Section("ablations", "One factor at a time", TEXT, pictures, tables)


def _picture(factor: str, found: Sequence[Comparison], path: Path) -> Picture:
    twos = list(dict.fromkeys((c.first, c.other) for c in found))
    at = {(c.measure, c.first, c.other): c.difference for c in found}
    panels = {
        panel: [
            Series(
                split,
                LOOKS[split][0],
                [at.get((measure, *two)) for two in twos],
                marker=LOOKS[split][1],
            )
            for split, measure in by_split.items()
        ]
        for panel, by_split in PANELS.items()
        if any(c.measure in by_split.values() for c in found)
    }
    # Without spaces, so that the longest names of labels fit.
    names = [f"{first}→{other}" for first, other in twos]
    figures.dots(path, names, panels, "difference", limits=(-1, 1), lines={"no difference": 0.0})
    return Picture(path, factor, "The second value less the first.")


def _row(c: Comparison) -> dict[str, Entry]:
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


def _pattern_row(p: Pattern) -> dict[str, Entry]:
    return {
        "setting": p.factor,
        "first": p.first,
        "other": p.other,
        "rank correlation of the tasks' held-out forget ratios": p.rho,
        "tasks": p.rho.n,
    }
