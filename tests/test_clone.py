"""A stranger's first minutes: a clone in a folder with a blank, an empty HOME, no compiler."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

COMPILER = re.compile(
    r"(.*-)?(cc|c89|c99|cpp|c\+\+|gcc|g\+\+|clang|clang\+\+|ld|as|rustc|cargo)(-\d+)?"
)
"""Names of programs that build a package from its sources."""


def without_compilers(folder: Path) -> Path:
    """Fill a folder with links to all programs but compilers."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if not COMPILER.fullmatch(program.name) and not os.path.lexists(link):
                link.symlink_to(program)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_two_commands_work_in_a_fresh_clone(tmp_path: Path) -> None:
    """All tests are collected there; .ci/run runs them as well."""
    clone, home = tmp_path / "a clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    programs = without_compilers(tmp_path / "programs")
    # Without HOME git has no identity either.
    hidden = (
        "PYTHON",
        "PYTEST",
        "GIT_",
        "VIRTUAL_ENV",
        "FORGET_",
        "MLFLOW_",
        "MAKE",
        "MFLAGS",
        "XDG_",
        "HF_",
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(hidden)
    } | {"HOME": str(home), "PATH": str(programs)}

    def make(*words: str, **more: str) -> str:
        done = subprocess.run(
            ["make", *words], cwd=clone, env=environment | more, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "[1/1]" in make("sweep", "SPEC=smoke")
    assert "tests collected" in make("test", PYTEST_ADDOPTS="--collect-only")
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout
    assert status == ""
