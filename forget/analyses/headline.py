"""Headline numbers: the few by which trials are compared, under names without slashes.

docs/method.md lists the names. Every other number, and every bound, is in a trial's table of
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from forget.analyses.states import Word, state
from forget.analyses.study import Study
from forget.results import files, measures
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome
from forget.results.rows import Row

ACCURACIES = {
    "base": ("base", "test"),
    "learned": ("learned", "test"),
    "forgotten": ("forgotten", "test"),
    "forgotten_trained": ("forgotten", "train"),
    "forgotten_near": ("forgotten", "near"),
    "forgotten_similar": ("forgotten", "similar"),
}
"""Phase and split of each accuracy on the trial's own task."""

OTHERS = {
    "agreement": "train",
    "discrimination": "test",
    "confidence": "test",
    "option_mass": "test",
    "entropy": "test",
}
"""Split of each other measure that is taken after forgetting."""

SUFFIXES = {"test": "", "train": "_trained", "near": "_near"}
"""Ends of a name, by the split it is of."""


def headline(outcome: Outcome) -> dict[str, float]:
    """Return the headline numbers of a trial; one that is missing is left out."""
    trial = outcome.trial
    ratio = measures.ratio_name(trial.arm)
    places = {name: (*place, "accuracy") for name, place in ACCURACIES.items()}
    places |= {ratio + end: ("forgotten", split, ratio) for split, end in SUFFIXES.items()}
    places |= {name: ("forgotten", split, name) for name, split in OTHERS.items()}
    found = {}
    for name, (phase, split, measure) in places.items():
        value = _value(outcome, metric_name(phase, trial.task, split, measure))
        if value is not None:
            found[name] = value
    others = [_value(outcome, metric_name("forgotten", t, "test", ratio)) for t in trial.tasks[1:]]
    defined = [value for value in others if value is not None]
    if defined:
        found[f"{ratio}_elsewhere"] = float(np.mean(defined))
    return found | dict(_probes(outcome)) | dict(_facts(outcome))


def _value(outcome: Outcome, name: str) -> float | None:
    return outcome.measures[name].value if name in outcome.measures else None


def _probes(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Yield the mean accuracy of the middle layers' probes of the own task, by phase."""
    trial = outcome.trial
    for phase in ("base", "learned", "forgotten"):
        values = []
        for probe in outcome.probes:
            own = (probe.phase, probe.task) == (phase, trial.task)
            first = probe.position == trial.probe.positions[0]
            if own and first and probe.middle and not probe.control:
                values.append(probe.accuracy.value)
        known = [value for value in values if value is not None]
        if known:
            yield f"probe_{phase}", float(np.mean(known))


def _facts(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Yield what a trial says of its labels and its dose; these numbers have no interval."""
    if drawn := outcome.drawn:
        yield "draw_right", drawn.right
        if drawn.z is not None:
            yield "draw_z", drawn.z
    if dose := outcome.dose:
        yield "dose_step", dose.step
        yield "dose_reached", float(dose.reached)
        if dose.lost is not None:
            yield "dose_lost", dose.lost


def curves(outcome: Outcome, rows: Sequence[Row]) -> Iterator[tuple[str, int, float]]:
    """Yield (name, step, value) of what is measured on the way, and of probes by layer.

    The names are, e.g., forget/accuracy_trained, whose step is the optimiser's, and probe/learned,
    whose step is the layer. All are of the own task, and probes of the first position.
    """
    trial = outcome.trial
    for name, step, estimate in measures.course(rows):
        phase, *middle, split, measure = name.split("/")
        if "/".join(middle) == trial.task and split in SUFFIXES and estimate.value is not None:
            yield f"{phase}/{measure}{SUFFIXES[split]}", step, estimate.value
    for probe in outcome.probes:
        first = probe.position == trial.probe.positions[0]
        if probe.task == trial.task and first and probe.accuracy.value is not None:
            kind = "probe_control" if probe.control else "probe"
            yield f"{kind}/{probe.phase}", probe.layer, probe.accuracy.value


def end_states(outcome: Outcome, rows: Sequence[Row]) -> dict[str, Word]:
    """Return the end states of the own task by split, trained and held-out examples first."""
    (cell,) = Study([outcome], {outcome.id: files.frame(rows)}).cells
    found = {split: state(cell, split, cell.task) for split in ("test", "train", "near")}
    return {split: one.word for split, one in found.items() if one}
