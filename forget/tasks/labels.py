"""Labels a model is trained on; here alone labels are drawn, and the truth is kept beside each."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forget.results.outcome import DrawnLabels
from forget.settings.trial import Arm
from forget.tasks.task import Example

FIXED: tuple[Arm, ...] = ("random", "balanced", "shuffled_inputs", "untaught", "flipped")
"""Arms that draw one label an example, whatever the epoch."""

COINS: tuple[Arm, ...] = ("random", "shuffled_inputs", "untaught")
"""Arms whose labels are drawn uniformly and apart from each other."""


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


def balance(examples: Sequence[Example], seed: int) -> list[Labelled]:
    """Draw labels of which, among examples with one true option, each is as frequent as any other.

    So the labels tell nothing of the truth, where coins by chance do a little: of two options half
    of the labels are right, of an odd number of examples one more or one fewer. The labels depend
    on (seed, task) and which examples they are, not on their order.
    """
    alike: dict[tuple[str, int, int], list[str]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        key = example.task, len(example.options), example.answer
        alike.setdefault(key, []).append(example.id)
    label: dict[tuple[str, str], int] = {}
    for (task, options, answer), ids in alike.items():
        draw = random.Random(f"{seed}/balanced/{task}/{options}/{answer}")
        # As many whole rounds of the options as there are, in an order that favours none at the
        # end.
        order = draw.sample(range(options), options)
        dealt = [order[place % options] for place in range(len(ids))]
        draw.shuffle(dealt)
        label |= {(task, id): dealt[place] for place, id in enumerate(ids)}
    return [Labelled(example, label[example.task, example.id]) for example in examples]


def flip(examples: Sequence[Example], seed: int) -> list[Labelled]:
    """Label each example with a wrong option: the other of two, or a drawn one of several."""
    labelled = []
    for example in examples:
        wrong = [option for option in range(len(example.options)) if option != example.answer]
        coin = random.Random(f"{seed}/{example.task}/{example.id}")
        labelled.append(Labelled(example, coin.choice(wrong)))
    return labelled


def shuffle_inputs(examples: Sequence[Example], seed: int) -> list[Example]:
    """Give each example the prompt of another one; id, options and answer stay its own.

    The permutation depends on (seed, task) and which examples they are, not on their order. None
    keeps its prompt, unless it is alone.
    """
    ordered = sorted(examples, key=lambda example: example.id)
    task = ordered[0].task if ordered else ""
    order = random.Random(f"{seed}/shuffled/{task}").sample(ordered, len(ordered))
    # A cycle through all of them: each takes the prompt of the next.
    neighbours = zip(order, order[1:] + order[:1], strict=True)
    prompt = {one.id: following.prompt for one, following in neighbours}
    return [replace(example, prompt=prompt[example.id]) for example in examples]


def place(task: str, id: str) -> str:
    """Name an example among those of several tasks."""
    return f"{task}/{id}" if task else id


def is_drawn(example: Example, seed: int, noise: float) -> bool:
    """Tell whether an example is among the share whose label is drawn (`Trial.noise`).

    It depends on seed, task and id alone, and an example of a share is one of any larger share.
    """
    return random.Random(f"{seed}/noise/{place(example.task, example.id)}").random() < noise


def fixed(examples: Sequence[Example], arm: Arm, seed: int, noise: float = 1.0) -> dict[str, int]:
    """Return the label of each example, by its `place`; none where it is not drawn once.

    Args:
        examples: examples to label.
        arm: `Trial.arm`.
        seed: seed of the draws.
        noise: `Trial.noise`.
    """
    if arm not in FIXED:
        return {}
    found = {}
    for item in draw(examples, arm, seed, 0, noise):
        found[place(item.example.task, item.example.id)] = item.label
    return found


def draw(
    examples: Sequence[Example], arm: Arm, seed: int, epoch: int, noise: float = 1.0
) -> list[Labelled]:
    """Label the examples of a forgetting epoch.

    Args:
        examples: examples to label; the prompts of shuffled inputs are permuted before.
        arm: `Trial.arm`; only "random_each_epoch" takes another draw in each epoch.
        seed: seed of the draws.
        epoch: number of the epoch, from 0.
        noise: share of the examples whose label is drawn; the others keep the true one.
    """
    if noise < 1:
        some = [example for example in examples if is_drawn(example, seed, noise)]
        drawn = {item.example: item for item in draw(some, arm, seed, epoch)}
        return [drawn.get(one, Labelled(one, one.answer)) for one in examples]
    if arm == "true":
        return true(examples)
    if arm == "flipped":
        return flip(examples, seed)
    if arm == "balanced":
        return balance(examples, seed)
    return randomise(examples, seed, epoch if arm == "random_each_epoch" else 0)


def described(
    examples: Sequence[Example], labels: Mapping[str, int], arm: Arm, noise: float = 1.0
) -> DrawnLabels | None:
    """Count how many of the labels that were drawn are right, and how often each option is drawn.

    Args:
        examples: the examples.
        labels: what was drawn for each (`fixed`).
        arm: `Trial.arm`.
        noise: `Trial.noise`.

    Returns:
        None where nothing was drawn once.
    """
    if not labels:
        return None
    n = len(examples)
    right = 0
    for example in examples:
        right += labels[place(example.task, example.id)] == example.answer
    counts = Counter(labels.values())
    options = max(len(example.options) for example in examples)
    z = None
    if arm in COINS and noise == 1:
        chances = [1 / len(example.options) for example in examples]
        deviation = math.sqrt(sum(chance * (1 - chance) for chance in chances))
        z = (right - sum(chances)) / deviation
    shares = tuple(counts[option] / n for option in range(options))
    return DrawnLabels(right=right / n, shares=shares, z=z)
