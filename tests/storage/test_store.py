"""Every entry of the store appears whole or not at all, and is computed once."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from forget.errors import BadInput
from forget.storage import checksums
from forget.storage.finished import Trials
from forget.storage.folders import whole_folder, write_text
from forget.storage.store import Store


def names(folder: Path) -> set[str]:
    """Return the names of the files that were put there."""
    return {path.name for path in folder.iterdir()} - {checksums.FILE}


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with whole_folder(folder) as draft:
        (draft / "file").write_text("new")
        assert not folder.exists()
    assert (folder / "file").read_text() == "new"
    assert names(tmp_path / "a") == {"b"}


def test_an_error_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with whole_folder(folder) as draft:
            (draft / "file").touch()
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail(tmp_path / "b")
    assert names(tmp_path) == set()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with pytest.raises(RuntimeError, match="midway"):
        fail(tmp_path / "b")
    assert names(tmp_path) == {"b"}
    assert names(tmp_path / "b") == {"old"}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    for name in ("old", "new"):
        with whole_folder(folder) as draft:
            (draft / name).touch()
    assert names(folder) == {"new"}
    assert names(tmp_path) == {"b"}


def test_a_folder_is_as_open_as_the_user_wants(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with whole_folder(tmp_path / "whole"):
        pass
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_shared_folder_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").touch()

    first = store.once("kind", "key", make)
    assert store.once("kind", "key", make) == first == tmp_path / "kind" / "key"
    assert len(made) == 1
    store.once("kind", "other", make)
    assert len(made) == 2


def test_what_could_not_be_made_is_made_by_the_next(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Store(tmp_path).once("kind", "key", fail)
    assert not (tmp_path / "kind" / "key").exists()
    assert (
        Store(tmp_path).once("kind", "key", lambda folder: (folder / "file").touch()) / "file"
    ).exists()


WORKER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from forget.storage.store import Store

    def make(folder):
        with open("made", "a") as log:
            log.write(f"{os.getpid()}\\n")
        (folder / "first").touch()
        time.sleep(0.5)
        (folder / "second").touch()

    folder = Store(Path("store")).once("kind", "key", make)
    assert {path.name for path in folder.iterdir()} == {"first", "second", "sums.json"}
    """
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", WORKER], cwd=folder, env=environment)


def test_processes_that_want_the_same_folder_make_it_once(tmp_path: Path) -> None:
    workers = [start(tmp_path) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert len((tmp_path / "made").read_text().split()) == 1


def test_a_killed_maker_leaves_the_folder_to_the_next(tmp_path: Path) -> None:
    victim = start(tmp_path)
    while not list(tmp_path.glob("store/kind/.key-*/first")):
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "store" / "kind" / "key").exists()
    assert start(tmp_path).wait() == 0
    # Nor is anything left of its draft.
    assert names(tmp_path / "store" / "kind") == {"key", "key.lock"}


def test_a_folder_that_lost_something_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(bytes(100))
        (folder / "settings").write_text("all of it")

    folder = store.once("kind", "key", make)
    harms: list[Callable[[], object]] = [
        lambda: os.truncate(folder / "inner" / "weights", 50),
        lambda: (folder / "settings").unlink(),
        lambda: os.truncate(folder / checksums.FILE, 5),
    ]
    said = [
        "inner/weights has 50 bytes of 100",
        "settings is missing, or not a file",
        f"{checksums.FILE} cannot be read",
    ]
    for harm, words in zip(harms, said, strict=True):
        assert store.has("kind", "key")
        count = len(made)
        harm()
        assert not store.has("kind", "key")
        assert store.once("kind", "key", make) == folder
        assert len(made) == count + 1
        assert (folder / "inner" / "weights").stat().st_size == 100
        assert f"{folder} is damaged ({words}): it is thrown away and made again" in caplog.text


def test_a_state_that_lost_something_is_no_state(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.replace("state") as draft:
        (draft / "weights").write_bytes(bytes(100))
    assert store.fetch_folder("state") == tmp_path / "state"
    os.truncate(tmp_path / "state" / "weights", 50)
    assert store.fetch_folder("state") is None
    assert names(tmp_path) == set()


def test_what_lost_something_is_found_before_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    folders = [
        tmp_path / name
        for name in ("learned/a", "learning/a", "scored/b", "trials/c/checkpoint", "trials/c/model")
    ]
    locks = [
        "learned/a.lock",
        "learned/a.lock",
        "scored/b.lock",
        "trials/c/running.lock",
        "trials/c/running.lock",
    ]
    for folder in folders:
        with whole_folder(folder) as draft:
            (draft / "weights").write_bytes(bytes(100))
    Trials(store).mend()
    assert all(folder.exists() for folder in folders)
    assert not caplog.text
    for folder, lock in zip(folders, locks, strict=True):
        os.truncate(folder / "weights", 50)
        # Whoever makes it may be about to replace it.
        with FileLock(tmp_path / lock):
            Trials(store).mend()
        assert folder.exists()
        assert str(folder) not in caplog.text
        Trials(store).mend()
        # A damaged model says that its trial has not finished.
        assert folder.exists() == (folder.name == "model")
        assert f"{folder} is damaged (weights has 50 bytes of 100)" in caplog.text


def test_drafts_of_the_dead_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("state", "other"):
        (tmp_path / f".{name}-{'0a' * 16}" / "inner").mkdir(parents=True)
    with store.replace("state") as draft:
        (draft / "weights").touch()
    assert names(tmp_path) == {"state", f".other-{'0a' * 16}"}
    store.delete("other")
    assert names(tmp_path) == {"state"}


def flip(path: Path) -> None:
    """Flip the lowest bit of a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_shared_folder_that_is_not_what_was_written_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, folder = Store(tmp_path), tmp_path / "kind" / "one"

    def share(key: str) -> str:
        store.once("kind", key, lambda folder: (folder / "file").write_text(f"content of {key}"))  # type: ignore[operator]
        return (tmp_path / "kind" / key / "file").read_text()

    def replace(other: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(other, folder)

    def block() -> None:
        shutil.rmtree(folder)
        folder.write_text("a file")

    assert share("one") == "content of one"
    assert share("two") == "content of two"
    harms: dict[str, Callable[[], object]] = {
        "file is not what was written there": lambda: flip(folder / "file"),
        "it belongs to kind/two": lambda: replace(tmp_path / "kind" / "two"),
        "it is no folder": block,
    }
    for words, harm in harms.items():
        harm()
        assert share("one") == "content of one"
        assert f"{folder} is damaged ({words}): it is thrown away and made again" in caplog.text
    # As of before there were sums.
    (folder / checksums.FILE).unlink()
    (folder / "file").write_text("older")
    assert share("one") == "older"


def test_a_file_where_the_store_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file/store cannot be a folder: .*file is none"):
        Store(tmp_path / "file" / "store")


def test_text_is_replaced_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    write_text(path, "ñew")
    assert path.read_text(encoding="utf-8") == "ñew"
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "ñew"
    assert names(tmp_path) == {"file"}


def test_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORGET_STORE", raising=False)
    assert Store().root == tmp_path / ".forget"
    monkeypatch.setenv("FORGET_STORE", "elsewhere")
    assert Store().root == tmp_path / "elsewhere"
