"""The example script, the notebook and the door of the package, each run on the tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import forget
from forget.errors import BadInput
from forget.settings.parts import Forgetting, Until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(folder: Path, *words: str) -> str:
    """Run Python in a folder, with the package of this checkout, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_tells_what_was_forgotten(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "one_trial.py"), "tiny", "science")
    assert said.count("accuracy on") == 4
    assert "probes, forgotten: 0." in said


def test_the_cells_of_the_notebook_run(tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "forgetting.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(cells).replace('"smollm2-135m"', '"tiny"')
    said = run(tmp_path, "-c", code)
    assert said.count("forget ratio") == 3


def test_a_stage_by_itself_has_no_dose() -> None:
    stage = Forgetting(until=Until())
    with pytest.raises(BadInput, match="until is for a trial"):
        forget.fine_tune(forget.load_model("tiny"), forget.load_task("science", "train", 4), stage)


def test_the_notebook_is_kept_without_its_outputs() -> None:
    notebook = json.loads((EXAMPLES / "forgetting.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.parametrize("name", forget.__all__)
def test_every_name_at_the_door_opens(name: str) -> None:
    assert getattr(forget, name).__module__.startswith("forget.")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lode_model'"):
        getattr(forget, "lode_model")  # noqa: B009


def test_the_door_itself_imports_nothing_heavy() -> None:
    code = "import forget, sys; print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
