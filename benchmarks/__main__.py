"""`python -m benchmarks`: every row, or some, as a table, as JSON and as a page."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import machine, page
from benchmarks.compare import Result, once, turns
from benchmarks.rooms import measured, named, rows
from forget.errors import BadInput


def grown(quick: bool, out: Path, tick: Callable[[str], None]) -> tuple[page.Grown, ...]:
    """Measure how cost grows with each size of a study.

    Args:
        quick: smaller sizes.
        out: folder of the figures, one for each size.
        tick: is told what has been measured.
    """
    # Imported here, as the rooms are, because that takes seconds.
    growth: Any = importlib.import_module("benchmarks.growth")
    with tempfile.TemporaryDirectory() as folder:
        curves = []
        for size in growth.sizes(quick, Path(folder)):
            curves.append(growth.measure(size))
            tick(f"{size.what}, by {size.of}")
    figures = growth.plot(curves, out)
    return tuple(
        page.Grown(
            what=curve.growth.what,
            of=curve.growth.of,
            values=curve.values,
            seconds=curve.seconds,
            megabytes=curve.megabytes,
            exponent=curve.exponent,
            bound=curve.growth.bound,
            figure=figure.name,
        )
        for curve, figure in zip(curves, figures, strict=True)
    )


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rows, on less.")] = False,
    only: Annotated[str, typer.Option(help="A room, or a part of a row's work.")] = "",
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Timed rounds, after the first pass, which is checked; 3 by default, quick 1.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for performance.json and performance.md.")
    ] = Path("bench"),
) -> None:
    """Time the platform side by side with what a user would pick instead.

    Exit code 1 where two sides are not equal.
    """
    rounds = rounds or (1 if quick else 3)
    chosen = {} if only == "growth" else named(quick, only)
    results: list[Result] = []
    record = page.Record(machine=machine.describe(), quick=quick, rounds=rounds, results=())
    if only:
        # Rows that are run again take the place of those in the folder.
        record = page.beside(record, out)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    total = 0
    for room, places in chosen.items():
        total += sum(turns(rows(room, quick)[at], rounds) for at in places)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total)
        for room, places in chosen.items():
            # Each room in a process of its own, and each row of a room that warms nothing up: in
            # one that has grown to gigabytes, a trial took half as long again.
            each = 1 if all(once(rows(room, quick)[at]) for at in places) else None
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=each) as alone:
                for at in places:
                    progress.update(bar, description=rows(room, quick)[at].work)
                    result = alone.submit(measured, room, quick, at, rounds).result()
                    progress.advance(bar, turns(rows(room, quick)[at], rounds))
                    results.append(result)
                    record = page.with_result(record, result)
                    # Written after each row: a run that is interrupted keeps what it has.
                    page.write(record, out)
    if only == "growth" or not (only or quick):
        record = record.model_copy(update={"growth": grown(quick, out, console.print)})
        page.write(record, out)
    wide = Console(width=None if console.is_terminal else 200)
    wide.print(page.table(record))
    wide.print(f"written: {out / 'performance.json'}, {out / 'performance.md'}")
    raise typer.Exit(int(not all(result.equal for result in results)))


if __name__ == "__main__":
    try:
        typer.run(main)
    except BadInput as error:
        sys.exit(f"benchmarks: {error}")
