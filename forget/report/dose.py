"""The section on dose and response, which takes the rate and the steps out of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from forget.analyses.dose import DOSE, matched, paths
from forget.analyses.probes import readings
from forget.analyses.resampling import Draws, estimate
from forget.analyses.states import silent
from forget.analyses.study import Cell, Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Series
from forget.report.layout import Group, setting_pictures
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "What else is lost when so much of the skill on the trained examples is. The dose is the loss "
    "of discrimination on the trained examples whose drawn label was right, so that memory of "
    "wrong labels is no dose. Lines go along the looks on the way, a line for each rate; where the "
    "lines of two rates lie on each other, the rate is no matter. Marks at their ends are other "
    "tasks (mean over those mastered) and linear probes, which are read at the end alone. The "
    f"table reads the held-out loss at a dose of {DOSE:g}, by interpolation between two looks, "
    "less what true labels took by the same step where that arm was run; a dash is where no look "
    "reaches that dose."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no trial was looked at while it forgot."""
    rows = [row for cell in study.cells if (row := _row(cell))]
    if not rows:
        return None
    pictures = setting_pictures(study, folder, "dose", _figure)
    return Section("dose", "Dose and response", TEXT, pictures, [Table("dose", rows)])


def _row(cell: Cell) -> dict[str, Datum] | None:
    trained, held_out = paths(cell, "train"), paths(cell, "test")
    if not held_out:
        return None
    at_dose = matched(cell)
    doses = [float(path.lost[-1, 0]) for path in trained.values()]
    return {
        "setting": cell.setting,
        "rate": rate_name(cell.rate),
        "task": cell.task,
        "dose at the end": float(np.mean(doses)) if doses else None,
        f"step of dose {DOSE:g}": at_dose.step if at_dose else None,
        f"held out at dose {DOSE:g}": at_dose.number if at_dose else None,
        "held out at the end": _end(cell.lost("test"), cell),
        "other tasks at the end": _end(_others(cell), cell),
        "probes at the end": _end(_probed(cell), cell),
    }


def _end(draws: Draws | None, cell: Cell) -> Estimate | None:
    return None if draws is None else estimate(draws, cell.n("forgotten", "test"))


def _others(cell: Cell) -> Draws | None:
    """Return the mean share lost on the other tasks that the learned model masters."""
    taken = []
    for task in cell.trial.tasks[1:]:
        lost = cell.lost("test", task)
        sound = cell.masters(task) and not silent(cell, "test", task)
        if sound and lost is not None and np.isfinite(lost[0]):
            taken.append(lost)
    mean: Draws | None = np.mean(taken, axis=0) if taken else None
    return mean


def _probed(cell: Cell) -> Draws | None:
    found = readings(cell)
    return found[0].lost if found else None


def _figure(part: Group, path: Path) -> Picture | None:
    """Draw a panel for each task, with a line for each rate."""
    panels = {}
    for task in part.tasks:
        lines: list[Series] = []
        for rate, colour, _ in part.looks:
            cell = part.at.get((task, rate))
            if cell:
                lines += _lines(cell, f"held out, rate {rate_name(rate)}", colour)
        if lines:
            panels[task] = lines
    if not panels:
        return None
    axis = "skill lost on trained examples"
    figures.curves(path, panels, axis, "skill lost elsewhere", limits=(-0.5, 1.5))
    return Picture(path, part.setting)


def _lines(cell: Cell, label: str, colour: str) -> list[Series]:
    """Return the mean path over the replicates, and what was read at its end."""
    trained, held_out = paths(cell, "train"), paths(cell, "test")
    both = [(trained[name], held_out[name]) for name in trained if name in held_out]
    if not both:
        return []
    length = min(len(path.steps) for path in chain.from_iterable(both))
    x = np.mean([one.lost[:length] for one, _ in both], axis=0)[:, 0]
    y = np.mean([other.lost[:length] for _, other in both], axis=0)
    n = sum(other.n for _, other in both)
    there = np.isfinite(x) & np.isfinite(y[:, 0])
    values = [estimate(draws, n) for draws in y[there]]
    lines = [Series(label, colour, values, x[there].tolist())]
    ends: Sequence[tuple[str, str, Draws | None]] = (
        ("other tasks, at the end", figures.BLUE, _others(cell)),
        ("probes, at the end", figures.INK, _probed(cell)),
    )
    for name, shade, draws in ends:
        if draws is not None and np.isfinite(draws[0]) and np.isfinite(x[-1]):
            lines.append(Series(name, shade, [estimate(draws, 0)], [float(x[-1])]))
    return lines
