"""Figures of one trial.

They show its losses, accuracy by split, confidence over the examples, and probe accuracy by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from forget.analyses.probes import guess
from forget.analyses.study import Cell, Study
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.layout import layer_figure, layers
from forget.results import files
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome
from forget.results.rows import PHASES, Row, judge, select


def trial_figures(
    outcome: Outcome,
    rows: Sequence[Row],
    losses: Mapping[str, Sequence[tuple[int, float]]],
    folder: Path,
) -> list[Path]:
    """Draw PNG files into the folder. A figure without data is not drawn.

    Args:
        outcome: of the trial.
        rows: of the trial, looks on the way included.
        losses: (step, loss in nats) by stage.
        folder: made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (cell,) = Study([outcome], {outcome.id: files.frame(rows)}).cells
    labels = {
        "base": "untouched",
        "learned": "after learning",
        "forgotten": f"after forgetting, rate {rate_name(cell.rate)}",
    }
    made = []
    curves = {stage: [_losses(points)] for stage, points in losses.items() if points}
    if curves:
        path = folder / "losses.png"
        figures.curves(path, curves, "optimiser step", "loss (nats per answer token)")
        made.append(path)
    accuracy = _accuracy(cell, labels, folder / "accuracy.png")
    if accuracy:
        made.append(accuracy)
    confidence = _confidence(select(rows, task=cell.task, step=None), labels)
    if confidence:
        path, axis = folder / "confidence.png", "confidence in the true option"
        figures.curves(path, confidence, axis, "share of examples at or below", limits=(0, 1))
        made.append(path)
    lines = [layers(cell, phase, labels[phase], PHASE_COLOURS[phase]) for phase in PHASES]
    if any(line.values for line in lines):
        made.append(layer_figure(folder / "probes.png", {cell.task: lines}, guess([cell])))
    return made


def _accuracy(cell: Cell, labels: Mapping[str, str], path: Path) -> Path | None:
    """Draw accuracy on every split of the own task and on the other tasks; None without any."""
    names = {(cell.task, split): name for split, name in SPLIT_WORDS.items()}
    names |= {(task, "test"): f"{task}, held out" for task in cell.trial.tasks[1:]}
    places = [place for place in names if cell.get("forgotten", place[1], "accuracy", place[0])]
    if not places:
        return None
    marks = []
    for phase in PHASES:
        values = [cell.get(phase, split, "accuracy", task) for task, split in places]
        hollow = phase == "base"
        marks.append(Series(labels[phase], PHASE_COLOURS[phase], values, hollow=hollow))
    guesses = [cell.chance(split, task) for task, split in places]
    shown = [names[place] for place in places]
    return figures.dots(path, shown, {cell.task: marks}, "accuracy", chance=guesses)


def _confidence(own: Sequence[Row], labels: Mapping[str, str]) -> dict[str, list[Series]]:
    """Return a panel for each split that there are Rows of."""
    panels: dict[str, list[Series]] = {}
    for split, name in SPLIT_WORDS.items():
        if select(own, split=split):
            panels[name] = []
            for phase in PHASES:
                some = select(own, phase=phase, split=split)
                panels[name].append(_confidences(labels[phase], PHASE_COLOURS[phase], some))
    return panels


def _losses(points: Sequence[tuple[int, float]]) -> Series:
    return Series(
        "loss of a batch",
        figures.BLUE,
        [Estimate(v, None, None, 1) for _, v in points],
        [step for step, _ in points],
    )


def _confidences(label: str, colour: str, rows: Sequence[Row]) -> Series:
    """Return the share of examples at or below each confidence."""
    ordered = sorted(judge(rows).confidence.tolist())
    shares = [
        Estimate((i + 1) / len(ordered), None, None, len(ordered)) for i in range(len(ordered))
    ]
    return Series(label, colour, shares, ordered)
