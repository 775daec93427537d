"""Which examples are longer than the model reads. None is ever cut short: a trial that draws one is refused.

The data and the tokenizer tell, no weights. Most tasks are cleared by their bytes alone, of which a
token takes at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

from forget import tasks
from forget.models import batches, sources
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import _drawn
from forget.tasks.task import Example

Options = Literal["two", "all"]

SPECIAL = 8
"""Tokens that a tokenizer puts around a text, at most."""


@dataclass(frozen=True)
class Long:
    """Examples of a task that some trial draws and a model does not read."""

    task: str
    model: str
    examples: int
    tokens: int | None
    """Of the longest; None where the tokenizer is not on this machine: then these are the examples that
    may be too long.
    """
    limit: int
    """Tokens that the model reads."""

    def __str__(self) -> str:
        of = f'{self.examples} example{"s" * (self.examples > 1)} of task "{self.task}"'
        if self.tokens is None:
            return f'{of} may be longer than the {self.limit} tokens that "{self.model}" reads: its tokenizer is not here yet'
        longer = f'longer than the {self.limit} tokens that "{self.model}" reads (the longest has {self.tokens})'
        return f"{of} {'are' if self.examples > 1 else 'is'} {longer}: leave them out, nothing is cut short"


def too_long(trials: Iterable[Trial], store: Store) -> tuple[Long, ...]:
    """By task and model. The hub's tasks are not looked at, since their data may not be on this machine.

    Raises:
        BadInput: data that cannot be read.
    """
    find, load, most, reads = (
        cache(tasks.find),
        cache(tasks.load),
        cache(_most_bytes),
        cache(sources.reads),
    )
    tokenizer = cache(partial(sources.tokenizer, store=store))
    found: dict[tuple[str, str], dict[tuple[str, str], int | None]] = {}

    @cache
    def long(
        model: str,
        task: str,
        split: str,
        n: int,
        seed: int,
        folders: tuple[str, ...],
        template: str,
        options: Options,
    ) -> dict[str, int | None]:
        """Tokens of those that are too long, by id."""
        draw = partial(load, task, seed=seed, folders=folders, template=template, options=options)
        if split == "near":
            trained = {example.id for example in draw("train", n)}
            examples = [
                example
                for example in draw("near")
                if not example.source or example.source in trained
            ]
        else:
            examples = list(draw(split, n))
        suspects = [example for example in examples if _bytes(example) > reads(model) - SPECIAL]
        words = tokenizer(model) if suspects else None
        if words is None:
            return dict.fromkeys(example.id for example in suspects)
        encoded = batches.encode(suspects, words, limit=2**31)
        tokens = {example.id: one.longest for example, one in zip(suspects, encoded, strict=True)}
        return {id: count for id, count in tokens.items() if count > reads(model)}

    for trial in trials:
        asked = trial.folders, trial.template
        for task, split, n in _drawn(trial):
            entry = find(task, trial.folders)
            if entry.kind == "hub" or split not in entry.splits or n == 0:
                continue
            if most(task, split, *asked) <= reads(trial.model) - SPECIAL:
                continue
            for id, tokens in long(
                trial.model, task, split, n, trial.seed, *asked, trial.options
            ).items():
                found.setdefault((task, trial.model), {})[split, id] = tokens
    return tuple(
        Long(
            task, model, len(each), max((n for n in each.values() if n), default=None), reads(model)
        )
        for (task, model), each in found.items()
    )


def _most_bytes(task: str, split: str, folders: Sequence[str], template: str) -> int:
    """Of any example of the split, whichever distractor is drawn for it."""
    return max(
        map(_bytes, tasks.load(task, split, folders=folders, template=template, options="all"))
    )


def _bytes(example: Example) -> int:
    return len(example.prompt.encode()) + max(
        len((option + example.suffix).encode()) for option in example.options
    )
