"""Take steps of full fine-tuning: `forget.training.loop.fine_tune` against Hugging Face's Trainer.

Both sides start from the same weights, which each restores within the time that is measured. They
take the same items in the same order and batches, at a constant rate with the same clipping, and
learn the answers alone. Long contexts are BoolQ and short ones ARC-easy, or tasks that ship with
the package where there is no folder of data. Trainer keeps its default settings: fp32 and its own
optimiser. In fp32 the loss of every step is equal within 1 %. In bf16, our default on a machine
that computes in it, every loss is finite and their mean is within 10 %.

The share of the machine's matrix peak counts 6 operations for each parameter of the blocks and each
token that is not padding (2 forward, 4 backward; attention, embeddings and the head are left out)
from the first step to the last. The whole is the largest rate of a square matrix product in the
same precision, measured before and after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks import data, stack
from benchmarks.compare import Comparison, Share
from forget.events import Event, StageStarted, Step
from forget.models import batches
from forget.models.catalogue import MODELS, in_bf16
from forget.models.language_model import LanguageModel
from forget.settings.parts import Stage
from forget.tasks import labels
from forget.tasks.labels import Labelled
from forget.tasks.task import Example
from forget.training.loop import fine_tune
from forget.training.terms import Term

SIZES = (1024, 2048, 4096)
"""Sizes of the square matrices whose product gives the peak."""
REPEATS = 3

Losses = Sequence[float]
"""Losses by step, in nats an answer token."""


@dataclass(frozen=True)
class Subject:
    """A model of which each side trains a copy of its own."""

    ours: Callable[[], LanguageModel]
    theirs: Callable[[], PreTrainedModel]


SMALL = Subject(data.model, data.other_network)


def comparisons(quick: bool) -> list[Comparison[Any] | Share]:
    long, short = ("boolq", "arc_easy") if data.REAL else ("reading", "science")
    auto = in_bf16("auto")
    name = "bf16" if auto else "fp32"
    rows: list[Comparison[Any] | Share] = []
    for kind, task in (("long", long), ("short", short)):
        batch, steps = (4, 2) if quick else (Stage().batch, 2)
        some, stage = sized(task, batch * steps), stage_of(batch)
        work = f"fine-tune on {task} ({kind} contexts)"
        if not (quick and auto and task == long):
            rows.append(
                against(
                    SMALL,
                    f"{work}, fp32",
                    some,
                    stage,
                    bf16=False,
                    theirs_bf16=False,
                    within=0.01,
                    target=2.5,
                )
            )
        if auto:
            rows.append(
                against(
                    SMALL,
                    f"{work}, bf16",
                    some,
                    stage,
                    bf16=True,
                    theirs_bf16=False,
                    within=0.1,
                    target=2.5,
                )
            )
            if not quick:
                both = f"{work}, bf16 on both sides"
                rows.append(
                    against(
                        SMALL,
                        both,
                        some,
                        stage,
                        bf16=True,
                        theirs_bf16=True,
                        within=0.1,
                        target=None,
                    )
                )
    some = sized(long, 16 if quick else 32)
    entry = MODELS[data.MODEL]
    blocks = entry.parameters - entry.outside
    measure = partial(share_of_peak, SMALL, blocks, some, stage_of(Stage().batch), auto)
    rows.append(
        Share(
            f"fine-tune on {long}, {name}",
            f"the largest rate of a matrix product in {name}",
            measure,
            0.55,
        )
    )
    return rows


def sized(task: str, n: int) -> list[Example]:
    return list(data.examples(task, n, "train"))


def stage_of(batch: int) -> Stage:
    return Stage(epochs=1, batch=batch, lr=5e-5, schedule="constant", warmup=0)


def _tokens(subject: Subject, some: Sequence[Example]) -> int:
    """Count the tokens that training on the true answers computes, padding left out."""
    model = subject.ours()
    encoded = batches.encode(some, model.tokenizer, batches.reach(model.network))
    return sum(one.only(e.answer).length for one, e in zip(encoded, some, strict=True))


@cache
def _start(subject: Subject) -> dict[str, torch.Tensor]:
    """Return the weights that every run starts from."""
    return {name: weight.clone() for name, weight in subject.theirs().state_dict().items()}


def _ours(
    subject: Subject,
    some: Sequence[Example],
    stage: Stage,
    bf16: bool,
    observe: Callable[[Event], None],
) -> None:
    model = subject.ours()
    model.network.load_state_dict(_start(subject))
    items: Sequence[Labelled] = labels.true(some)
    terms = [Term(lambda _: items)]
    fine_tune(model, terms, stage, stage="learn", seed=0, bf16=bf16, observe=observe)


def against(
    subject: Subject,
    work: str,
    some: Sequence[Example],
    stage: Stage,
    *,
    bf16: bool,
    theirs_bf16: bool,
    within: float,
    target: float | None,
) -> Comparison[Losses]:
    """Make a row of training steps against Trainer.

    Args:
        subject: the model.
        work: name of the row.
        some: examples that are learned.
        stage: settings of both sides.
        bf16: our side trains in bf16.
        theirs_bf16: the other side trains in bf16.
        within: largest relative distance of a loss from theirs: of each one in fp32, of their mean
            in bf16.
        target: the least ratio that is good.
    """

    def ours() -> Losses:
        losses: list[float] = []

        def observe(event: Event) -> None:
            if isinstance(event, Step):
                losses.append(event.loss or 0.0)

        _ours(subject, some, stage, bf16, observe)
        return losses

    def theirs() -> Losses:
        network = subject.theirs()
        network.load_state_dict(_start(subject))
        return stack.train(
            network,
            subject.ours().tokenizer,
            stack.ordered(labels.true(some), 0, "learn"),
            stage,
            theirs_bf16,
        )

    def check(mine: Losses, other: Losses) -> str:
        assert len(mine) == len(other), f"{len(mine)} steps, theirs {len(other)}"
        assert all(map(math.isfinite, mine)), f"a loss is not finite: {mine}"
        if bf16:
            apart = abs(sum(mine) / sum(other) - 1)
            assert apart <= within, f"mean losses differ by {apart:.1%}"
            return f"all losses finite, their mean over {len(mine)} steps within {apart:.1%}"
        apart = max(abs(a / b - 1) for a, b in zip(mine, other, strict=True))
        assert apart <= within, f"losses of a step differ by {apart:.1%}"
        return f"the losses of all {len(mine)} steps within {apart:.2%}"

    trainer = f"Trainer, {'bf16' if theirs_bf16 else 'default settings'}"
    return Comparison(work, trainer, ours, theirs, check, target, tokens=_tokens(subject, some))


def share_of_peak(
    subject: Subject, blocks: int, some: Sequence[Example], stage: Stage, bf16: bool
) -> tuple[float, str]:
    """Measure the share of the machine's matrix peak that training reaches.

    Args:
        subject: the model.
        blocks: number of its parameters within blocks.
        some: examples that are learned.
        stage: settings.
        bf16: train in bf16.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    times: list[float] = []

    def observe(event: Event) -> None:
        if isinstance(event, StageStarted):
            times.clear()
        times.append(time.perf_counter())

    before = matrix_peak(dtype)
    for _ in range(2):  # The first warms up.
        _ours(subject, some, stage, bf16, observe)
    peak = max(before, matrix_peak(dtype))
    seconds = times[-1] - times[0]
    tokens = _tokens(subject, some)
    rate = 6 * blocks * tokens / seconds
    note = (
        f"6 x {blocks / 1e6:.0f}M parameters x {tokens} tokens in {seconds:.1f} s: "
        f"{rate / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s"
    )
    return rate / peak, note


def matrix_peak(dtype: torch.dtype) -> float:
    """Return the largest rate of a square matrix product on this machine, in FLOP a second."""
    device = data.model().device
    rates = []
    for size in SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        a @ b
        for _ in range(REPEATS):
            began = time.perf_counter()
            (a @ b)[0, 0].item()  # Waits for a GPU to be done.
            rates.append(2 * size**3 / (time.perf_counter() - began))
    return max(rates)
