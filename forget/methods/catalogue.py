"""Methods of forgetting by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forget.methods.likelihood import Loss, ascent, cross_entropy


@dataclass(frozen=True)
class Method:
    """A way to forget: a loss, and the labels that it is taken of."""

    loss: Loss
    on: Literal["drawn", "true"]
    """Labels that are trained on: those drawn for it (`Trial.arm`), or the truth."""


METHODS = {
    "random_labels": Method(cross_entropy, "drawn"),
    "gradient_ascent": Method(ascent, "true"),
}
"""Methods by name (`Trial.method`). Adding one is a loss in a family's file, and an entry here."""
