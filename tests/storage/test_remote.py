"""A store that machines share, on a disk and in a real S3 store: whole, newest, and made once."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from forget.errors import BadInput
from forget.events import Step
from forget.preflight import identify
from forget.results.outcome import Outcome
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage import checksums
from forget.storage import remote as remotes
from forget.storage import store as stores
from forget.storage.finished import Trials
from forget.storage.journal import Journal
from forget.storage.remote import Remote
from forget.storage.store import Store
from forget.training.checkpoints import Checkpoints
from forget.trial import run_trial


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of an empty bucket; endpoint and credentials are in the environment."""
    pytest.importorskip("s3fs", reason="needs s3fs: make setup")
    from servers import seaweedfs

    with (
        seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        s3.make_bucket("forget")
        yield "s3://forget"


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty place that every machine sees."""
    if request.param == "file":
        return f"file://{tmp_path}/shared"
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.fixture
def machines(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Store]:
    """Return one store twice, as two machines see it."""
    found = []
    for name in ("one", "other"):
        monkeypatch.setenv("FORGET_CACHE", str(tmp_path / name))
        found.append(Store(url))
    assert found[0].root != found[1].root
    return found[0], found[1]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path | None) -> dict[str, str]:
    assert folder
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != checksums.FILE]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_folder_is_read_as_it_was_last_replaced(machines: tuple[Store, Store]) -> None:
    one, other = machines
    assert other.fetch_folder("a/b") is None
    for files in ({"x": "1", "y": "2"}, {"x": "3"}, {"x": "3"}):
        with one.replace("a/b") as draft:
            write(draft, **files)
        assert read(other.fetch_folder("a/b")) == files
    with other.replace("a/b") as draft:
        write(draft, z="4")
    other.drop_copy("a/b")
    assert not (other.root / "a" / "b").exists()
    for store in machines:
        assert read(store.fetch_folder("a/b")) == {"z": "4"}
    one.delete("a/b")
    other.delete("a/b")
    assert one.fetch_folder("a/b") is None
    assert one.remote
    # Some object stores show folders that hold nothing any more.
    left = one.remote.fs.find(f"{one.remote.root}/a", detail=True).values()
    assert [found["name"] for found in left if found["size"]] == []


def test_a_folder_appears_when_it_is_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies between two files leaves what was there before."""
    writer, reader = Remote(url), Remote(url)
    writer.push("a", write(tmp_path / "first", x="old", y="old"))
    put, left = writer.fs.put_file, iter([True])

    def put_one(source: str, target: str) -> None:
        if not next(left, False):
            raise OSError("the link is cut")
        put(source, target)

    monkeypatch.setattr(writer.fs, "put_file", put_one)
    with pytest.raises(OSError, match="cut"):
        writer.push("a", write(tmp_path / "second", x="new", y="new"))
    monkeypatch.undo()
    reader.pull("a", tmp_path / "copy")
    assert read(tmp_path / "copy") == {"x": "old", "y": "old"}
    writer.push("a", tmp_path / "second")
    reader.pull("a", tmp_path / "again")
    assert read(tmp_path / "again") == {"x": "new", "y": "new"}


def test_what_was_cut_off_goes_with_the_folder(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    remote.push("a", write(tmp_path / "folder", x="1"))
    remote.push("b", tmp_path / "folder")
    for name in ("a.0123/x", "a.0123/y/z", "ab/x"):
        remote.fs.pipe_file(f"{remote.root}/{name}", b"half")
    for _ in range(2):
        remote.remove("a")
        assert remote.version("a") is None
        left = remote.fs.find(remote.root, detail=True).values()
        names = {
            str(found["name"])[len(remote.root) + 1 :].partition("/")[0]
            for found in left
            if found["size"]
        }
        assert names == {"ab", f"b.{remote.version('b')}", "b.manifest"}


def test_a_damaged_file_is_refused(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    version = remote.push("a", write(tmp_path / "folder", x="right"))
    remote.fs.pipe_file(f"{remote.root}/a.{version}/x", b"wrong")
    with pytest.raises(OSError, match="x is damaged"):
        remote.pull("a", tmp_path / "copy")


def test_a_log_that_another_machine_wrote_on_replaces_the_shorter(
    machines: tuple[Store, Store],
) -> None:
    one, other = machines
    for store, text in ((one, "1\n"), (other, "1\n2\n")):
        path = store.fetch_growing("journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        store.publish_file("journal")
    assert one.fetch_growing("journal").read_text() == "1\n2\n"
    one.fetch_growing("journal").write_text("1\n2\n3\n")
    assert one.fetch_growing("journal").read_text() == "1\n2\n3\n"


def test_two_machines_make_a_shared_folder_once(
    machines: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "POLL_SECONDS", 0.05)
    made: list[str] = []
    found: list[dict[str, str]] = []

    def ask(store: Store, name: str) -> None:
        def make(folder: Path | None) -> None:
            assert folder
            made.append(name)
            time.sleep(0.5)
            write(folder, who=name)

        found.append(read(store.once("learned", "key", make)))

    threads = [
        threading.Thread(target=ask, args=(store, str(number)))
        for number, store in enumerate(machines)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == [{"who": made[0]}] * 2


def test_the_claim_of_a_machine_that_died_is_broken(
    machines: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machines
    code = f"""
    import os
    from pathlib import Path
    from forget.storage.store import Store

    def make(folder):
        print("claimed", flush=True)
        os.kill(os.getpid(), 9)

    Store({one.where!r}).once("learned", "key", make)
    """
    env = os.environ | {
        "FORGET_CACHE": str(tmp_path / "dead"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    dead = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True
    )
    assert (dead.stdout, dead.returncode) == ("claimed\n", -9), dead.stderr
    assert other.remote
    assert other.remote.claim("learned/key")
    monkeypatch.setattr(stores, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(stores, "POLL_SECONDS", 0.1)
    assert read(
        other.once("learned", "key", lambda folder: folder and write(folder, who="other"))
    ) == {"who": "other"}
    assert other.remote.claim("learned/key") is None


def test_a_claim_shows_signs_of_life(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "LEASE_SECONDS", 0.6)
    one, other = Remote(url), Remote(url)
    with one.claimed("a") as mine:
        assert mine
        before = other.claim("a")
        until = time.monotonic() + 10
        while other.claim("a") == before and time.monotonic() < until:
            time.sleep(0.05)
        assert other.claim("a") != before
        with other.claimed("a") as taken:
            assert not taken
    with other.claimed("a") as mine:
        assert mine


def test_a_trial_that_one_machine_left_is_finished_by_another(
    quick: Trial, finished: tuple[Store, Outcome], machines: tuple[Store, Store]
) -> None:
    """From its checkpoint, with the learned model of the first, and to the same bits."""
    plain, whole = finished
    one, other = machines
    steps: list[tuple[str, int]] = []

    def leave(event: object) -> None:
        if getattr(event, "stage", "") == "forget" and getattr(event, "step", 0) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(quick, leave, one)
    outcome = run_trial(
        quick,
        lambda event: steps.append((getattr(event, "stage", ""), getattr(event, "step", 0))),
        other,
    )
    assert next(step for stage, step in steps if stage == "forget" and step) == 8
    assert not any(stage in ("learn", "score base", "score learned") for stage, _ in steps)
    assert outcome.measures == whole.measures
    assert Trials(other).rows(outcome.id) == Trials(plain).rows(whole.id)
    assert Trials(one).outcome(outcome.id) == outcome
    assert Trials(one).rows(outcome.id) == Trials(plain).rows(whole.id)
    assert list(Trials(one).outcomes([outcome.id, "none"])) == [outcome.id]
    assert Trials(one).finished() == [outcome.id]
    assert one.fetch_folder(f"trials/{outcome.id}/checkpoint") is None
    assert one.has("learned", outcome.learned_id)
    assert identify(overlay(quick, {"seed": 1})).trial not in Trials(one).outcomes(
        [identify(overlay(quick, {"seed": 1})).trial]
    )


@pytest.mark.parametrize(("where", "words"), [("gopher://x/y", "s3"), ("s3:/", "")])
def test_a_url_that_cannot_be_used_is_refused(
    where: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "://" in where:
        with pytest.raises(
            BadInput, match=f'the store "{where}" has a scheme that cannot hold one: .*{words}'
        ):
            Store(where)
    else:
        assert Store(where).remote is None


def test_a_checkpoint_comes_after_the_journal_of_its_steps(machines: tuple[Store, Store]) -> None:
    here, other = machines
    name = "trials/abc/checkpoint"
    journal = Journal(here.path("trials/abc/journal.jsonl"))
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimizer.step()

    def write_late() -> None:
        # The process that writes the journal hears of the step a little later.
        time.sleep(0.5)
        journal.append(Step(stage="forget", step=5, steps=9, loss=0.1, lr=1e-4))

    with closing(journal):
        journal.append(Step(stage="forget", step=4, steps=9, loss=0.2, lr=1e-4))
        writer = threading.Thread(target=write_late)
        writer.start()
        Checkpoints(here, name, trial="abc").save(5, network, optimizer, [], {})
        writer.join()
    assert other.fetch_folder(name)
    seen = Journal(other.fetch_growing("trials/abc/journal.jsonl")).losses()
    assert seen == {"forget": [(4, 0.2), (5, 0.1)]}
