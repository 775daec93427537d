"""Rows as parquet files and as columns of a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forget.errors import BadInput
from forget.results.rows import Judged, Row, judge, judge_columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BY_OPTION = ("logprobs", "lengths", "weights")
"""Fields of Row that hold a number for each option."""

TEXTS = ("template", "audit", "dose")
"""Fields of Row that are empty texts by default."""

LATER = ("weights", "drawn", "probe", "value", *TEXTS)
"""Fields that files of before lack; they are read as their defaults."""


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write Rows into one parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for field in fields(Row):
        columns[field.name] = [getattr(row, field.name) for row in rows]
    table = pa.table(columns)
    pq.write_table(table, path, write_page_checksum=True)


def read_rows(path: Path) -> list[Row]:
    """Read Rows as `write_rows` left them, to the bit.

    Raises:
        BadInput: the file is damaged.
    """
    with _whole(path) as table:
        rows = []
        for record in table.to_pylist():
            by_option = {name: tuple(record[name]) for name in BY_OPTION}
            rows.append(Row(**{**record, **by_option}))
        return rows


def read_frame(path: Path) -> pd.DataFrame:
    """Read the Rows of a file as columns, without an object for each: there may be a million.

    The columns are the fields of Row other than those by option, the number of `options`, and the
    fields of Judged.

    Raises:
        BadInput: the file is damaged.
    """
    with _whole(path) as table:
        logprobs, lengths, weights = (table[name].combine_chunks() for name in BY_OPTION)
        options = np.diff(logprobs.offsets.to_numpy())
        judged = judge_columns(
            logprobs.flatten().to_numpy(),
            lengths.flatten().to_numpy(),
            options,
            table["truth"].to_numpy(),
            weights.flatten().to_numpy(),
            table["drawn"].cast("int64").fill_null(-1).to_numpy(),
        )
        return _framed(table.drop_columns(list(BY_OPTION)).to_pandas(), options, judged)


@contextmanager
def _whole(path: Path) -> Iterator[pa.Table]:
    """Open the table of a file of Rows.

    That its columns are not those of Rows shows only within the `with` block, whose errors become
    the same BadInput.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield _completed(pq.read_table(path, page_checksum_verification=True))
    # Arrow's errors are OSErrors, ValueErrors and KeyErrors; a column of other things than numbers
    # is a TypeError.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(
            f"{path}: not a file of Rows, or damaged ({reason}); remove its folder, and it is "
            "computed again"
        ) from error


def _completed(table: pa.Table) -> pa.Table:
    """Add the columns that Rows did not have before (LATER)."""
    import pyarrow as pa

    if "weights" not in table.column_names:
        options = table["lengths"].combine_chunks()
        ones = pa.array(np.ones(len(options.flatten())))
        table = table.append_column("weights", pa.ListArray.from_arrays(options.offsets, ones))
    if "drawn" not in table.column_names:
        table = table.append_column("drawn", pa.nulls(len(table), pa.int64()))
    for name in ("probe", "value"):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    for name in TEXTS:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([""] * len(table), pa.string()))
    return table


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return Rows at hand as the columns that `read_frame` reads from a file."""
    import pandas as pd

    names = [f.name for f in fields(Row) if f.name not in BY_OPTION]
    columns = {}
    for name in names:
        columns[name] = [getattr(row, name) for row in rows]
    return _framed(
        pd.DataFrame(columns), np.array([len(row.logprobs) for row in rows]), judge(rows)
    )


def _framed(columns: pd.DataFrame, options: np.ndarray, judged: Judged) -> pd.DataFrame:
    """Add `options` and the fields of `judged`; numbers that may be missing become floats."""
    may_lack = ("step", "similarity", "spread", "drawn", "probe", "value")
    numbers = {name: columns[name].astype(float) for name in may_lack}
    return columns.assign(
        **numbers, options=options, **{f.name: getattr(judged, f.name) for f in fields(Judged)}
    )
