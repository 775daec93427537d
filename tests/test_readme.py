"""The commands of the README, each one run."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from forget.settings import Sweep, validated
from forget.tasks import files

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

STUDY = """
[base]
model = "tiny"
folders = ["{folder}"]
evaluate_on = ["vowels"]
learn = {{ examples = 64, epochs = 6, lr = 3e-3 }}
forget = {{ examples = 64, epochs = 4, lr = 3e-3 }}
probe = {{ examples = 24 }}

[axes]
task = ["vowels"]
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


def forget(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *words]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "FORGET"))} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, toy_tasks: Path) -> Path:
    """A working directory in which quickstart.toml, a small stand-in for the spec of that name, has been run."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "quickstart.toml").write_text(STUDY.format(folder=toy_tasks), encoding="utf-8")
    done = forget(folder, "sweep", "quickstart.toml")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_make_commands_expand_to_what_the_readme_says(command: str) -> None:
    found = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "forget" in found.stdout or "pytest" in found.stdout or "ruff" in found.stdout


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"\.PHONY: (.*)", makefile)
    assert phony
    for target in phony[1].split():
        assert f"make {target} " in listed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("forget ") and line != "forget ui"])
def test_forget_commands_run(command: str, study: Path) -> None:
    # The same command on the small study: its spec, its model, its tasks.
    words = command.removeprefix("forget ").split()
    small = {"quickstart": "quickstart.toml", "science": "vowels"}
    words = [small.get(word, word.replace("smollm2-135m-world", "tiny-vowels")) for word in words]
    if words[0] == "probe":
        folders = tomllib.loads((study / "quickstart.toml").read_text())["base"]["folders"]
        words += ["--folder", folders[0], "--examples", "24"]
    done = forget(study, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_forget_ui_serves_the_runs(study: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_PORT": "5917", "MLFLOW_HOST": "127.0.0.1"}
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "ui"],
        cwd=study,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            assert next(answers("http://127.0.0.1:5917/health")) == "OK"
        finally:
            os.killpg(server.pid, 15)


def answers(url: str, seconds: float = 120) -> Iterator[str]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                yield reply.read().decode()
        except OSError:
            time.sleep(0.5)


def test_the_study_of_ones_own_is_valid(tmp_path: Path) -> None:
    (spec,) = blocks("toml")
    trials = validated(Sweep, {"name": "own"} | tomllib.loads(spec)).trials()
    assert {trial.labels for trial in trials} == {"random", "flipped"}


def test_the_item_of_ones_own_is_read(tmp_path: Path) -> None:
    (item,) = blocks("json")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "train.jsonl").write_text(item)
    (record,) = files.tasks([str(tmp_path)])["own"].records("train")
    assert record.choices[record.answer] == json.loads(item)["choices"][0]


def test_the_python_of_the_readme_loads_a_forgotten_model(study: Path) -> None:
    (code,) = blocks("python")
    code = code.replace("smollm2-135m", "tiny").replace("world", "vowels") + "\nprint(model.parameters)"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=study, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("90496")


def test_every_file_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
    assert shutil.which("make")
