"""Read what a GPU makes of packed batches: attention, training and memory of a model of 1.1B.

`make bench ONLY=accelerators` takes five minutes on a GPU and has no row without one.
The model has the shape of Llama 3.2 1B and random weights, which compute as fast as learned ones.

Options side by side need a mask of their own, with which torch has no flash attention. The rows of
scoring set that against flex attention, which passes over blocks of the mask where no token sees
another, and against one option a row, which flash attention takes. They name the kernels that ran.
Equal means within half a nat in bf16, where each kernel rounds in its own way.

Both sides of training compute in bf16, on the same examples. The share of the peak is counted as
under "Tuning". Memory is the peak of what torch holds on the GPU in a whole trial; the whole is
what the plan expects of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks import data
from benchmarks.compare import Comparison, Share
from forget.evaluation.scoring import score
from forget.models import loading
from forget.models.language_model import LanguageModel
from forget.models.ways import ROWS
from forget.planning.cost import cost
from forget.settings.parts import Probe, Stage, Watch
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.task import Example
from forget.trial import run_trial

SHAPE: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""Llama 3.2 1B's, but for its vocabulary, which is that of the other rows' tokenizer."""

NEAR = 0.5
"""Largest difference of two log-probabilities in bf16, in nats."""

ATTENTION = ("scaled_dot", "flash", "fmha", "efficient", "flex")
"""Parts of the names of operators and kernels that compute attention."""

Scores = Sequence[Sequence[float]]


def comparisons(quick: bool) -> list[Comparison[Any] | Share]:
    if not torch.cuda.is_available():
        return []
    # Imported here, since it imports what it compares with.
    from benchmarks.training.tuning import Subject, against, share_of_peak, sized, stage_of

    long, short = ("boolq", "arc_easy") if data.REAL else ("reading", "science")
    rows: list[Comparison[Any] | Share] = []
    for kind, task in (("long", long), ("short", short)):
        scored = data.examples(task, 32 if quick else 128)
        work = f"score {task} ({kind} contexts), 1.1B, bf16"
        for name, other in (("flex attention", flexing), ("one option a row", apart)):
            rows.append(scoring(large, work, scored, name, other))
    subject = Subject(large, _other)
    for kind, task in (("long", long), ("short", short)):
        rows.append(
            against(
                subject,
                f"fine-tune on {task} ({kind} contexts), 1.1B, bf16 on both sides",
                sized(task, 64),
                stage_of(32),
                bf16=True,
                theirs_bf16=True,
                within=0.1,
                target=None,
            )
        )

    def peak() -> tuple[float, str]:
        weights = nn.ModuleList(large().answers.blocks).parameters()
        blocks = sum(weight.numel() for weight in weights)
        return share_of_peak(subject, blocks, sized(long, 64), stage_of(32), True)

    rows.append(Share(f"fine-tune on {long}, 1.1B, bf16", "the matrix peak in bf16", peak, 0.4))
    rows.append(
        Share("memory of a trial, 1.1B", "what the plan expects", _memory, 1.0, at_most=True)
    )
    return rows


@cache
def _place() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that goes when the process ends."""
    return tempfile.TemporaryDirectory()


@cache
def made() -> Path:
    """Write the model as a folder, once a process."""
    folder = Path(_place().name)
    torch.manual_seed(0)
    tokenizer = data.model().tokenizer
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def large() -> LanguageModel:
    """Load the model as the platform does, once a process."""
    return loading.load(made())


@cache
def _other() -> PreTrainedModel:
    """Load the other side's own copy."""
    return data.network(where=made())


@contextmanager
def flexing(model: LanguageModel) -> Iterator[None]:
    """Have the model attend by flex attention."""
    before = model.network.config._attn_implementation
    model.network.set_attn_implementation("flex_attention")
    try:
        yield
    finally:
        model.network.set_attn_implementation(before)


@contextmanager
def apart(model: LanguageModel) -> Iterator[None]:
    """Have the model read one option a row."""
    before = model.answers.choice
    assert before
    model.answers.choice = replace(before, ways=dict.fromkeys(before.ways, ROWS))
    try:
        yield
    finally:
        model.answers.choice = before


def scoring(
    load: Callable[[], LanguageModel],
    work: str,
    some: Sequence[Example],
    name: str,
    other: Callable[[LanguageModel], Any],
) -> Comparison[Scores]:
    """Make a row of scoring as it is against scoring in another way.

    Args:
        load: gives the model, the same each time, once the row runs.
        work: name of the row.
        some: examples that are scored.
        name: of the other way.
        other: context in which the model scores in that way.
    """

    def ours() -> Scores:
        return score(load(), some, bf16=True).logprobs

    def theirs() -> Scores:
        with other(load()):
            return score(load(), some, bf16=True).logprobs

    def check(mine: Scores, others: Scores) -> str:
        apart_by = 0.0
        for one, another in zip(mine, others, strict=True):
            pairs = zip(one, another, strict=True)
            apart_by = max(apart_by, *(abs(a - b) for a, b in pairs))
        assert apart_by <= NEAR, f"{apart_by:.2f} nats apart"
        by = f"ours by {attending(ours)}, theirs by {attending(theirs)}"
        return f"{apart_by:.2f} nats apart at most; {by}"

    return Comparison(work, name, ours, theirs, check, None, kept=True)


def attending(run: Callable[[], object]) -> str:
    """Return the names of the operators and kernels by which a run attends."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
    names = {event.key[:60] for event in profiled.key_averages()}
    return ", ".join(sorted(filter(_attends, names))) or "none that is named so"


def _attends(name: str) -> bool:
    return any(part in name for part in ATTENTION)


def _memory() -> tuple[float, str]:
    """Return the peak of a trial on the GPU by what the plan expects."""
    stage = Stage(examples=64, epochs=1)
    trial = Trial(
        task="science",
        model=str(made()),
        learn=stage,
        forget=stage,
        evaluation_examples=64,
        probe=Probe(examples=0),
        watch=Watch(points=0),
        save=False,
    )
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with tempfile.TemporaryDirectory() as folder:
        run_trial(trial, store=Store(folder))
    peak, whole = torch.cuda.max_memory_allocated() - before, cost(trial).memory
    return peak / whole, f"{peak / 2**30:.1f} GiB of {whole / 2**30:.1f} GiB"
