"""Trials reserve the memory that they are known to take: two that fit no node are not beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forget.planning.footprint import Footprint, footprint
from forget.settings.sweep import Resources, overlay
from forget.settings.trial import Trial
from pipelines.sweep import nodes
from pipelines.sweep.nodes import bundle, slots

ROOT = Path(__file__).parents[2]

SPEC = """
[base]
task = "sentiment"
model = "tiny"
learn = { examples = 16, epochs = 1 }
forget = { examples = 16, epochs = 1 }
evaluation_examples = 8
probe = { examples = 16 }

[axes]
seed = [0, 1]

[resources]
cpus = 0.5
"""


def test_a_bundle_has_memory_where_that_is_known() -> None:
    two = Resources(cpus=2, gpus=0)
    assert bundle(two) == {"CPU": 2, "GPU": 0}
    assert bundle(two, 10**9) == {"CPU": 2, "GPU": 0, "memory": 10**9}


@pytest.mark.parametrize(
    ("memory", "has", "count", "reserved", "words"),
    [
        (3, 10, 3, 3, ""),
        (3, 100, 4, 3, ""),
        (0, 10, 4, 0, ""),
        # By an estimate that may be wrong a trial is not refused: it has the node to itself.
        (30, 10, 1, 10, "a trial takes about 30.0 GB of memory and the largest node has 10.0 GB"),
    ],
)
def test_as_many_trials_fit_as_the_memory_holds(
    memory: int,
    has: int,
    count: int,
    reserved: int,
    words: str,
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = {"CPU": 4.0, "memory": has * 1e9}
    monkeypatch.setattr(nodes, "_nodes", lambda: [small])
    with slots(Resources(gpus=0), None, footprint=Footprint(cpu=memory * 10**9)) as held:
        assert (held.count, held.memory) == (count, reserved * 10**9)
    assert words in capsys.readouterr().out


def test_the_footprint_follows_the_model_and_the_processes(quick: Trial) -> None:
    def of(workers: int = 1, **fields: object) -> Footprint:
        trial = overlay(quick, {"model": "llama-2-7b", **fields})
        return footprint([trial], Resources(workers=workers))

    full, lora = of(), of(tuning="lora")
    # 16 bytes a parameter; beside a GPU 4 to load it and 12 to read a checkpoint back.
    assert full.cpu > 16 * 6.7e9 > 100e9
    assert lora.gpu < 40e9 < full.gpu
    assert of(workers=4).gpu > 3 * full.gpu
    # Twice the checkpoint while one replaces the other; the learned one is shared.
    assert full.running > 24 * 6.7e9 > full.shared > 4 * 6.7e9
    both = footprint([overlay(quick, {"seed": seed}) for seed in (0, 1)], Resources())
    one = footprint([quick], Resources())
    assert (both.cpu, both.running) == (one.cpu, one.running)
    assert both.shared > one.shared


def test_two_trials_that_do_not_fit_the_memory_run_one_after_the_other(tmp_path: Path) -> None:
    """On a node that says it has less than two of them take, and cores for both."""
    (tmp_path / "study.toml").write_text(SPEC)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    has = {"CPU": 2, "memory": 2 * 10**9}
    env = clean | {
        "RAY_OVERRIDE_RESOURCES": json.dumps(has),
        "PYTHONPATH": str(ROOT),
        "FORGET_STORE": str(tmp_path / "store"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "sweep", "study.toml"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines() if line]
    moves = [word for word in words if word in ("started", "finished")]
    assert moves == ["started", "finished", "started", "finished"]
