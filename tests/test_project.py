"""Workflows, hooks, the form for bugs, the citation and the changelog agree with the project."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_targets_of_the_makefile(path: Path) -> None:
    targets = re.findall(
        r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    (job,) = read(path)["jobs"].values()
    runs = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    assert runs
    for program, target, *variables in runs:
        assert (program, target in targets) == ("make", True), target
        assert all(re.fullmatch(r"[A-Z]+=\S+", word) for word in variables)


def dry_run(folder: Path, *words: str) -> str:
    """Return what make would run in a folder with this Makefile, or why it refuses."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    command = ["make", "--dry-run", *words]
    # What the make that runs the tests was told is not for this one.
    told = ("MAKE", "MFLAGS", "TORCH", "BUILD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_one_word_chooses_the_build_of_torch_for_environment_and_image(tmp_path: Path) -> None:
    index = "--index-url https://download.pytorch.org/whl/cpu --no-deps torch"
    cpu, cuda = dry_run(tmp_path, "setup", "TORCH=cpu"), dry_run(tmp_path, "setup", "TORCH=cuda")
    either = dry_run(tmp_path, "setup")
    # Before the project, whose torch is then there already.
    assert -1 < cpu.index(index) < cpu.index("--editable")
    assert index not in cuda + either
    ours = platform.system() == "Linux" and platform.machine() == "x86_64"
    no_gpu = not Path("/dev/nvidia0").exists()
    assert ("make setup TORCH=cpu takes" in either) == (ours and no_gpu)
    assert "TORCH=cpu takes" not in cpu + cuda
    for words, asked in (([], False), (["TORCH=cuda"], True)):
        image = dry_run(tmp_path, "image", "BUILDER=x", "DIRTY=1", *words)
        assert ("--build-arg TORCH_INDEX= " in image) == asked
    assert "TORCH=gpu is neither cpu nor cuda" in dry_run(tmp_path, "setup", "TORCH=gpu")


def test_an_environment_keeps_its_build_of_torch_unless_another_is_asked_for(
    tmp_path: Path,
) -> None:
    ready = tmp_path / ".venv" / "bin" / ".ready"
    ready.parent.mkdir(parents=True)
    ready.write_text("cpu\n")
    later = time.time() + 60
    os.utime(ready, (later, later))
    for words in ([], ["TORCH=cpu"]):
        assert "pip install" not in dry_run(tmp_path, "setup", *words)
    assert "-m venv --clear .venv" in dry_run(tmp_path, "setup", "TORCH=cuda")
    # A change of the project's needs installs into it, and it stays what it is.
    os.utime(ready, (0, 0))
    again = dry_run(tmp_path, "setup")
    assert "pip install" in again
    assert "--clear" not in again
    assert "echo cpu >" in again


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_whichever_builder_is_there_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "git", "sh", "uname", "tr", "cat", "sed"):
        (tools / name).symlink_to(shutil.which(name) or name)
    (tools / builder).write_text("#!/bin/sh\n")
    (tools / builder).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    said = dry_run(tmp_path, "image", "DIRTY=1", "TAG=x")
    assert f"{tools / builder} build " in said or f"\n{builder} build " in said


def test_pushes_are_tested_from_the_oldest_python_on() -> None:
    (job,) = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"].values()
    assert f">={job['strategy']['matrix']['python'][0]}" == PROJECT["requires-python"]


def test_hooks_run_the_ruff_of_make_setup() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/ruff ")
    assert "ruff" in PROJECT["optional-dependencies"]["dev"]


def test_a_bug_report_asks_for_what_the_doctor_says() -> None:
    form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")
    assert {field["id"]: field.get("validations", {}).get("required") for field in form["body"]}[
        "doctor"
    ]


def test_the_citation_and_the_changelog_know_the_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
