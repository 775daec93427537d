"""Commands that list models and tasks and check the machine."""

from __future__ import annotations

import typer

from pipelines.cli.shared import Folders, _absolute, _print, app, console


@app.command("models")
def models_() -> None:
    """List the models by name."""
    from forget.models.catalogue import MODELS
    from forget.planning.plan import amount

    rows = [
        (
            name,
            amount(one.parameters),
            str(one.layers),
            amount(one.training_memory) + "B",
            one.source,
        )
        for name, one in MODELS.items()
    ]
    _print(("name", "parameters", "layers", "full fine-tuning", "source"), rows)
    console.print(
        '\nAny hub id or local folder works, too; "name/15" keeps the first 15 layers.',
        markup=False,
    )


@app.command("tasks")
def tasks_(folder: Folders = []) -> None:  # noqa: B006
    """List the tasks by name."""
    from forget.tasks import catalogue

    rows = [
        (task.name, task.kind, task.family, task.note)
        for task in catalogue(_absolute(folder)).values()
    ]
    _print(("name", "kind", "family", "note"), rows)


@app.command()
def doctor() -> None:
    """Check what the platform stands on; every line that is not ok names its cure."""
    from pipelines.doctor import checks

    healthy = True
    for check in checks():
        mark = "ok" if check.ok else "not ok" if check.needed else "note"
        console.print(
            f"{mark:<6}  {check.what}{'' if check.ok else f': {check.cure}'}",
            markup=False,
            soft_wrap=True,
        )
        healthy &= check.ok or not check.needed
    raise typer.Exit(0 if healthy else 1)
