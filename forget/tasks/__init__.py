"""Tasks by name, be they among those that ship, of the hub, or a user's own, and their examples."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from forget.errors import BadInput, nearest
from forget.settings.identity import digest
from forget.tasks import builtin, files, hub
from forget.tasks.task import TEMPLATES, Example, Task, binarise, render


def find(name: str, folders: Sequence[str] = ()) -> Task:
    """Return the task of that name; a user's folder goes before what ships here.

    Raises:
        BadInput: no task has that name.
    """
    return _named(name, catalogue(folders))


def catalogue(folders: Sequence[str] = ()) -> dict[str, Task]:
    """Return every task by name."""
    return {**hub.TASKS, **builtin.TASKS, **files.tasks(folders)}


def load(
    task: str,
    split: str,
    n: int | None = None,
    seed: int = 0,
    *,
    folders: Sequence[str] = (),
    template: str = "task",
    options: Literal["two", "all"] = "two",
) -> tuple[Example, ...]:
    """Draw and order `n` examples of a split by the seed; a smaller n gives a prefix of a larger.

    Args:
        task: name of the task.
        split: one of the task's splits.
        n: number of examples; None, or more than the split holds, is the whole split.
        seed: seed of the order, and of the distractors.
        folders: folders of the user's tasks.
        template: "task" for the task's own prompt, or a name in TEMPLATES.
        options: "two" binarises: the true choice and one distractor drawn per (seed, task,
            split, example id), in drawn order (Zhang et al. 2024).

    Raises:
        BadInput: unknown task, split or template, or data that cannot be read.
    """
    entry = find(task, folders)
    if split not in entry.splits:
        raise BadInput(f'task "{task}" has no split "{split}"; it has {", ".join(entry.splits)}')
    if template != "task" and template not in TEMPLATES:
        raise BadInput(
            f'no template is named "{template}"{nearest(template, ("task", *TEMPLATES))}'
        )
    prompt = entry.prompt if template == "task" else TEMPLATES[template]
    records = list(entry.records(split))
    if not records:
        raise BadInput(f'split "{split}" of task "{task}" is empty')
    random.Random(f"{seed}/{task}/{split}").shuffle(records)
    records = records[:n]
    if options == "two":
        records = [binarise(record, task, split, seed) for record in records]
    return tuple(render(record, prompt, entry.option, task) for record in records)


def content(task: Task) -> list[str]:
    """Return what tells a task's data and wording from another's."""
    return [task.name, task.prompt, task.option, task.fingerprint()]


def fingerprint(names: Sequence[str], folders: Sequence[str] = ()) -> str:
    """Return the identity of the data and wording of several tasks.

    Raises:
        BadInput: no task has one of the names.
    """
    # The folders are looked through once, not for each name.
    known = catalogue(folders)
    return digest([content(_named(name, known)) for name in names])


def _named(name: str, known: Mapping[str, Task]) -> Task:
    if name not in known:
        raise BadInput(f'no task is named "{name}"{nearest(name, known)}')
    return known[name]
