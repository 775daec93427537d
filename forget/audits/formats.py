"""Formats: is it the skill that was forgotten, or the prompt that it was asked in?

Of many formats a guesser gets some right, so the worst case is read beside that of an arm that was
never taught.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from forget.audits.audit import Audit, Auditing
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial
from forget.tasks import find, instructs
from forget.tasks.task import TEMPLATES, Example

PREFIXES = {
    "please": "Please answer.\n",
    "aside": "The weather was mild that day, and the shop was open.\n",
}
"""Sentences before the prompt that bear on no answer."""

WORDS = {
    "yes": "true", "no": "false", "true": "yes", "false": "no", "positive": "good",
    "negative": "bad", "good": "positive", "bad": "negative",
}  # fmt: skip
"""Words for label words; a task whose options are all among them is asked with the others."""

LINES = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)
"""Lettered lines of choices in a prompt."""


class Formats(Audit):
    """Ask the same questions in other words, and score."""

    asks: ClassVar[str] = "is it the prompt that was forgotten"
    cost: ClassVar[str] = "a pass for each format, 5 to 11"

    name: Literal["formats"] = "formats"
    orders: Count = 6
    """Orders of lettered choices, at most; there are no others where choices are not lettered."""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows as the trial asks, and in each format that fits the task."""
        yield from at.plain()
        entry = find(at.trial.task, at.trial.folders)
        for template in ("task", *TEMPLATES):
            if template != at.trial.template and (entry.instruction or not instructs(template)):
                reworded = at.load("test", len(at.test), template=template)
                yield from at.score(reworded, f"template {template}")
        for name, change in CHANGES.items():
            yield from at.score([change(example) for example in at.test], name)
        if (renamed := _renamed(at.test)) is not None:
            # Other words have other numbers of tokens, by which sums could not be compared.
            yield from at.score(renamed, "label words", normalise="tokens")
        for number, permutation in enumerate(_orders(at.test, self.orders, at.trial.seed), 1):
            asked = [_permuted(example, permutation) for example in at.test]
            yield from at.score(asked, dose("order", number=number))

    def passes(self, trial: Trial) -> float:
        """Count a pass for each format that every task has."""
        return 1.0 + len(TEMPLATES) + len(CHANGES)


def _lower(example: Example) -> Example:
    return replace(example, prompt=example.prompt.lower())


def _prefixed(prefix: str) -> Callable[[Example], Example]:
    return lambda example: replace(example, prompt=prefix + example.prompt)


CHANGES: dict[str, Callable[[Example], Example]] = {
    **{f"prefix {name}": _prefixed(text) for name, text in PREFIXES.items()},
    "lower case": _lower,
}
"""Changes of the prompt that fit every task."""


def _renamed(examples: Sequence[Example]) -> list[Example] | None:
    """Return the examples with other label words; None where some option is no label word."""
    found = []
    for example in examples:
        words = [WORDS.get(option.strip()) for option in example.options]
        if None in words:
            return None
        found.append(replace(example, options=tuple(f" {word}" for word in words)))
    return found


def _orders(examples: Sequence[Example], most: int, seed: int) -> list[tuple[int, ...]]:
    """Return orders of lettered choices other than their own; none where they are not lettered."""
    counts = {len(_choices(example)) for example in examples}
    if len(counts) != 1 or (count := counts.pop()) < 2:
        return []
    every = list(itertools.islice(itertools.permutations(range(count)), 1, 5041))
    if len(every) > most:
        return random.Random(f"{seed}/orders/{count}").sample(every, most)
    return every


def _choices(example: Example) -> list[str]:
    """Return the lettered choices of a prompt; none where its options are not the letters."""
    found = LINES.findall(example.prompt)
    letters = [letter for letter, _ in found]
    if letters != [option.strip() for option in example.options]:
        return []
    return [choice for _, choice in found]


def _permuted(example: Example, permutation: Sequence[int]) -> Example:
    """Put the choices behind other letters: behind letter i that of place permutation[i]."""
    choices = iter([_choices(example)[place] for place in permutation])
    prompt = LINES.sub(lambda line: f"{line[1]}. {next(choices)}", example.prompt)
    return replace(example, prompt=prompt, answer=list(permutation).index(example.answer))
