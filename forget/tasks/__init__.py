"""Tasks by name: `load(task, split, n, seed)` gives Examples, be the task one that ships, one of the hub, or a user's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from forget.errors import BadInput, nearest
from forget.settings.identity import digest
from forget.tasks.task import TEMPLATES, Example, Task, binarise, render


def find(name: str, folders: Sequence[str] = ()) -> Task:
    """Return the task of that name; a user's folder goes before what ships here.

    Raises:
        BadInput: no task has that name.
    """
    known = catalogue(folders)
    if name not in known:
        raise BadInput(f'no task is named "{name}"{nearest(name, known)}')
    return known[name]


def catalogue(folders: Sequence[str] = ()) -> dict[str, Task]:
    """Every task by name."""
    from forget.tasks import builtin, files, hub

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
    """`n` examples of a split (all of them where it holds fewer or n is None), drawn and ordered by the seed.

    A smaller n gives a prefix of a larger one. With options "two" a task is binarised: the true
    choice and one distractor drawn per (seed, example id), in drawn order (Zhang et al. 2024).

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
    return tuple(
        render(binarise(r, seed) if options == "two" else r, prompt, entry.option)
        for r in records[:n]
    )


def content(task: Task) -> list[str]:
    """Return what tells a task's data and wording from another's."""
    return [task.name, task.prompt, task.option, task.fingerprint()]


def fingerprint(names: Sequence[str], folders: Sequence[str] = ()) -> str:
    """Return the identity of the data and wording of several tasks."""
    return digest([content(find(name, folders)) for name in names])
