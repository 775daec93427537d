"""The section on audits: does what was forgotten come back?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from forget.analyses.depth import Depth, depths
from forget.analyses.knowing import Knowing, known
from forget.analyses.membership import membership
from forget.analyses.recovery import (
    FORMATS,
    OTHERWISE,
    WORST,
    Recovery,
    by_group,
    labels,
    least,
    missing,
    most_undone,
    recoveries,
    strongest,
)
from forget.analyses.resampling import estimate
from forget.analyses.study import Cell, Study
from forget.analyses.text import reading
from forget.analyses.words import rate_name
from forget.report import figures, inside
from forget.report.figures import Series
from forget.report.layout import ARM_COLOURS, ARM_NAMES, arm_line, place
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "Audits, and how much they bring back. R is the accuracy of the forgotten model under an "
    "audit, between that of one never taught (0) and that of the learned one (1) under the same "
    "audit: near 1 the skill was only hidden, near 0 it is gone or has to be taught anew. R is "
    "missing where the "
    "learned model is hardly above the one never taught, as of a skill from pretraining. The share "
    "of the loss undone needs no such model: the accuracy that the dose wins over that which "
    "forgetting took; how much of it training or the prompt bring by themselves, the controls "
    "tell. Where doses differ in the rate of "
    "relearning, each model is read at the rate that is best for it on validation examples. "
    "Relearning from another task, shots with random labels and noise as large as an error of "
    "rounding are controls: what they bring back was no skill. Of several formats a guesser gets "
    "some right, so right in any or in all of them is read against the model never taught, too. "
    "K is the fall of the stated confidence in the own answer over the fall of accuracy: 1 where "
    "a model knows that it forgot, 0 where it is as sure as before; a calibration error is the "
    "distance of that confidence from the share of right answers. n½ is the least number of "
    "examples at which R is half or more. The depth of return is the first layer whose states, "
    "read by the final norm and a head, give half of the learned model's skill. Where some facts "
    "are relearned and others are asked, R is of facts that nobody taught anew."
)

SHOWN = 6
"""Panels of a figure; the table has all."""


def section(study: Study, folder: Path) -> Section | None:
    """Return None where nothing was audited."""
    cells = [cell for cell in study.cells if labels(cell)]
    if not cells:
        return None
    names = list(dict.fromkeys(chain.from_iterable(map(labels, cells))))
    tables = [_overview(cells, names)]
    rows: list[dict[str, Datum]] = []
    for cell in cells:
        rows += [_row(cell, one) for one in recoveries(cell)]
    if rows:
        tables.append(Table("audits", rows))
    tables += _further(cells) + inside.tables(cells)
    pictures = inside.pictures(cells, folder)
    for number, name in enumerate(names, 1):
        if picture := _figure(cells, name, folder / f"audits-{number}.png"):
            pictures.append(picture)
    text = f"{TEXT} {inside.text(cells)}".strip()
    if lacking := missing(study):
        text += f" Missing: {'; '.join(lacking)}."
    return Section("audits", "Does it come back?", text, pictures, tables)


def _further(cells: Sequence[Cell]) -> list[Table]:
    """Make the tables of audits that ask something beside R; none of what was not asked."""
    rows: dict[str, list[dict[str, Datum]]] = {
        "knowing": [],
        "calibration": [],
        "depth": [],
        "membership": [],
        "text": [],
    }
    for cell in cells:
        for found in known(cell):
            rows["knowing"].append(_known(cell, found))
            rows["calibration"] += _calibration(cell, found)
        rows["depth"] += [_depth(cell, one) for one in depths(cell)]
        for name, row in (("membership", _members(cell)), ("text", _text(cell))):
            rows[name] += [row] if row else []
    return [Table(name, some) for name, some in rows.items() if some]


def _overview(cells: Sequence[Cell], names: Sequence[str]) -> Table:
    """Make a table of R by cell and audit, at the dose that brings back most."""
    rows = []
    for cell in cells:
        row = place(cell)
        found, undone = strongest(cell), most_undone(cell)
        for name in names:
            if name.partition(",")[0] not in OTHERWISE:
                row[f"R, {name}"] = found[name].number if name in found else None
                row[f"loss undone, {name}"] = _undone(undone[name]) if name in undone else None
        rows.append(row | _extremes(cell, names))
    return Table("recovery", rows)


def _extremes(cell: Cell, names: Sequence[str]) -> dict[str, Datum]:
    """Return the least examples that bring half back, and R in the worst of several formats."""
    row: dict[str, Datum] = {}
    every = recoveries(cell)
    for name in names:
        if name.partition(",")[0] == "relearn":
            halves = least(every, name)
            told = [f"{group} {_told(half)}" for group, half in halves.items()]
            row[f"n½, {name}"] = ", ".join(told) or None
        if name.partition(",")[0] == FORMATS:
            worst = [one for one in every if (one.audit, one.dose.name) == (name, WORST)]
            row[f"R, {WORST}, {name}"] = worst[0].number if worst else None
    return row


def _told(half: float | None) -> str:
    return "never" if half is None else f"{half:g}"


def _row(cell: Cell, one: Recovery) -> dict[str, Datum]:
    halves = least(recoveries(cell), one.audit)
    half = halves.get(one.dose.group)
    return {
        **place(cell),
        "audit": one.audit,
        "dose": one.dose.name,
        "control": "yes" if one.dose.control else "",
        "forgotten": one.accuracy["forgotten"],
        "learned": one.accuracy["learned"],
        "never taught": one.accuracy["never"],
        "R": one.number,
        "R less what training leaves": _besides(one),
        "loss undone": _undone(one),
        "half back at": half,
    }


def _besides(one: Recovery) -> Estimate | None:
    return None if one.besides is None else estimate(one.besides, one.n)


def _undone(one: Recovery) -> Estimate | None:
    return None if one.undone is None else estimate(one.undone, one.n)


def _known(cell: Cell, found: Knowing) -> dict[str, Datum]:
    return {
        **place(cell),
        "audit": found.label,
        "K, stated confidence": estimate(found.stated, found.n),
        "K, share of its answer": estimate(found.shown, found.n),
        "tells right from wrong, learned": found.tells["learned"],
        "tells right from wrong, forgotten": found.tells["forgotten"],
        "prefers the truth, learned": found.prefers["learned"],
        "prefers the truth, forgotten": found.prefers["forgotten"],
        "prefers the truth, never taught": found.prefers["never"],
    }


def _calibration(cell: Cell, found: Knowing) -> list[dict[str, Datum]]:
    """Return a row for each arm: how well its stated confidence fits its answers."""
    rows = []
    for arm, one in found.calibration.items():
        row: dict[str, Datum] = {
            **place(cell),
            "audit": found.label,
            "model": ARM_NAMES.get(arm, arm),
            "right": one.right,
            "stated confidence": one.stated,
            "Brier score": one.brier,
            "calibration error": one.by_width,
            "calibration error by mass": one.by_mass,
        }
        rows.append(row)
    return rows


def _depth(cell: Cell, found: Depth) -> dict[str, Datum]:
    arms = ("forgotten", "learned", "never")
    first = {f"first layer, {ARM_NAMES.get(arm, arm)}": found.first.get(arm) for arm in arms}
    most = found.most
    return {
        **place(cell),
        "audit": found.audit,
        "read by": found.decoder,
        **first,
        "most R": most.number if most else None,
        "at layer": round(most.dose.at) if most else None,
    }


def _text(cell: Cell) -> dict[str, Datum] | None:
    found = reading(cell)
    if found is None:
        return None
    told = {f"bits a byte, {ARM_NAMES.get(arm, arm)}": number for arm, number in found.bits.items()}
    return {**place(cell), **told, "more bits a byte after forgetting": found.more}


def _members(cell: Cell) -> dict[str, Datum] | None:
    found = membership(cell)
    if found is None:
        return None
    told = {f"members told, {ARM_NAMES.get(arm, arm)}": area for arm, area in found.areas.items()}
    return {**place(cell), **told, "leak in percent": found.leak}


def _figure(cells: Sequence[Cell], label: str, path: Path) -> Picture | None:
    """Draw an audit: lines over its numbers where it has any, else a mark for each dose."""
    panels: dict[str, list[Series]] = {}
    for cell in cells:
        found = recoveries(cell)
        for group, some in by_group(found, label):
            if len(some) > 1 and len(panels) < SHOWN:
                title = f"{group}, {cell.task} {cell.setting} {rate_name(cell.rate)}"
                panels[title] = _lines(some)
    if panels:
        axis = _axis(cells, label)
        figures.curves(path, panels, axis, "accuracy held out", limits=(0, 1))
        return Picture(path, label)
    return _marks(cells, label, path)


def _axis(cells: Sequence[Cell], label: str) -> str:
    """Return the name of the number of an audit's doses."""
    for cell in cells:
        for one in recoveries(cell):
            if one.audit == label and one.dose.numbers:
                return next(iter(one.dose.numbers))
    return "dose"


