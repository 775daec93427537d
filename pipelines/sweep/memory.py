"""Shortage of memory, as Ray tells of it when it ends a trial for it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

USED = re.compile(r"([\d.]+)GB used / ([\d.]+)GB limit.*?threshold of (\d+)B", re.DOTALL)
"""Memory in use on the node, the node's memory, and how much of it Ray lets be used."""

ENDED = re.compile(r"pid=(\d+), actual memory used=([\d.]+)GB")
"""A process that Ray ended, and its memory."""

USER = re.compile(r"^(\d+)\t([\d.]+)\t(.+)$", re.MULTILINE)
"""A line of the ten largest processes of the node: pid, memory, command."""

SHARE = re.compile(r"pipelines\.cli trial")
"""The command of one of several processes of a trial."""


@dataclass(frozen=True)
class Shortage:
    """Memory of a node on which Ray ended a trial since it ran short; in GB."""

    used: float
    has: float
    allowed: float
    """Ray ends processes where more is used."""
    ours: float
    """Used by the sweep: its trials, and its driver where that is on the node."""
    largest: tuple[str, float, str] | None
    """The largest process of others: pid, memory, command."""

    @property
    def others(self) -> bool:
        """True where most of the memory was used by others."""
        return self.ours < self.used / 2

    @property
    def cure(self) -> str:
        """A cure where the trial was alone and ran short nevertheless."""
        if self.others:
            return "end what need not run, and the same command goes on"
        return 'give the machine more memory, or the trial a smaller batch, or tuning = "lora"'

    def __str__(self) -> str:
        said = (
            f"memory ran short: {self.used:.1f} of {self.has:.1f} GB were in use, where Ray allows"
            f" {self.allowed:.1f} (RAY_memory_usage_threshold), {self.ours:.1f} by this sweep"
        )
        if not self.largest:
            return said
        pid, memory, command = self.largest
        return f"{said} and {memory:.1f} by process {pid} ({command})"


def shortage(text: str, ours: Collection[int]) -> Shortage | None:
    """Read Ray's words for why a process ended; None where it was not for the memory.

    Args:
        text: the words.
        ours: pids of the sweep's processes.
    """
    found = USED.search(text)
    if not found:
        return None
    # Those that Ray ended were of the sweep, too.
    mine = {pid: float(memory) for pid, memory in ENDED.findall(text)}
    others = []
    for pid, memory, command in USER.findall(text):
        if int(pid) in ours or pid in mine or SHARE.search(command):
            mine[pid] = max(float(memory), mine.get(pid, 0))
        else:
            others.append((pid, float(memory), command))
    largest = max(others, key=lambda one: one[1], default=None)
    used, has, allowed = float(found[1]), float(found[2]), int(found[3]) / 2**30
    return Shortage(used, has, allowed, sum(mine.values()), largest)
