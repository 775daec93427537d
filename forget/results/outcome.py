"""The Outcome, which a finished trial leaves beside its Rows, and its parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forget.results.estimates import Estimate
from forget.settings.parts import Part, Position
from forget.settings.trial import RecordedTrial


class ProbeScore(Part):
    """Accuracy of linear probes at one layer, on questions that the probes were not fit on."""

    phase: str
    task: str
    position: Position = "last"
    layer: int
    """Index of the hidden state: 0 is the embedding, n the output of block n."""
    control: bool = False
    """True for a probe that was fit on shuffled labels."""
    middle: bool = False
    """True for a layer of the middle half, over which probes are averaged."""
    accuracy: Estimate
    """Share of questions of which the probe prefers the true option to every other, as the model's
    answers are judged. Before protocol 7 it was what `pair_accuracy` is.
    """
    chance: float = 0.5
    """Accuracy of a guess: the mean of 1 / options."""
    pair_accuracy: Estimate | None = None
    """Share of (question, answer) pairs that the probe rightly calls right or wrong."""
    pair_chance: float = 0.5
    """Pair accuracy of calling every pair wrong: with two options half of them are."""
    l2: float
    """The penalty that was chosen without the questions that are asked."""


class Likeness(Part):
    """Likeness of another task to the one that is forgotten, known before forgetting.

    In each measure 1 is alike.
    """

    task: str
    """The other task."""
    answers: float
    """Overlap of the answers' formats (forget.tasks.similarity.answers)."""
    wording: float
    """Cosine of the prompts' mean TF-IDF vectors (forget.tasks.similarity.wording)."""
    states: float | None
    """Linear CKA of the learned model's hidden states on the questions; None where none were read.

    See forget.evaluation.probing.cka.
    """


class DrawnLabels(Part):
    """Labels that were drawn for the examples that forgetting trains on."""

    right: float
    """Share whose label is the truth. Coins of two options that are right in 0.4 of 240 cases are
    no random labels: they teach the opposite.
    """
    shares: tuple[float, ...]
    """Share of the examples for which each option was drawn."""
    z: float | None = None
    """Standard deviations by which `right` is above what coins give on average; None where the
    labels are no coins.
    """


class Dose(Part):
    """End of a forget stage that had a dose to reach (Trial.forget.until)."""

    step: int
    """Steps that it took."""
    steps: int
    """Steps that it had at most."""
    lost: float | None
    """Share of the skill on trained examples that was lost at the end (forget.results.dose.lost);
    None where there was none to lose.
    """
    reached: bool
    """True where a look found as much lost as was asked for; otherwise all steps were taken."""
    matched: bool = False
    """True where the stage took the steps of its twin with random labels (Trial.twin), whatever the
    looks found.
    """

    def __str__(self) -> str:
        share = "there was no skill to lose"
        if self.lost is not None:
            share = f"{self.lost:.2f} of the skill on trained examples lost"
        told = "dose reached" if self.reached else "dose not reached"
        if self.matched:
            told = "ended as random labels do"
            return f"{told}, after step {self.step} of {self.steps} ({share})"
        return f"{told} after step {self.step} of {self.steps} ({share})"


class Outcome(Part):
    """A finished trial, beside which its Rows lie as parquet."""

    kind: Literal["outcome"] = "outcome"
    trial: RecordedTrial
    id: str
    learned_id: str
    """Identity of the learned checkpoint; empty where the trial learned nothing first."""
    data: str
    """Fingerprint of tasks and model."""
    measures: dict[str, Estimate] = Field(default_factory=dict)
    """Estimate by metric name (forget.results.estimates.metric_name). They are computed of the
    Rows: a store keeps them beside the outcome, and anew when the code that computes them has
    changed.
    """
    probes: tuple[ProbeScore, ...] = ()
    unprobed: tuple[str, ...] = ()
    """Sentences that say which probes are missing, and why."""
    likeness: tuple[Likeness, ...] = ()
    """One for each other task that the trial is measured on."""
    drawn: DrawnLabels | None = None
    """None where no labels were drawn once for all epochs."""
    dose: Dose | None = None
    """None where the forget stage had no dose to reach."""
    parameters: int
    """Parameters of the model, tied weights counted once."""
    seconds: float
    """Wall time, including the time waited for work that trials share."""
