"""GPUs that a trial takes where the spec leaves them to the machine."""

from pathlib import Path

import pytest
from cards import Cuda, card

from forget.planning.gpus import gpus_a_process
from forget.settings.sweep import Resources


@pytest.mark.parametrize(
    ("gpus", "workers", "gigabytes", "each"),
    [
        ("auto", 1, 3, 0.3333),
        ("auto", 1, 0.1, 0.25),
        ("auto", 1, 20, 1),
        ("auto", 2, 0.1, 1),
        (0, 1, 0.1, 0),
        (0.5, 1, 20, 0.5),
    ],
)
def test_small_trials_share_a_gpu(
    gpus: float,
    workers: int,
    gigabytes: float,
    each: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card(monkeypatch, tmp_path, Cuda((9, 0), "sm_90", count=2))
    resources = Resources(gpus=gpus, workers=workers)
    assert gpus_a_process(resources, int(gigabytes * 1e9)) == each
    card(monkeypatch, tmp_path, Cuda(None, ""))
    if gpus == "auto":
        assert gpus_a_process(resources, int(gigabytes * 1e9)) == 0
