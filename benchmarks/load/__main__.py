"""`python -m benchmarks.load`: load on the servers of a cluster, as processes of this machine.

Four parts, each on servers of its own: a sweep of many short trials through one driver and one
tracking server, many trials that log at once, a registered model with many versions, and a sweep
over many fake workers. Each counts what went wrong and has to find nothing. The numbers are written
to load.json, and from them the section "Load" of operations.md beside it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
import typer

from benchmarks.load import page
from benchmarks.load.cluster import cluster
from benchmarks.load.parts import PACE, loggers, trials, versions
from benchmarks.load.stack import Measurement, measured

PARTS: dict[str, tuple[Callable[[int, Measurement], None], int]] = {
    "trials": (trials, 2000),
    "loggers": (loggers, 50),
    "versions": (versions, 1000),
    "cluster": (cluster, 200),
}
"""Parts by name, each with its documented size."""


def main(
    only: Annotated[
        str, typer.Option(help=f"One of {', '.join(PARTS)}; by default all, one after the other.")
    ] = "",
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Of the part that --only names; by default what is documented."),
    ] = None,
    pace: Annotated[
        float, typer.Option(help="Seconds a step of a writer; less for a quick look.")
    ] = PACE,
    out: Annotated[Path, typer.Option(help="Folder of load.json and operations.md.")] = Path(
        "bench"
    ),
) -> None:
    """Load the platform, an hour on two cores.

    Exit code 1 where something went wrong under the load.
    """
    if only and only not in PARTS:
        raise typer.BadParameter(f"there is no part {only}; there are {', '.join(PARTS)}")
    if size and not only:
        raise typer.BadParameter("--size goes with --only")
    wrong = False
    out = out.absolute()
    # Fake workers in their documented number want a large machine: only where they are named.
    for part in [only] if only else [part for part in PARTS if part != "cluster"]:
        load, documented = PARTS[part]
        began = time.monotonic()

        def say(text: str, part: str = part, began: float = began) -> None:
            print(f"{part} {time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

        try:
            load = partial(loggers, pace=pace) if part == "loggers" else load
            found = measured(part, size or documented, load, say)
        # tests/servers.py raises this where a server is not installed.
        except pytest.skip.Exception as lacking:
            sys.exit(f"benchmarks.load: {lacking}")
        # Written after each part: a run that is interrupted keeps the others.
        page.write(page.beside(found, out), out)
        say(", ".join(f"{name}: {n}" for name, n in found.wrong.items()))
        wrong |= any(found.wrong.values())
    print(f"written: {out / 'load.json'}, {out / 'operations.md'}")
    raise typer.Exit(int(wrong))


if __name__ == "__main__":
    typer.run(main)
