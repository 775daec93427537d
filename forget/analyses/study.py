"""A sweep as cells: trials that differ in nothing but the seed, and what their Rows say, resampled once for all analyses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from forget.analyses.resampling import Draws, estimate, item_weights, of_estimate, over_seeds
from forget.analyses.words import LABELS, flattened
from forget.results.metrics import DEFINED_ABOVE_CHANCE, Estimate
from forget.results.outcome import Outcome
from forget.settings.parts import Position
from forget.settings.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = {
    "accuracy": "correct",
    "confidence": "confidence",
    "option_mass": "mass",
    "entropy": "entropy",
    "variability": "spread",
}
"""The column of Rows (forget.results.files.frame) whose mean is the measure."""


@dataclass(frozen=True)
class Sample:
    """Items that a model was scored on."""

    examples: tuple[str, ...]
    chance: float
    """Accuracy of a guess."""
    prior: float
    """Accuracy of always giving the option that is true most often; on a task without fixed labels
    little more than chance.
    """
    means: dict[str, Draws]
    """By measure."""


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
        """By (trial, phase, task, split)."""

    @cached_property
    def cells(self) -> list[Cell]:
        """In the order in which their first trials come."""
        flat = [flattened(outcome.trial) for outcome in self.outcomes]
        keys = dict.fromkeys(key for fields in flat for key in fields)
        named = ("model", "forget.lr", "seed")
        varying = [
            key
            for key in keys
            if key not in named and len({fields.get(key) for fields in flat}) > 1
        ]
        found: dict[tuple[str, float, str], list[Outcome]] = defaultdict(list)
        for outcome, fields in zip(self.outcomes, flat, strict=True):
            trial = outcome.trial
            setting = ", ".join(
                [trial.model, *(f"{key} {fields[key]}" for key in varying if key in fields)]
            )
            found[setting, trial.forget.lr, trial.task].append(outcome)
        return [Cell(self, *key, tuple(outcomes)) for key, outcomes in found.items()]

    @cached_property
    def conditions(self) -> dict[tuple[str, float], list[Cell]]:
        """Cells by setting and rate."""
        found: dict[tuple[str, float], list[Cell]] = defaultdict(list)
        for cell in self.cells:
            found[cell.setting, cell.rate].append(cell)
        return dict(found)


P = ParamSpec("P")
T = TypeVar("T")


def kept(find: Callable[Concatenate[Cell, P], T]) -> Callable[Concatenate[Cell, P], T]:
    """A function of a cell that is asked for the same by claims, sections and tables, and computes it once."""

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
    setting: str
    """The model, and whatever else varies in the sweep beside task, rate and seed."""
    rate: float
    """Peak learning rate of forgetting."""
    task: str
    outcomes: tuple[Outcome, ...]
    found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was computed of it (see `kept`)."""

    @property
    def trial(self) -> Trial:
        return self.outcomes[0].trial

    @property
    def treatment(self) -> str:
        """What the model was made to forget with, in words."""
        labels, method = LABELS[self.trial.labels], self.trial.method
        return labels if method == "random_labels" else method.replace("_", " ")

    @property
    def flipped(self) -> bool:
        return self.trial.labels == "flipped"

    @property
    def ratio(self) -> str:
        """The name of the forget ratio that fits the labels."""
        return "flipped_forget_ratio" if self.flipped else "forget_ratio"

    def samples(self, phase: str, split: str, task: str | None = None) -> list[Sample]:
        """One of each seed; none where not every seed has it."""
        found = [
            self.study.samples.get((o.id, phase, task or self.task, split)) for o in self.outcomes
        ]
        return [sample for sample in found if sample] if all(found) else []

    def draws(self, phase: str, split: str, measure: str, task: str | None = None) -> Draws | None:
        """A measure over all seeds: one of COLUMNS, forget_gap, forget_ratio or flipped_forget_ratio. None where not taken."""
        samples = self.samples(phase, split, task)
        if measure in COLUMNS:
            taken = [sample.means[measure] for sample in samples if measure in sample.means]
            return over_seeds(taken) if taken and len(taken) == len(samples) else None
        if not samples:
            return None
        if measure == "forget_gap":
            return over_seeds([sample.means["accuracy"] - sample.chance for sample in samples])
        before = self.samples("learned", split, task)
        return (
            forget_ratio(before, samples, flipped=measure == "flipped_forget_ratio")
            if before
            else None
        )

    def lost(self, split: str, task: str | None = None) -> Draws | None:
        """Share of the learned skill that forgetting took, (a_ft - a_fg) / (a_ft - chance), whatever the labels."""
        return self.draws("forgotten", split, "forget_ratio", task)

    @kept
    def get(self, phase: str, split: str, measure: str, task: str | None = None) -> Estimate | None:
        """The same as an estimate over all items of all seeds."""
        found = self.draws(phase, split, measure, task)
        return None if found is None else estimate(found, self.n(phase, split, task))

    def n(self, phase: str, split: str, task: str | None = None) -> int:
        """Items over all seeds."""
        return sum(len(sample.examples) for sample in self.samples(phase, split, task))

    def chance(self, split: str, task: str | None = None) -> float | None:
        """Accuracy of a guess."""
        samples = self.samples("forgotten", split, task)
        return float(np.mean([sample.chance for sample in samples])) if samples else None

    @property
    @kept
    def mastered(self) -> bool:
        """Whether accuracy after learning, held out, surely is above chance and prior: else there is no skill to lose."""
        a_ft = self.get("learned", "test", "accuracy")
        bars = [max(sample.chance, sample.prior) for sample in self.samples("learned", "test")]
        return a_ft is not None and a_ft.numbers[1] > sum(bars) / len(bars)

    def probe_draws(
        self, phase: str, position: Position | None = None, control: bool = False
    ) -> dict[int, Draws]:
        """Probe accuracy by layer on the cell's own task; by default at the first position that the trial probes."""
        position = position or self.trial.probe.positions[0]
        scores: dict[int, list[Draws]] = defaultdict(list)
        for outcome in self.outcomes:
            for score in outcome.probes:
                if (score.phase, score.task, score.position, score.control) == (
                    phase,
                    self.task,
                    position,
                    control,
                ):
                    key = [
                        outcome.learned_id,
                        outcome.id if phase == "forgotten" else "",
                        phase,
                        position,
                        score.layer,
                        control,
                    ]
                    scores[score.layer].append(of_estimate(score.accuracy, key))
        return {layer: over_seeds(found) for layer, found in sorted(scores.items())}

    def probes(
        self, phase: str, position: Position | None = None, control: bool = False
    ) -> dict[int, Estimate]:
        """The same as estimates over all questions of all seeds."""
        n = sum(
            max((s.accuracy.n for s in o.probes if s.phase == phase), default=0)
            for o in self.outcomes
        )
        return {
            layer: estimate(found, n)
            for layer, found in self.probe_draws(phase, position, control).items()
        }


