"""The difference between two studies, drawn and written.

Each headline measure has a forest plot, and every number stands in a CSV file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from forget.analyses.compare import MEAN, Comparison, Line
from forget.analyses.words import SPLIT_WORDS
from forget.report import figures
from forget.report.figures import Series
from forget.report.section import Datum, Table
from forget.results.measures import named
from forget.settings.identity import digest

LONGEST = 80
"""Letters of an experiment's name in that of a folder."""


def write(found: Comparison, a: str, b: str, folder: Path) -> list[Path]:
    """Write a figure of each headline measure, and tables of every number.

    Args:
        found: the comparison.
        a: name of the first study.
        b: name of the second study.
        folder: for the files, which replace those of an earlier comparison.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for measure in dict.fromkeys(line.measure for line in found.lines if line.headline):
        shown = []
        for line in (*found.lines, *found.means):
            if line.headline and line.measure == measure:
                shown.append(line)
        if any(line.difference for line in shown):
            paths.append(_forest(folder / f"{measure}.png", shown, a, b))
    settings: list[dict[str, Datum]] = [{"setting": "experiment", "A": a, "B": b}]
    for name, (ours, theirs) in found.settings.items():
        settings.append({"setting": name, "A": ours, "B": theirs})
    unmatched: list[dict[str, Datum]] = []
    for cell in found.unmatched:
        unmatched.append({"only in": cell.study, "task": cell.task, "setting": cell.at})
    for table in (
        Table("settings", settings),
        Table("differences", [_row(line) for line in (*found.lines, *found.means)]),
        Table("unmatched", unmatched),
    ):
        if table.rows:
            paths.append(table.write(folder))
        else:
            # A comparison that was written here before may have had some.
            (folder / f"{table.name}.csv").unlink(missing_ok=True)
    return paths


def folder_name(a: str, b: str) -> str:
    """Name the folder of a comparison: <a>-against-<b>.

    A server allows any name; one that a path does not is told apart by its digest.
    """
    return f"{_safe(a)}-against-{_safe(b)}"


def _safe(name: str) -> str:
    """Make a name that any path allows; a name that has to change gets a digest of its own."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip(".-")[:LONGEST]
    return safe if safe == name else f"{safe}-{digest(name)[:6]}".lstrip("-")


def _forest(path: Path, lines: Sequence[Line], a: str, b: str) -> Path:
    """Draw the differences of one measure, a row for each task and a panel for each split."""
    tasks = list(dict.fromkeys(line.task for line in lines if line.task != MEAN))
    if any(line.task == MEAN for line in lines):
        tasks.append(MEAN)
    settings = list(dict.fromkeys(line.at for line in lines))
    colours, markers = figures.ramp(len(settings)), figures.markers(len(settings))
    at = {(line.at, line.split, line.task): line.difference for line in lines}
    panels: dict[str, list[Series]] = {}
    for split, title in SPLIT_WORDS.items():
        if not any(line.split == split and line.difference for line in lines):
            continue
        panels[title] = []
        for setting, colour, marker in zip(settings, colours, markers, strict=True):
            values = [at.get((setting, split, task)) for task in tasks]
            series = Series(setting or "difference", colour, values, marker=marker)
            panels[title].append(series)
    measure = named(lines[0].measure)
    axis = f"{measure.title}\n{figures.short(b, 18)} less {figures.short(a, 18)}"
    # A ratio has no bounds, and one that is far out would hide the rest.
    limits = (-1.5, 1.5) if measure.change else None
    return figures.dots(path, tasks, panels, axis, limits=limits, lines={"no difference": 0.0})


def _row(line: Line) -> dict[str, Datum]:
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
