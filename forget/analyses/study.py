"""A sweep as cells: trials that differ in nothing but the seed.

The Rows of all trials are resampled once, for every analysis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from forget.analyses.resampling import Draws, estimate, item_weights, of_estimate, over_seeds
from forget.analyses.words import LABEL_WORDS, flattened
from forget.results import measures
from forget.results.estimates import Estimate, metric_name
from forget.results.measures import ratio_name
from forget.results.metrics import DEFINED_ABOVE_CHANCE
from forget.results.outcome import Outcome
from forget.settings.parts import Position
from forget.settings.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

OF_ACCURACIES = ("forget_gap", "forget_ratio", "flipped_forget_ratio")
"""Measures that are computed from resampled accuracies."""


def columns() -> dict[str, str]:
    """Return, by measure, the column of Rows whose mean it is."""
    return {measure.name: measure.column for measure in measures.MEASURES if measure.column}


def resamples_items(measure: str) -> bool:
    """Tell whether a measure is resampled by items, so that two cells can be compared by them.

    Of any other measure only the trial's own estimate is known (see `Cell.draws`).
    """
    return measure in OF_ACCURACIES or measure in columns()


@dataclass(frozen=True)
class Sample:
    """Items that a model was scored on."""

    examples: tuple[str, ...]
    chance: float
    """Accuracy of a guess."""
    prior: float
    """Accuracy of always giving the option that is true most often.

    On a task without fixed labels it is little more than chance.
    """
    means: dict[str, Draws]
    """Means by measure."""


@dataclass(frozen=True)
class Condition:
    """A model, settings and a rate, under which tasks are forgotten."""

    model: str
    varied: str
    """The values of whatever else varies in the sweep beside task and seed; empty for nothing."""
    rate: float
    """Peak learning rate of forgetting."""

    @property
    def setting(self) -> str:
        """The model and what varies, without the rate."""
        return f"{self.model}, {self.varied}" if self.varied else self.model


class Study:
    """Finished trials and their Rows.

    Args:
        outcomes: in the order in which the report lists them.
        frames: the Rows of each, by trial id (forget.results.files.read_frame).
    """

    def __init__(self, outcomes: Sequence[Outcome], frames: Mapping[str, pd.DataFrame]) -> None:
        self.outcomes = tuple(outcomes)
        self.frames = frames
        self.samples = _samples({outcome.id: frames[outcome.id] for outcome in outcomes})
        """Samples by (trial, phase, task, split)."""

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, in the order in which their first trials come."""
        flat = [flattened(outcome.trial) for outcome in self.outcomes]
        varying = _varying(flat)
        found: dict[tuple[Condition, str], list[Outcome]] = defaultdict(list)
        for outcome, fields in zip(self.outcomes, flat, strict=True):
            trial = outcome.trial
            varied = ", ".join(f"{name} {fields[name]}" for name in varying if name in fields)
            condition = Condition(trial.model, varied, trial.forget.lr)
            found[condition, trial.task].append(outcome)
        return [Cell(self, *key, tuple(outcomes)) for key, outcomes in found.items()]

    @cached_property
    def conditions(self) -> dict[Condition, list[Cell]]:
        """Cells by the condition that they share."""
        found: dict[Condition, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            found[cell.condition].append(cell)
        return dict(found)


def _varying(flat: Sequence[Mapping[str, str]]) -> list[str]:
    """Name the settings that vary, beside those that a cell names by itself and the seed."""
    varying = []
    for name in dict.fromkeys(chain.from_iterable(flat)):
        values = {fields.get(name) for fields in flat}
        if len(values) > 1 and name not in ("model", "forget.lr", "seed"):
            varying.append(name)
    return varying


P = ParamSpec("P")
T = TypeVar("T")


def kept(find: Callable[Concatenate[Cell, P], T]) -> Callable[Concatenate[Cell, P], T]:
    """Cache a function's result on its cell."""

    @wraps(find)
    def ask(cell: Cell, *args: P.args, **kwargs: P.kwargs) -> T:
        key = find, args, tuple(kwargs.items())
        if key not in cell.found:
            cell.found[key] = find(cell, *args, **kwargs)
        return cell.found[key]

    return ask


@dataclass(frozen=True)
class Cell:
    """Trials that differ in nothing but the seed."""

    study: Study
    condition: Condition
    task: str
    """The task forgotten."""
    outcomes: tuple[Outcome, ...]
    found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Results that `kept` caches."""

    @property
    def setting(self) -> str:
        return self.condition.setting

    @property
    def rate(self) -> float:
        return self.condition.rate

    @property
    def trial(self) -> Trial:
        return self.outcomes[0].trial

    @property
    def treatment(self) -> str:
        """The labels or the method that the model was made to forget with, in words."""
        labels, method = LABEL_WORDS[self.trial.labels], self.trial.method
        return labels if method == "random_labels" else method.replace("_", " ")

    @property
    def flipped(self) -> bool:
        return self.trial.labels == "flipped"

    @property
    def ratio(self) -> str:
        """The name of the forget ratio that fits the labels."""
        return ratio_name(self.trial.labels)

    def samples(self, phase: str, split: str, task: str | None = None) -> list[Sample]:
        """Return one sample of each seed; none where not every seed has it."""
        found = [
            self.study.samples.get((o.id, phase, task or self.task, split)) for o in self.outcomes
        ]
        return [sample for sample in found if sample] if all(found) else []

    def draws(self, phase: str, split: str, measure: str, task: str | None = None) -> Draws | None:
        """Return one of measures.MEASURES over all seeds; None where it was not taken.

        A measure that is not resampled by items is taken for normal, with the interval that each
        trial gives it.

        Raises:
            KeyError: there is no such measure.
        """
        if not resamples_items(measure):
            return self._of_estimates(phase, split, measure, task or self.task)
        samples = self.samples(phase, split, task)
        if measure not in OF_ACCURACIES:
            taken = [sample.means[measure] for sample in samples if measure in sample.means]
            return over_seeds(taken) if taken and len(taken) == len(samples) else None
        if not samples:
            return None
        if measure == "forget_gap":
            return over_seeds([sample.means["accuracy"] - sample.chance for sample in samples])
        before = self.samples("learned", split, task)
        if not before:
            return None
        return forget_ratio(before, samples, flipped=measure == "flipped_forget_ratio")

    def _of_estimates(self, phase: str, split: str, measure: str, task: str) -> Draws | None:
        measures.named(measure)  # Raises where there is none.
        taken = []
        for outcome in self.outcomes:
            number = outcome.measures.get(metric_name(phase, task, split, measure))
            if number is None:
                return None
            # Trials that share a model share the resamples of its numbers.
            own = outcome.id if phase == "forgotten" else ""
            key = [outcome.learned_id, own, phase, task, split, measure]
            taken.append(of_estimate(number, key))
        return over_seeds(taken)

    def lost(self, split: str, task: str | None = None) -> Draws | None:
        """Return the share of the learned skill that forgetting took, whatever the labels.

        It is (a_ft - a_fg) / (a_ft - chance).
        """
        return self.draws("forgotten", split, "forget_ratio", task)

    @kept
    def get(self, phase: str, split: str, measure: str, task: str | None = None) -> Estimate | None:
        """Return a measure (see `draws`) as an estimate over all items of all seeds."""
        found = self.draws(phase, split, measure, task)
        return None if found is None else estimate(found, self.n(phase, split, task))

    def n(self, phase: str, split: str, task: str | None = None) -> int:
        """Count the items over all seeds."""
        return sum(len(sample.examples) for sample in self.samples(phase, split, task))

    def chance(self, split: str, task: str | None = None) -> float | None:
        """Return the accuracy of a guess."""
        samples = self.samples("forgotten", split, task)
        return float(np.mean([sample.chance for sample in samples])) if samples else None

    @property
    @kept
    def mastered(self) -> bool:
        """True where accuracy after learning, held out, surely is above chance and prior.

        Elsewhere there is no skill to lose.
        """
        a_ft = self.get("learned", "test", "accuracy")
        bars = [max(sample.chance, sample.prior) for sample in self.samples("learned", "test")]
        return a_ft is not None and a_ft.numbers[1] > sum(bars) / len(bars)

    def probe_draws(
        self, phase: str, position: Position | None = None, control: bool = False
    ) -> dict[int, Draws]:
        """Return probe accuracy by layer on the cell's own task.

        Args:
            phase: one of PHASES.
            position: by default the first one that the trial probes.
            control: take the probes that were fit on shuffled labels.
        """
        position = position or self.trial.probe.positions[0]
        wanted = phase, self.task, position, control
        found: dict[int, list[Draws]] = defaultdict(list)
        for outcome in self.outcomes:
            own = outcome.id if phase == "forgotten" else ""
            for score in outcome.probes:
                if (score.phase, score.task, score.position, score.control) == wanted:
                    key = [outcome.learned_id, own, phase, position, score.layer, control]
                    found[score.layer].append(of_estimate(score.accuracy, key))
        return {layer: over_seeds(seeds) for layer, seeds in sorted(found.items())}

    def probes(
        self, phase: str, position: Position | None = None, control: bool = False
    ) -> dict[int, Estimate]:
        """Return probe accuracies (see `probe_draws`) as estimates over all seeds' questions."""
        n = 0
        for outcome in self.outcomes:
            counts = [score.accuracy.n for score in outcome.probes if score.phase == phase]
            n += max(counts, default=0)
        found = self.probe_draws(phase, position, control)
        return {layer: estimate(draws, n) for layer, draws in found.items()}


def forget_ratio(
    before: Sequence[Sample], after: Sequence[Sample], flipped: bool = False
) -> Draws | None:
    """Compute the forget ratio over seeds from mean accuracies (forget.results.metrics).

    It is missing where learning brought the task less than 0.05 above chance.

    Returns:
        None where the two were not scored on the same items.
    """
    if [sample.examples for sample in before] != [sample.examples for sample in after]:
        return None
    a_ft = over_seeds([sample.means["accuracy"] for sample in before])
    a_fg = over_seeds([sample.means["accuracy"] for sample in after])
    chance = float(np.mean([sample.chance for sample in before]))
    scale = 2 * a_ft - 1 if flipped else a_ft - chance
    if a_ft[0] < chance + DEFINED_ABOVE_CHANCE:
        return np.full_like(a_ft, np.nan)
    # A resample at or below chance has no ratio; it must not flip the sign of the interval.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, (a_ft - a_fg) / scale, np.nan)


def pooled(cells: Sequence[Cell], split: str) -> Draws | None:
    """Compute the share of the skill on all tasks together that forgetting took.

    It is the sum of a_ft - a_fg over the sum of a_ft - chance: a mean of ratios would be ruled by
    the tasks that were hardly learned. Tasks without a ratio are left out.
    """
    taken, skill = [], []
    for cell in cells:
        a_ft, a_fg = (cell.draws(phase, split, "accuracy") for phase in ("learned", "forgotten"))
        lost, chance = cell.lost(split), cell.chance(split)
        if a_ft is None or a_fg is None or chance is None or lost is None:
            continue
        if np.isfinite(lost[0]):
            skill.append(a_ft - chance)
            taken.append(a_ft - a_fg)
    if not skill:
        return None
    whole = np.sum(skill, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, np.sum(taken, axis=0) / whole, np.nan)


Place = tuple[str, str, str, str]
"""(trial, phase, task, split)"""


@dataclass(frozen=True)
class _Scored:
    """Numbers that one model gives a set of items."""

    place: Place
    columns: np.ndarray
    """[columns, items]"""
    chance: float
    prior: float


def _samples(frames: Mapping[str, pd.DataFrame]) -> dict[Place, Sample]:
    """Resample each set of items once, for everything that was scored on it.

    Args:
        frames: Rows by trial.
    """
    sets: dict[tuple[str, str, tuple[str, ...]], list[_Scored]] = defaultdict(list)
    for id, frame in frames.items():
        for examples, scored in _scored(id, frame):
            _, _, task, split = scored.place
            sets[task, split, examples].append(scored)
    found: dict[Place, Sample] = {}
    for (task, split, examples), every in sets.items():
        unique, copies = unique_columns(every)
        n = len(examples)
        means = np.stack([one.columns for one in unique])
        means = means @ item_weights(n, [task, split, examples]).T
        for one, places, drawn in zip(unique, copies, means, strict=True):
            measures = {}
            for measure, draws in zip(columns(), drawn, strict=True):
                if np.isfinite(draws[0]):
                    measures[measure] = draws
            if "variability" in measures:
                measures["variability"] = measures["variability"] * (n / max(1, n - 1))
            found |= dict.fromkeys(places, Sample(examples, one.chance, one.prior, measures))
    return found


def _scored(id: str, frame: pd.DataFrame) -> list[tuple[tuple[str, ...], _Scored]]:
    """List, by their sorted examples, the sets of items that a trial's models were scored on."""
    settled = frame[frame["step"].isna()]
    names = settled["example"].to_numpy(dtype=object)
    numbers = settled[list(columns().values())].to_numpy(dtype=float).T
    options, truth = settled["options"].to_numpy(), settled["truth"].to_numpy()
    groups = settled.groupby(["phase", "task", "split"], sort=False).indices
    found = []
    for (phase, task, split), rows in groups.items():
        ordered = rows[np.argsort(names[rows])]
        chance = float(np.mean(1 / options[rows]))
        prior = float(np.bincount(truth[rows]).max() / len(rows))
        scored = _Scored((id, phase, task, split), numbers[:, ordered], chance, prior)
        found.append((tuple(names[ordered]), scored))
    return found


def unique_columns(scored: Sequence[_Scored]) -> tuple[list[_Scored], list[list[Place]]]:
    """Find what differs in its numbers, and the places of each.

    Trials that share a model have identical Rows of it: these are resampled once.
    """
    first: dict[tuple[bytes, float, float], _Scored] = {}
    places: dict[tuple[bytes, float, float], list[Place]] = defaultdict(list)
    for one in scored:
        # Bytes, since a comparison of numbers would find a NaN unequal to itself.
        key = one.columns.tobytes(), one.chance, one.prior
        first.setdefault(key, one)
        places[key].append(one.place)
    return list(first.values()), list(places.values())
