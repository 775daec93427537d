"""The difference between two studies, drawn and written: a forest plot of each headline measure, and every number as CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from forget.analyses.compare import MEAN, Comparison, Line
from forget.analyses.words import NAMES
from forget.report import figures
from forget.report.figures import Series
from forget.report.section import Entry, Table
from forget.settings.identity import digest

LONGEST = 80
"""Letters of an experiment's name in that of a folder."""


def write(found: Comparison, a: str, b: str, folder: Path) -> list[Path]:
    """A figure of each headline measure and the tables of every number, in the folder.

    Args:
        a, b: what the two studies are called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for measure in dict.fromkeys(line.measure for line in found.lines if line.headline):
        of = [
            line
            for line in (*found.lines, *found.means)
            if line.headline and line.measure == measure
        ]
        if any(line.difference for line in of):
            paths.append(_forest(folder / f"{measure}.png", of, a, b))
    settings = {"experiment": (a, b), **found.settings}
    for table in (
        Table(
            "settings",
            [
                {"setting": name, "A": ours, "B": theirs}
                for name, (ours, theirs) in settings.items()
            ],
        ),
        Table("differences", [_row(line) for line in (*found.lines, *found.means)]),
        Table(
            "unmatched",
            [
                {"only in": one.study, "task": one.task, "setting": one.at}
                for one in found.unmatched
            ],
        ),
    ):
        if table.rows:
            paths.append(table.write(folder))
        else:
            # Of a comparison that was written here before.
            (folder / f"{table.name}.csv").unlink(missing_ok=True)
    return paths


def folder_name(a: str, b: str) -> str:
    """<a>-against-<b> as one folder. A server allows any name; one that a path does not is told apart by its digest."""
    return f"{_safe(a)}-against-{_safe(b)}"


def _safe(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip(".-")[:LONGEST]
    return safe if safe == name else f"{safe}-{digest(name)[:6]}".lstrip("-")


def _forest(path: Path, lines: Sequence[Line], a: str, b: str) -> Path:
    names = [
        *dict.fromkeys(line.task for line in lines if line.task != MEAN),
        *{line.task for line in lines} & {MEAN},
    ]
    settings = list(dict.fromkeys(line.at for line in lines))
    looks = list(
        zip(settings, figures.ramp(len(settings)), figures.markers(len(settings)), strict=True)
    )
    at = {(line.at, line.split, line.task): line.difference for line in lines}
    panels = {
        title: [
            Series(
                setting or "difference", c, [at.get((setting, split, n)) for n in names], marker=m
            )
            for setting, c, m in looks
        ]
        for split, title in NAMES.items()
        if any(line.split == split and line.difference for line in lines)
    }
    measure = lines[0].measure
    axis = f"{measure.replace('_', ' ')}\n{figures.short(b, 18)} less {figures.short(a, 18)}"
    # A ratio has no bounds, and one that is far out would hide the rest.
    limits = (-1.5, 1.5) if measure.endswith("ratio") else None
    return figures.dots(path, names, panels, axis, limits=limits, lines={"no difference": 0.0})


def _row(line: Line) -> dict[str, Entry]:
    return {
        "setting": line.at,
        "task": line.task,
        "measured on": line.measured,
        "phase": line.phase,
        "split": line.split,
        "measure": line.measure,
        "A": line.a,
        "B": line.b,
        "B - A": line.difference,
        "paired": "yes" if line.paired else "no",
        "A trials": line.seeds[0],
        "B trials": line.seeds[1],
        "p": line.p,
        "adjusted p": line.adjusted,
        "Cohen's h": line.effect,
    }
