"""Parts of a trial's settings."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from forget.errors import shown


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{shown(text)} holds a character that cannot be printed")
    return text


Name = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
"""Name of a task or a model. It is written to files, terminals, pages and servers, and may come
from a colleague's run.
"""
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)]
"""Several names; one alone may stand for a list of one."""

Count = Annotated[int, Field(ge=1, le=10**9)]
"""A positive whole number; the upper bound only catches typing errors."""


def _all_or_numbers(value: Any) -> Any:
    # Checked by hand, because pydantic's words for a union name its members, not the key.
    if value != "all" and not (
        isinstance(value, (list, tuple)) and all(isinstance(layer, int) for layer in value)
    ):
        raise ValueError(f'should be "all" or a list of whole numbers, not {shown(value)}')
    return value


Layers = Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_all_or_numbers)]
"""Numbers of layers, or "all"."""

Position = Literal["first", "last", "mean"]
"""Place at which an answer is read: its first token, its last, or the mean over its tokens."""


class Part(BaseModel):
    """A frozen table of settings that refuses unknown keys."""

    # JSON, in which outcomes are kept, has no word for infinity.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Choice(Part):
    """One of several things by its name, with those of its parameters that are not the default.

    A spec writes the name alone, or a table: "npo" or { name = "npo", beta = 0.05 }. So is it
    written into files, which keeps the identity of whatever was a bare name before. Which names and
    parameters there are, the room that has the things knows (forget.methods.catalogue).
    """

    model_config = ConfigDict(extra="allow")

    name: Name

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer
    def _short(self) -> Any:
        return {"name": self.name, **self.parameters} if self.parameters else self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that are given, by name."""
        return dict(self.__pydantic_extra__ or {})

    def __str__(self) -> str:
        given = (f"{name}={shown_value(value)}" for name, value in self.parameters.items())
        return " ".join([self.name, *given])


def shown_value(value: Any) -> str:
    """Write a parameter as short as it can be, within one word."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value["name"] if isinstance(value, dict) else value)


TEXT_LOSSES = ("nll", "states")
"""Losses that a retain set of neutral text takes: of the others, the distributions of the model
before, one for each of some 40,000 tokens, would fill the memory.
"""


class Retain(Part):
    """Examples of other tasks, on their true labels, that keep the rest while a task is forgotten.

    The forget stage adds their mean loss, times `weight`, to that of the method.
    """

    tasks: Names
    """Their tasks, of whose train splits the examples are. With none the method goes without, as
    `retain = "none"` says.
    """
    text: bool = False
    """Neutral text in the place of tasks, in chunks of which all tokens count
    (forget.tasks.prose).
    """
    examples: Count = 1000
    """Examples in all, shared out evenly over the tasks; of neutral text, chunks at most."""
    loss: Literal["nll", "kl", "js", "ce_ref", "states"] = "nll"
    """nll: the cross-entropy of the true answers; kl, js, ce_ref: the divergence of the model's
    distributions on them from those of the model that begins to forget, KL(reference || model),
    Jensen-Shannon, or the cross-entropy; states: the squared distance of its hidden states, which
    is the default of methods that move those (forget.preflight.settled).
    """
    weight: float = Field(1.0, ge=0)
    """Weight of the loss beside the method's own."""

    @model_validator(mode="before")
    @classmethod
    def _without_tasks(cls, value: Any) -> Any:
        return {"tasks": (), **value} if isinstance(value, dict) and value.get("text") else value

    @model_validator(mode="after")
    def _text_alone(self) -> Retain:
        if self.text and self.tasks:
            raise ValueError("text = true stands in the place of tasks: leave out one of the two")
        if self.text and self.loss not in TEXT_LOSSES:
            raise ValueError(
                f"text = true takes loss = {' or '.join(map(shown, TEXT_LOSSES))}, not "
                f"{shown(self.loss)}"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Words for what is retained; none where nothing is."""
        return ("neutral-text",) if self.text else self.tasks


def _none(value: Any) -> Any:
    return {"tasks": ()} if value == "none" else value


Retained = Annotated[Retain | None, BeforeValidator(_none)]
"""A retain set; None where nothing was said of one, "none" for a method that goes without."""


class Stage(Part):
    """One fine-tuning. The paper leaves epochs, batch size, optimiser and schedule open."""

    examples: Count = 1000
    """Training examples; the whole split where it is smaller (paper: min(1000, train size))."""
    epochs: Count = 2
    """Passes over the examples."""
    lr: float = Field(1e-4, gt=0, lt=1)
    """Peak learning rate of AdamW (paper: 1e-4 for forgetting)."""
    batch: Count = 16
    """Examples a step, over all processes of the trial."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up; the first two fall to 0."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""

    def steps(self, examples: float) -> int:
        """Return the optimiser steps of the stage over so many examples."""
        return math.ceil(examples / self.batch) * self.epochs


class Until(Part):
    """A dose of forgetting at which the forget stage ends."""

    trained_lost: float = Field(0.9, gt=0, le=1)
    """Share of the skill on trained examples that is to be lost (forget.results.dose.lost): 0.9
    leaves a tenth of it, 1 is chance.
    """
    examples: int = Field(64, ge=2, le=10**9)
    """Trained examples that are scored at each look."""
    every: Count = 2
    """Optimiser steps from look to look; there is one at the last step as well."""


class Forgetting(Stage):
    """The second fine-tuning, which may end at a dose instead of a number of steps."""

    until: Until | None = None
    """End at the first look at which so much is lost; `epochs` are then the most. By default the
    stage takes all its steps.
    """

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, stage: Any) -> Any:
        return stage.model_dump() if type(stage) is Stage else stage


class Lora(Part):
    """Low-rank adapters on every linear layer but the head (Hu et al. 2021).

    They are merged into the weights after each stage.
    """

    rank: Count = 16
    alpha: Count = 32
    dropout: float = Field(0.0, ge=0, lt=1)


class Probe(Part):
    """Linear probes that tell right from wrong (question, answer) pairs by hidden states."""

    layers: Layers = "all"
    """Hidden states to probe, one by one; 0 is the embedding, n the output of block n, and a
    negative number counts from the last.
    """
    positions: Annotated[tuple[Position, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        "last",
    )
    """Places at which the answer is read, the one that counts first."""
    fit_on: Literal["held_out", "trained"] = "held_out"
    """held_out: questions of the test split, which no stage trains on, in five folds, each asked of
    a fit on the others; trained: examples that forgetting trains on.
    """
    examples: int = Field(300, ge=0, le=10**9)
    """Questions of the test split that the probes are asked and, if `trained`, of the train split
    that they are fit on; 0 leaves out the probes. With 100 the probes' own loss is mostly noise.
    """
    control: bool = True
    """Fit each probe on shuffled labels as well; its accuracy there is not due to the states
    (Hewitt and Liang 2019).
    """


class Watch(Part):
    """Looks at the model while it trains, for the order in which examples come and go."""

    points: int = Field(4, ge=0, le=1000)
    """Evenly spaced points within each stage, its ends aside; 0 leaves them out."""
    examples: Count = 100
    """Held-out examples, and as many trained ones, that are scored at each point."""
