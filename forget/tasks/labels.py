"""The labels a model is trained on. The only random draw over labels; the truth is kept beside each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forget.tasks.task import Example


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example with the option it is trained on."""

    example: Example
    label: int
    """Index of the option to train on; the truth is `example.answer`."""


def true(examples: Sequence[Example]) -> list[Labelled]:
    return [Labelled(example, example.answer) for example in examples]


def randomise(examples: Sequence[Example], seed: int, epoch: int = 0) -> list[Labelled]:
    """Labels uniform over the options, a function of (seed, epoch, example id) alone: order and selection change none."""
    draws = (
        random.Random(f"{seed}/{epoch}/{example.id}").randrange(len(example.options))
        for example in examples
    )
    return [Labelled(example, draw) for example, draw in zip(examples, draws, strict=True)]


def flip(examples: Sequence[Example], seed: int) -> list[Labelled]:
    """A wrong option for each: the other of two, or a drawn one of several."""
    labelled = []
    for example in examples:
        wrong = [option for option in range(len(example.options)) if option != example.answer]
        labelled.append(Labelled(example, random.Random(f"{seed}/{example.id}").choice(wrong)))
    return labelled


def draw(
    examples: Sequence[Example],
    kind: Literal["random", "random_each_epoch", "flipped"],
    seed: int,
    epoch: int,
) -> list[Labelled]:
    """The labels of a forgetting epoch (`Trial.labels`)."""
    if kind == "flipped":
        return flip(examples, seed)
    return randomise(examples, seed, epoch if kind == "random_each_epoch" else 0)
