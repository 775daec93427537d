"""The section "Load" of docs/operations.md, made of load.json alone."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.load.watching import Used
from benchmarks.load.wire import Kind
from benchmarks.page import markdown
from forget.settings.parts import Part

PARTS = ("trials", "loggers", "versions", "cluster")

TRIALS = 10
"""Trials for each worker of the part "cluster"."""

HEADING = "## Load"


class Grown(Part):
    """Times that a question to the registry takes, by number of versions."""

    question: str
    versions: tuple[int, ...]
    middle: tuple[float, ...]
    """Milliseconds by number of versions, the median."""
    worst: tuple[float, ...]


class Load(Part):
    """A part of benchmarks.load, measured."""

    part: str
    size: int
    """Trials, processes, versions or workers."""
    machine: dict[str, str]
    seconds: float
    others: float
    """Share of the processor that processes had which have nothing to do with it."""
    rates: dict[str, float]
    wrong: dict[str, int]
    """By what went wrong, how often."""
    kinds: tuple[Kind, ...]
    used: dict[str, Used]
    """By group of processes."""
    growth: dict[str, float]
    """Bytes for each unit of the size, by what grew."""
    profiles: dict[str, tuple[str, ...]]
    grown: tuple[Grown, ...] = ()


class Record(Part):
    """Every part that was measured."""

    loads: tuple[Load, ...] = ()


def read(folder: Path) -> Record:
    path = folder / "load.json"
    return (
        Record.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Record()
    )


def beside(load: Load, folder: Path) -> Record:
    """Return the folder's record with this part in the place of the one of its name."""
    others = [one for one in read(folder).loads if one.part != load.part]
    return Record(loads=tuple(sorted([*others, load], key=lambda one: PARTS.index(one.part))))


def write(record: Record, folder: Path) -> None:
    """Write load.json, and the section of operations.md; all other sections stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    path = folder / "operations.md"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Operations\n"
    path.write_text(with_section(text, section(record, prose())), encoding="utf-8")


def with_section(page: str, section: str) -> str:
    """Return the page with the section in the place of the one of its heading, or at the end."""
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    if not found:
        return f"{page.rstrip()}\n\n{section}"
    rest = page[found.end() :]
    return page[: found.start()] + section + (f"\n{rest}" if rest else "")


def prose() -> dict[str, str]:
    """Read, by part, the text by hand: what was loaded, the bottleneck, and the remedy."""
    return tomllib.loads((Path(__file__).parent / "prose.toml").read_text(encoding="utf-8"))


def section(record: Record, prose: Mapping[str, str]) -> str:
    """Return the section in Markdown."""
    parts = [HEADING, prose["opening"]]
    for load in record.loads:
        what = "workers of a cluster" if load.part == "cluster" else load.part
        parts += [f"### {load.size:,} {what}", prose[load.part]]
        parts += [_circumstances(load), _took(load)]
        if load.grown:
            parts.append(_grown(load.grown))
        if load.part == "cluster":
            parts.append(_limits(load))
        parts.append(prose[f"{load.part}-bottleneck"])
    parts.append(prose["closing"])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _circumstances(load: Load) -> str:
    wrong = ", ".join(f"{name} {number}" for name, number in load.wrong.items() if number)
    rates = ", ".join(
        f"{rate:,.0f} {name}" if rate >= 10 else f"{rate:.1f} {name}"
        for name, rate in load.rates.items()
    )
    where = ", ".join(
        f"{name} {load.machine[name]}" for name in ("processor", "cores", "mlflow", "commit")
    )
    busy = (
        f" Other programs had {load.others:.0%} of the processor meanwhile:"
        " on a quiet machine it is faster."
        if load.others > 0.1
        else ""
    )
    # The last kind sums up all requests (wire.kinds).
    every = load.kinds[-1]
    answered = f"Half of its {every.calls:,} requests were answered within {every.p50:.0f} ms"
    took = f"It took {load.seconds:.0f} s ({where}): {rates}.{busy}"
    return f"{took} {answered}. Went wrong: {wrong or 'nothing'}."


def _took(load: Load) -> str:
    rows = []
    for group, used in load.used.items():
        # What the benchmark itself takes is of interest where the writers are its children.
        if group != "benchmark" or load.part == "loggers":
            memory = [f"{megabytes:.0f} MB" for megabytes in (used.megabytes, used.early)]
            rows.append(
                [group, str(used.processes), *memory, f"{used.processor / load.seconds:.2f}"]
            )
    growth = ", ".join(f"{name} {_bytes(size)}" for name, size in load.growth.items())
    units = {"trials": "trial", "loggers": "trial", "versions": "version", "cluster": "worker"}
    unit = units[load.part]
    head = [
        "",
        "processes",
        "memory at its peak",
        "after a tenth of the time",
        "processors busy, mean",
    ]
    return f"{markdown(head, rows)}\n\nEach {unit} adds: {growth}."


def _limits(load: Load) -> str:
    """Say how many trials the processes carry that all workers share, and which gives way first."""
    shared = {"the server": "server", "the driver": "driver", "Ray's head": "Ray's head"}
    took = {
        name: load.used[group].processor / (TRIALS * load.size) for name, group in shared.items()
    }
    each = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in took.items())
    carried = ", ".join(f"{60 / seconds:,.0f} of {name}" for name, seconds in took.items())
    worker = load.used["workers"].megabytes / load.size
    first = max(took, key=lambda name: took[name])
    return (
        f"For each trial a processor worked: {each}; so one processor carries at most, in a minute "
        f"and of trials that do no work, {carried}. **Where each has one processor, the first limit"
        f" is {first}.** Each fake worker took {worker:.0f} MB of this machine's memory."
    )


def _bytes(size: float) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 1024:.0f} kB"


def _grown(grown: Sequence[Grown]) -> str:
    head = ["versions", *(f"{n:,}" for n in grown[0].versions)]
    rows = []
    for one in grown:
        times = zip(one.middle, one.worst, strict=True)
        rows.append([one.question, *(f"{middle:.0f} ({worst:.0f})" for middle, worst in times)])
    about = "Milliseconds by number of versions, the median and in brackets the worst:"
    return f"{about}\n\n{markdown(head, rows)}"


if __name__ == "__main__":
    # python -m benchmarks.load.page docs: the section again, after benchmarks/load/prose.toml was
    # written.
    write(read(Path(sys.argv[1])), Path(sys.argv[1]))
