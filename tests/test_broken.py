"""Whatever is broken costs one sentence that names the place, and exit code 2.

It may be in what a user hands in or in finished trials. What can be computed again from what was
handed in, the store's shared entries, is: to the same bytes, with a word about it.
"""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mutations
import pytest
from conftest import Forget
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import Mutation, toml

from forget.errors import BadInput
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.journal import Journal

CASES = [100, pytest.param(1000, marks=pytest.mark.slow)]
"""Cases of all kinds together, in `make test` and in `make test-slow`."""


@dataclass(frozen=True)
class World:
    """A working directory in which all is as it should be."""

    root: Path
    finished: list[str]
    """Files of a finished trial in the store."""
    shared: list[str]
    """Files of the store that a trial of the same learned checkpoint reads."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is broken, and the command that reads it."""

    mutations: Callable[[World], st.SearchStrategy[Mutation]]
    """Mutations of a working directory like the one given."""
    command: str
    """Its words; {root} is the working directory."""
    share: float
    """Share of all cases."""
    broken: float
    """Share of its cases that have to end refused or mended.

    Mutations that leave all as it was prove nothing.
    """
    heals: bool = False
    """True where it is mended instead of refused."""


KINDS = {
    "specs": Kind(
        lambda world: mutations.specs(world.root, "study.toml", spec()), "plan study.toml", 0.3, 0.7
    ),
    "trials": Kind(
        lambda world: mutations.trials(world.root, "trial.json", fields()),
        "trial trial.json",
        0.1,
        0.6,
    ),
    "tasks": Kind(
        lambda world: mutations.task_folders(world.root, "tasks/vowels"),
        "plan study.toml",
        0.25,
        0.7,
    ),
    "configs": Kind(
        lambda world: (
            mutations.json_fields(world.root, "model/config.json")
            | mutations.spoilt_files(world.root, ["model/config.json", "model/model.safetensors"])
        ),
        "plan own.toml",
        0.1,
        0.4,
    ),
    "models": Kind(
        lambda world: mutations.model_folders(world.root, "model"),
        "probe {root}/model --task vowels --folder tasks --examples 10",
        0.1,
        0.5,
    ),
    "finished trials": Kind(
        lambda world: mutations.entries(world.root, world.finished), "report one.toml", 0.05, 0.7
    ),
    "shared entries": Kind(
        lambda world: mutations.entries(world.root, world.shared),
        "trial trial.json",
        0.1,
        0.7,
        heals=True,
    ),
}


def fields() -> dict[str, Any]:
    """Return a trial of a second, whose learned checkpoint is that of `spec`'s first trial."""
    return {
        "task": "vowels",
        "model": "tiny",
        "learn": {"examples": 32, "epochs": 1, "lr": 1e-2, "batch": 16},
        "forget": {"examples": 16, "epochs": 1, "lr": 1e-3, "batch": 16},
        "evaluate_on": ["upper"],
        "evaluation_examples": 20,
        "probe": {"examples": 12},
        "watch": {"points": 1, "examples": 10},
        "precision": "fp32",
        "seed": 0,
        "folders": ["tasks"],
        "save": False,
    }


def spec(**base: str) -> dict[str, Any]:
    """Return a sweep of two trials."""
    return {
        "description": "broken in many ways",
        "base": {key: value for key, value in fields().items() if key != "seed"} | base,
        "axes": {"seed": [0, 1], "forget.lr": [1e-2]},
        "resources": {"cpus": 1, "concurrent": 1, "checkpoint_minutes": 5},
    }


