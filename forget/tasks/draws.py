"""Draws of a trial: which examples it takes of which split, and for what use. Said here once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Literal

from forget import tasks
from forget.settings.parts import Probe
from forget.settings.trial import Trial
from forget.tasks.labels import shuffle_inputs
from forget.tasks.task import Example

Use = Literal[
    "learn",
    "forget",
    "retain",
    "trained",
    "near",
    "similar",
    "test",
    "probe",
    "watch",
    "watch_learn",
    "watch_forget",
]
"""Purpose for which a trial takes examples.

Three are for training: `learn` on true labels, `forget` on others, `retain` on the true ones of
other tasks. Five are scored in each phase:
`trained`, those of `forget` that are scored; `near`, paraphrases of examples in `forget`;
`similar`, held out, of the templates that are trained on; `test`, held out; `probe`, held out, the
first of `test` and perhaps more. Three are scored while the model trains: `watch`, held out;
`watch_learn` and `watch_forget`, of those that the stage trains on.
"""

SCORED: tuple[Use, ...] = ("trained", "near", "similar", "test", "probe")
"""Uses that a phase scores. What is in `test` and in `probe` is scored once."""

OPTIONAL = ("near", "similar")
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
        Draw(own, "similar", limit, "similar"),
        *(Draw(task, "test", limit, "test") for task in trial.tasks),
    ]
    if trial.probe.examples:
        found.append(Draw(own, "test", trial.probe.examples, "probe"))
    retain = trial.retain
    if retain and retain.tasks:
        for number, task in enumerate(retain.tasks):
            # Shared out evenly; the first ones have one more where it does not come out even.
            share = (retain.examples + len(retain.tasks) - 1 - number) // len(retain.tasks)
            found.append(Draw(task, "train", share, "retain"))
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
    if draw.use not in ("near", "similar"):
        found = load(draw.task, draw.split, draw.n, **asked)
        if draw.use == "forget" and trial.arm == "shuffled_inputs":
            return tuple(shuffle_inputs(found, trial.training_seed))
        return found
    # What is like a trained example counts where that is trained on: the original of a
    # near-duplicate, or another example of the template. What names none always counts.
    trained = load(draw.task, "train", trial.forget.examples, **asked)
    ids = {"", *(example.id for example in trained)}
    templates = {"", *(example.template for example in trained)}
    kept = [
        example
        for example in load(draw.task, draw.split, **asked)
        if example.source in ids and example.template in templates
    ]
    return tuple(kept[: draw.n])


LEAST_PROBED = 10
"""Fewest questions that probes are fit on: a control deals their labels out anew, and every fit
needs some that are called right and some that are called wrong.
"""

LEAST_GROUPS = 5
"""Fewest sources of the questions that probes are fit on: each of five folds has its own."""


def too_few_to_probe(
    task: str, settings: Probe, trained: Sequence[Example], held_out: Sequence[Example]
) -> str | None:
    """Say why no probe can be fit; return None where one can, or where none is asked for.

    Args:
        task: whose examples they are.
        settings: how many examples the probes take, and of which split they are fit.
        trained: examples that forgetting trains on.
        held_out: examples of the test split.
    """
    if not settings.examples:
        return None
    if settings.fit_on == "trained":
        fit_on, name = trained[: settings.examples], "trained"
    else:
        fit_on, name = held_out[: settings.examples], "held-out"
    if len(fit_on) < LEAST_PROBED:
        return (
            f'task "{task}": too few examples for probes, {len(fit_on)} {name} questions to fit '
            f"them on where they take {LEAST_PROBED} at least"
        )
    sources = len({example.group for example in fit_on})
    if sources < LEAST_GROUPS:
        return (
            f'task "{task}": too few examples for probes, {len(fit_on)} {name} questions of '
            f"{sources} sources to fit them on where they take {LEAST_GROUPS} sources at least"
        )
    return None


@dataclass(frozen=True)
class Material:
    """The examples of a trial, by use."""

    learn: tuple[Example, ...]
    """Examples that are learned; none where the trial learns nothing."""
    forget: tuple[Example, ...]
    """Examples as forgetting trains on them."""
    retain: tuple[Example, ...]
    """Examples of other tasks that are kept while the model forgets; none without a retain set."""
    trained: tuple[Example, ...]
    """Examples of `forget` that each phase scores."""
    near: tuple[Example, ...]
    """Paraphrases of examples in `forget`."""
    similar: tuple[Example, ...]
    """Held-out examples of the templates that `forget` has."""
    test: dict[str, tuple[Example, ...]]
    """Held-out examples by task, the trial's own first."""
    probe: tuple[Example, ...]
    """Held-out examples that probes are asked."""
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
        retain=tuple(chain.from_iterable(found["retain", task] for task in trial.retained)),
        trained=own["trained"],
        near=own["near"],
        similar=own["similar"],
        test={task: found["test", task] for task in trial.tasks},
        probe=own.get("probe", ()),
        watch=own.get("watch", ()),
        watch_learn=own.get("watch_learn", ()),
        watch_forget=own.get("watch_forget", ()),
    )
