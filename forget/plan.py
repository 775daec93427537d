"""What a sweep will cost, before it is spent: trials, tokens, time, memory, disk. Downloads nothing, reads no weights."""

from __future__ import annotations

import functools
import math
import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from forget import models, tasks
from forget.lengths import Long, too_long
from forget.settings import BadInput, Sweep, Trial, overlay
from forget.store import Store
from forget.trial import check_all, identify_all

CHARACTERS_A_TOKEN = 4
"""Of English text in the vocabularies of Llama, GPT-2 and SmolLM2."""

HUB_PROMPT, HUB_OPTION = 90, 10
"""Tokens assumed of a prompt and of an option where the task's data are not on this machine."""

EFFICIENCY = 0.35
"""Share of a matrix product's throughput that training reaches: smollm2-135m, bf16, two cores, 32 tokens a sequence."""

TRIAL_SECONDS = 10
"""What a trial takes beside the model's arithmetic: loading, probing, bootstrapping, logging."""

ADAM = 16
"""Bytes a trained parameter takes: fp32 weight, gradient and two moments."""


@dataclass(frozen=True)
class Cost:
    """What a trial takes if it shares nothing."""

    learn: int
    """Tokens trained on."""
    forget: int
    scored: int
    """Tokens of one of the three measurements, before any training, after learning and after forgetting."""
    watched: int
    """Tokens scored on the way through one of the two stages."""
    assumed: tuple[str, ...]
    """Tasks whose length is assumed since their data are not here."""
    parameters: int
    trained: int
    """Parameters that change: all, or the adapters'."""
    memory: int
    """Bytes of weights, gradients, moments and, roughly, activations, in one process."""
    bf16: bool

    @property
    def learning(self) -> float:
        """FLOPs of learning and of measuring before and after it: what trials of the same learned checkpoint share."""
        return self._training * self.learn + self._scoring * (2 * self.scored + self.watched)

    @property
    def forgetting(self) -> float:
        """FLOPs of forgetting and of measuring after it."""
        return self._training * self.forget + self._scoring * (self.scored + self.watched)

    @property
    def _training(self) -> float:
        """FLOPs a token: 2 forward, 2 for the activations' gradient, 2 for the weights' (Kaplan et al. 2020, 2.1)."""
        return 4 * self.parameters + 2 * self.trained

    @property
    def _scoring(self) -> float:
        return 2 * self.parameters


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
    """Bytes of learned checkpoints in fp32, forgotten models in bf16, and the checkpoints of trials that run."""
    free: int | None
    """Bytes free where the store lies; None for an object store, which does not say."""
    long: tuple[Long, ...] = ()
    """Examples that a model does not read."""

    @property
    def seconds(self) -> float:
        """An estimate; asked for the first time, it times the machine for half a second."""
        return sum(n / EFFICIENCY / throughput(bf16) for bf16, n in self.flops.items() if n) + TRIAL_SECONDS * self.rounds

    def rows(self) -> list[tuple[str, str]]:
        """What, and how much."""
        basis = f"{CHARACTERS_A_TOKEN} characters a token"
        if self.assumed:
            basis += f"; {HUB_PROMPT + HUB_OPTION} an example assumed for tasks not on this machine: {', '.join(self.assumed)}"
        rows = [
            ("trials", f"{self.todo} to run, {self.done} done"),
            ("learned checkpoints", f"{self.learned_todo} to make, {self.learned_done} in the store"),
            ("tokens", f"{amount(self.trained)} trained, {amount(self.scored)} scored ({basis})"),
            ("time", f"about {duration(self.seconds)} on this machine: an estimate from a matrix product timed just now"),
            ("memory", f"{amount(self.memory)}B a process of a trial; {amount(psutil.virtual_memory().total)}B here"),
            ("disk", f"{amount(self.disk)}B" + ("" if self.free is None else f"; {amount(self.free)}B free")),
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


def cost(trial: Trial, shares: int = 1) -> Cost:
    """`shares` processes hold the model between them. Raises BadInput for a task or model that is not there."""
    sizes = {name: _size(name, trial.folders, trial.template, trial.options) for name in trial.tasks}
    own = sizes[trial.task]
    learn = min(trial.learn.examples, own.train)
    forget = min(trial.forget.examples, own.train)
    limit = trial.evaluation_examples
    scored = own.scored * (min(limit, forget) + min(limit, own.near) + min(trial.probe.examples, own.validation))
    scored += sum(size.scored * min(limit, size.test) for size in sizes.values())

    parameters, layers = models.parameters(trial.model), models.layers(trial.model)
    # A block holds 12 d^2 parameters (Kaplan et al. 2020, 2.1), adapters on its seven linear layers about 19 d a rank.
    width = math.sqrt(parameters / 12 / layers)
    adapters = int(19 * width * trial.lora.rank * layers)
    trained = adapters if trial.tuning == "lora" else parameters
    weights = ADAM * trained + (4 * parameters if trial.tuning == "lora" else 0)
    bf16 = models.in_bf16(trial.precision)
    # 34 bytes a token, layer and unit of width in 16 bits (Korthikanti et al. 2022, 4.1), attention scores left out.
    activations = 34 * (1 if bf16 else 2) * width * layers * own.trained * max(trial.learn.batch, trial.forget.batch)
    return Cost(
        learn=int(learn * trial.learn.epochs * own.trained),
        forget=int(forget * trial.forget.epochs * own.trained),
        scored=int(scored),
        watched=int(own.scored * trial.watch.points * min(trial.watch.examples, own.test)),
        assumed=tuple(name for name, size in sizes.items() if size.assumed),
        parameters=parameters,
        trained=trained,
        # A model is loaded whole before it is shared out.
        memory=int(max(weights / shares, 4 * parameters) + activations),
        bf16=bf16,
    )


def plan(sweep: Sweep, store: Store) -> Plan:
    """Raises BadInput where no trial could run (forget.trial.check) or the data cannot be read."""
    check_all(sweep.trials(), sweep.resources.shard)
    todo, done = _trials(sweep, store)
    shares = sweep.resources.workers if sweep.resources.shard else 1
    costs = [cost(trial, shares) for _, trial in todo]
    learning = {learned: one for (learned, _), one in zip(todo, costs, strict=True)}
    missing = {learned: one for learned, one in learning.items() if not store.has("learned", learned)}
    at_once = _at_once(sweep, len(costs))
    flops = {True: 0.0, False: 0.0}
    for one in costs:
        flops[one.bf16] += one.forgetting
    for one in missing.values():
        flops[one.bf16] += one.learning
    kept = sum(2 * one.parameters for (_, trial), one in zip(todo, costs, strict=True) if trial.save)
    running = sorted((12 * one.trained for one in costs), reverse=True)[:at_once]
    return Plan(
        done=done,
        todo=len(costs),
        learned_done=len(learning) - len(missing),
        learned_todo=len(missing),
        trained=sum(one.forget for one in costs) + sum(one.learn for one in missing.values()),
        scored=sum(one.scored + one.watched for one in costs) + sum(2 * one.scored + one.watched for one in missing.values()),
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


@dataclass(frozen=True)
class _Size:
    """Examples of a task's splits, and the tokens of one."""

    train: float
    test: float
    validation: float
    near: float
    trained: float
    """Tokens of a prompt with one option."""
    scored: float
    """Tokens of a prompt with all options; the prompt is computed once."""
    assumed: bool = False


@functools.cache
def _size(name: str, folders: tuple[str, ...], template: str, options: Literal["two", "all"]) -> _Size:
    task = tasks.find(name, folders)
    if task.kind == "hub":
        return _Size(math.inf, math.inf, math.inf, 0, HUB_PROMPT + HUB_OPTION, HUB_PROMPT + 2 * HUB_OPTION, assumed=True)
    load = functools.partial(tasks.load, name, folders=folders, template=template, options=options)
    splits = {split: load(split) for split in task.splits}
    # Another task than the trial's own may have no more than a test split.
    some = splits.get("train") or splits["test"]
    prompt = statistics.mean(len(example.prompt) for example in some) / CHARACTERS_A_TOKEN
    option = statistics.mean(len(text + example.suffix) for example in some for text in example.options) / CHARACTERS_A_TOKEN
    count = statistics.mean(len(example.options) for example in some)
    train, test, validation, near = (len(splits.get(split, ())) for split in ("train", "test", "validation", "near"))
    return _Size(train, test, validation, near, prompt + option, prompt + count * option)


def _trials(sweep: Sweep, store: Store) -> tuple[list[tuple[str, Trial]], int]:
    """(id of the learned checkpoint, trial) of those that are left, each once, and how many are done."""
    trials = sweep.trials()
    cells = dict(zip(identify_all(trials), trials, strict=True))
    if not sweep.search:
        finished = set(store.done(identity.trial for identity in cells))
        todo = [(identity.learned, trial) for identity, trial in cells.items() if identity.trial not in finished]
        return todo, len(cells) - len(todo)
    # What a search will propose is not known yet: a proposal costs what its cell does. Done is whatever differs from the
    # cell in the settings that are searched alone.
    searched = {key: bounds.low for key, bounds in sweep.search.settings.items()}
    found = Counter(overlay(outcome.trial, searched) for outcome in store.finished())
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
    return shutil.disk_usage(next(folder for folder in (root, *root.parents) if os.path.exists(folder))).free


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
