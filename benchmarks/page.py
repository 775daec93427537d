"""Results as a table in the terminal, as JSON, and as the page that is made of the JSON alone."""

from __future__ import annotations

import ast
import statistics
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field
from rich.table import Table

from benchmarks.compare import Result
from forget.settings.parts import Part

ROOMS = (
    "scoring",
    "tuning",
    "compiling",
    "accelerators",
    "probes",
    "trials",
    "orchestration",
)
"""Modules of benchmarks with rows, each with `comparisons(quick)`; their docstrings are the page's
text.
"""

HERE = Path(__file__).parent


class Grown(Part):
    """Cost of a study by one of its sizes (benchmarks.growth.Curve)."""

    what: str
    of: str
    values: tuple[int, ...]
    seconds: tuple[float, ...]
    """Time of the processor, by value."""
    megabytes: tuple[float, ...]
    exponent: float
    bound: float
    """Largest exponent that is accepted."""
    figure: str
    """File beside the page."""
    machine: dict[str, str] = Field(default_factory=dict)
    """Machine and commit of an earlier run, as in `Result`."""


T = TypeVar("T", Result, Grown)


class Record(Part):
    """A run of the benchmarks."""

    machine: dict[str, str]
    quick: bool
    rounds: int
    results: tuple[Result, ...]
    growth: tuple[Grown, ...] = ()


def write(record: Record, folder: Path) -> None:
    """Write performance.json and performance.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.json").write_text(
        record.model_dump_json(indent=1) + "\n", encoding="utf-8"
    )
    (folder / "performance.md").write_text(page(record, reasons()), encoding="utf-8")


def read(folder: Path) -> Record:
    return Record.model_validate_json((folder / "performance.json").read_text(encoding="utf-8"))


def beside(record: Record, folder: Path) -> Record:
    """Return a new record with results and growth of the one in the folder, if of its kind."""
    if not (folder / "performance.json").exists() or (before := read(folder)).quick != record.quick:
        return record

    def earlier(one: T) -> T:
        machine = one.machine or before.machine
        return one.model_copy(update={"machine": {} if machine == record.machine else machine})

    results, growth = (tuple(map(earlier, part)) for part in (before.results, before.growth))
    return record.model_copy(update={"results": results, "growth": growth})


def with_result(record: Record, result: Result) -> Record:
    """Return the record with a result in the place of its row's, or at the end of its room."""

    def row(one: Result) -> tuple[str, str, str]:
        return one.room, one.work, one.against

    others = [result if row(one) == row(result) else one for one in record.results]
    if result not in others:
        others.append(result)
    return record.model_copy(
        update={"results": tuple(sorted(others, key=lambda one: ROOMS.index(one.room)))}
    )


def reasons() -> dict[str, str]:
    """Read, by work, why a row misses its target: written by hand, from the profile in the JSON."""
    return tomllib.loads((HERE / "why.toml").read_text(encoding="utf-8"))


