"""Labels a model is trained on; here alone labels are drawn, and the truth is kept beside each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from forget.settings.trial import LabelKind
from forget.tasks.task import Example


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example with the option it is trained on."""

    example: Example
    label: int
    """Index of the option to train on; the truth is `example.answer`."""


def true(examples: Sequence[Example]) -> list[Labelled]:
    """Label each example with its true option."""
    return [Labelled(example, example.answer) for example in examples]


def randomise(examples: Sequence[Example], seed: int, epoch: int = 0) -> list[Labelled]:
    """Draw each label uniformly over the options.

    A label depends on (seed, epoch, task, example id) alone: neither order nor selection of the
    examples changes it, and examples of two tasks that share an id share no coin.
    """
    labelled = []
    for example in examples:
        coin = random.Random(f"{seed}/{epoch}/{example.task}/{example.id}")
        label = coin.randrange(len(example.options))
        labelled.append(Labelled(example, label))
    return labelled


def flip(examples: Sequence[Example], seed: int) -> list[Labelled]:
    """Label each example with a wrong option: the other of two, or a drawn one of several."""
    labelled = []
    for example in examples:
        wrong = [option for option in range(len(example.options)) if option != example.answer]
        coin = random.Random(f"{seed}/{example.task}/{example.id}")
        labelled.append(Labelled(example, coin.choice(wrong)))
    return labelled


def fixed(examples: Sequence[Example], kind: LabelKind, seed: int) -> dict[str, int]:
    """Return the label of each example by its id; none where each epoch draws another.

    Args:
        examples: examples to label.
        kind: `Trial.labels`.
        seed: seed of the draws.
    """
    if kind == "random_each_epoch":
        return {}
    return {item.example.id: item.label for item in draw(examples, kind, seed, epoch=0)}


def draw(
    examples: Sequence[Example],
    kind: LabelKind,
    seed: int,
    epoch: int,
) -> list[Labelled]:
    """Draw the labels of a forgetting epoch.

    Args:
        examples: examples to label.
        kind: `Trial.labels`; only "random_each_epoch" takes another draw in each epoch.
        seed: seed of the draws.
        epoch: number of the epoch, from 0.
    """
    if kind == "flipped":
        return flip(examples, seed)
    return randomise(examples, seed, epoch if kind == "random_each_epoch" else 0)
