"""Figures of one trial: losses, accuracy by split, confidence over the examples, probe accuracy by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from forget.analyses.study import Study
from forget.analyses.words import NAMES, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.probes import layer_figure, layers
from forget.results import files
from forget.results.metrics import Estimate
from forget.results.outcome import Outcome
from forget.results.rows import PHASES, Row, judge, select


def trial_figures(
    outcome: Outcome,
    rows: Sequence[Row],
    losses: Mapping[str, Sequence[tuple[int, float]]],
    folder: Path,
) -> list[Path]:
    """PNG files in the folder. A figure without data is not drawn.

    Args:
        losses: (step, loss in nats) by stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (cell,) = Study([outcome], {outcome.id: files.frame(rows)}).cells
    label = {
        "base": "untouched",
        "learned": "after learning",
        "forgotten": f"after forgetting, rate {rate_name(cell.rate)}",
    }
    made = []
    curves = {stage: [_losses(points)] for stage, points in losses.items() if points}
    if curves:
        made.append(
            figures.curves(
                folder / "losses.png", curves, "optimiser step", "loss (nats per answer token)"
            )
        )
    places = [(cell.task, split) for split in NAMES] + [
        (task, "test") for task in cell.trial.tasks[1:]
    ]
    places = [
        (task, split) for task, split in places if cell.get("forgotten", split, "accuracy", task)
    ]
    if places:
        names = [
            NAMES[split] if task == cell.task else f"{task}, held out" for task, split in places
        ]
        marks = [
            Series(
                label[p],
                PHASE_COLOURS[p],
                [cell.get(p, s, "accuracy", t) for t, s in places],
                hollow=p == "base",
            )
            for p in PHASES
        ]
        guesses = [cell.chance(split, task) for task, split in places]
        made.append(
            figures.dots(
                folder / "accuracy.png", names, {cell.task: marks}, "accuracy", chance=guesses
            )
        )
    own = select(rows, task=cell.task, step=None)
    shares = {
        name: [
            _confidences(label[p], PHASE_COLOURS[p], select(own, phase=p, split=split))
            for p in PHASES
        ]
        for split, name in NAMES.items()
        if select(own, split=split)
    }
    if shares:
        axis = "confidence in the true option"
        made.append(
            figures.curves(
                folder / "confidence.png",
                shares,
                axis,
                "share of examples at or below",
                limits=(0, 1),
            )
        )
    lines = [layers(cell, phase, label[phase], PHASE_COLOURS[phase]) for phase in PHASES]
    if any(line.values for line in lines):
        made.append(layer_figure(folder / "probes.png", {cell.task: lines}))
    return made


def _losses(points: Sequence[tuple[int, float]]) -> Series:
    return Series(
        "loss of a batch",
        figures.BLUE,
        [Estimate(v, None, None, 1) for _, v in points],
        [step for step, _ in points],
    )


def _confidences(label: str, colour: str, rows: Sequence[Row]) -> Series:
    """The share of examples at or below each confidence."""
    ordered = sorted(judge(rows).confidence.tolist())
    shares = [
        Estimate((i + 1) / len(ordered), None, None, len(ordered)) for i in range(len(ordered))
    ]
    return Series(label, colour, shares, ordered)
