"""What a finished trial leaves beside its Rows."""

from __future__ import annotations

from typing import Literal

from forget.results.metrics import Estimate
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
    """Whether the probe was fit on shuffled labels."""
    accuracy: Estimate
    l2: float
    """The penalty that validation chose."""


class Likeness(Part):
    """How like the task that is forgotten another one is, by what can be known before forgetting; 1 is alike in each."""

    task: str
    """The other task."""
    answers: float
    """Overlap of the answers' formats (forget.tasks.similarity.answers)."""
    wording: float
    """Cosine of the prompts' mean TF-IDF vectors (forget.tasks.similarity.wording)."""
    states: float | None
    """Linear CKA of the learned model's hidden states on the questions (forget.evaluation.probing.cka);
    None where none were read.
    """


class Outcome(Part):
    """A finished trial. Its Rows lie beside it as parquet."""

    kind: Literal["outcome"] = "outcome"
    trial: Trial
    id: str
    learned_id: str
    data: str
    """Fingerprint of tasks and model."""
    measures: dict[str, Estimate] = {}
    """Estimate by metric name (forget.results.metrics.metric_name). They are computed of the Rows:
    a store keeps them beside the outcome, and anew when the code that computes them has changed.
    """
    probes: tuple[ProbeScore, ...] = ()
    likeness: tuple[Likeness, ...] = ()
    """Of each other task that the trial is measured on."""
    parameters: int
    """Of the model, tied weights counted once."""
    seconds: float
    """Wall time, the time waited for shared work included."""
