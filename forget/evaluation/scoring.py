"""How likely a model finds each option: Rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from forget.events import Observe, StageStarted, Step, ignore
from forget.models import batches
from forget.models.batches import Batch
from forget.models.language_model import LanguageModel
from forget.results.rows import Row
from forget.settings.parts import Position
from forget.tasks.task import Example

BUDGET = {"cpu": 512, "cuda": 32768}
"""Tokens a batch: enough to keep the device busy. On a CPU, more would no longer fit in its caches."""

CHUNK = 32
"""Positions whose probabilities over the vocabulary are in memory at once."""


@dataclass(frozen=True)
class Scores:
    """What one pass over examples gives."""

    logprobs: list[tuple[float, ...]]
    """By example, the sum of log-probabilities of each option's tokens, in nats."""
    lengths: list[tuple[int, ...]]
    """By example, what each option's sum is divided by."""
    answers: dict[Position, torch.Tensor]
    """By position, [options of all examples, layers + 1, width] hidden state of each option, in order
    of example and option.
    """
    questions: torch.Tensor
    """[examples, layers + 1, width] hidden state of the prompt's last token; or empty."""

    def rows(self, examples: Sequence[Example], **of: Any) -> list[Row]:
        """As Rows; `of` gives trial, phase, task and split."""
        items = zip(examples, self.logprobs, self.lengths, strict=True)
        return [Row(example=e.id, truth=e.answer, logprobs=p, lengths=n, **of) for e, p, n in items]


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
    """Score every option of every example. All processes of the trial call it together and get the same result.

    Args:
        states: also return hidden states, of each prompt's last token and, at these positions, of
            each option.
    """
    process = PartialState()
    encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
    plan = list(batches.plan([e.length for e in encoded], BUDGET[model.device.type]))
    if process.is_main_process:
        observe(StageStarted(stage=stage, steps=len(plan)))
    # A model that is sharded over processes needs them all for each batch, so they take the same
    # number of them.
    turns = plan + plan[-1:] * (-len(plan) % process.num_processes)
    found: dict[int, tuple[list[float], dict[Position, torch.Tensor], torch.Tensor]] = {}
    # One autocast region for all batches: the bf16 copies of the weights are made once.
    with torch.no_grad(), model.autocast(bf16):
        for number, rows in list(enumerate(turns))[process.process_index :: process.num_processes]:
            batch = batches.pack(
                [[encoded[i] for i in row] for row in rows], model.tokenizer.pad_token_id or 0
            )
            batch = batch.to(model.device)
            logits, hidden = model.answers(batch, states=states is not None)
            sums = _sums(logits, batch).tolist()
            answers, questions = _states(hidden, batch, states)
            at = 0
            for place, i in enumerate(chain.from_iterable(rows)):
                span = slice(at, at + len(encoded[i].options))
                at = span.stop
                found[i] = (
                    sums[span],
                    {position: read[span] for position, read in answers.items()},
                    questions[place],
                )
            if process.is_main_process:
                observe(Step(stage=stage, step=number + 1, steps=len(plan), tokens=batch.tokens))
    if process.num_processes > 1:
        found = dict(gather_object(list(found.items())))
    parts = [found[i] for i in range(len(examples))]
    lengths = {
        "none": lambda e, x: [1] * len(e.options),
        "tokens": lambda e, x: x.scored,
        "bytes": lambda e, x: [len((e.suffix or option).encode()) for option in e.options],
    }[normalise]
    return Scores(
        [tuple(sums) for sums, _, _ in parts],
        [tuple(lengths(e, x)) for e, x in zip(examples, encoded, strict=True)],
        {
            position: torch.cat([answers[position] for _, answers, _ in parts])
            for position in states or ()
        },
        torch.stack([questions for _, _, questions in parts]),
    )


def _sums(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """[O] log-probability of each option: the sum over its scored tokens."""
    norms = torch.cat([torch.logsumexp(chunk.float(), dim=-1) for chunk in logits.split(CHUNK)])
    logprobs = logits[batch.source, batch.targets].float() - norms[batch.source]
    return torch.zeros(len(batch.ends), device=logits.device).index_add_(0, batch.option, logprobs)


def _states(
    hidden: tuple[torch.Tensor, ...], batch: Batch, positions: Sequence[Position] | None
) -> tuple[dict[Position, torch.Tensor], torch.Tensor]:
    """[O, layers + 1, width] by position, and [E, layers + 1, width] of the prompts."""
    if positions is None:
        return {}, torch.empty(len(batch.prompt_ends), 0)
    by_layer = torch.stack(hidden, dim=2).float()

    def at(places: torch.Tensor) -> torch.Tensor:
        return by_layer[places[:, 0], places[:, 1]].cpu()

    def mean() -> torch.Tensor:
        spans = zip(batch.starts.tolist(), batch.ends.tolist(), strict=True)
        return torch.stack(
            [by_layer[row, first : last + 1].mean(0) for (row, first), (_, last) in spans]
        ).cpu()

    read = {"first": lambda: at(batch.starts), "last": lambda: at(batch.ends), "mean": mean}
    return {position: read[position]() for position in positions}, at(batch.prompt_ends)