def table(record: Record) -> Table:
    """Return the results as a table for a terminal."""
    found = Table("work", "against", title="quick" if record.quick else None)
    for name in ("ours", "theirs", "ratio (min-max)", "target", "met"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("equality")
    for result in record.results:
        colour = {True: "green", False: "red", None: "default"}[result.met]
        found.add_row(
            result.work,
            result.against,
            *cells(result)[:-1],
            f"[{colour}]{cells(result)[-1]}",
            result.note,
        )
    return found


def cells(result: Result) -> list[str]:
    """Return ours, theirs, ratio, target, met."""
    ours, theirs = _middle(result.ours, result.tokens), _middle(result.theirs, result.tokens)
    return [
        ours,
        theirs,
        _value(result),
        _target(result),
        {True: "yes", False: "no", None: "-"}[result.met],
    ]


def page(record: Record, why: dict[str, str]) -> str:
    """Return the text of docs/performance.md."""
    command = f"make bench{'-quick' if record.quick else ''}"
    where = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    rounds = sorted({len(result.ours) for result in record.results if result.ours}) or [
        record.rounds
    ]
    times = f"{' or '.join(map(str, rounds))} round{'s' if rounds[-1] > 1 else ''}"
    parts = [
        "# Performance",
        f"`{command}` does the same work here and with the tool you would pick instead, and times "
        "both. This page is made of performance.json, which also holds profiles of the rows that "
        "miss their target.",
        " ".join([f"Measured on: {where}.", *_elsewhere(record)]),
        "Each row was first checked for equal results. Then the two sides ran in turn in one "
        f"process, for {times}. Seconds are medians. A ratio is their time divided by ours in the "
        "same round: the median, and in brackets the least and the largest. Work that takes "
        "minutes is timed once, on the pass that is checked.",
        "On Kubernetes the first trial of `smoke` started 46 to 57 s after its submit, the images "
        "already on the node: [kubernetes.md](kubernetes.md#what-make-sweep-says) has the stages, "
        "[cluster-tests.md](cluster-tests.md) the cluster.",
        "Rows of a GPU are there where they were measured on one: `make bench ONLY=accelerators`, "
        "five minutes.",
    ]
    for room in ROOMS:
        results = [result for result in record.results if result.room == room]
        if not results:
            continue
        parts += [f"## {room.capitalize()}", _about(room), _rows(results)]
        for result in results:
            if result.met is False:
                parts.append(
                    f"**{result.work}** misses its target. {why.get(result.work, UNEXPLAINED)}"
                )
    if record.growth:
        parts += ["## Growth", _about("growth"), growth_table(record.growth)]
        parts += [f"![{one.what}, by {one.of}]({one.figure})" for one in record.growth]
    return "\n\n".join(parts) + "\n"


def _elsewhere(record: Record) -> list[str]:
    """Say which rows were measured on other machines, or other commits, and what differs there."""
    found: dict[str, list[str]] = {}
    named = [(one.machine, one.work) for one in record.results]
    named += [(one.machine, f"{one.what} by {one.of}") for one in record.growth]
    for machine, work in named:
        other = [pair for pair in machine.items() if pair not in record.machine.items()]
        if other:
            found.setdefault(", ".join(" ".join(pair) for pair in other), []).append(work)
    return [f"With {other}: {', '.join(works)}." for other, works in found.items()]


UNEXPLAINED = "Not explained yet: benchmarks/why.toml."


def _about(room: str) -> str:
    """Return the module's docstring, without importing what the module compares with."""
    (path,) = HERE.rglob(f"{room}.py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _rows(results: Sequence[Result]) -> str:
    head = ["work", "against", "ours", "theirs", "ratio", "target", "met", "equality"]
    return markdown(head, [[r.work, r.against, *cells(r), r.note] for r in results])


def growth_table(growth: Sequence[Grown]) -> str:
    """Return the table of growth in Markdown."""
    head = ["what", "of", "values", "seconds", "megabytes", "exponent", "at most", "met"]
    rows = []
    for one in growth:
        values = ", ".join(map(str, one.values))
        seconds = ", ".join(f"{n:.3g}" for n in one.seconds)
        megabytes = ", ".join(f"{n:.3g}" for n in one.megabytes)
        met = "yes" if one.exponent <= one.bound else "no"
        costs = [seconds, megabytes, f"{one.exponent:.2f}", f"{one.bound:g}"]
        rows.append([one.what, one.of, values, *costs, met])
    return markdown(head, rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = []
    for row in (head, ["---"] * len(head), *rows):
        line = " | ".join(cell.replace("|", "/") for cell in row)
        lines.append(f"| {line} |")
    return "\n".join(lines)


def _middle(seconds: Sequence[float], tokens: int) -> str:
    if not seconds:
        return "-"
    middle = statistics.median(seconds)
    return f"{middle:.2f} s" + (f", {tokens / middle:.0f} tokens/s" if tokens else "")


def _value(result: Result) -> str:
    if result.share is not None:
        return _share(result.share)
    if result.value is None:
        return "-"
    spread = (
        f" ({min(result.ratios):.1f}-{max(result.ratios):.1f})" if len(result.ratios) > 1 else ""
    )
    return f"{result.value:.1f}x{spread}"


def _target(result: Result) -> str:
    if result.target is None:
        return "-"
    size = _share(result.target) if result.share is not None else f"{result.target:g}x"
    return f"{'at most' if result.at_most else 'at least'} {size}"


def _share(value: float) -> str:
    return f"{value:.1%}"


if __name__ == "__main__":
    # python -m benchmarks.page docs: the page again, after benchmarks/why.toml was written.
    write(read(Path(sys.argv[1])), Path(sys.argv[1]))
