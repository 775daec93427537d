"""What the page is made of: sections of text, figures and tables. Each analysis has a room that makes its own."""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from forget.results.metrics import Estimate

Entry = Estimate | str | float | int | None
"""None is not measured; an Estimate may be missing, which is another thing."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    path: Path
    title: str
    note: str = ""

    @property
    def data(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Table:
    """Rows that share their columns; on the page, and beside it as <name>.csv with value, low, high and n of each estimate."""

    name: str
    rows: Sequence[Mapping[str, Entry]]

    @property
    def header(self) -> list[str]:
        return list(self.rows[0])

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.csv"
        estimated = {
            name for row in self.rows for name, entry in row.items() if isinstance(entry, Estimate)
        }
        write_csv(path, [_expanded(row, estimated) for row in self.rows])
        return path


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    text: str
    """What is shown and how to read it, in one paragraph."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def show(entry: Entry, digits: str = "z.2f") -> str:
    """An entry as the page writes it."""
    if entry is None:
        return "\N{EN DASH}"
    if isinstance(entry, str | int):
        return str(entry)
    if isinstance(entry, float):
        return format(entry, ".2g" if 0 < abs(entry) < 0.005 else digits)
    if entry.value is None:
        return "missing"
    value, low, high = (format(number, digits) for number in entry.numbers)
    return value if entry.low is None else f"{value} [{low}, {high}]"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows that share their columns, with a header; None is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {name: _no_formula(entry) for name, entry in row.items()} for row in rows
            )


def _no_formula(entry: object) -> object:
    """A spreadsheet computes a text that begins like a formula, unless an apostrophe goes before it."""
    return (
        f"'{entry}"
        if isinstance(entry, str) and entry.startswith(("=", "+", "-", "@", "\t", "\r"))
        else entry
    )


def _expanded(row: Mapping[str, Entry], estimated: Set[str]) -> dict[str, object]:
    """
    Args:
        estimated: the columns that hold an Estimate in some row.
    """
    flat: dict[str, object] = {}
    for name, entry in row.items():
        if isinstance(entry, Estimate):
            flat |= {
                name: entry.value,
                f"{name} low": entry.low,
                f"{name} high": entry.high,
                f"{name} n": entry.n,
            }
        elif name in estimated:
            flat |= dict.fromkeys((name, f"{name} low", f"{name} high", f"{name} n"))
        else:
            flat[name] = entry
    return flat
