"""The database of runs where no server stands before it: made whole, its errors one sentence."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from conftest import FORK, Unprivileged
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils

from forget.tracking.connection import Unreachable, Unusable, connect, reaching, tracking_uri


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
    start = FORK.Barrier(len(names))

    def first(name: str) -> None:
        start.wait(60)
        with reaching(uri):
            client = connect(uri)
            client.create_run(client.create_experiment(name))

    processes = [FORK.Process(target=first, args=[name]) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {one.name for one in connect(uri).search_experiments()} == {"Default", *names}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["runs.db"]


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "why? 100%").mkdir()
    monkeypatch.chdir(tmp_path / "why? 100%")
    connect(tracking_uri())
    assert [path.name for path in Path.cwd().iterdir()] == ["mlflow.db"]
    assert [path.name for path in tmp_path.iterdir()] == ["why? 100%"]


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
        (folder, "Is a directory; make it writable, or set MLFLOW_TRACKING_URI"),
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
    with pytest.raises(Unusable, match=r"(Not a directory|File exists); make it"):
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


def test_a_database_that_may_only_be_read_is_read_but_not_written(
    uri: str, tmp_path: Path, unprivileged: Unprivileged
) -> None:
    (tmp_path / "mlflow.db").chmod(0o444)

    def visit() -> tuple[list[str], str]:
        names = [one.name for one in connect(uri).search_experiments()]
        with pytest.raises(Unusable) as refused:
            write(uri)
        return names, str(refused.value)

    names, said = unprivileged(visit)
    assert names == ["Default"]
    assert said.startswith(f"{uri}: the database may only be read; make it and its folder writable")


def test_a_mistake_of_ours_is_told_as_it_is(uri: str) -> None:
    write(uri)
    with pytest.raises(MlflowException, match="already exists"):
        write(uri)