def write_spec(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(
        "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tree.items()),
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def world(toy_tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Specs, tasks, a model, and a store in which the sweep has finished."""
    from forget.models import language_model
    from forget.storage.store import Store
    from forget.trial import run_trial

    root = tmp_path_factory.mktemp("world")
    shutil.copytree(toy_tasks, root / "tasks")
    language_model.save(language_model.tiny(), root / "model")
    write_spec(root / "study.toml", spec())
    write_spec(root / "one.toml", spec() | {"axes": {"seed": [0], "forget.lr": [1e-2]}})
    (root / "trial.json").write_text(json.dumps(fields()), encoding="utf-8")
    trial = Trial.model_validate(fields() | {"folders": str(root / "tasks")})
    store = Store(root / ".forget")

    def files(*folders: str) -> list[str]:
        paths = []
        for folder in folders:
            paths += sorted(store.root.glob(f"{folder}/*/*"))
        return [str(path.relative_to(root)) for path in paths if path.name != "sums.json"]

    run_trial(overlay(trial, {"forget.lr": 1e-2}), store=store)
    world = World(root, files("trials"), files("learned", "measured"))
    run_trial(overlay(trial, {"forget.lr": 1e-2, "seed": 1}), store=store)
    return world


def kind_of(path: Path) -> str:
    """Name the kind of what lies at a path; no link is followed."""
    if path.is_symlink():
        return "link"
    if path.is_dir():
        return "folder"
    return "file" if path.is_file() else "other"


def snapshot(root: Path) -> dict[str, str]:
    """Return what lies under a folder, to the byte.

    Left out are the locks of those who look whether an entry is being made.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        kind = kind_of(path)
        if path.suffix != ".lock":
            found[str(path.relative_to(root))] = (
                hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else kind
            )
    return found


def wrong_with(code: int, error: str, before: dict[str, str], after: dict[str, str]) -> str | None:
    """Say what is wrong with a refusal; None where all is as promised."""
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 0:
        return None
    *before_it, sentence = error.rstrip("\n").split("\n")
    # A probe says what it has begun.
    if not sentence.startswith("forget: ") or not all(
        line.startswith("started ") for line in before_it
    ):
        return "not one sentence"
    if len(sentence) > 1000 or not sentence.isprintable():
        return "no sentence for a terminal"
    return f"changed: {set(before.items()) ^ set(after.items())}" if after != before else None


def wrong_with_mending(code: int, error: str, world: World, root: Path) -> str | None:
    """Say what is wrong with a mending; None where all is as promised."""
    if code != 0:
        return f"exit code {code}"
    if error.count("is damaged (") != error.count("it is thrown away and made again"):
        return "not one sentence for each"
    lost = [
        name
        for name in world.shared
        if (root / name).read_bytes() != (world.root / name).read_bytes()
    ]
    return f"not as before: {lost}" if lost else None


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("name", KINDS)
def test_what_is_broken_is_refused_or_mended(
    name: str,
    cases: int,
    world: World,
    forget: Forget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind, told, numbers = KINDS[name], Counter[int](), itertools.count()

    @settings(
        max_examples=round(kind.share * cases),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.mutations(world))
    def run(mutation: Mutation) -> None:
        # A folder of its own: whatever the process remembers by path is of no other case.
        root = tmp_path / str(next(numbers))
        shutil.copytree(world.root, root)
        mutation.apply(root)
        monkeypatch.chdir(root)
        write_spec(root / "own.toml", spec(model=str(root / "model")))
        before = snapshot(root)
        code, _, error = forget(*kind.command.format(root=root).split())
        if kind.heals:
            error += caplog.text
            caplog.clear()
            told[2 if "is damaged (" in error else 0] += 1
            problem = wrong_with_mending(code, error, world, root)
        else:
            told[code] += 1
            problem = wrong_with(code, error, before, snapshot(root))
        assert problem is None, f"{mutation!r}: {problem}: {error}"
        monkeypatch.chdir(world.root)
        shutil.rmtree(root)

    run()
    assert told.total() == round(kind.share * cases)
    assert told[2] >= kind.broken * told.total(), told


IN_A_PROCESS = [
    pytest.param("study.toml", "plan study.toml", "study.toml: ", id="a spec"),
    # What it imports, `report` imports as well.
    pytest.param(
        "tasks/vowels/train.jsonl",
        "plan study.toml",
        "train.jsonl, line 1: ",
        id="a task",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        ".forget/trials/*/outcome.json",
        "report one.toml",
        "is damaged (outcome.json ",
        id="a finished trial",
    ),
]


@pytest.mark.parametrize(("name", "command", "words"), IN_A_PROCESS)
def test_the_command_itself_ends_so(
    name: str, command: str, words: str, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "case"
    shutil.copytree(world.root, root)
    for path in root.glob(name):
        path.write_bytes(path.read_bytes()[1:])
    before = snapshot(root)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *command.split()],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert wrong_with(2, done.stderr, before, snapshot(root)) is None, done.stderr


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_a_broken_journal_is_read_or_refused_with_its_line(data: st.DataObject) -> None:
    text = "".join(
        json.dumps({"time": n, "kind": "step", "stage": "learn", "step": n, "steps": 9}) + "\n"
        for n in range(9)
    )
    _, change = data.draw(mutations.damage(len(text)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        path.write_bytes(change(text.encode()))
        assert said(path) is None or str(said(path)).startswith(f"{path}, line ")


def said(path: Path) -> BadInput | None:
    try:
        Journal(path).entries()
    except BadInput as error:
        return error
    return None
