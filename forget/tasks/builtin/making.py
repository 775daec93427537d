"""Splits, distractors and records of the builtin tasks, in which nothing gives the answer away."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from forget.tasks.task import Record

SIZES = {"train": 480, "similar": 120, "test": 360}
"""Number of examples that each split aims at; `split_of` takes them as shares."""

T = TypeVar("T")


def coin(seed: str) -> int:
    """Return 0 or 1, always the same for the same seed."""
    return random.Random(seed).randrange(2)


def split_of(items: Sequence[T], seed: str, sizes: Mapping[str, int] = SIZES) -> dict[str, list[T]]:
    """Shuffle the items and cut them in proportion to `sizes`.

    Parts that must not lie in two splits, such as two records with the same choices, have to be
    one item.
    """
    shuffled = random.Random(f"{seed}/split").sample(items, len(items))
    total = sum(sizes.values())
    ends = [round(len(items) * end / total) for end in accumulate(sizes.values())]
    return {
        name: shuffled[start:end] for name, start, end in zip(sizes, [0, *ends], ends, strict=False)
    }


def share(
    items: Sequence[T], seed: str, split: str, template: Callable[[T], str] = lambda _: ""
) -> list[T]:
    """Return the items of a split, as `split_of` cuts them; `near` asks those of train again.

    Args:
        items: every item of the task.
        seed: seed of the cut.
        split: the split asked for.
        template: gives an item's template; `similar` has no item of a template that train lacks.
    """
    parts = split_of(items, seed)
    if split != "similar":
        return parts["train" if split == "near" else split]
    trained = set(map(template, parts["train"]))
    return [item for item in parts["similar"] if template(item) in trained]


def paired(items: Sequence[T], answer: Callable[[T], str], seed: str) -> list[tuple[T, T]]:
    """Make as many pairs of items with different answers as there are, each item in at most one.

    Where both items of a pair offer both their answers, every option is as often true as false, and
    nothing can be told from the options alone.
    """
    shuffled = random.Random(f"{seed}/pairs").sample(items, len(items))
    answers = [answer(item) for item in shuffled]
    count = Counter(answers)
    # With equal answers side by side and the commonest in front, items half the list apart differ
    # wherever that is possible. Answers that are equally common keep the order of their first item.
    first = {name: place for place, name in reversed(list(enumerate(answers)))}
    ordered = sorted(shuffled, key=lambda item: (-count[answer(item)], first[answer(item)]))
    half = (len(ordered) + 1) // 2
    return [
        (a, b)
        for a, b in zip(ordered[:half], ordered[half:], strict=False)
        if answer(a) != answer(b)
    ]


def a(noun: str) -> str:
    """Put "a" or "an" before the noun, by its first letter."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Fact:
    """A question whose answer is certain, in two wordings."""

    question: str
    near: str
    """The question in other words, for the split `near`."""
    answer: str
    group: str = ""
    """Name of facts that could answer each other's questions, and so never lend each other a
    distractor. Where it is empty, the answer is the group.
    """
    template: str = ""
    """Name of what asks it: questions of one template differ in their subject alone."""


def template_of(pair: tuple[Fact, Fact]) -> str:
    """Return the template of a pair of facts, which both have."""
    return pair[0].template


def table_facts(question: str, near: str, table: str) -> list[Fact]:
    """Read facts from a table of entries such as "a mammal: dog, cat", parted by "; " or lines.

    Args:
        question: format string over {} (the subject) and {a} (the subject with its article).
        near: the question in other words, a format string as well.
        table: entries of an answer and its subjects; "rocks @earth: geologist" names a group.
    """
    facts: list[Fact] = []
    for entry in re.split(r"; |\n", table.strip()):
        head, _, subjects = entry.partition(": ")
        answer, _, group = head.strip().partition(" @")
        for subject in subjects.split(", "):
            facts.append(
                Fact(
                    question.format(subject, a=a(subject)),
                    near.format(subject, a=a(subject)),
                    answer,
                    group,
                )
            )
    return facts


def sheet_facts(path: Path) -> dict[str, list[Fact]]:
    """Read facts by relation from a tab-separated file.

    A line holds relation, question, other wording, answer and, where needed, a group.
    """
    relations: dict[str, list[Fact]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        relation, *fields = line.split("\t")
        relations.setdefault(relation, []).append(Fact(*fields))
    return relations


def fact_pairs(relations: Mapping[str, Sequence[Fact]], seed: str) -> list[tuple[Fact, Fact]]:
    """Pair the facts inside each relation, so that both answers are of the same kind."""
    pairs: list[tuple[Fact, Fact]] = []
    for name, facts in relations.items():
        named = [replace(fact, template=name) for fact in facts]
        pairs += paired(named, lambda fact: fact.group or fact.answer, f"{seed}/{name}")
    return pairs


def fact_records(task: str, pairs: Iterable[tuple[Fact, Fact]], split: str) -> list[Record]:
    """Make two records of each pair of facts, over the same two choices in the same order.

    Of the two, one is true at index 0 and one at index 1; `near` asks in the other wording.
    """
    records: list[Record] = []
    for pair in pairs:
        choices = tuple(fact.answer for fact in pair)
        if coin(f"{task}/{pair[0].question}"):
            choices = choices[::-1]
        for fact in pair:
            question = fact.near if split == "near" else fact.question
            records.append(
                Record(
                    "",
                    question,
                    choices,
                    choices.index(fact.answer),
                    group=f"{task}/{pair[0].question}",
                    template=fact.template,
                )
            )
    return numbered(task, split, records)


def numbered(task: str, split: str, records: Iterable[Record]) -> list[Record]:
    """Give each record the id of its place and, in `near`, the train record of the same place."""
    return [
        replace(
            record,
            id=f"{task}/{split}/{number}",
            source=f"{task}/train/{number}" if split == "near" else "",
        )
        for number, record in enumerate(records)
    ]