def _lines(some: Sequence[Recovery]) -> list[Series]:
    """Return a line for each arm."""
    lines = []
    for arm in ARM_COLOURS:
        there = [one for one in some if arm in one.accuracy]
        if there:
            values = [one.accuracy[arm] for one in there]
            at = [one.dose.at for one in there]
            lines.append(arm_line(arm, values, at))
    return lines


def _marks(cells: Sequence[Cell], label: str, path: Path) -> Picture | None:
    """Draw R at each dose, a panel for each cell."""
    panels: dict[str, list[Series]] = {}
    doses: dict[str, None] = {}
    chosen = [cell for cell in cells if list(by_group(recoveries(cell), label))][:3]
    for cell in chosen:
        doses |= {one.dose.name: None for one in recoveries(cell) if one.audit == label}
    for cell in chosen:
        numbers = {one.dose.name: one.number for one in recoveries(cell) if one.audit == label}
        values = [numbers.get(dose) for dose in doses]
        title = f"{cell.task} {cell.setting} {rate_name(cell.rate)}"
        panels[title] = [Series("R", figures.VERMILION, values)]
    if not panels:
        return None
    lines = {"never taught": 0.0, "learned": 1.0}
    figures.dots(path, list(doses), panels, "R", limits=(-0.5, 1.5), lines=lines)
    return Picture(path, label)
