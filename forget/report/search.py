"""The section on a search: settings and objectives of its trials, and the best trade-offs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from forget.analyses.headline import headline
from forget.report import figures
from forget.report.figures import Cloud
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate
from forget.results.measures import ratio_name
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep

TEXT = (
    "What the search tried. It weighs the forget ratio on the task, to be high, against the mean "
    "ratio over the other tasks, to be low. A trial is on the front where no other has more of the "
    "one without more of the other (Pareto)."
)

SHOWN = 4
"""Cells of which a figure is drawn; the table has all."""


def section(sweep: Sweep, outcomes: Sequence[Outcome], folder: Path) -> Section | None:
    """Return None for a sweep without a search, and where no trial has both objectives."""
    if sweep.search is None:
        return None
    cells: dict[tuple[str, ...], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if _objectives(outcome):
            axes = [key for key in sweep.axes if key not in ("task", "folders")]
            values = [str(attrgetter(key)(outcome.trial)) for key in axes]
            cells[outcome.trial.task, *values].append(outcome)
    if not cells:
        return None
    rows: list[dict[str, Datum]] = []
    pictures = []
    for number, (names, found) in enumerate(cells.items(), 1):
        front = pareto([pair for one in found if (pair := _objectives(one))])
        for outcome, best in zip(found, front, strict=True):
            here, elsewhere = _objectives(outcome) or (None, None)
            settings = {key: attrgetter(key)(outcome.trial) for key in sweep.search.settings}
            rows.append(
                {
                    "cell": ", ".join(names),
                    **settings,
                    "forget ratio": here,
                    "forget ratio elsewhere": elsewhere,
                    "front": "on it" if best else "",
                    "trial": outcome.id,
                }
            )
        if number <= SHOWN:
            path = _figure(found, front, folder / f"pareto-{number}.png")
            pictures.append(Picture(path, ", ".join(names)))
    return Section("search", "The search", TEXT, pictures, [Table("search", rows)])


def _objectives(outcome: Outcome) -> tuple[float, float] | None:
    """Return the forget ratio on the task and that elsewhere; None where one is missing."""
    numbers, ratio = headline(outcome), ratio_name(outcome.trial.arm)
    if ratio not in numbers or f"{ratio}_elsewhere" not in numbers:
        return None
    return numbers[ratio], numbers[f"{ratio}_elsewhere"]


def pareto(pairs: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell of each pair whether none other has a first that is as high and a second as low."""
    front = []
    for here, elsewhere in pairs:
        better = [
            (h, e) for h, e in pairs if h >= here and e <= elsewhere and (h, e) != (here, elsewhere)
        ]
        front.append(not better)
    return front


def _figure(found: Sequence[Outcome], front: Sequence[bool], path: Path) -> Path:
    sides: dict[bool, list[tuple[Estimate, Estimate]]] = {True: [], False: []}
    for outcome, best in zip(found, front, strict=True):
        if pair := _objectives(outcome):
            here, elsewhere = (Estimate(value, None, None, 1) for value in pair)
            sides[best].append((here, elsewhere))
    clouds = []
    looks = (("on the front", figures.VERMILION, True), ("other trials", figures.GREY, False))
    for label, colour, best in looks:
        if points := sides[best]:
            x, y = zip(*points, strict=True)
            clouds.append(Cloud(label, colour, "o", [""] * len(points), x, y))
    values = [elsewhere.numbers[0] for _, elsewhere in (*sides[True], *sides[False])]
    limits = min(-0.1, *values) - 0.05, max(1.05, *values) + 0.05
    panels = {"forget ratio on the task": clouds}
    return figures.scatter(path, panels, "forget ratio elsewhere", limits)
