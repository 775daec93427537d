"""Commands that list models and tasks, export tasks, and check the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forget.errors import BadInput
from pipelines.cli.shared import Folders, absolute, console, print_table


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A model to load and try.")
    ] = None,
) -> None:
    """List the models by name, or say how one is computed, and why."""
    if name is not None:
        _say_how(name)
        return
    from forget.models.catalogue import MODELS
    from forget.planning.amounts import amount

    rows = []
    for name, one in MODELS.items():
        memory = amount(one.training_memory) + "B"
        rows.append((name, amount(one.parameters), str(one.layers), memory, one.source))
    print_table(("name", "parameters", "layers", "full fine-tuning", "source"), rows)
    console.print(
        '\nAny hub id or local folder works, too; "name/15" keeps the first 15 layers.',
        markup=False,
    )


def _say_how(name: str) -> None:
    """Load a model and say how its answers are computed, and what that costs."""
    from forget.models import batches, checking, loading
    from forget.models.memory import naming_cures
    from forget.planning.amounts import amount

    with naming_cures():
        model = loading.load(name)
    kind = type(model.network).__name__
    reads = batches.reach(model.network)
    most = f"reads {reads} tokens" if reads < 2**31 else "reads texts of any length"
    lines = [f"{name}: {kind}, {amount(model.parameters)} parameters, {most}"]
    lines += checking.explained(model)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def tasks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="The tasks to export.")
    ] = None,
    folder: Folders = [],  # noqa: B006  typer copies it
    export: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the tasks there, in the form of your own."),
    ] = None,
) -> None:
    """List the tasks by name and the kinds of forget sets, or export some as folders of JSONL."""
    from forget.settings.forget_set import WORDS
    from forget.tasks import catalogue, find
    from forget.tasks.files import write_tasks

    folders = absolute(folder)
    if bool(names) != bool(export):
        raise BadInput(
            "to export tasks, give a folder and names: forget tasks --export FOLDER NAME"
        )
    if names and export:
        chosen = [find(name, folders) for name in dict.fromkeys(names)]
        for path in write_tasks(chosen, export.expanduser()):
            console.print(str(path), markup=False, soft_wrap=True)
        return
    rows = [(task.name, task.kind, task.family, task.note) for task in catalogue(folders).values()]
    print_table(("name", "kind", "family", "note"), rows)
    console.print("\nA trial forgets a task's own examples, or as `forget_set`:\n", markup=False)
    print_table(("forget_set", "examples"), [*WORDS.items()])


def doctor(
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A model to load and try as well.")
    ] = None,
) -> None:
    """Check what the platform stands on; every line that is not ok names its cure."""
    from pipelines.doctor import checks

    healthy = True
    for check in checks(model):
        mark, cure = "ok", ""
        if not check.ok:
            mark, cure = "not ok" if check.needed else "note", f": {check.cure}"
        console.print(f"{mark:<6}  {check.what}{cure}", markup=False, soft_wrap=True)
        healthy &= check.ok or not check.needed
    raise typer.Exit(0 if healthy else 1)
