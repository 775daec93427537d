"""The rooms of the house: imports go downward only.

The science runs where there is neither Ray nor MLflow.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from forget.settings.sweep import overlay
from forget.settings.trial import Trial

ROOT = Path(__file__).parent.parent

FLOORS = (
    ("forget.errors", "forget.redaction", "forget.machine"),
    ("forget.settings",),
    ("forget.results",),
    ("forget.events",),
    ("forget.tasks",),
    ("forget.storage",),
    ("forget.models",),
    ("forget.methods",),
    ("forget.training",),
    ("forget.preflight",),
    ("forget.evaluation",),
    ("forget.trial",),
    ("forget.audits",),
    ("forget.planning",),
    ("forget.analyses",),
    ("forget.report",),
    ("forget.tracking",),
    ("forget.notebook",),
    ("pipelines.reports",),
    ("pipelines.progress", "pipelines.doctor", "pipelines.jobs", "pipelines.opening"),
    ("pipelines.processes", "pipelines.cluster"),
    ("pipelines.sweep",),
    ("pipelines.cli",),
)
"""Bottom first. A room may import what stands on its own floor or below."""

DOORS = {
    "mlflow": "forget/tracking",
    "ray": "pipelines/sweep",
    "optuna": "pipelines/jobs.py",
    "datasets": "forget/tasks/hub.py",
}
"""The only file that imports the package, or the folder of the only ones."""

SCIENCE = """
import sys
sys.modules.update(dict.fromkeys({absent}))  # As good as not installed.
from pathlib import Path
from forget.settings.reading import read_trial
from forget.storage.store import Store
from forget.trial import run_trial
print(run_trial(read_trial(Path("trial.json")), store=Store(Path("store").absolute())).id)
"""


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports, wherever in it; what only a type checker reads aside."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            typing.update(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int | None:
    found = []
    for number, rooms in enumerate(FLOORS):
        found += [(len(room), number) for room in rooms if f"{name}.".startswith(f"{room}.")]
    return max(found)[1] if found else None


SOURCES = [*sorted((ROOT / "forget").rglob("*.py")), *sorted((ROOT / "pipelines").rglob("*.py"))]


def users(package: str) -> list[Path]:
    """Return the files that import a package."""
    found = []
    for path in SOURCES:
        if package in {name.split(".")[0] for name in imports(path)}:
            found.append(path)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_go_downward_only(path: Path) -> None:
    if (own := floor(module(path))) is None:
        # The packages' own doors; forget/__init__.py opens upward, on demand.
        assert path.name == "__init__.py"
        assert path.parent.name in ("forget", "pipelines")
        return
    above = [name for name in imports(path) if (other := floor(name)) is not None and other > own]
    assert not above


def test_the_platform_does_not_know_its_benchmarks() -> None:
    assert not users("benchmarks")


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_imported_in_its_room_alone(package: str) -> None:
    found = users(package)
    assert found
    assert not [path for path in found if not path.is_relative_to(ROOT / DOORS[package])]


def test_a_trial_needs_torch_transformers_and_accelerate_alone(
    tmp_path: Path, quick: Trial
) -> None:
    brief = overlay(quick, {"learn.epochs": 1, "forget.epochs": 1})
    (tmp_path / "trial.json").write_text(brief.model_dump_json())
    code = SCIENCE.format(
        absent=["ray", "mlflow", "optuna", "datasets", "matplotlib", "typer", "rich"]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "store" / "trials" / done.stdout.strip() / "outcome.json").exists()


@pytest.mark.parametrize(
    ("words", "absent", "answer"),
    [
        # The trials of a report are identified by the rooms that train, which need torch.
        (["report", "study.toml"], ["ray", "optuna"], "no trial of sweep"),
        (["compare", "a", "b"], ["ray", "optuna", "torch", "transformers"], "no experiment"),
    ],
)
def test_what_only_reads_a_study_starts_nothing_that_runs_one(
    words: list[str], absent: list[str], answer: str, tmp_path: Path, database: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    (tmp_path / "study.toml").write_text('[base]\ntask = "world"\nmodel = "tiny"\n')
    code = f"""
import sys
sys.argv[1:] = {words}
from pipelines.cli.app import main
try:
    main()
finally:
    print([name for name in {absent} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert answer in done.stderr
    assert done.stdout.strip() == "[]"
