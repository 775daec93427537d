"""The doctor says what of a machine's GPUs torch can use."""

from pathlib import Path

import pytest
from cards import Cuda, card

from pipelines.doctor import _gpus


def test_the_doctor_names_driver_build_and_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(monkeypatch, tmp_path, Cuda((9, 0), "sm_90"))
    (line,) = _gpus()
    assert line.ok
    assert line.what == "GPU NVIDIA X (sm_90, 24 GB), driver 550.90, torch for CUDA 13.0"
    card(monkeypatch, tmp_path, Cuda((7, 0), "sm_90"))
    (line,) = _gpus()
    assert not line.ok
    assert "is built for sm_90, and NVIDIA X (sm_70, 24 GB) is none of them" in line.cure


@pytest.mark.parametrize("driver", ["470.1", None])
def test_the_doctor_says_that_trials_run_on_the_cpu(
    driver: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(monkeypatch, tmp_path, Cuda(None, ""), driver=driver)
    (line,) = _gpus()
    assert line.ok == (driver is None)
    assert "trials run on the CPU" in f"{line.what} {line.cure}"
    assert (f"driver {driver}" if driver else "no GPU") in line.what
