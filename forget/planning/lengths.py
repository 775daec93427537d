"""Lengths of examples against what a model reads.

No example is ever cut short: a trial that draws one that is too long is refused.
The data and the tokenizer tell, no weights. Most tasks are cleared by their bytes alone, of which a
token takes at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from forget import tasks
from forget.models import batches, sources
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import Draw, draws, take
from forget.tasks.task import Example

SPECIAL = 8
"""The most tokens that a tokenizer puts around a text."""


@dataclass(frozen=True)
class Long:
    """Examples of a task that some trial draws and a model does not read."""

    task: str
    model: str
    examples: int
    tokens: int | None
    """Tokens of the longest; None where the tokenizer is not on this machine: then these are the
    examples that may be too long.
    """
    limit: int
    """Tokens that the model reads."""

    def __str__(self) -> str:
        of = f'{self.examples} example{"s" * (self.examples > 1)} of task "{self.task}"'
        if self.tokens is None:
            return (
                f'{of} may be longer than the {self.limit} tokens that "{self.model}" reads: '
                "its tokenizer is not here yet"
            )
        return (
            f"{of} {'are' if self.examples > 1 else 'is'} longer than the {self.limit} tokens that "
            f'"{self.model}" reads (the longest has {self.tokens}): leave them out, nothing is cut '
            "short"
        )


def too_long(trials: Iterable[Trial], store: Store) -> tuple[Long, ...]:
    """Find what trials draw and their models do not read, by task and model.

    The hub's tasks are not looked at, since their data may not be on this machine.

    Raises:
        BadInput: data that cannot be read.
    """
    reader = _Reader(store)
    found: dict[tuple[str, str], dict[tuple[str, str], int | None]] = {}
    seen = set()
    for trial in trials:
        for draw in draws(trial):
            # Trials that differ in other settings ask for the same examples.
            asked = (draw, trial.model, trial.seed, trial.folders, trial.template, trial.options)
            if asked in seen:
                continue
            seen.add(asked)
            for id, tokens in reader.too_long(trial, draw).items():
                found.setdefault((draw.task, trial.model), {})[draw.split, id] = tokens
    return tuple(
        Long(
            task,
            model,
            examples=len(tokens),
            tokens=max(filter(None, tokens.values()), default=None),
            limit=sources.reads(model),
        )
        for (task, model), tokens in found.items()
    )


class _Reader:
    """Measures examples, with what several trials ask for read once."""

    def __init__(self, store: Store) -> None:
        self._find, self._load = cache(tasks.find), cache(tasks.load)
        self._most = cache(_most_bytes)
        self._reads = cache(sources.reads)
        self._tokenizer = cache(partial(sources.tokenizer, store=store))

    def too_long(self, trial: Trial, draw: Draw) -> dict[str, int | None]:
        """Return the tokens of a draw's examples that are too long, by id.

        They are None where the tokenizer is not on this machine.
        """
        task, limit = self._find(draw.task, trial.folders), self._reads(trial.model)
        if task.kind == "hub" or draw.split not in task.splits or draw.n == 0:
            return {}
        if self._most(draw.task, draw.split, trial.folders, trial.template) <= limit - SPECIAL:
            return {}
        examples = take(trial, draw, self._load)
        suspects = [example for example in examples if _bytes(example) > limit - SPECIAL]
        tokenizer = self._tokenizer(trial.model) if suspects else None
        if tokenizer is None:
            return dict.fromkeys(example.id for example in suspects)
        encoded = batches.encode(suspects, tokenizer, limit=2**31)
        tokens = {example.id: one.longest for example, one in zip(suspects, encoded, strict=True)}
        return {id: count for id, count in tokens.items() if count > limit}


def _most_bytes(task: str, split: str, folders: Sequence[str], template: str) -> int:
    """Return the bytes of a split's longest example, whichever distractor is drawn for it."""
    examples = tasks.load(task, split, folders=folders, template=template, options="all")
    return max(map(_bytes, examples))


def _bytes(example: Example) -> int:
    """Return the bytes of the prompt with the longest option."""
    longest = max(len((option + example.suffix).encode()) for option in example.options)
    return len(example.prompt.encode()) + longest
