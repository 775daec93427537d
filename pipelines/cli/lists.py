"""Commands that list models and tasks, export tasks, and check the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forget.errors import BadInput
from pipelines.cli.shared import Folders, absolute, console, print_table


def models() -> None:
    """List the models by name."""
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
    """List the tasks by name, or export some as folders of JSONL."""
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


def doctor() -> None:
    """Check what the platform stands on; every line that is not ok names its cure."""
    from pipelines.doctor import checks

    healthy = True
    for check in checks():
        mark, cure = "ok", ""
        if not check.ok:
            mark, cure = "not ok" if check.needed else "note", f": {check.cure}"
        console.print(f"{mark:<6}  {check.what}{cure}", markup=False, soft_wrap=True)
        healthy &= check.ok or not check.needed
    raise typer.Exit(0 if healthy else 1)
