"""GPUs that are not there: a stand-in for torch.cuda and for NVIDIA's driver."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch


class Cuda:
    """A stand-in for torch.cuda with GPUs of one kind."""

    def __init__(self, capability: tuple[int, int] | None, built: str, count: int = 1) -> None:
        self.capability, self.built, self.count = capability, built, count

    def is_available(self) -> bool:
        return self.capability is not None

    def device_count(self) -> int:
        return self.count if self.capability else 0

    def get_device_capability(self, number: int) -> tuple[int, int] | None:
        return self.capability

    def get_arch_list(self) -> list[str]:
        return self.built.split()

    def get_device_properties(self, number: int) -> SimpleNamespace:
        major, minor = self.capability or (0, 0)
        return SimpleNamespace(name="NVIDIA X", major=major, minor=minor, total_memory=24 * 10**9)


def card(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    cuda: Cuda,
    version: str | None = "13.0",
    driver: str | None = "550.90",
) -> None:
    """Have torch and the driver find what the stand-in says."""
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setenv("PATH", str(folder))
    if driver:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho {driver}\n")
        (folder / "nvidia-smi").chmod(0o755)
