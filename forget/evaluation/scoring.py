"""Score every option of every example by its log-probability."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from accelerate.utils import gather_object
from torch.nn import functional

from forget.events import Observe, StageStarted, Step, ignore
from forget.models import batches, checking, memory
from forget.models.batches import Batch, Encoded
from forget.models.devices import process
from forget.models.language_model import LanguageModel
from forget.models.memory import in_halves
from forget.models.ways import Way
from forget.results.rows import Row
from forget.settings.parts import Position
from forget.tasks.task import Example

CHUNK = 32
"""Positions whose probabilities over the vocabulary are in memory at once."""


@dataclass(frozen=True)
class Scores:
    """Result of one pass over examples."""

    logprobs: list[tuple[float, ...]]
    """Sum of log-probabilities of each option's tokens, in nats, by example."""
    lengths: list[tuple[int, ...]]
    """Divisor of each option's sum, by example."""
    weights: list[tuple[float, ...]]
    """Weight of each option in the total probability, by example (`Row.weights`)."""
    answers: dict[Position, torch.Tensor]
    """Hidden state [options of all examples, layers + 1, width] of each option by position, in
    order of example and option.
    """
    questions: torch.Tensor
    """Hidden state [examples, layers + 1, width] of the prompt's last token; empty where none were
    asked for.
    """

    def rows(self, examples: Sequence[Example], **place: Any) -> list[Row]:
        """Return the scores as Rows.

        Args:
            examples: those that were scored, in the same order.
            place: trial, phase, task and split of the Rows.

        Raises:
            FloatingPointError: a score is not finite.
        """
        if not all(map(math.isfinite, chain.from_iterable(self.logprobs))):
            raise FloatingPointError(
                f'{place["phase"]}: a log-probability of task "{place["task"]}" is not finite'
            )
        rows = []
        for example, logprobs, lengths, weights in zip(
            examples, self.logprobs, self.lengths, self.weights, strict=True
        ):
            rows.append(
                Row(
                    example=example.id,
                    truth=example.answer,
                    logprobs=logprobs,
                    lengths=lengths,
                    weights=weights,
                    **place,
                )
            )
        return rows


@dataclass(frozen=True)
class _Read:
    """Readings of one unit's place in a batch."""

    sums: list[float]
    """Log-probability of each option."""
    answers: dict[Position, torch.Tensor]
    """[options, layers + 1, width] by position."""
    question: torch.Tensor
    """[layers + 1, width], or empty."""


def score(
    model: LanguageModel,
    examples: Sequence[Example],
    *,
    normalise: Literal["none", "tokens", "bytes"] = "none",
    bf16: bool = False,
    states: Sequence[Position] | None = None,
    stage: str = "score",
    observe: Observe = ignore,
) -> Scores:
    """Score every option of every example by its log-probability.

    All processes of a trial call it together and get the same result.

    Args:
        model: what is scored.
        examples: with any number of options each.
        normalise: the divisor of an option's sum (`Trial.normalise`).
        bf16: run the model in bfloat16.
        states: also return hidden states, of each prompt's last token and, at these positions, of
            each option.
        stage: the name of the steps that `observe` receives.
        observe: receives a `StageStarted` and a `Step` for each batch, in the main process.

    Raises:
        BadInput: an example that the model cannot read (`forget.models.batches.encode`).
    """
    own = process()
    encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
    way = checking.prepare(model, encoded, bf16)
    if states is not None:
        checking.check_states(model)
    units = way.units(encoded)
    budget = memory.budget("scoring", model.network, model.device)
    plan = list(way.plan([unit.length for unit in units], budget))
    if own.is_main_process:
        observe(StageStarted(stage=stage, steps=len(plan)))
    # A model that is sharded over processes needs them all for each batch. So they take the same
    # number of them: the last batch is computed again by whoever would have none.
    missing = -len(plan) % own.num_processes
    turns = list(enumerate(plan + plan[-1:] * missing))
    found: dict[int, _Read] = {}
    # One autocast region for all batches: the bf16 copies of the weights are made once.
    with torch.no_grad(), model.autocast(bf16):
        for number, rows in turns[own.process_index :: own.num_processes]:
            tokens = 0
            for reads, computed in in_halves(rows, partial(_run, model, way, units, states)):
                found |= reads
                tokens += computed
            if own.is_main_process:
                observe(Step(stage=stage, step=number + 1, steps=len(plan), tokens=tokens))
    if own.num_processes > 1:
        found = dict(gather_object(list(found.items())))
    parts = _by_example([found[i] for i in range(len(units))], encoded)
    items = list(zip(examples, encoded, strict=True))
    return Scores(
        logprobs=[tuple(part.sums) for part in parts],
        lengths=[_lengths(example, one, normalise) for example, one in items],
        weights=[_weights(example, one) for example, one in items],
        answers={position: _joined(parts, position) for position in states or ()},
        questions=torch.stack([part.question for part in parts]),
    )


