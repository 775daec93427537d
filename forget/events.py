"""What a trial tells whoever observes it, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from forget.results.outcome import Outcome
from forget.settings.parts import Part


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


Event = StageStarted | Step | Outcome
Observe = Callable[[Event], None]
"""A sink of events: MLflow, a progress bar, Tune, a test."""


def ignore(event: Event) -> None:
    """The sink for those who only want the result."""
