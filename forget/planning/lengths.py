"""Lengths of examples against what a model reads, and of options against each other.

No example is ever cut short: a trial that draws one that is too long is refused.
The data and the tokenizer tell, no weights. Most tasks are cleared by their bytes alone, of which a
token takes at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

from forget import tasks
from forget.models import batches, sources
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import FORGET_SET, Draw, draws, take
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
    for trial, draw in _asked(trials):
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


@dataclass(frozen=True)
class Nested:
    """Examples of a task in which an option begins with another's tokens."""

    task: str
    model: str
    examples: int

    def __str__(self) -> str:
        of = f'{self.examples} example{"s" * (self.examples > 1)} of task "{self.task}"'
        return (
            f"{of} {'have' if self.examples > 1 else 'has'} an option that begins with another's"
            " tokens, which a sum of log-probabilities never scores higher:"
            ' normalise = "tokens" or "bytes" divides it'
        )


def nested(trials: Iterable[Trial], store: Store) -> tuple[Nested, ...]:
    """Find examples of which a plain sum always prefers the shorter option, by task and model.

    The hub's tasks are not looked at, nor models whose tokenizer is not on this machine.

    Raises:
        BadInput: data that cannot be read.
    """
    reader = _Reader(store)
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    summed = (trial for trial in trials if trial.normalise == "none")
    for trial, draw in _asked(summed):
        ids = reader.nested(trial, draw)
        found.setdefault((draw.task, trial.model), set()).update((draw.split, id) for id in ids)
    return tuple(Nested(*place, len(examples)) for place, examples in found.items() if examples)


def _asked(trials: Iterable[Trial]) -> Iterator[tuple[Trial, Draw]]:
    """Yield what trials draw; those that differ in other settings draw the same examples."""
    seen = set()
    for trial in trials:
        for draw in draws(trial):
            shuffled = draw.use == "forget" and trial.arm == "shuffled_inputs"
            asked = (
                *(draw, trial.model, trial.seed, trial.folders, trial.template, trial.options),
                trial.training_seed if shuffled else None,
                trial.forget_set,
            )
            if asked not in seen:
                seen.add(asked)
                yield trial, draw


class _Reader:
    """Measures examples, with what several trials ask for read once."""

    def __init__(self, store: Store) -> None:
        self._find, self._load = cache(tasks.find), cache(tasks.load)
        self._most = cache(_most_bytes)
        self._some_begin = cache(_some_begin)
        self._reads = cache(sources.reads)
        self._tokenizer = cache(partial(sources.tokenizer, store=store))

    def too_long(self, trial: Trial, draw: Draw) -> dict[str, int | None]:
        """Return the tokens of a draw's examples that are too long, by id.

        They are None where the tokenizer is not on this machine.
        """
        limit = self._reads(trial.model)
        if not self._here(trial, draw):
            return {}
        if not _made(trial, draw) and self._most(*_split(trial, draw)) <= limit - SPECIAL:
            return {}
        examples = take(trial, draw, self._load)
        suspects = [example for example in examples if _bytes(example) > limit - SPECIAL]
        tokenizer = self._tokenizer(trial.model) if suspects else None
        if tokenizer is None:
            return dict.fromkeys(example.id for example in suspects)
        encoded = batches.encode(suspects, tokenizer, limit=2**31)
        tokens = {example.id: one.longest for example, one in zip(suspects, encoded, strict=True)}
        return {id: count for id, count in tokens.items() if count > limit}

    def nested(self, trial: Trial, draw: Draw) -> list[str]:
        """Return the ids of a draw's examples that have an option which begins with another."""
        if not self._here(trial, draw):
            return []
        if not _made(trial, draw) and not self._some_begin(*_split(trial, draw)):
            return []
        examples = take(trial, draw, self._load)
        suspects = list(filter(_begins, examples))
        tokenizer = self._tokenizer(trial.model) if suspects else None
        if tokenizer is None:
            return []
        encoded = batches.encode(suspects, tokenizer, limit=2**31)
        pairs = zip(suspects, encoded, strict=True)
        return [example.id for example, one in pairs if any(one.extends)]

    def _here(self, trial: Trial, draw: Draw) -> bool:
        """Tell whether the examples of a draw can be looked at."""
        found = self._find(draw.task, trial.folders)
        # The size of a mixture depends on all its tasks, and a text may be another task's.
        for name in {draw.task, trial.forget_set.task or draw.task, *trial.forget_set.names}:
            if self._find(name, trial.folders).kind == "hub":
                return False
        return draw.split in found.splits and draw.n > 0


def _made(trial: Trial, draw: Draw) -> bool:
    """Tell whether the texts or the options of a draw may be others than its task's."""
    return trial.forget_set.name != "own" and draw.use in FORGET_SET


def _split(trial: Trial, draw: Draw) -> tuple[str, str, tuple[str, ...], str]:
    """Return the task, the split, the folders and the template of a draw, whatever its seed."""
    return draw.task, draw.split, trial.folders, draw.template or trial.template


def _most_bytes(task: str, split: str, folders: Sequence[str], template: str) -> int:
    """Return the most bytes of a prompt of a split with an option of it, though of another example.

    So it bounds examples whichever distractor is drawn for them, and with permuted prompts.
    """
    examples = tasks.load(task, split, folders=folders, template=template, options="all")
    return max(len(example.prompt.encode()) for example in examples) + max(map(_option, examples))


def _some_begin(task: str, split: str, folders: Sequence[str], template: str) -> bool:
    """Tell whether `_begins` may be true of an example, whichever distractor is drawn for it."""
    examples = tasks.load(task, split, folders=folders, template=template, options="all")
    return any(map(_begins, examples))


def _begins(example: Example) -> bool:
    """Tell whether the text of an option begins with another one's, and nothing stands behind."""
    if example.suffix:
        return False
    # Of texts in order, one that begins with another stands behind it, as does all between them.
    ordered = sorted(example.options)
    return any(after.startswith(before) for before, after in pairwise(ordered))


def _bytes(example: Example) -> int:
    """Return the bytes of the prompt with the longest option."""
    return len(example.prompt.encode()) + _option(example)


def _option(example: Example) -> int:
    """Return the bytes of the longest option."""
    return max(len((option + example.suffix).encode()) for option in example.options)
