"""Compile the blocks with torch.compile in place of our kernels, and batch trials of adapters.

Ours is the model as the platform loads it. Theirs is transformers' own network, each block compiled
in place by inductor for sizes that vary (`block.compile(dynamic=True)`); all blocks share what is
compiled. Both do the same packed micro-batches of short and long examples, in the precision that
`auto` means on the machine: a step's forward and backward passes, without the optimiser, or the
scoring of all options. Both keep freed memory, so that the ratio is that of the kernels alone.
Matrix products among them: compiled blocks leave these to torch, which takes MKL where ours take
oneDNN, and which is faster depends on the processor.

The ratio leaves compiling out, which every process does anew, as each slot of a sweep is one. It is
measured in two new processes, the first with an empty cache of inductor's on disk, the second with
what the first left there, as the time that the first pass takes longer than the second. The
break-even is the number of passes, after which a process that found the cache has won it back.

The last row tells what several trials with adapters of rank 8 on queries and values would gain from
one pass over the frozen model that they share. One adapter learns all trials' examples, which is
the most that as many adapters could reach: they would add products of their own.

In fp32 losses and the norm of the first block's gradient, which the backward pass reaches last, are
equal within 0.1 %: rounding stays far below, and a wrong mask or derivative does not. In bf16 they
are within 10 %, as those of training.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from benchmarks import data
from benchmarks.compare import Comparison, Share
from forget.models import batches, memory
from forget.models.answers import Answers
from forget.models.batches import Batch
from forget.models.catalogue import in_bf16
from forget.models.kernels import keep_memory
from forget.models.ways import PACKED
from forget.tasks.task import Example

TRIALS = 4
"""Trials with adapters that share a frozen model."""
ROUNDS = 3
"""Passes of each side, in turn, from whose medians the break-even is computed."""

Numbers = list[float]
"""Loss of a step, in nats, and the norm of its gradient; of scoring, the loss by batch."""


def comparisons(quick: bool) -> list[Comparison[Any] | Share]:
    rows: list[Comparison[Any] | Share] = []
    if not quick:
        rows += [_compiled(training=True), _compiled(training=False)]
    return [*rows, _batched(2 if quick else 4)]


def _compiled(training: bool) -> Comparison[Numbers]:
    """Make a row of our kernels against compiled blocks, or plain ones where nothing compiles."""
    able = shutil.which(os.environ.get("CXX", "g++")) is not None  # as inductor looks for it

    def ours() -> Numbers:
        return _pass(data.model().answers, training)

    def theirs() -> Numbers:
        return _pass(_theirs(able), training)

    def check(mine: Numbers, other: Numbers) -> str:
        note = _equal(mine, other)
        if not able:
            return f"{note}; nothing was compiled: torch.compile needs a C++ compiler, such as g++"
        with tempfile.TemporaryDirectory() as folder:
            cold, cached = (_alone(folder, training) for _ in range(2))
        keep_memory()
        times = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
        us, them = map(statistics.median, zip(*times, strict=True))
        return f"{note}; compiling takes {cold:.0f} s, {worth(cached, us, them)}"

    what = "a step's forward and backward passes" if training else "scoring"
    against = "each block by torch.compile" if able else "plain blocks: no C++ compiler"
    work = f"{what} by our kernels, {_precision()}"
    return Comparison(work, against, ours, theirs, check, None, kept=True)


def worth(compiling: float, ours: float, theirs: float) -> str:
    """Return when compiling has paid in a process that finds the cache on disk.

    Args:
        compiling: seconds of compiling there.
        ours: seconds of a pass by our kernels.
        theirs: seconds of a compiled pass.
    """
    said = f"{compiling:.0f} s in each process with the cache on disk"
    if ours <= theirs:
        return f"{said}, and never pays: a pass takes {(theirs - ours) * 1e3:.0f} ms longer"
    passes = math.ceil(compiling / (ours - theirs))
    return f"{said}, and pays after {passes:,} passes: each saves {(ours - theirs) * 1e3:.0f} ms"


def _batched(n: int) -> Comparison[Numbers]:
    """Make a row of trials with adapters in one batch against one trial after the other.

    Args:
        n: examples of each trial.
    """
    some = data.examples("arc_easy" if data.REAL else "science", TRIALS * n, "train")
    parts = [some[at : at + n] for at in range(0, len(some), n)]

    def learn(parts: Sequence[Sequence[Example]]) -> Numbers:
        packed: list[Batch] = []
        for part in parts:
            packed += _packed(part, training=True, budget=2**16)  # one micro-batch
        return _step(_adapted(), packed)

    def ours() -> Numbers:
        return learn([some])

    def theirs() -> Numbers:
        return learn(parts)

    work = f"a step of {TRIALS} trials x {n} examples with adapters as one batch, {_precision()}"
    return Comparison(work, "one trial after the other", ours, theirs, _equal, None, kept=True)


def _precision() -> str:
    return "bf16" if in_bf16("auto") else "fp32"


def _equal(mine: Numbers, other: Numbers) -> str:
    within = 0.1 if in_bf16("auto") else 1e-3
    apart = max(abs(a / b - 1) for a, b in zip(mine, other, strict=True))
    assert apart <= within, f"losses or the gradient differ by {apart:.2%}"
    return f"losses and, of a step, the gradient within {apart:.1e}"


def _alone(folder: str, training: bool) -> float:
    """Return the seconds of compiling in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_compiling, folder, training).result()


