"""Files of Rows: those of before today's columns are read as if they had them."""

from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from forget.results.files import LATER, read_frame, read_rows, write_rows
from forget.results.rows import Row

ROWS = [
    Row("t", "learned", "world", "test", str(number), number % 2, (-1.0, -2.0), (1, 1))
    for number in range(3)
]


@pytest.mark.parametrize("name", LATER)
def test_a_file_without_a_later_column_has_its_default(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(ROWS, path)
    pq.write_table(pq.read_table(path).drop_columns([name]), path)
    assert read_rows(path) == ROWS
    assert len(read_frame(path)) == len(ROWS)


def test_every_column_that_came_later_is_listed() -> None:
    """Files on servers are held to the columns of Row but for those."""
    first = {"trial", "phase", "task", "split", "example", "truth", "logprobs", "lengths"}
    first |= {"step", "similarity", "spread"}
    assert {one.name for one in fields(Row)} - first == {*LATER}
