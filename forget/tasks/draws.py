"""Draws of a trial: which examples it takes of which split, and for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from forget import tasks
from forget.settings.trial import Trial
from forget.tasks.task import Example


def _drawn(trial: Trial) -> Iterator[tuple[str, str, int]]:
    """(task, split, examples at most) of what the trial looks at (forget.tasks.draws.gather); of near-duplicates, the examples
    whose paraphrases they are.
    """
    yield trial.task, "train", max(trial.learn.examples, trial.forget.examples)
    yield trial.task, "validation", trial.probe.examples
    yield trial.task, "near", trial.forget.examples
    yield (
        trial.task,
        "test",
        max(trial.evaluation_examples, trial.watch.examples if trial.watch.points else 0),
    )
    for task in trial.tasks[1:]:
        yield task, "test", trial.evaluation_examples


@dataclass(frozen=True)
class Material:
    """The examples of a trial."""

    learn: tuple[Example, ...]
    forget: tuple[Example, ...]
    near: tuple[Example, ...]
    """Paraphrases of examples in `forget`."""
    validation: tuple[Example, ...]
    """For choosing the probes' penalty."""
    test: dict[str, tuple[Example, ...]]
    """By task, the trial's own first."""
    watched: tuple[Example, ...]
    """Held out, scored while the model learns and forgets."""


def gather(trial: Trial) -> Material:
    """Draw the examples of every split. The smaller of two draws is a prefix of the larger."""
    load = partial(
        tasks.load,
        seed=trial.seed,
        folders=trial.folders,
        template=trial.template,
        options=trial.options,
    )
    splits = tasks.find(trial.task, trial.folders).splits
    forget = load(trial.task, "train", trial.forget.examples)
    trained = {example.id for example in forget}
    near = load(trial.task, "near") if "near" in splits else ()
    near = tuple(example for example in near if not example.source or example.source in trained)
    return Material(
        learn=load(trial.task, "train", trial.learn.examples),
        forget=forget,
        near=near[: trial.evaluation_examples],
        validation=load(trial.task, "validation", trial.probe.examples)
        if "validation" in splits
        else (),
        test={task: load(task, "test", trial.evaluation_examples) for task in trial.tasks},
        watched=load(trial.task, "test", trial.watch.examples) if trial.watch.points else (),
    )
