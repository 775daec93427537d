"""Commands about a study: plan, sweep, report, compare, sync, ui."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from forget.errors import BadInput
from forget.settings import addresses
from forget.settings.reading import read_sweep, spec_path
from forget.settings.sweep import Sweep
from pipelines import INTERRUPTED
from pipelines.cli.shared import Spec, console, print_table

if TYPE_CHECKING:
    from forget.analyses import Study
    from forget.events import Event
    from forget.results.outcome import Outcome

Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="A study by the name of its experiment in MLflow, or its TOML file.",
    ),
]

UNMATCHED = 10
"""Cells without a partner that `forget compare` prints; the rest are in a file."""


def plan(spec: Spec) -> None:
    """Say what a sweep will cost, and what of it is done."""
    study = _study(spec)
    from forget.planning import audits
    from forget.planning.plan import plan
    from forget.preflight import expand
    from forget.storage.store import Store

    store = Store(study.store)
    expansion = expand(study, store)
    found = plan(expansion, store)
    print_table(("", ""), [*found.rows(), *audits.rows(expansion, store)])
    if reason := found.shortage():
        console.print(f"\nIt will not run here: {reason}.", markup=False)


def sweep(
    spec: Spec,
    address: Annotated[
        str | None, typer.Option(help='A running Ray cluster, e.g. "auto" on one of its nodes.')
    ] = None,
) -> None:
    """Run what is not finished of a sweep, here or on a cluster, then log and report it.

    Exit code 1 if a trial failed.
    """
    study = _study(spec)
    from pipelines.sweep import cluster

    if address in (None, "auto"):
        address = addresses.ray() or address
    # The commands take as long to import as Ray to start: both at once.
    threading.Thread(target=import_module, args=["pipelines.sweep.commands"]).start()
    try:
        with cluster(address):
            from pipelines.sweep import run

            result = run(study, spec_path(spec).read_text(encoding="utf-8"), address)
    except KeyboardInterrupt:
        _say_how_to_go_on(spec)
    if result.outcomes:
        _print_outcomes(result.outcomes, study)
    for failure in result.failures:
        console.print(
            f"failed: {failure.trial.task} ({failure.id}): {failure.reason}",
            markup=False,
            soft_wrap=True,
        )
    for reason in result.missing:
        console.print(f"missing: {reason}", markup=False, soft_wrap=True)
    if result.interrupted:
        _say_how_to_go_on(spec)
    if result.report:
        console.print(f"report: {result.report}\nall runs: forget ui", markup=False)
    if result.link:
        console.print(result.link, markup=False, soft_wrap=True)
    raise typer.Exit(1 if result.failures else 0)


def report(spec: Spec) -> None:
    """Write the report over what has finished of a sweep."""
    study = _study(spec)
    from forget.storage.store import Store
    from pipelines.reports import write_report

    console.print(f"report: {write_report(study, Store(study.store)).page}", markup=False)


def compare(first: Experiment, second: Experiment) -> None:
    """Print and draw the difference between two studies, with intervals.

    It is made from what the tracking server has of them.
    """
    from forget.analyses.compare import compare as differences
    from forget.report.compare import folder_name, write
    from forget.report.section import show
    from pipelines import reports

    names = _experiment(first), _experiment(second)
    if why := reports.no_place(folder := folder_name(*names)):
        raise BadInput(why)
    studies = [_fetch(name) for name in names]
    found = differences(*studies)
    for letter, name, study in zip("AB", names, studies, strict=True):
        console.print(
            f"{letter}: {name}, finished trials: {len(study.outcomes)}",
            markup=False,
            soft_wrap=True,
        )
    for key, (ours, theirs) in found.settings.items():
        console.print(f"{key}: {ours} against {theirs}", markup=False, soft_wrap=True)
    if not found.settings:
        console.print("The two do not differ in their settings.")
    header = [
        "setting",
        "measure",
        "task",
        "split",
        "A",
        "B",
        "B - A [95 % interval]",
        "adjusted p",
    ]
    rows = []
    for line in (*found.lines, *found.means):
        if line.headline:
            numbers = [show(entry, "z.3f") for entry in (line.a, line.b, line.difference)]
            adjusted = "" if line.adjusted is None else f"{line.adjusted:.3f}"
            measure = line.measure.replace("_", " ")
            rows.append([line.at, measure, line.task, line.split, *numbers, adjusted])
    # Where nothing varies within the studies, the first column is empty.
    keep = slice(None) if any(row[0] for row in rows) else slice(1, None)
    print_table(header[keep], [row[keep] for row in rows])
    for one in found.unmatched[:UNMATCHED]:
        console.print(
            f"only in {one.study}: {one.task} {one.at}".rstrip(), markup=False, soft_wrap=True
        )
    if (more := len(found.unmatched) - UNMATCHED) > 0:
        console.print(f"{more} more cells without a partner: unmatched.csv")
    for path in write(found, *names, reports.FOLDER / folder):
        console.print(str(path), markup=False, soft_wrap=True)


def ui(
    port: Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Of this machine.")] = 5000,
) -> None:
    """Serve MLflow's pages over the runs, and open the newest study."""
    from forget.tracking import tracking_uri, ui_command
    from pipelines import opening

    if (uri := tracking_uri()).startswith("http"):
        opening.show(uri)
    else:
        command, environment = ui_command(port)
        opening.show_once_up(f"http://127.0.0.1:{port}", {})
        os.execve(command[0], command, os.environ | environment)


def sync(spec: Spec) -> None:
    """Send the tracking server what it lacks of a sweep."""
    study = _study(spec)
    from forget.storage.store import Store
    from pipelines.sweep import send

    sent, link = send(study, spec_path(spec).read_text(encoding="utf-8"), Store(study.store))
    console.print(f"trials sent: {sent}")
    if link:
        console.print(link, markup=False, soft_wrap=True)


def _study(spec: str) -> Sweep:
    """Read a spec, where the addresses in the environment could be used."""
    addresses.check()
    return read_sweep(spec)


def _experiment(word: str) -> str:
    """Return the name of an experiment, or that of the study in a file.

    A file that is not there is taken for a name, since a name may end in .toml.
    """
    return read_sweep(word).name if word.endswith(".toml") and Path(word).exists() else word


def _fetch(name: str) -> Study:
    """Fetch the study of an experiment; a bar on stderr shows how much of it is here."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from forget.events import StageStarted, Step
    from forget.tracking import load_study

    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=stderr, transient=True, disable=not stderr.is_terminal
    ) as progress:
        bar = progress.add_task(name, total=None)

        def tell(event: Event) -> None:
            if isinstance(event, StageStarted):
                progress.update(bar, total=event.steps)
            elif isinstance(event, Step):
                progress.update(bar, completed=event.step)

        return load_study(name, tell)


def _print_outcomes(outcomes: Sequence[Outcome], study: Sweep) -> None:
    from pipelines.progress import label, numbers

    rows = []
    for outcome in outcomes:
        shown = ["" if n is None else f"{n:.3f}" for n in numbers(outcome).values()]
        rows.append([label(outcome.trial, study), *shown])
    print_table(("trial", *numbers(outcomes[0])), rows)


def _say_how_to_go_on(spec: str) -> NoReturn:
    console.print(f"stopped; go on with: forget sweep {spec}", markup=False, soft_wrap=True)
    raise typer.Exit(INTERRUPTED)
