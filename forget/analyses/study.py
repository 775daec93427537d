"""A sweep as cells: trials that differ in nothing but seed and member.

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

from forget.analyses.replicates import (
    NO_DEGREES,
    Pool,
    Replicate,
    Replicated,
    over_replicates,
    pool,
)
from forget.analyses.resampling import Draws, estimate, of_estimate
from forget.analyses.samples import Place, Sample, columns, resampled
from forget.analyses.words import ARM_WORDS, REPLICATED, flattened, method_words
from forget.results import measures
from forget.results.estimates import Estimate, metric_name, wilson
from forget.results.measures import ratio_name
from forget.results.metrics import DEFINED_ABOVE_CHANCE
from forget.results.outcome import Outcome
from forget.settings.parts import Choice, Position
from forget.settings.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

SHARES = ("accuracy", "agreement")
"""Measures that are the mean of zeros and ones."""

OF_ACCURACIES = ("forget_gap", "forget_ratio", "flipped_forget_ratio")
"""Measures that are computed from resampled accuracies."""


def resamples_items(measure: str) -> bool:
    """Tell whether a measure is resampled by items, so that two cells can be compared by them.

    Of any other measure only the trial's own estimate is known (see `Cell.draws`).
    """
    return measure in OF_ACCURACIES or measure in columns()


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
        frames: the Rows of each, by trial id (forget.results.files.read_frame), those of audits
            among them.
        samples: what the Rows give, resampled, where it is known already.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        frames: Mapping[str, pd.DataFrame],
        samples: Mapping[Place, Sample] | None = None,
    ) -> None:
        self.outcomes = tuple(outcomes)
        self.asked = {id: _of(frame, audits=False) for id, frame in frames.items()}
        """Rows of trials by trial id, those in other templates than the trial's own among them."""
        # No analysis but that of templates is to count an item twice.
        self.frames = {id: _as_asked(frame) for id, frame in self.asked.items()}
        self.audited = {
            id: found for id, frame in frames.items() if len(found := _of(frame, audits=True))
        }
        """Rows of audits, by trial; only forget.analyses.recovery and its like read them."""
        if samples is None:
            samples = resampled({outcome.id: self.frames[outcome.id] for outcome in outcomes})
        self.samples = samples
        """Samples by (trial, phase, task, split)."""
        self._pools: dict[object, Pool | None] = {}

    @cached_property
    def _flat(self) -> list[dict[str, str]]:
        return [flattened(outcome.trial) for outcome in self.outcomes]

    @cached_property
    def varying(self) -> list[str]:
        """Dotted names of the settings that vary, beside task, model, rate and replicates."""
        return _varying(self._flat)

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, in the order in which their first trials come."""
        found: dict[tuple[Condition, str], list[Outcome]] = defaultdict(list)
        for outcome, fields in zip(self.outcomes, self._flat, strict=True):
            trial = outcome.trial
            varied = ", ".join(f"{name} {fields[name]}" for name in self.varying if name in fields)
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

    def peers(self, cell: Cell) -> list[Cell]:
        """Return the cells of a cell's condition, itself included."""
        return self.conditions.get(cell.condition, [cell])

    def pool(
        self, cell: Cell, phase: str, split: str, measure: str, task: str | None = None
    ) -> Pool | None:
        """Pool a measure's spread over replicates, over the tasks of the cell's condition.

        The spread on another task is that of every cell that forgot something else.
        """
        other = task if task and task != cell.task else None
        names = tuple(replicate(outcome.trial) for outcome in cell.outcomes)
        key = cell.condition, frozenset(names), phase, split, measure, other
        if key not in self._pools:
            numbers = []
            for peer in self.peers(cell):
                if peer.task != other:
                    number = peer.replicated(phase, split, measure, other)
                    numbers += [number.only(names)] if number else []
            self._pools[key] = pool(numbers)
        return self._pools[key]


