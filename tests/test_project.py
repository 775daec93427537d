"""Workflows, hooks, the form for bugs, the citation and the changelog agree with the project."""

import re
import shlex
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
