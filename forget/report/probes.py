"""The section on what a linear probe still reads off the hidden states."""

from __future__ import annotations

from pathlib import Path

from forget.analyses.probes import Reading, readings
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.layout import Group, after_label, groups, layer_figure, layers
from forget.report.section import Datum, Picture, Section, Table
from forget.settings.parts import Position

WHERE: dict[Position, str] = {
    "first": "at the answer's first token",
    "last": "at the answer's last token",
    "mean": "at the mean over the answer's tokens",
}

TEXT = (
    "Accuracy of a linear probe that tells right from wrong (question, answer) pairs by the hidden "
    "state of each layer, fit on training examples and scored on held-out ones. Bands are 95 % "
    "intervals over questions; chance is 0.5. The control is fit on shuffled labels: what it reads "
    "is not in the states. The table takes the layer that reads best after learning; the best of "
    "many is flattered by chance before forgetting and not after, so what is lost errs on the high "
    "side."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where nothing was probed."""
    pictures = []
    for i, part in enumerate(groups(study), 1):
        for position in part.cells[0].trial.probe.positions:
            panels = {task: lines for task in part.tasks if (lines := _lines(part, task, position))}
            if panels:
                path = layer_figure(folder / f"probes-{i}-{position}.png", panels)
                pictures.append(Picture(path, f"{part.setting}, {WHERE[position]}"))
    if not pictures:
        return None
    rows = []
    for cell in study.cells:
        rows += [_row(reading) for reading in readings(cell)]
    tables = [Table("probes", rows)] if rows else []
    return Section("probes", "What a linear probe still reads", TEXT, pictures, tables)


def _row(reading: Reading) -> dict[str, Datum]:
    cell = reading.cell
    return {
        "setting": cell.setting,
        "rate": rate_name(cell.rate),
        "task": cell.task,
        "position": reading.position,
        "layer": reading.layer,
        "untouched": reading.base,
        "learned": reading.learned,
        "forgotten": reading.forgotten,
        "control": reading.control,
        "lost by the probe": reading.lost_share,
        "lost by the answers": cell.get("forgotten", "test", "forget_ratio"),
    }


def _lines(part: Group, task: str, position: Position) -> list[Series]:
    """Return a line for each phase, and for each rate of forgetting; none without probes."""
    own = part.of[task]
    lines = [
        layers(own, "base", "untouched", PHASE_COLOURS["base"], position),
        layers(own, "learned", "after learning", PHASE_COLOURS["learned"], position),
    ]
    for rate, colour, _ in part.looks:
        cell = part.at.get((task, rate))
        if cell:
            lines.append(layers(cell, "forgotten", after_label(rate), colour, position))
    if not any(line.values for line in lines):
        return []
    control = own.probes("learned", position, control=True)
    if control:
        values, at = list(control.values()), list(control)
        lines.append(Series("control", figures.INK, values, at, hollow=True))
    return lines
