"""Tasks, their records, and the examples that are made of records."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "validation", "test", "near")

TEMPLATES = {
    "qa": "{passage}\nQuestion: {question}\nAnswer:",
    "bare": "{passage}\n{question}\n",
}
"""Prompts that any task can be asked in instead of its own (`Trial.template`)."""


@dataclass(frozen=True, slots=True)
class Record:
    """An item as its source gives it, before a prompt is made of it."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    """Index of the true choice."""
    passage: str = ""
    suffix: str = ""
    """Text that follows the choice; where there is any, it is what gets scored (WinoGrande's partial
    evaluation).
    """
    source: str = ""
    """In the split `near`: id of the train item that this one paraphrases."""


@dataclass(frozen=True, slots=True)
class Example:
    """What a model sees: `prompt + options[i] + suffix`."""

    id: str
    prompt: str
    options: tuple[str, ...]
    """Continuations of the prompt, leading space included."""
    answer: int
    """Index of the true option."""
    suffix: str = ""
    source: str = ""


@dataclass(frozen=True)
class Task:
    """One entry: where the records come from and how they are asked."""

    name: str
    family: str
    prompt: str
    """Format string over {question}, {passage} and {listed} (lettered lines of choices; the letters are
    then the options).
    """
    records: Callable[[str], Sequence[Record]]
    """split -> records. Raises BadInput where they cannot be had."""
    fingerprint: Callable[[], str]
    """Identity of the data, without loading what is far away."""
    splits: tuple[str, ...] = SPLITS
    kind: Literal["builtin", "hub", "files"] = "builtin"
    option: str = " {choice}"
    note: str = ""
    """What a user should know: source, licence, chance level if it is not one over the options."""


def binarise(record: Record, seed: int) -> Record:
    """The record with its true choice and one distractor. Two choices stay as they are."""
    if len(record.choices) == 2:
        return record
    draw = random.Random(f"{seed}/{record.source or record.id}")
    distractor = draw.choice([i for i in range(len(record.choices)) if i != record.answer])
    kept = [record.answer, distractor]
    draw.shuffle(kept)
    choices = tuple(record.choices[i] for i in kept)
    return Record(
        record.id,
        record.question,
        choices,
        kept.index(record.answer),
        record.passage,
        record.suffix,
        record.source,
    )


def render(record: Record, prompt: str, option: str = " {choice}") -> Example:
    """The record asked in the words of `prompt`."""
    letters = [chr(ord("A") + i) for i in range(len(record.choices))]
    listed = "\n".join(
        f"{letter}. {choice}" for letter, choice in zip(letters, record.choices, strict=True)
    )
    answers = letters if "{listed}" in prompt else record.choices
    text = prompt.format(question=record.question, passage=record.passage, listed=listed)
    options = tuple(option.format(choice=choice) for choice in answers)
    return Example(
        record.id,
        text if record.passage else text.lstrip("\n"),
        options,
        record.answer,
        record.suffix,
        record.source,
    )
