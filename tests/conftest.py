"""Fixtures that tests share.

Among them are a task that the tiny model learns in a second, and a trial of it that has been run.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import random
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Before anything imports transformers or a BLAS: no test reaches for the network, and none waits
# for threads that wait for each other on a busy machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)
# By default Ray has its workers give way to all else: on a busy machine they run out of time.
os.environ.update(RAY_worker_niceness="0")
# Equal to the bit is a promise for one device; where there are GPUs, they are asked for by setting
# this.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest

from forget.results.outcome import Outcome
from forget.settings.parts import Probe, Stage
from forget.settings.trial import Trial
from forget.storage.store import Store

LONGEST = (
    "test_sweep.py",
    "test_cluster.py",
    "test_loop.py",
    "test_readme.py",
    "test_tracking.py",
    "test_broken.py",
)
"""Files by how long they take: they go first, since a worker that begins one last is alone with it
at the end.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def _imports_are_no_garbage() -> None:
    """Collect garbage once a file, so that what earlier tests left is looked through no more.

    Training collects garbage when it ends, which takes a third of a second where all of torch has
    to be looked through.
    """
    gc.collect()
    gc.freeze()


def lack(needs: str = "PostgreSQL and an object store", make: str = "test-servers") -> str:
    """Say why a test with this marker `servers` is skipped."""
    return f"needs {needs}: make {make}"


@pytest.hookimpl(tryfirst=True)  # before a skipif that looks at the machine
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs servers unless they were asked for.

    They may well be there; but the same tests run on every machine.
    """
    marker = item.get_closest_marker("servers")
    if marker and "servers" not in item.config.option.markexpr:
        pytest.skip(lack(*marker.args, **marker.kwargs))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests were skipped, for want of what, and which target brings it."""
    reports = terminalreporter.stats.get("skipped", ())
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    if reasons:
        said = ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"skipped: {said}")


@pytest.fixture
def device_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make this machine one whose device has no memory for a batch of more than so many tokens."""
    import torch

    from forget.models.answers import Answers
    from forget.models.batches import Batch

    forward = Answers.forward

    def become(tokens: int) -> None:
        def limited(self: Answers, batch: Batch, *args: object) -> torch.Tensor:
            if batch.tokens > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, batch, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Answers, "forward", limited)

    return become


SIZES = {"train": 64, "validation": 24, "test": 40}


def letters(split: str, n: int) -> list[dict[str, object]]:
    """Is the letter a vowel? Half of them are; the digits before it make every question its own."""
    draw = random.Random(f"letters/{split}")
    items = []
    for number in range(n):
        letter = draw.choice("aeiou" if number % 2 else "bcdfg")
        question = f"{number}{draw.choice(string.digits)} {letter}"
        items.append(
            {
                "id": f"{split}-{number}",
                "question": question,
                "choices": ["yes", "no"],
                "answer": 1 - number % 2,
            }
        )
    return items


def write_task(folder: Path, wording: str, **splits: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(wording, encoding="utf-8")
    for split, items in splits.items():
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps(item) + "\n" for item in items), encoding="utf-8"
        )


@pytest.fixture(scope="session")
def toy_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder of two tasks for `Trial.folders`.

    "vowels" has every split, "upper" train and test only.
    """
    folder = tmp_path_factory.mktemp("tasks")
    splits = {split: letters(split, n) for split, n in SIZES.items()}
    near = [
        {
            **item,
            "id": f"near-{item['id']}",
            "question": f"so, {item['question']}",
            "source": item["id"],
        }
        for item in splits["train"][:24]
    ]
    write_task(folder / "vowels", 'prompt = "{question}"\nfamily = "letters"', **splits, near=near)
    upper = {}
    for split in ("train", "test"):
        upper[split] = [
            {**item, "question": str(item["question"]).upper()} for item in splits[split]
        ]
    write_task(folder / "upper", 'prompt = "{question}"\nfamily = "letters"', **upper)
    return folder


@pytest.fixture(scope="session")
def quick(toy_tasks: Path) -> Trial:
    """Return a trial of a second or so, in which the tiny model learns "vowels" and forgets it."""
    return Trial(
        task="vowels",
        model="tiny",
        learn=Stage(examples=64, epochs=6, lr=1e-2, batch=16),
        forget=Stage(examples=48, epochs=6, lr=1e-2, batch=16),
        evaluate_on=("upper",),
        probe=Probe(examples=24),
        precision="fp32",
        folders=(str(toy_tasks),),
    )


@pytest.fixture(scope="session")
def finished(quick: Trial, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Outcome]:
    """`quick` has been run once, in this store, which tests read and leave as it is."""
    from forget.trial import (
        run_trial,
    )  # torch and transformers take seconds that other tests need not wait for

    store = Store(tmp_path_factory.mktemp("finished"))
    return store, run_trial(quick, store=store)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty MLflow database; that takes seconds, copying it does not."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save figures as one pixel, for tests of what stands beside them.

    To draw one takes a third of a second.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    from forget.report.figures import clouds, heat, lines, marks

    def save(figure: Figure, path: Path) -> Path:
        Image.new("L", (1, 1)).save(path)
        return path

    for kind in (clouds, heat, lines, marks):
        monkeypatch.setattr(kind, "save", save)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for all sweeps of a file. It has a HOME of its own, in which it leaves no token."""
    from pipelines.sweep import nodes

    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            stack.enter_context(nodes.cluster())
        yield
    assert not (home / ".ray").exists()


FORK = multiprocessing.get_context("fork")
"""Processes that have imported what this one has."""

Unprivileged = Callable[[Callable[[], Any]], Any]
"""Call a function in a process that permission bits bind, as they bind no root; what it gave."""


class _Capabilities(ctypes.Structure):
    """The header and the sets of capset(2), all of them empty."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int), ("sets", ctypes.c_uint32 * 6))


@pytest.fixture
def unprivileged() -> Unprivileged:
    """Return how a function is called by a user whom permission bits bind."""
    if sys.platform != "linux":
        pytest.skip("needs Linux, where a process can lay down its privileges")

    def visit(act: Callable[[], Any], answer: Connection) -> None:
        none = _Capabilities(version=0x20080522)
        sets = ctypes.byref(none, _Capabilities.sets.offset)
        assert ctypes.CDLL(None).capset(ctypes.byref(none), sets) == 0
        answer.send(act())

    def call(act: Callable[[], Any]) -> Any:
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=visit, args=[act, theirs])
        process.start()
        theirs.close()
        try:
            return ours.recv()
        finally:
            process.join(60)

    return call


def command(*words: str) -> int:
    """Run the command in this process: its exit code."""
    from pipelines.cli.app import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["forget", *words])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


Forget = Callable[..., tuple[int, str, str]]
"""Words of the command to exit code, stdout, stderr."""


@pytest.fixture
def forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Forget:
    """Run the command in a working directory of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "FORGET_STORE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        return command(*words), *capfd.readouterr()

    return run
