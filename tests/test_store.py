"""Every entry of the store appears whole or not at all, and is computed once."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from forget import metrics
from forget.events import Outcome, ProbeScore
from forget.metrics import Estimate, Row
from forget.settings import BadInput, Trial
from forget.store import Store, whole_folder, write_text


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


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

    first = store.shared("kind", "key", make)
    assert store.shared("kind", "key", make) == first == tmp_path / "kind" / "key"
    assert len(made) == 1
    store.shared("kind", "other", make)
    assert len(made) == 2


def test_what_could_not_be_made_is_made_by_the_next(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Store(tmp_path).shared("kind", "key", fail)
    assert not (tmp_path / "kind" / "key").exists()
    assert (Store(tmp_path).shared("kind", "key", lambda folder: (folder / "file").touch()) / "file").exists()


WORKER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from forget.store import Store

    def make(folder):
        with open("made", "a") as log:
            log.write(f"{os.getpid()}\\n")
        (folder / "first").touch()
        time.sleep(0.5)
        (folder / "second").touch()

    folder = Store(Path("store")).shared("kind", "key", make)
    assert {path.name for path in folder.iterdir()} == {"first", "second", "sums.json"}
    """
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
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


ROWS = [
    Row("id", phase, "a", "test", f"e{i}", i % 2, (-1.25 - i / 3, -2.5), (3, 4))
    for phase in ("learned", "forgotten")
    for i in range(8)
]


def outcome() -> Outcome:
    return Outcome(
        trial=Trial(task="a", model="tiny", probe={"layers": [0, -1]}),  # type: ignore[arg-type]
        id="id",
        learned_id="learned",
        data="data",
        measures=metrics.measures(ROWS) | {"learned/a/test/variability": Estimate(1 / 3, None, None, 8)},
        probes=(ProbeScore(phase="base", task="a", layer=1, accuracy=Estimate(0.5, 0.25, 0.75, 8), l2=0.01),),
        parameters=90_496,
        seconds=0.1 + 0.2,
    )


def test_a_finished_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.outcome("id") is None
    (store.trial("id") / "checkpoint").mkdir(parents=True)
    store.finish(outcome(), ROWS)
    assert store.outcome("id") == outcome()
    assert store.rows("id") == ROWS
    assert names(store.trial("id")) == {"outcome.json", "rows.parquet", "sums.json"}


def flip(path: Path) -> None:
    """The lowest bit of a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["outcome.json", "rows.parquet"])
def test_a_flipped_bit_in_a_finished_trial_is_refused(file: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.finish(outcome(), ROWS)
    flip(store.trial("id") / file)
    with pytest.raises(BadInput, match=rf"trials/id/{file}: not what was written there; remove the folder"):
        store.outcome("id") if file == "outcome.json" else store.rows("id")


def test_a_shared_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("one", "other"):
        store.shared("kind", key, lambda folder: (folder / "file").write_text("content"))  # type: ignore[operator]
    flip(tmp_path / "kind" / "one" / "file")
    with pytest.raises(BadInput, match=r"kind/one/file: not what was written there"):
        store.shared("kind", "one", lambda folder: None)
    (tmp_path / "kind" / "one" / "file").unlink()
    with pytest.raises(BadInput, match=r"kind/one/file: missing"):
        store.shared("kind", "one", lambda folder: None)
    shutil.rmtree(tmp_path / "kind" / "one")
    shutil.copytree(tmp_path / "kind" / "other", tmp_path / "kind" / "one")
    with pytest.raises(BadInput, match=r"kind/one holds what belongs to kind/other"):
        store.shared("kind", "one", lambda folder: None)
    # As of before there were sums.
    (tmp_path / "kind" / "one" / "sums.json").unlink()
    assert store.shared("kind", "one", lambda folder: None) == tmp_path / "kind" / "one"


def test_a_file_where_the_store_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file/store cannot be a folder: .*file is none"):
        Store(tmp_path / "file" / "store")


def test_text_is_replaced_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    write_text(path, "ñew")
    assert path.read_text(encoding="utf-8") == "ñew"
    assert names(tmp_path) == {"file"}


def test_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORGET_STORE", raising=False)
    assert Store().root == tmp_path / ".forget"
    monkeypatch.setenv("FORGET_STORE", "elsewhere")
    assert Store().root == tmp_path / "elsewhere"
