"""The section on templates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Study
from forget.analyses.templates import Carry, carries
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "Share of the held-out skill lost on the same items in several wordings, forgotten under one "
    "of them (framed). Each is of what the learned model knew in that very wording, which the "
    "table has beside it: where learning did not carry to a wording there is no skill to lose, and "
    "the entry is missing. The carry is the mean off the frames over the mean within them: 1 where "
    "forgetting reaches the skill in every wording, 0 where it reaches the prompt alone. The "
    "asymmetry of two wordings is what carries from the first to the second, less what carries "
    "back, on the same items."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no task was asked in a second template."""
    found = carries(study)
    if not found:
        return None
    pictures, rows = [], list[dict[str, Datum]]()
    values, back = list[dict[str, Datum]](), list[dict[str, Datum]]()
    for i, one in enumerate(found, 1):
        whole: dict[str, Datum] = {"carry": _shown(one.carry, one), "items": one.n}
        rows.append(_named(one) | whole)
        values += _values(one)
        for (first, second), draws in one.asymmetries.items():
            pair: dict[str, Datum] = {
                "first": first,
                "second": second,
                "asymmetry": _shown(draws, one),
            }
            back.append(_named(one) | pair)
        if i <= SHOWN:
            pictures.append(_picture(one, folder / f"templates-{i}.png"))
    tables = [Table("carry", rows), Table("carry_values", values), Table("carry_back", back)]
    tables = [table for table in tables if table.rows]
    return Section("templates", "Wordings that forgetting reaches", TEXT, pictures, tables)


def _named(one: Carry) -> dict[str, Datum]:
    setting = f"{one.model}, {one.setting}"
    return {"setting": setting, "rate": rate_name(one.rate), "task": one.task}


def _shown(draws: Draws, one: Carry) -> Estimate:
    return estimate(draws, one.n)


def _picture(one: Carry, path: Path) -> Picture:
    shown: list[list[Estimate | None]] = []
    for row in one.lost:
        shown.append([_shown(draws, one) if np.isfinite(draws[0]) else None for draws in row])
    panels = {one.task: shown}
    axes = ("asked in", "forgotten under", "share of the skill lost")
    figures.matrices(path, panels, one.forgotten, one.measured, *axes)
    return Picture(path, f"{one.task}, rate {rate_name(one.rate)}, {one.setting}, {one.model}")


def _values(one: Carry) -> list[dict[str, Datum]]:
    rows = []
    for i, forgotten in enumerate(one.forgotten):
        for j, measured in enumerate(one.measured):
            learned = one.learned[i, j]
            if np.isfinite(learned[0]):
                numbers: dict[str, Datum] = {
                    "forgotten under": forgotten,
                    "asked in": measured,
                    "accuracy after learning": _shown(learned, one),
                    "lost": _shown(one.lost[i, j], one),
                }
                rows.append(_named(one) | numbers)
    return rows
