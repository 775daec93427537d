"""The section on what a linear probe still reads off the hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forget.analyses import arms
from forget.analyses.probes import Reading, guess, lost, readings
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.layout import Group, after_label, groups, layer_figure, layers
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate
from forget.settings.parts import Position

WHERE: dict[Position, str] = {
    "first": "at the answer's first token",
    "last": "at the answer's last token",
    "mean": "at the mean over the answer's tokens",
}

TEXT = (
    "A linear probe is fit to tell right from wrong (question, answer) pairs by the hidden state "
    "of a layer. Its accuracy is the share of questions of which it prefers the true option to the "
    "others, which is how answers are judged, too. It is asked questions that it was not fit on "
    "and that no stage trained on: {how}. Bands are 95 % intervals over questions and fits. The "
    "control is fit on shuffled labels: what it reads is not in the states. The table has the mean "
    "over the middle half of the layers, the same in each phase, and the answers to the same "
    "questions. Pairs are the (question, answer) pairs one by one, called right or wrong: a "
    "threshold that has moved is a loss there, though the order of the options may be kept."
)

HOW = {
    "held_out": "held-out questions in five folds, each asked of a fit on the others",
    "trained": "held-out questions, of a fit on the examples that forgetting trains on",
}


def section(study: Study, folder: Path) -> Section | None:
    """Return None where nothing was probed."""
    pictures = []
    for i, part in enumerate(groups(study), 1):
        for position in part.cells[0].trial.probe.positions:
            panels = {task: lines for task in part.tasks if (lines := _lines(part, task, position))}
            if panels:
                path = layer_figure(
                    folder / f"probes-{i}-{position}.png", panels, guess(part.cells)
                )
                pictures.append(Picture(path, f"{part.setting}, {WHERE[position]}"))
    if not pictures:
        return None
    rows = []
    for cell in study.cells:
        rows += [_row(reading) for reading in readings(cell)]
    tables = [Table("probes", rows)] if rows else []
    ways = dict.fromkeys(HOW[cell.trial.probe.fit_on] for cell in study.cells)
    text = TEXT.format(how="; or ".join(ways))
    return Section("probes", "What a linear probe still reads", text, pictures, tables)


def _row(reading: Reading) -> dict[str, Datum]:
    cell = reading.cell
    return {
        "setting": cell.setting,
        "rate": rate_name(cell.rate),
        "task": cell.task,
        "position": reading.position,
        "layers": _span(reading.layers),
        "chance": round(reading.chance, 3),
        "untouched": reading.base,
        "learned": reading.learned,
        "forgotten": reading.forgotten,
        "control": reading.control,
        "pairs, learned": reading.pairs_learned,
        "pairs, forgotten": reading.pairs_forgotten,
        "lost by the probes": reading.lost_share,
        "lost by the answers": _share(reading.lost_by_answers, reading.learned.n),
        "answers less probes": _share(reading.spared, reading.learned.n),
        "probes, beyond true labels": _beyond(cell, reading.learned.n),
    }


def _beyond(cell: Cell, n: int) -> Estimate | None:
    """Return what the probes lost beyond what the true labels take; None without that arm."""
    return _share(arms.net(cell, lost), n) if arms.control(cell) else None


def _share(draws: Draws | None, n: int) -> Estimate | None:
    return None if draws is None else estimate(draws, n)


def _span(layers: Sequence[int]) -> str:
    """Write the layers, e.g. "8 to 22" or "6, 9, 12"."""
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


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
