"""The device is chosen in one place, and what launchers leave behind changes no number."""

from pathlib import Path

import pytest
import torch
from cards import Cuda, card

from forget.errors import BadInput
from forget.models import devices
from forget.models.language_model import tiny
from forget.settings.parts import Stage
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.loop import fine_tune
from forget.training.terms import Term

EXAMPLES = [Example(str(i), f"Is {i} odd?", (" yes", " no"), 1 - i % 2) for i in range(16)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
        ("ACCELERATE_USE_FSDP", "true"),
        ("ACCELERATE_TORCH_DEVICE", "meta"),
    ],
)
def test_settings_of_accelerate_are_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=f"{name} is set in the environment"):
        fine_tune(
            tiny(), [Term(lambda _: labels.true(EXAMPLES))], Stage(epochs=1), stage="learn", seed=0
        )


@pytest.mark.parametrize("value", ["no", "NO", ""])
def test_settings_that_change_nothing_are_let_be(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", value)
    assert devices.launchers() == []


def test_a_gpu_of_apple_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.device().type == "cpu"
    assert devices.process().device.type == "cpu"


@pytest.mark.parametrize(
    "left", [{"WORLD_SIZE": "2"}, {"LOCAL_RANK": "0", "RANK": "0"}, {"OMPI_COMM_WORLD_SIZE": "4"}]
)
def test_a_process_that_would_wait_for_others_is_refused(left: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="would wait for others that nobody started: unset"):
        devices.refuse_ranks(left)
    kept = devices.without_launchers({**left, "ACCELERATE_USE_FSDP": "true", "HOME": "/home"})
    assert kept == {"HOME": "/home"}
    devices.refuse_ranks(kept)
    devices.refuse_ranks({"WORLD_SIZE": "1", "LOCAL_RANK": "-1"})


@pytest.mark.parametrize(
    ("capability", "built", "works"),
    [
        ((9, 0), "sm_80 sm_90", True),
        ((8, 6), "sm_80 sm_90", True),
        ((7, 0), "sm_75 sm_80", False),
        ((12, 0), "sm_80 sm_90", False),
        ((12, 0), "sm_80 compute_90", True),
        ((10, 3), "sm_100", True),
        ((9, 1), "sm_90a", False),
        ((9, 0), "gfx90a", True),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_named(
    capability: tuple[int, int],
    built: str,
    works: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card(monkeypatch, tmp_path, Cuda(capability, built))
    trouble = devices.gpu_trouble()
    assert (trouble is None) == works
    assert works or f"NVIDIA X (sm_{capability[0]}{capability[1]}, 24 GB) is none of" in str(
        trouble
    )


@pytest.mark.parametrize(
    ("version", "driver", "words"),
    [
        (None, "550.90", "is a build without CUDA"),
        ("13.0", "550.90", "is built for CUDA 13.0, and the driver is 550.90, perhaps too old"),
        ("13.0", None, "is built for CUDA 13.0, and no driver answers"),
    ],
)
def test_a_trial_that_took_a_gpu_never_runs_on_the_cpu(
    version: str | None,
    driver: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with an image for CPUs on a node with GPUs, or an old driver."""
    card(monkeypatch, tmp_path, Cuda(None, ""), version, driver)
    with pytest.raises(BadInput, match=rf"takes a GPU .* cannot use: torch .* {words}"):
        devices.check_gpu()
