"""What a sweep will cost, before it is spent: trials, tokens, time, memory, disk. Downloads nothing, reads no weights."""

from __future__ import annotations

import functools
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from forget.errors import BadInput
from forget.planning.cost import CHARACTERS_A_TOKEN, HUB_OPTION, HUB_PROMPT, cost
from forget.planning.lengths import Long, too_long
from forget.preflight import check_all, identify_all
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store

EFFICIENCY = 0.35
"""Share of a matrix product's throughput that training reaches: smollm2-135m, bf16, two cores, 32
tokens a sequence.
"""

TRIAL_SECONDS = 10
"""What a trial takes beside the model's arithmetic: loading, probing, bootstrapping, logging."""


@dataclass(frozen=True)
class Plan:
    """What a sweep has done and what is left."""

    done: int
    todo: int
    learned_done: int
    learned_todo: int
    """Learned checkpoints to make; the trials that start from the same one share it."""
    trained: int
    """Tokens."""
    scored: int
    """Tokens."""
    assumed: tuple[str, ...]
    flops: Mapping[bool, float]
    """By whether they are in bf16."""
    rounds: int
    """How many trials a slot runs, one after another."""
    memory: int
    """Bytes, of the largest trial."""
    disk: int
    """Bytes of learned checkpoints in fp32, forgotten models in bf16, and the checkpoints of trials
    that run.
    """
    free: int | None
    """Bytes free where the store lies; None for an object store, which does not say."""
    long: tuple[Long, ...] = ()
    """Examples that a model does not read."""

    @property
    def seconds(self) -> float:
        """An estimate; asked for the first time, it times the machine for half a second."""
        return (
            sum(n / EFFICIENCY / throughput(bf16) for bf16, n in self.flops.items() if n)
            + TRIAL_SECONDS * self.rounds
        )

    def rows(self) -> list[tuple[str, str]]:
        """What, and how much."""
        basis = f"{CHARACTERS_A_TOKEN} characters a token"
        if self.assumed:
            basis += f"; {HUB_PROMPT + HUB_OPTION} an example assumed for tasks not on this machine: {', '.join(self.assumed)}"
        rows = [
            ("trials", f"{self.todo} to run, {self.done} done"),
            (
                "learned checkpoints",
                f"{self.learned_todo} to make, {self.learned_done} in the store",
            ),
            ("tokens", f"{amount(self.trained)} trained, {amount(self.scored)} scored ({basis})"),
            (
                "time",
                f"about {duration(self.seconds)} on this machine: an estimate from a matrix product timed just now",
            ),
            (
                "memory",
                f"{amount(self.memory)}B a process of a trial; {amount(psutil.virtual_memory().total)}B here",
            ),
            (
                "disk",
                f"{amount(self.disk)}B"
                + ("" if self.free is None else f"; {amount(self.free)}B free"),
            ),
        ]
        rows += [("too long", str(one)) for one in self.long]
        return rows if self.todo else rows[:2]

    def shortage(self) -> str | None:
        """One sentence where the disk is too small, or an example too long."""
        if refused := next((one for one in self.long if one.tokens), None):
            return str(refused)
        if self.free is None or self.disk <= self.free:
            return None
        return (
            f"the sweep needs {amount(self.disk)}B of disk and {amount(self.free)}B are free:"
            " set FORGET_STORE to a larger disk, or base.save = false to keep no forgotten models"
        )