def _as_asked(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the Rows in the trial's own template, as `forget.results.rows.as_asked` does."""
    own = frame["template"] == ""
    return frame if own.all() else frame[own]


def _of(frame: pd.DataFrame, audits: bool) -> pd.DataFrame:
    """Keep the Rows of audits, or all others; no other analysis may take the one for the other."""
    audited = (frame["audit"] != "").to_numpy()
    if audits:
        return frame[audited]
    return frame[~audited] if audited.any() else frame


def _varying(flat: Sequence[Mapping[str, str]]) -> list[str]:
    """Name the settings that vary, beside those that a cell names by itself and the seed."""
    varying = []
    for name in dict.fromkeys(chain.from_iterable(flat)):
        values = {fields.get(name) for fields in flat}
        if len(values) > 1 and name not in ("model", "forget.lr", *REPLICATED):
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
    """Trials that differ in nothing but seed and member: the replicates of a task."""

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
        labels, method = ARM_WORDS[self.trial.arm], self.trial.method
        if method == Choice(name="random_labels"):
            return labels
        return method_words(method).replace("_", " ")

    @property
    def flipped(self) -> bool:
        return self.trial.arm == "flipped"

    @property
    def ratio(self) -> str:
        """The name of the forget ratio that fits the labels."""
        return ratio_name(self.trial.arm)

    def samples(self, phase: str, split: str, task: str | None = None) -> list[Sample]:
        """Return one sample of each replicate; none where not every replicate has it."""
        found = [
            self.study.samples.get((o.id, phase, task or self.task, split)) for o in self._in_order
        ]
        return [sample for sample in found if sample] if all(found) else []

    def replicated(
        self, phase: str, split: str, measure: str, task: str | None = None
    ) -> Replicated | None:
        """Return a measure replicate by replicate; None where some replicate lacks it.

        A measure that is not resampled by items is taken for normal, with the interval that each
        trial gives it.
        """
        names, taken = [], []
        for outcome in self._in_order:
            if measure in columns():
                place = outcome.id, phase, task or self.task, split
                sample = self.study.samples.get(place)
                draws = sample.means.get(measure) if sample else None
            else:
                draws = _of_trial(outcome, phase, split, measure, task or self.task)
            if draws is None:
                return None
            names.append(replicate(outcome.trial))
            taken.append(draws)
        return Replicated(self.task, tuple(names), tuple(taken))

    @property
    def _in_order(self) -> list[Outcome]:
        return sorted(self.outcomes, key=lambda outcome: replicate(outcome.trial))

    def draws(self, phase: str, split: str, measure: str, task: str | None = None) -> Draws | None:
        """Return one of MEASURES over all replicates; None where it was not taken.

        Raises:
            KeyError: there is no such measure.
        """
        measures.named(measure)  # Raises where there is none.
        if measure in OF_ACCURACIES:
            return self._of_accuracies(phase, split, measure, task)
        own = self.replicated(phase, split, measure, task)
        if own is None:
            return None
        return over_replicates(own, self.study.pool(self, phase, split, measure, task))

    def _of_accuracies(
        self, phase: str, split: str, measure: str, task: str | None
    ) -> Draws | None:
        after, chance = self.draws(phase, split, "accuracy", task), self.chance(split, task)
        if after is None or chance is None:
            return None
        if measure == "forget_gap":
            return after - chance
        before = self.draws("learned", split, "accuracy", task)
        same = self.items("learned", split, task) == self.items(phase, split, task)
        if before is None or not same:
            return None
        return forget_ratio(before, after, chance, flipped=measure == "flipped_forget_ratio")

    def items(self, phase: str, split: str, task: str | None = None) -> list[tuple[str, ...]]:
        """Return the names of the examples of each replicate."""
        return [sample.examples for sample in self.samples(phase, split, task)]

    def lost(self, split: str, task: str | None = None) -> Draws | None:
        """Return the share of the learned skill that forgetting took, whatever the labels.

        It is (a_ft - a_fg) / (a_ft - chance).
        """
        return self.draws("forgotten", split, "forget_ratio", task)

    @kept
    def get(self, phase: str, split: str, measure: str, task: str | None = None) -> Estimate | None:
        """Return a measure (see `draws`) as an estimate over all items of all replicates.

        A share has its interval within 0 and 1, and of one replicate Wilson's.
        """
        found = self.draws(phase, split, measure, task)
        if found is None:
            return None
        number = estimate(found, self.n(phase, split, task))
        if measure not in SHARES or number.value is None:
            return number
        value, low, high = number.numbers
        value = min(1.0, max(0.0, value))
        if len(self.outcomes) == 1:
            return Estimate(value, *wilson(value, number.n), number.n)
        return Estimate(value, min(value, max(0.0, low)), max(value, min(1.0, high)), number.n)

    def n(self, phase: str, split: str, task: str | None = None) -> int:
        """Count the items over all seeds."""
        return sum(len(sample.examples) for sample in self.samples(phase, split, task))

    def chance(self, split: str, task: str | None = None) -> float | None:
        """Return the accuracy of a guess."""
        samples = self.samples("forgotten", split, task)
        return float(np.mean([sample.chance for sample in samples])) if samples else None

    @property
    def degrees(self) -> float:
        """The degrees of freedom of its condition's spread over replicates (see `degrees`)."""
        return degrees(self.study.peers(self))

    @property
    def mastered(self) -> bool:
        """True where the cell's own task was learned (see `masters`)."""
        return self.masters(self.task)

    @kept
    def masters(self, task: str, phase: str = "learned") -> bool:
        """Tell whether the accuracy on a task, held out, surely is above chance and prior.

        Elsewhere there is no skill to lose.
        """
        accuracy = self.get(phase, "test", "accuracy", task)
        bars = [max(sample.chance, sample.prior) for sample in self.samples(phase, "test", task)]
        return accuracy is not None and accuracy.numbers[1] > sum(bars) / len(bars)

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
        peers = [cell.probe_replicates(phase, position, control) for cell in self.study.peers(self)]
        found = {}
        for layer, own in sorted(self.probe_replicates(phase, position, control).items()):
            spread = pool([peer[layer].only(own.names) for peer in peers if layer in peer])
            found[layer] = over_replicates(own, spread)
        return found

    @kept
    def probe_replicates(
        self, phase: str, position: Position, control: bool
    ) -> dict[int, Replicated]:
        """Return probe accuracy by layer, replicate by replicate."""
        wanted = phase, self.task, position, control
        found: dict[int, dict[Replicate, Draws]] = defaultdict(dict)
        for outcome in self._in_order:
            own = outcome.id if phase == "forgotten" else ""
            for score in outcome.probes:
                if (score.phase, score.task, score.position, score.control) == wanted:
                    key = [outcome.learned_id, own, phase, position, score.layer, control]
                    name = replicate(outcome.trial)
                    found[score.layer][name] = of_estimate(score.accuracy, key)
        return {
            layer: Replicated(self.task, tuple(draws), tuple(draws.values()))
            for layer, draws in found.items()
        }

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


def replicate(trial: Trial) -> Replicate:
    """Name a trial among those of its cell."""
    return trial.seed, trial.member


def degrees(cells: Sequence[Cell]) -> float:
    """Count the degrees of freedom of the cells' spread over replicates.

    Infinite where nothing was replicated, so that what is said is of these runs alone.
    """
    count = 0
    for cell in cells:
        names = [replicate(outcome.trial) for outcome in cell.outcomes]
        seeds = {seed for seed, _ in names}
        count += (len(seeds) if len(seeds) > 1 else len(names)) - 1
    return count or NO_DEGREES


def _of_trial(outcome: Outcome, phase: str, split: str, measure: str, task: str) -> Draws | None:
    """Draw a measure of which only the trial's own estimate is known."""
    number = outcome.measures.get(metric_name(phase, task, split, measure))
    if number is None:
        return None
    # Trials that share a model share the resamples of its numbers.
    own = outcome.id if phase == "forgotten" else ""
    return of_estimate(number, [outcome.learned_id, own, phase, task, split, measure])


def forget_ratio(a_ft: Draws, a_fg: Draws, chance: float, flipped: bool = False) -> Draws:
    """Compute the forget ratio from accuracies (forget.results.metrics).

    It is missing where learning brought the task less than 0.05 above chance.
    """
    scale = 2 * a_ft - 1 if flipped else a_ft - chance
    if a_ft[0] < chance + DEFINED_ABOVE_CHANCE:
        return np.full_like(a_ft, np.nan)
    # A resample at or below chance has no ratio; it must not flip the sign of the interval.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, (a_ft - a_fg) / scale, np.nan)
