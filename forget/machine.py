"""Cores that this process may use, which may be fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
"""The file system in which Linux tells of control groups."""


def cores() -> int:
    """Return how many cores this process may use, at least 1.

    A batch system or `taskset` may bind it to some of the machine's, and a container may hold it to
    a share of their time (a control group's quota).
    """
    # Other systems bind no process to cores.
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(bound or 1, *_quotas(), math.inf)))


def _quotas() -> Iterator[float]:
    """Yield the cores' worth of time that each control group around this process may use."""
    try:
        lines = (ROOT / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mount = ROOT / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # A group is held by those above it, too. A container may not see its own path.
        groups = [PurePosixPath(path.strip("/")), *PurePosixPath(path.strip("/")).parents]
        for group in groups:
            if not controllers:
                yield _quota(mount / group / "cpu.max")
            elif "cpu" in controllers.split(","):
                place = mount / controllers / group
                yield _quota(place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us")


def _quota(*files: Path) -> float:
    """Read microseconds and their period, of which version 1 makes two files; return the ratio."""
    try:
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
    except (OSError, ValueError):
        return math.inf
    # No quota is "max" in version 2 and -1 in version 1.
    return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
