"""Events that a trial passes to whoever observes it; the last one is its Outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from forget.results.outcome import Outcome
from forget.settings.parts import Part


class StageStarted(Part):
    """Begin of a stretch of work of `steps` equal parts.

    Its stage is, e.g., "learn", "forget", "score forgotten" or "probe".
    """

    kind: Literal["stage"] = "stage"
    stage: str
    steps: int


class Step(Part):
    """End of one optimiser step of "learn" or "forget", or of one batch of another stage.

    A batch of another stage has neither loss nor rate.
    """

    kind: Literal["step"] = "step"
    stage: str
    step: int
    """Counts from 1."""
    steps: int
    loss: float | None = None
    """Sum over the terms of the stage: the mean over a term's units, e.g. the batch's answer
    tokens, in nats, times its weight.
    """
    losses: dict[str, float] = Field(default_factory=dict)
    """Mean of each term by its name, where there are several."""
    lr: float | None = None
    tokens: int = 0
    """Tokens computed in this step."""


Event = StageStarted | Step | Outcome
Observe = Callable[[Event], None]
"""A sink of events: MLflow, a progress bar, Tune, a test."""


def ignore(event: Event) -> None:
    """Do nothing: the sink for those who only want the result."""
