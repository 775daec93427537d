"""The machine that the numbers were measured on, and its memory."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

from forget.tracking.provenance import VERSIONS, environment

PACKAGES = ("lm-eval", "scikit-learn")
"""Packages of the other side, beside those whose versions each run says."""


def describe() -> dict[str, str]:
    """Return processor, cores, versions and commit."""
    versions = {}
    for package in (*VERSIONS, *PACKAGES):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "python": platform.python_version(),
        **versions,
        "commit": environment().get("mlflow.source.git.commit", "unknown"),
    }


def give_memory_back() -> None:
    """Undo `forget.models.kernels.keep_memory`.

    The thresholds are those at which glibc ends in a process that is not told any.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold = -1, -3
    libc.mallopt(mmap_threshold, 2**25)
    libc.mallopt(trim_threshold, 2**26)
    libc.malloc_trim(0)


def _processor() -> str:
    """Return the processor's name where Linux tells it, elsewhere the architecture."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