def forget_ratio(
    before: Sequence[Sample], after: Sequence[Sample], flipped: bool = False
) -> Draws | None:
    """The forget ratio over seeds of mean accuracies (forget.results.metrics), missing where learning is not 0.05 above chance.

    None where the two were not scored on the same items.
    """
    if [sample.examples for sample in before] != [sample.examples for sample in after]:
        return None
    a_ft, a_fg = (
        over_seeds([sample.means["accuracy"] for sample in samples]) for samples in (before, after)
    )
    chance = float(np.mean([sample.chance for sample in before]))
    scale = 2 * a_ft - 1 if flipped else a_ft - chance
    if a_ft[0] < chance + DEFINED_ABOVE_CHANCE:
        return np.full_like(a_ft, np.nan)
    # A resample at or below chance has no ratio; it must not flip the sign of the interval.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, (a_ft - a_fg) / scale, np.nan)


def pooled(cells: Sequence[Cell], split: str) -> Draws | None:
    """Share of the skill on all tasks together that forgetting took: sum of a_ft - a_fg over sum of a_ft - chance.

    A mean of ratios would be ruled by the tasks that were hardly learned. Tasks without a ratio are
    left out.
    """
    taken, skill = [], []
    for cell in cells:
        a_ft, a_fg = (cell.draws(phase, split, "accuracy") for phase in ("learned", "forgotten"))
        lost, chance = cell.lost(split), cell.chance(split)
        if (
            a_ft is not None
            and a_fg is not None
            and chance is not None
            and lost is not None
            and np.isfinite(lost[0])
        ):
            skill.append(a_ft - chance)
            taken.append(a_ft - a_fg)
    if not skill:
        return None
    whole = np.sum(skill, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, np.sum(taken, axis=0) / whole, np.nan)


Place = tuple[str, str, str, str]
"""(trial, phase, task, split)"""


def _samples(frames: Mapping[str, pd.DataFrame]) -> dict[Place, Sample]:
    """Resample each set of items once, for everything that was scored on it; trials that share a model share its samples."""
    sets: dict[tuple[str, str, tuple[str, ...]], dict[tuple[bytes, float, float], list[Place]]] = (
        defaultdict(dict)
    )
    for id, frame in frames.items():
        settled = frame[frame["step"].isna()]
        names = settled["example"].to_numpy(dtype=object)
        columns = settled[list(COLUMNS.values())].to_numpy(dtype=float).T
        options, truth = settled["options"].to_numpy(), settled["truth"].to_numpy()
        for (phase, task, split), rows in settled.groupby(
            ["phase", "task", "split"], sort=False
        ).indices.items():
            ordered = rows[np.argsort(names[rows])]
            chance = float(np.mean(1 / options[rows]))
            prior = float(np.bincount(truth[rows]).max() / len(rows))
            said = columns[:, ordered].tobytes(), chance, prior
            sets[task, split, tuple(names[ordered])].setdefault(said, []).append(
                (id, phase, task, split)
            )
    found: dict[Place, Sample] = {}
    for (task, split, examples), scored in sets.items():
        n = len(examples)
        numbers = np.stack([np.frombuffer(said).reshape(len(COLUMNS), n) for said, *_ in scored])
        means = numbers @ item_weights(n, [task, split, examples]).T
        for ((_, chance, prior), places), part in zip(scored.items(), means, strict=True):
            measures = {
                measure: draws
                for measure, draws in zip(COLUMNS, part, strict=True)
                if np.isfinite(draws[0])
            }
            if "variability" in measures:
                measures["variability"] = measures["variability"] * (n / max(1, n - 1))
            found |= dict.fromkeys(places, Sample(examples, chance, prior, measures))
    return found
