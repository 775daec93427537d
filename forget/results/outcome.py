"""The Outcome, which a finished trial leaves beside its Rows, and its parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forget.results.estimates import Estimate
from forget.settings.parts import Part, Position
from forget.settings.trial import Trial


class ProbeScore(Part):
    """A linear probe's accuracy on held-out (question, answer) pairs."""

    phase: str
    task: str
    position: Position = "last"
    layer: int
    """Index of the hidden state: 0 is the embedding, n the output of block n."""
    control: bool = False
    """True for a probe that was fit on shuffled labels."""
    accuracy: Estimate
    l2: float
    """The penalty that validation chose."""


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


class Outcome(Part):
    """A finished trial, beside which its Rows lie as parquet."""

    kind: Literal["outcome"] = "outcome"
    trial: Trial
    id: str
    learned_id: str
    data: str
    """Fingerprint of tasks and model."""
    measures: dict[str, Estimate] = Field(default_factory=dict)
    """Estimate by metric name (forget.results.estimates.metric_name). They are computed of the
    Rows: a store keeps them beside the outcome, and anew when the code that computes them has
    changed.
    """
    probes: tuple[ProbeScore, ...] = ()
    likeness: tuple[Likeness, ...] = ()
    """One for each other task that the trial is measured on."""
    parameters: int
    """Parameters of the model, tied weights counted once."""
    seconds: float
    """Wall time, including the time waited for work that trials share."""

    @property
    def lacks_probes(self) -> bool:
        """True where probes were asked for and left out: the task has too few examples."""
        return self.trial.probe.examples > 0 and not self.probes
