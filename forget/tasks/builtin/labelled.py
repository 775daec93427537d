"""Records of the builtin tasks that judge a passage by one of two constant labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forget.tasks.builtin.making import numbered, share
from forget.tasks.task import Record


@dataclass(frozen=True, slots=True)
class Judged:
    """A passage whose label is certain, in two wordings."""

    passage: str
    near: str
    """The passage in other words, for the split `near`."""
    label: str
    """The true choice."""
    question: str = ""


def sentence(text: str, stop: str = ".") -> str:
    """Return the text with a capital at its start and a full stop at its end."""
    return f"{text[0].upper()}{text[1:]}{stop}"


def labelled_records(
    task: str,
    choices: tuple[str, str],
    kinds: Mapping[str, Sequence[Sequence[Judged]]],
    split: str,
    cut: str = "",
) -> list[Record]:
    """Make a record of each passage of a split; `near` asks train in the other wording.

    Args:
        task: the task's name.
        choices: the two labels, in the order of every record.
        kinds: groups by kind. A group lies in one split as a whole, and every kind is in all splits
            in the same proportion.
        split: the split asked for.
        cut: prefix of the seed by which groups are cut into splits.
    """
    records: list[Record] = []
    for kind, groups in kinds.items():
        for number, group in share(list(enumerate(groups)), f"{cut}{task}/{kind}", split):
            for item in group:
                records.append(
                    Record(
                        "",
                        item.question,
                        choices,
                        choices.index(item.label),
                        item.near if split == "near" else item.passage,
                        group=f"{task}/{kind}/{number}",
                        template=kind,
                    )
                )
    return numbered(task, split, records)