def _run(
    model: LanguageModel,
    way: Way,
    units: Sequence[Encoded],
    positions: Sequence[Position] | None,
    rows: list[list[int]],
) -> tuple[dict[int, _Read], int]:
    """Run a batch; return what it tells of each unit, by index, and its tokens."""
    packed = batches.rows_of(rows, units)
    batch = way.pack(packed, model.tokenizer.pad_token_id or 0).to(model.device)
    by_layer: list[tuple[dict[Position, torch.Tensor], torch.Tensor]] = []

    def read(states: torch.Tensor) -> None:
        by_layer.append(_layer(states, batch, positions or ()))

    logits = model.answers(batch, None if positions is None else read)
    reads = _read(logits, by_layer, batch, list(chain.from_iterable(packed)), positions)
    return dict(zip(chain.from_iterable(rows), reads, strict=True)), batch.tokens


def _by_example(reads: Sequence[_Read], encoded: Sequence[Encoded]) -> list[_Read]:
    """Join what was read of an example's options, where each is a unit of its own."""
    if len(reads) == len(encoded):
        return list(reads)
    parts = []
    start = 0
    for one in encoded:
        own = reads[start : start + len(one.options)]
        start += len(own)
        answers = {place: _joined(own, place) for place in own[0].answers}
        sums = [read.sums[0] for read in own]
        parts.append(_Read(sums, answers, own[0].question))
    return parts


def _joined(parts: Sequence[_Read], position: Position) -> torch.Tensor:
    """Return the states of all options at a position, in order of example and option."""
    return torch.cat([part.answers[position] for part in parts])


def _lengths(
    example: Example, encoded: Encoded, normalise: Literal["none", "tokens", "bytes"]
) -> tuple[int, ...]:
    """Return what the sum of each of an example's options is divided by."""
    if normalise == "tokens":
        return tuple(encoded.scored)
    if normalise == "bytes":
        return tuple(len((example.suffix or option).encode()) for option in example.options)
    return (1,) * len(example.options)


def _weights(example: Example, encoded: Encoded) -> tuple[float, ...]:
    """Return the weight of each of an example's options in their total probability."""
    if example.suffix:
        # What is scored is the suffix after each option, whose own probability nobody asks for.
        return (1 / len(example.options),) * len(example.options)
    return tuple(0.0 if extends else 1.0 for extends in encoded.extends)


def _read(
    logits: torch.Tensor,
    by_layer: Sequence[tuple[dict[Position, torch.Tensor], torch.Tensor]],
    batch: Batch,
    examples: Sequence[Encoded],
    positions: Sequence[Position] | None,
) -> Iterator[_Read]:
    """Yield what a batch tells of each of its examples, in their order."""
    sums = _sums(logits, batch).tolist()
    answers, questions = _states(by_layer, batch, positions)
    start = 0
    for place, example in enumerate(examples):
        options = slice(start, start + len(example.options))
        start = options.stop
        states = {position: read[options] for position, read in answers.items()}
        yield _Read(sums[options], states, questions[place])


def _sums(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the log-probability [O] of each option: the sum over its scored tokens."""
    norms = torch.cat([torch.logsumexp(chunk.float(), dim=-1) for chunk in logits.split(CHUNK)])
    logprobs = logits[batch.predictor_of, batch.targets].float() - norms[batch.predictor_of]
    return torch.zeros(len(batch.ends), device=logits.device).index_add_(0, batch.option, logprobs)


def _states(
    by_layer: Sequence[tuple[dict[Position, torch.Tensor], torch.Tensor]],
    batch: Batch,
    positions: Sequence[Position] | None,
) -> tuple[dict[Position, torch.Tensor], torch.Tensor]:
    """Return hidden states of options, [O, layers + 1, width] by position, and of prompts.

    Those of the prompts are [E, layers + 1, width], or empty where no positions are asked for.
    """
    if positions is None:
        return {}, torch.empty(len(batch.prompt_ends), 0)
    answers = {}
    for position in positions:
        answers[position] = _stacked([found[position] for found, _ in by_layer])
    return answers, _stacked([questions for _, questions in by_layer])


def _stacked(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack states [n, width] of layers into [n, layers, widest].

    Narrower ones get zeros, which add nothing to a probe, a distance or a product.
    """
    widest = max(layer.shape[1] for layer in layers)
    padded = [functional.pad(layer, (0, widest - layer.shape[1])) for layer in layers]
    return torch.stack(padded, dim=1)


def _layer(
    states: torch.Tensor, batch: Batch, positions: Sequence[Position]
) -> tuple[dict[Position, torch.Tensor], torch.Tensor]:
    """Read states [B, L, width] of a layer: [O, width] of options by position, [E, width]."""

    def at(places: torch.Tensor) -> torch.Tensor:
        return states[places[:, 0], places[:, 1]].float().cpu()

    def mean() -> torch.Tensor:
        means = []
        for (row, first), (_, last) in zip(batch.starts.tolist(), batch.ends.tolist(), strict=True):
            means.append(states[row, first : last + 1].float().mean(0))
        return torch.stack(means).cpu()

    read = {"first": lambda: at(batch.starts), "last": lambda: at(batch.ends), "mean": mean}
    return {position: read[position]() for position in positions}, at(batch.prompt_ends)
