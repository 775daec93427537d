"""Draws of a trial: which examples it takes of which split, and for what use. Said here once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from forget import tasks
from forget.settings.parts import Probe
from forget.settings.trial import Trial
from forget.tasks.labels import shuffle_inputs
from forget.tasks.task import Example

Use = Literal[
    "learn",
    "forget",
    "trained",
    "near",
    "validate",
    "test",
    "watch",
    "watch_learn",
    "watch_forget",
]
"""Purpose for which a trial takes examples.

Two are for training: `learn` on true labels, `forget` on others. Four are scored in each phase:
`trained`, those of `forget` that are scored; `near`, paraphrases of examples in `forget`;
`validate`, by which the probes' penalty is chosen; `test`, held out. Three are scored while the
model trains: `watch`, held out; `watch_learn` and `watch_forget`, of those that the stage trains
on.
"""

SCORED: tuple[Use, ...] = ("trained", "near", "validate", "test")
"""Uses that a phase scores."""

OPTIONAL = ("near", "validation")
"""Splits that a task may lack; a trial then does without."""


@dataclass(frozen=True)
class Draw:
    """Examples that a trial takes of a split, for one use."""

    task: str
    split: str
    n: int
    """Examples at most; fewer where the split holds fewer."""
    use: Use


def draws(trial: Trial) -> tuple[Draw, ...]:
    """Return everything that a trial draws, in the order in which it is used.

    Of two draws of a split the smaller is a prefix of the larger, so `trained` and what is both
    learned and forgotten are no other examples.
    """
    own, limit = trial.task, trial.evaluation_examples
    found = [Draw(own, "train", trial.learn.examples, "learn")] if trial.taught else []
    found += [
        Draw(own, "train", trial.forget.examples, "forget"),
        Draw(own, "train", min(limit, trial.forget.examples), "trained"),
        Draw(own, "near", limit, "near"),
        Draw(own, "validation", trial.probe.examples, "validate"),
        *(Draw(task, "test", limit, "test") for task in trial.tasks),
    ]
    watch, until = trial.watch, trial.forget.until
    if watch.points:
        found.append(Draw(own, "test", watch.examples, "watch"))
    if watch.points and trial.taught:
        # The learned checkpoint keeps these looks, so they depend on nothing that comes later.
        n = min(watch.examples, trial.learn.examples)
        found.append(Draw(own, "train", n, "watch_learn"))
    if watch.points or until:
        # The same at every look, so that a curve is of one set of items.
        n = min(until.examples if until else watch.examples, trial.forget.examples)
        found.append(Draw(own, "train", n, "watch_forget"))
    return tuple(found)


def take(
    trial: Trial, draw: Draw, load: Callable[..., tuple[Example, ...]] = tasks.load
) -> tuple[Example, ...]:
    """Return the examples of a draw; none where the task lacks a split that is optional.

    Those that forgetting trains on are as it trains on them: in the arm "shuffled_inputs" with the
    prompts of others.

    Args:
        load: `tasks.load`, or a cache of it for whoever takes many draws.

    Raises:
        BadInput: an unknown task, a missing split, or data that cannot be read.
    """
    if draw.split in OPTIONAL and draw.split not in tasks.find(draw.task, trial.folders).splits:
        return ()
    asked = {
        "seed": trial.seed,
        "folders": trial.folders,
        "template": trial.template,
        "options": trial.options,
    }
    if draw.use != "near":
        found = load(draw.task, draw.split, draw.n, **asked)
        if draw.use == "forget" and trial.arm == "shuffled_inputs":
            return tuple(shuffle_inputs(found, trial.training_seed))
        return found
    # A near-duplicate counts where its original is trained on; one without a source always does.
    trained = {example.id for example in load(draw.task, "train", trial.forget.examples, **asked)}
    near = load(draw.task, draw.split, **asked)
    kept = [example for example in near if not example.source or example.source in trained]
    return tuple(kept[: draw.n])


def probe_parts(
    settings: Probe, train: Sequence[Example], validate: Sequence[Example]
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return the examples that probes are fit on, and those that their penalty is chosen by.

    A task without a validation split lends a fifth of its training examples for the latter.
    """
    train = train[: settings.examples]
    if validate:
        return train, validate
    cut = len(train) - max(1, len(train) // 5)
    return train[:cut], train[cut:]


def too_few_to_probe(
    task: str, settings: Probe, train: Sequence[Example], validate: Sequence[Example]
) -> str | None:
    """Say why no probe can be fit; return None where one can, or where none is asked for.

    Each part needs right and wrong answers. Every question has both, but a control deals its labels
    out anew, and of one question with two options both answers get the same.

    Args:
        task: whose examples they are.
        settings: how many examples the probes take.
        train: what they would be fit on.
        validate: what their penalty would be chosen by, if the task has a validation split.
    """
    if not settings.examples:
        return None
    parts = probe_parts(settings, train, validate)
    least = 3 if settings.control else 1
    if min(map(_answers, parts)) >= least:
        return None
    fit_on, choose_by = map(len, parts)
    lent = "" if validate else " (a fifth of the training examples)"
    return (
        f'task "{task}": too few examples for probes, {fit_on} to fit them on and '
        f"{choose_by}{lent} to choose their penalty by, "
        f"where each takes {2 if settings.control else 1} at least"
    )


def _answers(examples: Sequence[Example]) -> int:
    return sum(len(example.options) for example in examples)


@dataclass(frozen=True)
class Material:
    """The examples of a trial, by use."""

    learn: tuple[Example, ...]
    """Examples that are learned; none where the trial learns nothing."""
    forget: tuple[Example, ...]
    """Examples as forgetting trains on them."""
    trained: tuple[Example, ...]
    """Examples of `forget` that each phase scores."""
    near: tuple[Example, ...]
    """Paraphrases of examples in `forget`."""
    validate: tuple[Example, ...]
    """Examples for choosing the probes' penalty."""
    test: dict[str, tuple[Example, ...]]
    """Held-out examples by task, the trial's own first."""
    watch: tuple[Example, ...]
    """Held-out examples that are scored while the model learns and forgets."""
    watch_learn: tuple[Example, ...]
    """Examples of `learn` that are scored while it learns them."""
    watch_forget: tuple[Example, ...]
    """Examples of the train split that are scored while the model is trained to forget them."""


def gather(trial: Trial) -> Material:
    """Return the examples of all draws of a trial.

    Raises:
        BadInput: an unknown task, a missing split, or data that cannot be read.
    """
    load = cache(tasks.load)
    found = {(draw.use, draw.task): take(trial, draw, load) for draw in draws(trial)}
    own = {use: examples for (use, task), examples in found.items() if task == trial.task}
    return Material(
        learn=own.get("learn", ()),
        forget=own["forget"],
        trained=own["trained"],
        near=own["near"],
        validate=own["validate"],
        test={task: found["test", task] for task in trial.tasks},
        watch=own.get("watch", ()),
        watch_learn=own.get("watch_learn", ()),
        watch_forget=own.get("watch_forget", ()),
    )
