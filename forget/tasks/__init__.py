"""Tasks by name, be they among those that ship, of the hub, or a user's own, and their examples."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from forget.errors import BadInput, nearest
from forget.settings.identity import digest
from forget.tasks import builtin, files, hub
from forget.tasks.task import (
    INSTRUCTED,
    TEMPLATES,
    UNSPACED,
    Example,
    Record,
    Task,
    binarise,
    render,
)


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
        template: "task" for the task's own prompt, or a name in TEMPLATES; of several, joined by
            "+", each example is asked in the next.
        options: "two" binarises: the true choice and one distractor drawn per (seed, task,
            split, example id), in drawn order (Zhang et al. 2024).

    Raises:
        BadInput: unknown task, split or template, or data that cannot be read.
    """
    found = records(task, split, n, seed, folders=folders, options=options)
    return ask(found, task, template, folders)


def records(
    task: str,
    split: str,
    n: int | None = None,
    seed: int = 0,
    *,
    folders: Sequence[str] = (),
    options: Literal["two", "all"] = "two",
) -> list[Record]:
    """Draw and order records of a split as `load` does, before they are asked.

    Raises:
        BadInput: unknown task or split, or data that cannot be read.
    """
    entry = find(task, folders)
    if split not in entry.splits:
        raise BadInput(f'task "{task}" has no split "{split}"; it has {", ".join(entry.splits)}')
    found = list(entry.records(split))
    if not found:
        raise BadInput(f'split "{split}" of task "{task}" is empty')
    random.Random(f"{seed}/{task}/{split}").shuffle(found)
    found = found[:n]
    if options == "two":
        found = [binarise(record, task, split, seed) for record in found]
    return found


def ask(
    records: Sequence[Record], task: str, template: str = "task", folders: Sequence[str] = ()
) -> tuple[Example, ...]:
    """Ask a task's records in the words of a template, as in `load`.

    Raises:
        BadInput: unknown task or template, or a task without the instruction that it needs.
    """
    entry = find(task, folders)
    words = [_words(entry, name) for name in template.split("+")]
    found = []
    for place, record in enumerate(records):
        prompt, option = words[place % len(words)]
        found.append(render(record, prompt, option, task, entry.instruction))
    return tuple(found)


def check_template(task: Task, template: str) -> None:
    """Refuse a template in which a task cannot be asked.

    Raises:
        BadInput: there is none of that name, it needs an instruction that the task lacks, or one of
            several stands there twice.
    """
    names = template.split("+")
    if len(set(names)) < len(names):
        raise BadInput(f'template "{template}" names a template twice')
    for name in names:
        _words(task, name)


def _words(task: Task, template: str) -> tuple[str, str]:
    """Return prompt and option, as format strings, in which a template asks a task."""
    if template == "task":
        return task.prompt, task.option
    if template not in TEMPLATES:
        raise BadInput(
            f'no template is named "{template}"{nearest(template, ("task", *TEMPLATES))}'
        )
    if template in INSTRUCTED and not task.instruction:
        raise BadInput(
            f'template "{template}" asks by an instruction, which task "{task.name}" lacks'
        )
    # After a line break an option begins with its word: a blank before it is another token.
    option = task.option.lstrip() if template in UNSPACED else task.option
    return TEMPLATES[template], option


def instructs(*templates: str) -> bool:
    """Tell whether one of the templates asks by a task's instruction."""
    return any(name in INSTRUCTED for name in "+".join(templates).split("+"))


def content(task: Task, instructed: bool = False) -> list[str]:
    """Return what tells a task's data and wording from another's.

    Args:
        task: the task.
        instructed: its instruction is part of the wording.
    """
    instruction = [task.instruction] if instructed else []
    return [task.name, task.prompt, task.option, task.fingerprint(), *instruction]


def fingerprint(names: Sequence[str], folders: Sequence[str] = (), instructed: bool = False) -> str:
    """Return the identity of the data and wording (see `content`) of several tasks.

    Raises:
        BadInput: no task has one of the names.
    """
    # The folders are looked through once, not for each name.
    known = catalogue(folders)
    return digest([content(_named(name, known), instructed) for name in names])


def _named(name: str, known: Mapping[str, Task]) -> Task:
    if name not in known:
        raise BadInput(f'no task is named "{name}"{nearest(name, known)}')
    return known[name]
