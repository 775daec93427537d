"""How the builtin tasks are cut into splits and given a distractor without giving the answer away."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from forget.tasks.task import Record

SIZES = {"train": 480, "validation": 120, "test": 360}
"""Examples aimed at; `split_of` reads them as shares."""

T = TypeVar("T")


def coin(seed: str) -> int:
    """0 or 1, always the same for the same seed."""
    return random.Random(seed).randrange(2)


def split_of(items: Sequence[T], seed: str, sizes: Mapping[str, int] = SIZES) -> dict[str, list[T]]:
    """All items, shuffled and cut in proportion to `sizes`. What must not be torn apart over splits should be one item."""
    shuffled = random.Random(f"{seed}/split").sample(items, len(items))
    total = sum(sizes.values())
    ends = [round(len(items) * end / total) for end in accumulate(sizes.values())]
    return {
        name: shuffled[start:end] for name, start, end in zip(sizes, [0, *ends], ends, strict=False)
    }


def paired(items: Sequence[T], answer: Callable[[T], str], seed: str) -> list[tuple[T, T]]:
    """As many pairs of items with different answers as there are, each item in at most one.

    Where both items of a pair offer both their answers, every option is as often true as false, and
    nothing can be told from the options alone.
    """
    shuffled = random.Random(f"{seed}/pairs").sample(items, len(items))
    count = Counter(map(answer, shuffled))
    first = {name: place for place, name in reversed(list(enumerate(map(answer, shuffled))))}
    # With equal answers side by side and the commonest in front, items half the list apart differ
    # wherever that is possible.
    ordered = sorted(shuffled, key=lambda item: (-count[answer(item)], first[answer(item)]))
    half = (len(ordered) + 1) // 2
    return [
        (a, b)
        for a, b in zip(ordered[:half], ordered[half:], strict=False)
        if answer(a) != answer(b)
    ]


def a(noun: str) -> str:
    """The noun with "a" or "an" by its first letter."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Fact:
    """A question whose answer is certain, in two wordings."""

    question: str
    near: str
    """The same question in other words, for the split `near`."""
    answer: str
    group: str = ""
    """Facts of one group might answer each other and never lend each other a distractor; the answer
    where it is empty.
    """


def table_facts(question: str, near: str, table: str) -> list[Fact]:
    """Facts from a table of entries, parted by "; " or lines: "a mammal: dog, cat", or "rocks @earth: geologist" with a group.

    Both wordings are format strings over {} (the subject) and {a} (the subject with its article).
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
    """Facts by relation from a tab-separated file: relation, question, other wording, answer, and a group where needed."""
    relations: dict[str, list[Fact]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        relation, *fields = line.split("\t")
        relations.setdefault(relation, []).append(Fact(*fields))
    return relations


def fact_pairs(relations: Mapping[str, Sequence[Fact]], seed: str) -> list[tuple[Fact, Fact]]:
    """Facts paired inside each relation, so that both answers are of the same kind."""
    pairs: list[tuple[Fact, Fact]] = []
    for name, facts in relations.items():
        pairs += paired(facts, lambda fact: fact.group or fact.answer, f"{seed}/{name}")
    return pairs


def fact_records(task: str, pairs: Iterable[tuple[Fact, Fact]], split: str) -> list[Record]:
    """Two records a pair, over the same two choices in the same order: one true at index 0 and one at index 1.

    A pair lies in one split as a whole; `near` asks the train split in its other wording.
    """
    chosen = split_of(list(pairs), task)["train" if split == "near" else split]
    records: list[Record] = []
    for pair in chosen:
        choices = tuple(fact.answer for fact in pair)
        if coin(f"{task}/{pair[0].question}"):
            choices = choices[::-1]
        for fact in pair:
            number = len(records)
            question, source = (
                (fact.near, f"{task}/train/{number}") if split == "near" else (fact.question, "")
            )
            records.append(
                Record(
                    f"{task}/{split}/{number}",
                    question,
                    choices,
                    choices.index(fact.answer),
                    source=source,
                )
            )
    return records
