"""Parts of a trial's settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from forget.errors import shown


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{shown(text)} holds a character that cannot be printed")
    return text


Name = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
"""Of a task or a model. It is written to files, terminals, pages and servers, and may come from a
colleague's run.
"""
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)]

Count = Annotated[int, Field(ge=1, le=10**9)]
"""The end is where a misprint is surer than an intention."""


def _all_or_numbers(value: Any) -> Any:
    # By hand: pydantic's words for a union name its members, not the key.
    if value != "all" and not (
        isinstance(value, (list, tuple)) and all(isinstance(layer, int) for layer in value)
    ):
        raise ValueError(f'should be "all" or a list of whole numbers, not {shown(value)}')
    return value


Layers = Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_all_or_numbers)]

Position = Literal["first", "last", "mean"]
"""Where an answer is read: at its first token, at its last, or on average over its tokens."""


class Part(BaseModel):
    # JSON, which outcomes are kept in, has no word for infinity.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Stage(Part):
    """One fine-tuning. The paper leaves epochs, batch, optimiser and schedule open (paper.md, [I])."""

    examples: Count = 1000
    """Training examples; the whole split where it is smaller (paper: min(1000, train size))."""
    epochs: Count = 2
    lr: float = Field(1e-4, gt=0, lt=1)
    """Peak learning rate of AdamW (paper: 1e-4 for forgetting)."""
    batch: Count = 16
    """Examples a step, over all processes of the trial."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """The rate after warm-up."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""


class Lora(Part):
    """Low-rank adapters on every linear layer but the head (Hu et al. 2021), merged into the weights after each stage."""

    rank: Count = 16
    alpha: Count = 32
    dropout: float = Field(0.0, ge=0, lt=1)


class Probe(Part):
    """Linear probes that tell right from wrong (question, answer) pairs by the hidden state, layer by layer."""

    layers: Layers = "all"
    """Hidden states to probe; 0 is the embedding, n the output of block n; negative counts from the
    last.
    """
    positions: Annotated[tuple[Position, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        "last",
        "mean",
    )
    """Where the answer is read."""
    examples: int = Field(400, ge=0, le=10**9)
    """Examples of the train and of the test split, two (question, answer) pairs each; 0 leaves the
    probes out.
    """
    control: bool = True
    """Fit each probe on shuffled labels as well: what it reads then is not in the states (Hewitt and
    Liang 2019).
    """


class Watch(Part):
    """Looks at the model while it learns and forgets, for the order in which examples come and go."""

    points: int = Field(4, ge=0, le=1000)
    """Evenly spaced points within each stage, its ends aside; 0 leaves them out."""
    examples: Count = 100
    """Held-out examples scored at each point."""
