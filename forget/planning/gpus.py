"""GPUs of a trial where the spec leaves them to the machine."""

from __future__ import annotations

import math

import torch

from forget.models.devices import gpu_trouble
from forget.settings.sweep import Resources

MOST = 4
"""Trials that share a GPU: more would wait for each other."""

MARGIN, CONTEXT = 2.0, 10**9
"""A trial's memory on a GPU by what the plan says of it, which does not count all that scoring
holds; and bytes that CUDA itself takes in each process.
"""


def gpus_a_process(resources: Resources, memory: int) -> float:
    """Return how many GPUs each process of a trial takes on this machine.

    Args:
        resources: what the spec says.
        memory: bytes that a process of the largest trial takes (Plan.memory).
    """
    if resources.gpus != "auto":
        return resources.gpus
    if gpu_trouble():
        return 0
    # Processes of one trial exchange gradients, each through a GPU of its own.
    if resources.workers > 1:
        return 1
    sharing = min(MOST, int(smallest_gpu() // (MARGIN * memory + CONTEXT)))
    # Ray counts in ten-thousandths.
    return math.floor(10**4 / max(1, sharing)) / 10**4


def smallest_gpu() -> int:
    """Return the bytes of the smallest of the GPUs that torch sees."""
    cards = range(torch.cuda.device_count())
    return min(torch.cuda.get_device_properties(card).total_memory for card in cards)