def plan(sweep: Sweep, store: Store) -> Plan:
    """Raises BadInput where no trial could run (forget.preflight.check) or the data cannot be read."""
    check_all(sweep.trials(), sweep.resources.shard)
    todo, done = _trials(sweep, store)
    shares = sweep.resources.workers if sweep.resources.shard else 1
    costs = [cost(trial, shares) for _, trial in todo]
    learning = {learned: one for (learned, _), one in zip(todo, costs, strict=True)}
    missing = {
        learned: one for learned, one in learning.items() if not store.has("learned", learned)
    }
    at_once = _at_once(sweep, len(costs))
    flops = {True: 0.0, False: 0.0}
    for one in costs:
        flops[one.bf16] += one.forgetting
    for one in missing.values():
        flops[one.bf16] += one.learning
    kept = sum(
        2 * one.parameters for (_, trial), one in zip(todo, costs, strict=True) if trial.save
    )
    running = sorted((12 * one.trained for one in costs), reverse=True)[:at_once]
    return Plan(
        done=done,
        todo=len(costs),
        learned_done=len(learning) - len(missing),
        learned_todo=len(missing),
        trained=sum(one.forget for one in costs) + sum(one.learn for one in missing.values()),
        scored=sum(one.scored + one.watched for one in costs)
        + sum(2 * one.scored + one.watched for one in missing.values()),
        assumed=tuple(dict.fromkeys(name for one in costs for name in one.assumed)),
        flops=flops,
        rounds=math.ceil(len(costs) / at_once),
        memory=max((one.memory for one in costs), default=0),
        disk=sum(4 * one.parameters for one in missing.values()) + kept + sum(running),
        free=None if store.remote else _free(store.root),
        long=too_long((trial for _, trial in todo), store),
    )


def check(sweep: Sweep, store: Store) -> Plan:
    """The plan. Raises BadInput where the disk is too small for what is left, or a model does not read an example of it."""
    found = plan(sweep, store)
    if reason := found.shortage():
        raise BadInput(reason)
    return found


@functools.cache
def throughput(bf16: bool) -> float:
    """FLOPs a second of a matrix product, measured for half a second on what the trials would run on."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    (a @ a).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        # The sum brings a number back, which on a GPU is what waits for the product.
        (a @ a).sum().item()
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - began) * max(1, torch.cuda.device_count())


def _trials(sweep: Sweep, store: Store) -> tuple[list[tuple[str, Trial]], int]:
    """(id of the learned checkpoint, trial) of those that are left, each once, and how many are done."""
    trials = sweep.trials()
    cells = dict(zip(identify_all(trials), trials, strict=True))
    if not sweep.search:
        finished = set(Trials(store).done(identity.trial for identity in cells))
        todo = [
            (identity.learned, trial)
            for identity, trial in cells.items()
            if identity.trial not in finished
        ]
        return todo, len(cells) - len(todo)
    # What a search will propose is not known yet: a proposal costs what its cell does. Done is
    # whatever differs from the cell in the settings that are searched alone.
    searched = {key: bounds.low for key, bounds in sweep.search.settings.items()}
    known = Trials(store)
    settings = [known.settings(id) for id in known.finished()]
    found = Counter(overlay(trial, searched) for trial in settings if trial)
    todo, done = [], 0
    for identity, cell in cells.items():
        ready = min(found[overlay(cell, searched)], sweep.search.trials)
        todo += [(identity.learned, cell)] * (sweep.search.trials - ready)
        done += ready
    return todo, done


def _at_once(sweep: Sweep, todo: int) -> int:
    """Trials that run at the same time on this machine; at least 1."""
    take = sweep.resources
    fitting = (os.cpu_count() or 1) / (take.cpus * take.workers)
    if take.gpus:
        fitting = min(fitting, torch.cuda.device_count() / (take.gpus * take.workers))
    return max(1, min(todo, int(fitting), take.concurrent or todo))


def _free(root: Path) -> int:
    """Bytes free where the folder lies or will lie."""
    return shutil.disk_usage(
        next(folder for folder in (root, *root.parents) if os.path.exists(folder))
    ).free


def amount(n: float) -> str:
    """ "640 ", "1.2 k", "3.4 M", "5.6 G": a unit may follow."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n:.0f} "


def duration(seconds: float) -> str:
    """ "45 s", "12.0 min", "3.5 h", "12.0 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