def _compiling(folder: str, training: bool) -> float:
    """Return how many seconds longer the first compiled pass takes than the second.

    Args:
        folder: inductor's cache on disk.
        training: the pass is a step's, else scoring.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    keep_memory()
    _pass(_theirs(False), training)  # warms up all but the compiler
    compiled = _theirs(True)
    first, second = (_seconds(lambda: _pass(compiled, training)) for _ in range(2))
    return first - second


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@cache
def _theirs(compiled: bool) -> Answers:
    """Load the other side's network, once: what is compiled of it is compiled in place."""
    answers = Answers(data.other_network())
    for block in answers.blocks if compiled else ():
        block.compile(dynamic=True)
    return answers


@cache
def _adapted() -> Answers:
    """Return the frozen model with adapters, as the platform loads it, in a copy of its own."""
    network = copy.deepcopy(data.model().network)
    get_peft_model(network, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    return Answers(network)


@cache
def _batches(training: bool) -> list[Batch]:
    """Pack examples into micro-batches of unlike sizes."""
    long, short = ("boolq", "arc_easy") if data.REAL else ("reading", "science")
    some = [*data.examples(short, 16, "train"), *data.examples(long, 4, "train")]
    network, device = data.model().network, data.model().device
    budget = memory.budget("training" if training else "scoring", network, device)
    return _packed(some, training, budget)


def _packed(some: Sequence[Example], training: bool, budget: int) -> list[Batch]:
    """Pack examples as the platform does, with the true option alone to train on."""
    model = data.model()
    encoded = batches.encode(some, model.tokenizer, batches.reach(model.network))
    if training:
        encoded = [one.only(e.answer) for one, e in zip(encoded, some, strict=True)]
    plan = PACKED.plan([one.length for one in encoded], budget)
    return [PACKED.pack(batches.rows_of(rows, encoded), 0).to(model.device) for rows in plan]


def _pass(answers: Answers, training: bool) -> Numbers:
    return (_step if training else _score)(answers, _batches(training))


def _step(answers: Answers, some: Sequence[Batch]) -> Numbers:
    """Add up the gradients of micro-batches; return the loss and the first block's gradient."""
    answers.zero_grad()
    total = 0.0
    with data.model().autocast(in_bf16("auto")):
        for batch in some:
            loss = _loss(answers, batch)
            loss.backward()
            total += loss.item()
    grads = (weight.grad for weight in answers.blocks[0].parameters())
    norm = torch.nn.utils.get_total_norm([grad for grad in grads if grad is not None])
    return [total, norm.item()]


def _score(answers: Answers, some: Sequence[Batch]) -> Numbers:
    with torch.no_grad(), data.model().autocast(in_bf16("auto")):
        return [_loss(answers, batch).item() for batch in some]


def _loss(answers: Answers, batch: Batch) -> torch.Tensor:
    """Return a sum over tokens, which does not depend on how the examples are parted."""
    logits = answers(batch)[batch.predictor_of].float()
    return functional.cross_entropy(logits, batch.targets, reduction="sum")
