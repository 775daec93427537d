"""Memory and disk that trials take of the machine they run on: what a node must have for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forget.planning.cost import Cost, cost
from forget.settings.sweep import Resources
from forget.settings.trial import Trial

PROCESS = 10**9
"""Bytes of a trial's process beside its model: torch, transformers, MLflow, its data.

Measured on a CPU, peak resident memory less the pages of files, which processes share: 0.9 GB of a
trial of the model `tiny`, and 3.4 GB of one of the spec `smoke`, where this file says 3.7.
"""

COPY = 2
"""Bytes a parameter of the copy of the weights in bf16, where trials compute in it on a CPU."""

CUDA = 3 * 10**9
"""More bytes of a process that computes on a GPU, for CUDA's libraries. Not measured."""

LOADED, READ = 4, 12
"""Bytes a parameter takes to load a model (fp32), and a trained one to read a checkpoint back."""

SCRATCH = 2 * 10**9
"""Bytes on disk of caches and logs beside models."""


@dataclass(frozen=True)
class Footprint:
    """Share of a node that the largest trial of a sweep takes, in bytes; 0 where it is unknown."""

    cpu: int = 0
    """Memory of a trial that computes on CPUs, all its processes together."""
    gpu: int = 0
    """Memory, not the GPU's, of a trial that computes on GPUs."""
    running: int = 0
    """Disk of a trial while it runs, where the store is elsewhere."""
    shared: int = 0
    """Disk of what trials share and a node reads once, where the store is elsewhere."""

    def memory(self, gpus: float) -> int:
        """Return the bytes of memory of a trial whose processes take so many GPUs each."""
        return self.gpu if gpus else self.cpu


def footprint(trials: Sequence[Trial], resources: Resources) -> Footprint:
    """Estimate what trials of a sweep take of a node.

    Raises:
        BadInput: a task or model that is not there.
    """
    shares = resources.workers if resources.shard else 1
    return footprint_of(trials, [cost(trial, shares) for trial in trials], resources.workers)


def footprint_of(trials: Sequence[Trial], costs: Sequence[Cost], workers: int) -> Footprint:
    """Estimate what trials whose costs are known take of a node.

    Args:
        trials: the trials.
        costs: of each.
        workers: processes of a trial.
    """
    if not costs:
        return Footprint()
    # The launcher's process of a trial in several has imported as much as each of them.
    processes = PROCESS * (workers + (workers > 1))
    models = {trial.model: one.parameters for trial, one in zip(trials, costs, strict=True)}
    learned = {
        trial.learned_id(""): one.parameters for trial, one in zip(trials, costs, strict=True)
    }
    return Footprint(
        cpu=processes
        + workers * max(one.memory + COPY * one.parameters * one.bf16 for one in costs),
        gpu=processes
        + workers * (CUDA + max(max(LOADED * one.parameters, READ * one.trained) for one in costs)),
        # A checkpoint stands beside the one that it replaces; then the forgotten model in bf16.
        running=max(2 * READ * one.trained + 2 * one.parameters for one in costs),
        shared=SCRATCH + 2 * sum(models.values()) + LOADED * sum(learned.values()),
    )
