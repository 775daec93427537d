"""Examples of the forget sets that are more than a task's own, and what goes with what.

Said of `Trial.forget_set`; forget.tasks.draws takes what is made here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from forget import tasks
from forget.errors import BadInput
from forget.settings.trial import Trial
from forget.tasks import synthetic
from forget.tasks.task import Example, Task

Load = Callable[..., tuple[Example, ...]]
"""`tasks.load`, or a cache of it."""


def shared_out(n: int, shares: Sequence[float]) -> list[int]:
    """Share out a number of examples, by largest remainder (Hamilton's method).

    Of equal remainders the earlier share is given the example.

    Args:
        n: the examples.
        shares: with a sum of 1.
    """
    quotas = [n * share for share in shares]
    # A product such as 100 * 0.29 lies below the whole number that it is.
    counts = [math.floor(quota + 1e-9) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda place: counts[place] - quotas[place])
    for place in order[: n - sum(counts)]:
        counts[place] += 1
    return counts


def learned_counts(trial: Trial, sizes: Mapping[str, float]) -> dict[str, int]:
    """Count the examples that the learn stage takes of each task: equal shares.

    Args:
        trial: the trial.
        sizes: examples of each task's train split, or how many of them are wanted at most.
    """
    names = trial.learned_tasks
    n = int(min(trial.learn.examples, len(names) * min(sizes[name] for name in names)))
    return dict(zip(names, shared_out(n, [1 / len(names)] * len(names)), strict=True))


def mixed_counts(trial: Trial, sizes: Mapping[str, float]) -> dict[str, int]:
    """Count the examples that a mixture takes of each task, and under "" those that fill it up.

    Their sum is the same whatever the shares are: a task that is mixed has at least as many.

    Args:
        trial: one whose forget set is a mixture.
        sizes: as in `learned_counts`.
    """
    share = dict(trial.forget_set.tasks)
    names = trial.learned_tasks
    n = int(min(trial.forget.examples, *(sizes[name] for name in names)))
    shares = [share[name] for name in names]
    return dict(zip((*names, ""), shared_out(n, [*shares, 1 - math.fsum(shares)]), strict=True))


def asked(trial: Trial, template: str = "") -> dict[str, Any]:
    """Return the arguments of `tasks.load` that are a trial's.

    Args:
        trial: the trial.
        template: another template than the trial's own.
    """
    return {
        "seed": trial.seed,
        "folders": trial.folders,
        "template": template or trial.template,
        "options": trial.options,
    }


def learned(trial: Trial, task: str, load: Load) -> tuple[Example, ...]:
    """Return the examples of a task that the learn stage trains on."""
    sizes = _sizes(trial, trial.learn.examples, load)
    return load(task, "train", learned_counts(trial, sizes)[task], **asked(trial))


def forgotten(trial: Trial, task: str, load: Load) -> tuple[Example, ...]:
    """Return the examples of a task that the forget stage trains on, as it trains on them."""
    real = untouched(trial, task, load)
    return real + _made(trial, load) if task == trial.task else real


def looked_at(trial: Trial, load: Load) -> tuple[Example, ...]:
    """Return those of the trial's own task that the forget stage trains on, to be scored.

    What fills up a mixture is among them only where nothing else is of that task.
    """
    return untouched(trial, trial.task, load) or _made(trial, load)


def untouched(trial: Trial, task: str, load: Load, template: str = "") -> tuple[Example, ...]:
    """Return the examples of a task's train split that forgetting trains on with their own text."""
    kind = trial.forget_set.name
    if kind == "mix":
        counts = mixed_counts(trial, _sizes(trial, trial.forget.examples, load))
        # A draw of none would be one of the whole split.
        n = counts[task]
        return load(task, "train", n, **asked(trial, template)) if n else ()
    if kind not in ("own", "half"):
        return ()
    found = load(task, "train", trial.forget.examples, **asked(trial, template))
    return _of_half(found, trial.seed) if kind == "half" else found


def _of_half(examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """Keep the examples of half of their templates, drawn by the seed; one more of an odd number.

    Templates are dealt out in order of frequency, two by two, so that about half is kept of the
    examples as well.

    Raises:
        BadInput: they name one template at most, so that half of them is all.
    """
    count: dict[str, int] = {}
    for example in examples:
        count[example.template] = count.get(example.template, 0) + 1
    names = sorted(count, key=lambda name: (-count[name], name))
    task = examples[0].task
    if len(names) < 2:
        raise BadInput(
            f'forget_set = "half" takes half of a task\'s templates, and the examples of "{task}" '
            'name none or one: forget_set = "own" takes them all'
        )
    kept = set()
    for place in range(0, len(names), 2):
        pair = names[place : place + 2]
        kept.add(random.Random(f"{seed}/half/{task}/{place}").choice(pair))
    return tuple(example for example in examples if example.template in kept)


def _made(trial: Trial, load: Load) -> tuple[Example, ...]:
    """Return the examples of the trial's own task with other texts than their own."""
    chosen, own = trial.forget_set, trial.task
    if chosen.name == "near":
        return _paraphrases(trial, load)
    begin, n = 0, trial.forget.examples
    if chosen.name == "mix":
        counts = mixed_counts(trial, _sizes(trial, n, load))
        begin, n = counts[own], counts[own] + counts[""]
    if begin == n or not (chosen.synthetic or chosen.task):
        return ()
    template, words = trial.template, asked(trial)
    del words["template"]
    items = tasks.records(own, "train", n, **words)
    if chosen.synthetic:
        train = tasks.records(own, "train", **words)
        changed = synthetic.made(items, train, chosen.synthetic, own, trial.seed)
    else:
        others = tasks.records(chosen.task, "train", n, **words)
        changed = synthetic.behind(items, others)
    return tasks.ask(changed, own, template, trial.folders)[begin:]


def _paraphrases(trial: Trial, load: Load) -> tuple[Example, ...]:
    """Return a paraphrase of each of the trial's own examples that has one, in their order."""
    near = load(trial.task, "near", **asked(trial))
    of: dict[str, Example] = {}
    for example in near:
        of.setdefault(example.source, example)
    originals = load(trial.task, "train", trial.forget.examples, **asked(trial))
    return tuple(of[example.id] for example in originals if example.id in of)


def originals(trial: Trial, load: Load) -> tuple[Example, ...]:
    """Return the trained examples that forgetting trains on in other words, each naming these."""
    of = {example.source: example.id for example in _paraphrases(trial, load)}
    found = load(trial.task, "train", trial.forget.examples, **asked(trial))
    return tuple(replace(one, source=of[one.id]) for one in found if one.id in of)


def _sizes(trial: Trial, n: int, load: Load) -> dict[str, float]:
    """Count the examples of each learned task's train split, n at most."""
    return {name: len(load(name, "train", n, **asked(trial))) for name in trial.learned_tasks}


def refusal(trial: Trial, find: Callable[[str, tuple[str, ...]], Task]) -> str | None:
    """Say why a trial's forget set, noise or labels do not go together; None where they do.

    Settings that would make a trial that others make already are refused as well.

    Args:
        trial: the trial.
        find: finds a task by name and folders.

    Raises:
        BadInput: a task is not there.
    """
    chosen, arm = trial.forget_set, trial.arm
    kind = chosen.name
    if trial.noise < 1 and arm in ("true", "shuffled_inputs"):
        return f'noise = {trial.noise:g} does not go with arm = "{arm}": ' + (
            "it draws no labels" if arm == "true" else "no label there is that of its prompt"
        )
    if kind == "own":
        return None
    if arm == "shuffled_inputs":
        return f'arm = "{arm}" permutes the task\'s own prompts: it goes with forget_set = "own"'
    if kind == "mix":
        return _mix_refusal(trial)
    splits = find(trial.task, trial.folders).splits
    if kind == "near" and "near" not in splits:
        return f'task "{trial.task}" has no split "near", which forget_set = "near" trains on'
    if kind == "other" and chosen.task == trial.task:
        return f'forget_set takes the texts of another task than "{trial.task}", which is forgotten'
    if kind == "other" and "train" not in find(chosen.task, trial.folders).splits:
        return f'task "{chosen.task}" has no split "train", whose texts forget_set takes'
    return None


def _mix_refusal(trial: Trial) -> str | None:
    shares = dict(trial.forget_set.tasks)
    if trial.task not in shares:
        return (
            f'forget_set mixes {", ".join(shares)}: the task that is forgotten, "{trial.task}", is '
            "to be one of them (with a share of 0, if it is only learned)"
        )
    if not trial.taught and 0 in shares.values():
        return (
            'a share of 0 in forget_set is a task that is only learned, and arm = "untaught" '
            "learns nothing: leave it out"
        )
    if trial.forget.until and not shares[trial.task]:
        return (
            f'forget.until looks at trained examples of "{trial.task}", of which forget_set has '
            "none: give its share, or take all steps"
        )
    return None
