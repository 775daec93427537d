"""The device is chosen in one place, and what launchers leave behind changes no number."""

import pytest
import torch

from forget.errors import BadInput
from forget.models import devices
from forget.models.language_model import tiny
from forget.settings.parts import Stage
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.loop import fine_tune

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
            tiny(), lambda epoch: labels.true(EXAMPLES), Stage(epochs=1), stage="learn", seed=0
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
