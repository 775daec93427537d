"""The database of runs where no server stands before it: made whole, its errors one sentence."""

import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils

from forget.tracking.connection import Unreachable, Unusable, connect, reaching

TOGETHER = multiprocessing.get_context("fork")
"""Processes that have imported what this one has."""


@pytest.fixture
def uri(tmp_path: Path, database: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def write(uri: str) -> None:
    with reaching(uri):
        connect(uri).create_experiment("study")


def test_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'runs.db'}"
    names = ("a", "b", "c")
    start = TOGETHER.Barrier(len(names))

    def first(name: str) -> None:
        start.wait(60)
        with reaching(uri):
            client = connect(uri)
            client.create_run(client.create_experiment(name))

    processes = [TOGETHER.Process(target=first, args=[name]) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {one.name for one in connect(uri).search_experiments()} == {"Default", *names}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["runs.db"]


def test_whoever_is_killed_leaves_no_half_of_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(engine: object) -> None:
        raise KeyboardInterrupt

    # When the first tables are there.
    monkeypatch.setattr(utils, "_upgrade_db", killed)
    with pytest.raises(KeyboardInterrupt):
        connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as made:
        made.execute("update alembic_version set version_num = 'ffffffffffff'")


def newer_without_a_table(path: Path) -> None:
    newer(path)
    with sqlite3.connect(path) as made:
        made.execute("drop table experiment_tags")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (noise, "the file is damaged, or no database at all; move it away"),
        (half, "the file is damaged, or no database at all; move it away"),
        (newer, "another version of MLflow made the database, and here is 3."),
        (newer_without_a_table, "another version of MLflow made the database, and here is 3."),
        (folder, "Is a directory; set MLFLOW_TRACKING_URI to sqlite:///<file>"),
    ],
)
def test_a_database_that_has_to_be_mended_is_refused_at_once(
    harm: Callable[[Path], None], words: str, uri: str, tmp_path: Path
) -> None:
    harm(tmp_path / "mlflow.db")
    with pytest.raises(Unusable) as refused:
        write(uri)
    assert str(refused.value).startswith(f"{uri}: ")
    assert words in str(refused.value)
    assert "cannot be reached" not in str(refused.value)


def test_a_database_whose_folder_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unusable, match="set MLFLOW_TRACKING_URI to sqlite"):
        write(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_locked_database_may_be_asked_again(uri: str, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "mlflow.db")
    other.execute("begin exclusive")
    with pytest.raises(Unreachable, match="another process keeps the database locked") as locked:
        write(f"{uri}?timeout=0.1")
    assert not isinstance(locked.value, Unusable)
    other.rollback()
    write(uri)
    other.close()


@pytest.fixture
def no_room() -> Iterator[None]:
    """Let no database that is opened grow."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("pragma max_page_count = 1")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", limit)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", limit)


def fill(uri: str) -> None:
    with reaching(uri):
        client = connect(uri)
        for number in range(1000):
            client.create_experiment(f"{number}", tags={"long": "x" * 4000})


def test_a_full_disk_may_be_asked_again(uri: str, no_room: None) -> None:
    with pytest.raises(Unreachable, match="the disk is full, make room") as full:
        fill(uri)
    assert not isinstance(full.value, Unusable)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root, to become another")
def test_a_database_of_another_user_is_read_but_not_written(uri: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").chmod(0o644)
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    said = TOGETHER.Queue()

    def visit() -> None:
        os.setuid(65534)
        client = connect(uri)
        said.put([one.name for one in client.search_experiments()])
        try:
            write(uri)
        except Unusable as error:
            said.put(str(error))

    visitor = TOGETHER.Process(target=visit)
    visitor.start()
    assert said.get(timeout=60) == ["Default"]
    assert f"{uri}: the database may only be read; make it and its" in said.get(timeout=60)
    visitor.join(60)


def test_a_mistake_of_ours_is_told_as_it_is(uri: str) -> None:
    write(uri)
    with pytest.raises(MlflowException, match="already exists"):
        write(uri)
