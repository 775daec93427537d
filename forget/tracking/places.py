"""Places of a local database's files: MLflow notes absolute ones, and a study's folder may move."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from urllib.parse import unquote

COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Columns of MLflow's tables that hold places of files."""


@cache
def follow(file: Path, folder: Path) -> None:
    """Note in a database that its files lie beside it, where both were moved or copied together.

    Once a process and database. What lies elsewhere on purpose stays noted as it is.

    Args:
        file: the SQLite database.
        folder: the folder for files beside it.
    """
    if not (file.exists() and folder.is_dir()):
        return
    # A database that another process has just begun has no tables yet; one that is locked, damaged
    # or only to be read is for whoever uses it to speak of.
    with suppress(sqlite3.Error), closing(sqlite3.connect(file, timeout=10)) as database:
        for before in set(_elsewhere(database, folder)):
            with database:
                for table, column in COLUMNS.items():
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                        f"WHERE substr({column}, 1, ?) = ?",
                        (f"{folder.as_uri()}/", len(before) + 1, len(before), before),
                    )


def _elsewhere(database: sqlite3.Connection, folder: Path) -> Iterator[str]:
    """Yield where, by the database, files lie that are in the folder; each ends in a slash."""
    for (location,) in database.execute("SELECT artifact_location FROM experiments"):
        above, _, name = (location or "").rpartition("/")
        if not (above.startswith("file:///") and above.endswith(f"/{folder.name}")):
            continue
        there = Path(unquote(above.removeprefix("file://")))
        if there == folder or not (folder / unquote(name)).is_dir():
            continue
        # By a link, the same folder has another path.
        if not (there.is_dir() and os.path.samefile(there, folder)):
            yield f"{above}/"
