"""What a trial tells whoever observes it, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from forget.metrics import Estimate
from forget.settings import Part, Position, Trial


class StageStarted(Part):
    """A stretch of work of `steps` equal parts begins, e.g. "learn", "forget", "score forgotten", "probe"."""

    kind: Literal["stage"] = "stage"
    stage: str
    steps: int


class Step(Part):
    """One optimiser step of "learn" or "forget" is done, or one batch of another stage (loss and rate are then None)."""

    kind: Literal["step"] = "step"
    stage: str
    step: int
    """From 1."""
    steps: int
    loss: float | None = None
    """Mean over the batch's answer tokens, in nats."""
    lr: float | None = None
    tokens: int = 0
    """Tokens computed in this step."""


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
    """Overlap of the answers' formats (forget.likeness.answers)."""
    wording: float
    """Cosine of the prompts' mean TF-IDF vectors (forget.likeness.wording)."""
    states: float | None
    """Linear CKA of the learned model's hidden states on the questions (forget.probing.cka); None where none were read."""


class Outcome(Part):
    """A finished trial. Its Rows lie beside it as parquet."""

    kind: Literal["outcome"] = "outcome"
    trial: Trial
    id: str
    learned_id: str
    data: str
    """Fingerprint of tasks and model."""
    measures: dict[str, Estimate]
    """Estimate by metric name (forget.metrics.metric_name)."""
    probes: tuple[ProbeScore, ...] = ()
    likeness: tuple[Likeness, ...] = ()
    """Of each other task that the trial is measured on."""
    parameters: int
    """Of the model, tied weights counted once."""
    seconds: float
    """Wall time, the time waited for shared work included."""


Event = StageStarted | Step | Outcome
Observe = Callable[[Event], None]
"""A sink of events: MLflow, a progress bar, Tune, a test."""


def ignore(event: Event) -> None:
    """The sink for those who only want the result."""
