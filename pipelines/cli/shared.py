"""Arguments that several commands take, and the console that they print to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forget.settings import addresses

# A file or a pipe has no width; rich would break lines at 80 letters.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A TOML file, or the name of a spec that ships with the package."
    ),
]
Folders = Annotated[
    list[Path],
    typer.Option("--folder", help="A folder of your own tasks; may be given several times."),
]


def absolute(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the folders as a trial names them, relative to the working directory."""
    return tuple(str(addresses.folder(folder, "the task folder").resolve()) for folder in folders)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a header of empty words is left out."""
    table = Table(*header, box=None, show_header=any(header), pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
