"""Cores are those that a process may use, not those that the machine has."""

import os
from pathlib import Path

import pytest

from forget import machine


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are bound on Linux")
def test_a_process_that_is_bound_to_a_core_counts_one() -> None:
    """As under `taskset -c 0`, or in a batch system's job of one core."""
    bound = os.sched_getaffinity(0)
    assert machine.cores() <= len(bound)
    os.sched_setaffinity(0, {min(bound)})
    try:
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        ("0::/job", {"job/cpu.max": "250000 100000"}, 2),
        ("0::/job", {"job/cpu.max": "50000 100000"}, 1),
        ("0::/", {}, 8),
        # A container sees its own group at the root, whatever it is called outside.
        ("0::/", {"cpu.max": "400000 100000"}, 4),
        (
            "4:cpu,cpuacct:/docker/a\n1:memory:/docker/a",
            {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
    ids=["above", "part", "less than one", "none", "container", "version 1", "version 1, none"],
)
def test_a_control_group_holds_a_process_to_its_quota(
    groups: str,
    files: dict[str, str],
    cores: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in {"proc/self/cgroup": groups}.items() | {
        (f"sys/fs/cgroup/{name}", text) for name, text in files.items()
    }:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert machine.cores() == cores
