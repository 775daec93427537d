"""Parts of the page: sections of text, figures and tables.

Each analysis has a room here that makes its own section.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from forget.results.estimates import Estimate

Datum = Estimate | str | float | int | None
"""An entry of a table. None is not measured; an Estimate may be missing, which is another thing."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    path: Path
    title: str
    note: str = ""

    @property
    def data(self) -> str:
        """The file as a data URI, so that the page needs nothing beside itself."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Table:
    """Rows that share their columns, on the page and beside it as <name>.csv.

    The file has value, low, high and n of each estimate.
    """

    name: str
    rows: Sequence[Mapping[str, Datum]]

    @property
    def header(self) -> list[str]:
        return list(self.rows[0])

    def write(self, folder: Path) -> Path:
        """Write the table as a CSV file into the folder."""
        path = folder / f"{self.name}.csv"
        estimated: set[str] = set()
        for row in self.rows:
            estimated.update(name for name, datum in row.items() if isinstance(datum, Estimate))
        write_csv(path, [_expanded(row, estimated) for row in self.rows])
        return path


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own."""

    id: str
    title: str
    text: str
    """One paragraph that says what is shown and how to read it."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def show(datum: Datum, digits: str = "z.2f") -> str:
    """Write an entry of a table as the page shows it."""
    if datum is None:
        return "\N{EN DASH}"
    if isinstance(datum, str | int):
        return str(datum)
    if isinstance(datum, float):
        return format(datum, ".2g" if 0 < abs(datum) < 0.005 else digits)
    if datum.value is None:
        return "missing"
    value, low, high = (format(number, digits) for number in datum.numbers)
    return value if datum.low is None else f"{value} [{low}, {high}]"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that share their columns, with a header; None is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({name: _no_formula(datum) for name, datum in row.items()})


def _no_formula(datum: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would take for a formula and compute."""
    if isinstance(datum, str) and datum.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{datum}"
    return datum


def _expanded(row: Mapping[str, Datum], estimated: Set[str]) -> dict[str, object]:
    """Spread each estimate over four columns.

    Args:
        row: of a table.
        estimated: the columns that hold an Estimate in some row of the table.
    """
    flat: dict[str, object] = {}
    for name, datum in row.items():
        if name not in estimated:
            flat[name] = datum
            continue
        four = name, f"{name} low", f"{name} high", f"{name} n"
        if isinstance(datum, Estimate):
            flat |= zip(four, (datum.value, datum.low, datum.high, datum.n), strict=True)
        else:
            flat |= dict.fromkeys(four)
    return flat
