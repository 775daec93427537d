"""`make faults`: every fault at every moment, on real sweeps, as a table that fills."""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

# As in the tests: nothing reaches for the network, and what is equal to the bit is so on one
# device.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table

from .check import undisturbed
from .faults import FAULTS, play
from .world import MOMENTS, Moment, Skipped, world

OK, SKIPPED, BAD = "as expected", "skipped", "NOT as expected"


def table(results: dict[tuple[str, Moment], str], faults: Sequence[str], status: str) -> Table:
    found = Table("fault", *MOMENTS, title=status, box=None, pad_edge=False)
    for fault in faults:
        found.add_row(fault, *(results.get((fault, moment), "") for moment in MOMENTS))
    return found


def markdown(results: dict[tuple[str, Moment], str], faults: Sequence[str]) -> str:
    rows = [["fault", *MOMENTS], ["---"] * (1 + len(MOMENTS))]
    for fault in faults:
        rows.append([fault, *(results.get((fault, moment), "") for moment in MOMENTS)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument(
        "--only", default="", help="a fault, or the beginning of its name; several with commas"
    )
    parser.add_argument("--out", type=Path, help="a file for the table as Markdown")
    words = parser.parse_args()
    wanted = tuple(words.only.split(","))
    faults = [fault for fault in FAULTS if fault.startswith(wanted)]
    if not faults:
        parser.error(f"no fault begins with {words.only}; there are {', '.join(FAULTS)}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    results: dict[tuple[str, Moment], str] = {}
    cells = list(itertools.product(faults, MOMENTS))
    spent: list[float] = []

    def status() -> str:
        left = (len(cells) - len(results)) * sum(spent) / len(spent) if spent else 0
        done = f"{len(results)} of {len(cells)}"
        return f"{done}, about {timedelta(seconds=round(left))} left" if left else done

    live = Live(
        console=console, get_renderable=lambda: table(results, faults, status()), transient=True
    )
    with (
        tempfile.TemporaryDirectory(prefix="forget-faults-") as folder,
        live if console.is_terminal else nullcontext(),
    ):
        console.print(
            "starting PostgreSQL, SeaweedFS and MLflow, and a sweep that nothing happens to"
        )
        with world(Path(folder)) as servers:
            expected = undisturbed(servers)
            for fault, moment in cells:
                began = time.monotonic()
                try:
                    problems = play(
                        servers, f"{fault}-{moment}", [(fault, moment)], expected
                    ).problems
                    results[fault, moment], why = BAD if problems else OK, "; ".join(problems)
                except Skipped as reason:
                    results[fault, moment], why = SKIPPED, str(reason)
                spent.append(time.monotonic() - began)
                line = f"{fault} while {moment}: {results[fault, moment]}{why and f', {why}'}"
                line += f" ({spent[-1]:.0f} s) [{status()}]"
                console.print(line, markup=False, soft_wrap=True)
    console.print(table(results, faults, ""))
    counts = Counter(results.values())
    console.print(", ".join(f"{counts[how]} {how}" for how in (OK, SKIPPED, BAD)))
    if words.out:
        words.out.write_text(markdown(results, faults), encoding="utf-8")
    return 1 if counts[BAD] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pytest.skip.Exception as reason:
        sys.exit(f"make faults: {reason}")
