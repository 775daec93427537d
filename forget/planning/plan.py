"""The cost of a sweep, before it is spent: trials, tokens, time, memory, disk.

Nothing is downloaded, and no weights are read.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil
import torch

from forget.errors import BadInput
from forget.machine import cores
from forget.models.devices import throughput
from forget.planning.amounts import amount, duration
from forget.planning.cost import CHARACTERS_A_TOKEN, HUB_OPTION, HUB_PROMPT, Cost, cost
from forget.planning.footprint import Footprint, footprint_of
from forget.planning.gpus import gpus_a_process, smallest_gpu
from forget.planning.lengths import Long, Nested, nested, too_long
from forget.planning.standing import standings
from forget.preflight import Expansion
from forget.results import power
from forget.settings.sweep import Resources
from forget.settings.trial import Trial
from forget.storage.store import Store

EFFICIENCY = {True: 0.35, False: 0.55}
"""Share of a matrix product's throughput that training reaches, in bf16 and in fp32: smollm2-135m
on CPUs, 20 to 32 tokens a sequence.
"""

TRIAL_SECONDS = 10
"""Seconds that a trial takes beside the model's arithmetic: loading, probing, bootstrapping,
logging.
"""


@dataclass(frozen=True)
class Plan:
    """Trials of a sweep that are done and left, and the cost of those that are left."""

    done: int
    """Trials with an outcome in the store."""
    todo: int
    """Trials left to run."""
    learned_done: int
    """Learned checkpoints in the store that trials to run start from."""
    learned_todo: int
    """Learned checkpoints to make; the trials that start from the same one share it."""
    trained: int
    """Tokens to train on."""
    scored: int
    """Tokens to score."""
    assumed: tuple[str, ...]
    """Tasks whose length is assumed since their data are not on this machine."""
    flops: Mapping[bool, float]
    """FLOPs, by whether they are in bf16."""
    rounds: int
    """Trials that a slot runs, one after another."""
    memory: int
    """Bytes that a process of the largest trial takes."""
    held: int
    """Bytes of weights, gradients and moments alone in a process of the largest trial."""
    footprint: Footprint
    """Memory and disk that the largest trial takes of a node."""
    gpu: int | None
    """Bytes of the GPU on which a process runs; None where it runs on the CPU."""
    disk: int
    """Bytes of learned checkpoints in fp32, forgotten models in bf16, and the checkpoints of trials
    that run.
    """
    free: int | None
    """Bytes free where the store lies; None for an object store, which does not say."""
    long: tuple[Long, ...] = ()
    """Examples that are longer than the model reads."""
    nested: tuple[Nested, ...] = ()
    """Examples of which a sum of log-probabilities always prefers one option."""
    unprobed: tuple[str, ...] = ()
    """A reason for each task of a trial to run that has too few examples for its probes."""
    decides: tuple[str, ...] = ()
    """Smallest effects that the whole sweep can decide (forget.results.power)."""

    @property
    def seconds(self) -> float:
        """An estimate of the time left; the first to ask times the machine."""
        computing = 0.0
        for bf16, flops in self.flops.items():
            computing += flops / (EFFICIENCY[bf16] * throughput(bf16)) if flops else 0.0
        return computing + TRIAL_SECONDS * self.rounds

    @property
    def precision(self) -> str:
        """The number formats that trials left to run compute in, e.g. "bf16"."""
        names = ["bf16" if bf16 else "fp32" for bf16, n in sorted(self.flops.items()) if n]
        return " and ".join(names)

    def rows(self) -> list[tuple[str, str]]:
        """Return lines of a table: the name of a cost, and how much of it."""
        rows = [
            ("trials", f"{self.todo} to run, {self.done} done"),
            (
                "learned checkpoints",
                f"{self.learned_todo} to make, {self.learned_done} in the store",
            ),
        ]
        rows += [("decides", one) for one in self.decides]
        if not self.todo:
            return rows
        basis = f"{CHARACTERS_A_TOKEN} characters a token"
        if self.assumed:
            basis += (
                f"; {HUB_PROMPT + HUB_OPTION} an example assumed for tasks not on this machine: "
                + ", ".join(self.assumed)
            )
        free = "" if self.free is None else f"; {amount(self.free)}B free"
        rows += [
            ("tokens", f"{amount(self.trained)} trained, {amount(self.scored)} scored ({basis})"),
            (
                "time",
                f"about {duration(self.seconds)} in {self.precision} on this machine: "
                "an estimate from a matrix product timed just now",
            ),
            ("memory", self._memory()),
            ("disk", f"{amount(self.disk)}B{free}"),
        ]
        rows += [("too long", str(one)) for one in self.long]
        rows += [("options", str(one)) for one in self.nested]
        return rows + [("probes left out", why) for why in self.unprobed]

    def _memory(self) -> str:
        """Say what memory a trial takes, and how much there is."""
        here = f"{amount(psutil.virtual_memory().total)}B here"
        if self.gpu is None:
            return f"{amount(self.footprint.cpu)}B a trial; {here}"
        return (
            f"{amount(self.memory)}B a process of a trial; {amount(self.gpu)}B a GPU; "
            f"beside it {amount(self.footprint.gpu)}B a trial; {here}"
        )

    def shortage(self) -> str | None:
        """Return one sentence where disk, GPU or model is too small, else None."""
        if refused := next((one for one in self.long if one.tokens), None):
            return str(refused)
        if self.gpu is not None and self.held > self.gpu:
            return (
                f"a trial's weights, gradients and moments take {amount(self.held)}B of a GPU that"
                f' has {amount(self.gpu)}B: tuning = "lora" trains small adapters alone, and'
                " [resources] shard = true shares the model out over workers, a GPU each"
            )
        if self.free is None or self.disk <= self.free:
            return None
        return (
            f"the sweep needs {amount(self.disk)}B of disk and {amount(self.free)}B are free:"
            " set FORGET_STORE to a larger disk, or base.save = false to keep no forgotten models"
        )


def plan(expansion: Expansion, store: Store) -> Plan:
    """Count what is done of a sweep and estimate what is left.

    Raises:
        BadInput: data that cannot be read.
    """
    sweep = expansion.sweep
    found = standings(expansion, store)
    # What a search will propose is not known yet: a proposal costs what its cell does.
    todo: list[tuple[str, Trial]] = []
    for one in found:
        todo += [(one.identity.learned, one.trial)] * one.left
    shares = sweep.resources.workers if sweep.resources.shard else 1
    costs = [cost(trial, shares) for _, trial in todo]
    learning = {learned: one for (learned, _), one in zip(todo, costs, strict=True) if learned}
    missing = [one for learned, one in learning.items() if not store.has("learned", learned)]
    again = _measured_again(todo, costs)
    memory = max((one.memory for one in costs), default=0)
    at_once = _at_once(sweep.resources, len(costs), memory)
    saved = [one for (_, trial), one in zip(todo, costs, strict=True) if trial.keeps]
    return Plan(
        done=sum(len(one.done) for one in found),
        todo=len(costs),
        learned_done=len(learning) - len(missing),
        learned_todo=len(missing),
        trained=sum(one.forget for one in costs) + sum(one.learn for one in missing),
        scored=sum(one.forgetting_scored for one in costs)
        + sum(one.learning_scored for one in missing)
        + sum(2 * one.own for one in again),
        assumed=tuple(dict.fromkeys(chain.from_iterable(one.assumed for one in costs))),
        flops=_flops(costs, missing, again),
        rounds=math.ceil(len(costs) / at_once),
        memory=memory,
        held=max((one.held for one in costs), default=0),
        footprint=footprint_of([trial for _, trial in todo], costs, sweep.resources.workers),
        gpu=_gpu(sweep.resources, memory),
        disk=_disk(costs, missing, saved, at_once),
        free=None if store.remote else _free(store.root),
        long=too_long((trial for _, trial in todo), store),
        nested=nested((trial for _, trial in todo), store),
        unprobed=tuple(dict.fromkeys(one.unprobed for one in costs if one.unprobed)),
        decides=tuple(power.told(_size(expansion.trials))),
    )


def _size(trials: Sequence[Trial]) -> power.Size:
    """Return the size of a sweep, by which effects are decided."""
    seeds = {trial.seed for trial in trials}
    members = {(trial.seed, trial.member) for trial in trials}
    return power.Size(
        tasks=len({trial.task for trial in trials}),
        replicates=len(seeds) if len(seeds) > 1 else len(members),
        items=min(trial.evaluation_examples for trial in trials),
    )


def check(expansion: Expansion, store: Store) -> Plan:
    """Return the plan of a sweep whose trials left to run fit the disk and their models.

    Raises:
        BadInput: the disk is too small, or an example longer than its model reads.
    """
    found = plan(expansion, store)
    if reason := found.shortage():
        raise BadInput(reason)
    return found


def _measured_again(todo: Sequence[tuple[str, Trial]], costs: Sequence[Cost]) -> list[Cost]:
    """Return costs of trials that measure a learned model on other examples than the first did."""
    found: dict[str, dict[object, Cost]] = {}
    for (learned, trial), one in zip(todo, costs, strict=True):
        looks_at = trial.forget_set, trial.forget.examples, trial.measure_templates
        found.setdefault(learned, {}).setdefault(looks_at, one)
    again: list[Cost] = []
    for learned, by_look in found.items():
        again += [*by_look.values()][1:] if learned else []
    return again


def _flops(
    costs: Sequence[Cost], missing: Sequence[Cost], again: Sequence[Cost]
) -> dict[bool, float]:
    """Sum FLOPs of forgetting, and of learning what is missing, by whether they are in bf16.

    Those of measuring a learned model again (`_measured_again`) are counted as well.
    """
    flops = {True: 0.0, False: 0.0}
    for one in costs:
        flops[one.bf16] += one.forgetting
    for one in missing:
        flops[one.bf16] += one.learning
    for one in again:
        flops[one.bf16] += one.again
    return flops


def _disk(
    costs: Sequence[Cost], missing: Sequence[Cost], saved: Sequence[Cost], at_once: int
) -> int:
    """Sum the bytes that trials leave in the store, and those of checkpoints while they run.

    Args:
        costs: of the trials left to run.
        missing: of the trials whose learned checkpoint is to be made.
        saved: of the trials whose forgotten model is kept.
        at_once: trials that run at the same time.
    """
    learned = sum(4 * one.parameters for one in missing)
    forgotten = sum(2 * one.parameters for one in saved)
    # fp32 weights and two moments; the largest trials may meet.
    running = sorted((12 * one.trained for one in costs), reverse=True)[:at_once]
    return learned + forgotten + sum(running)


def _at_once(resources: Resources, todo: int, memory: int) -> int:
    """Return how many trials run at the same time on this machine; at least 1.

    Args:
        resources: what a trial takes.
        todo: trials left to run.
        memory: bytes that a process of the largest takes.
    """
    fitting = cores() / (resources.cpus * resources.workers)
    if gpus := gpus_a_process(resources, memory) * resources.workers:
        fitting = min(fitting, torch.cuda.device_count() / gpus)
    return max(1, min(todo, int(fitting), resources.concurrent or todo))


def _gpu(resources: Resources, memory: int) -> int | None:
    """Return the bytes of the smallest GPU here, or of the share of it that a process takes."""
    share = gpus_a_process(resources, memory)
    return int(smallest_gpu() * min(1.0, share)) if share and torch.cuda.is_available() else None


def _free(root: Path) -> int:
    """Return the bytes free where the folder lies or will lie."""
    return shutil.disk_usage(
        next(folder for folder in (root, *root.parents) if os.path.exists(folder))
    ).free
