"""Methods of forgetting by name."""

from __future__ import annotations

from dataclasses import dataclass

from forget.methods.likelihood import Loss, ascent, cross_entropy


@dataclass(frozen=True)
class Method:
    loss: Loss
    on: str
    """The labels it is trained on: "drawn" (`Trial.labels`) or "true"."""


METHODS = {
    "random_labels": Method(cross_entropy, "drawn"),
    "gradient_ascent": Method(ascent, "true"),
}
