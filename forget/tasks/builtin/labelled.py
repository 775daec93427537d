"""Records of the builtin tasks that judge a passage by one of two constant labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forget.tasks.builtin.making import split_of
from forget.tasks.task import Record


@dataclass(frozen=True, slots=True)
class Judged:
    """A passage whose label is certain, in two wordings."""

    passage: str
    near: str
    """The passage in other words, for the split `near`."""
    label: str
    question: str = ""


def sentence(text: str, stop: str = ".") -> str:
    """The text with a capital at its start and a full stop at its end."""
    return f"{text[0].upper()}{text[1:]}{stop}"


def labelled_records(
    task: str, choices: tuple[str, str], kinds: Mapping[str, Sequence[Sequence[Judged]]], split: str
) -> list[Record]:
    """A record a passage; `near` asks the train split in its other wording.

    `kinds` holds groups by kind: a group lies in one split as a whole, and every kind is in all
    splits in the same proportion.
    """
    near = split == "near"
    made: list[Record] = []
    for kind, groups in kinds.items():
        for group in split_of(groups, f"{task}/{kind}")["train" if near else split]:
            for item in group:
                name, source = (
                    f"{task}/{split}/{len(made)}",
                    f"{task}/train/{len(made)}" if near else "",
                )
                passage = item.near if near else item.passage
                made.append(
                    Record(
                        name,
                        item.question,
                        choices,
                        choices.index(item.label),
                        passage,
                        source=source,
                    )
                )
    return made
