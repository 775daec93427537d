"""Examples of a step with the options that a model is given of each, laid out in micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from forget.errors import BadInput
from forget.methods.objective import Packed, Unit
from forget.models import batches
from forget.models.batches import Encoded
from forget.models.ways import Way
from forget.tasks.labels import Labelled


@dataclass(frozen=True)
class Item:
    """An example with the options of it that are packed."""

    place: int
    """Its place among the examples of its term."""
    encoded: Encoded
    truth: int = 0
    """Index of the true one of them, or of the only one."""


IDLE = Item(0, Encoded([0], [[0]], [1]))
"""An answer of one token, for a process that has none of its own left."""


def packed(place: int, encoded: Encoded, labelled: Labelled, packs: Packed) -> Item:
    """Return an example with the options that an objective asks for.

    Args:
        place: of the example among those of its term.
        encoded: the example with all its options.
        labelled: the same with its label.
        packs: which options are packed.
    """
    answer = labelled.example.answer
    if packs == "all":
        return Item(place, encoded, answer)
    if packs == "wrong":
        true, wrong = encoded.only(answer), encoded.only(labelled.label)
        options = [*true.options, *wrong.options]
        return Item(place, Encoded(encoded.prompt, options, [*true.scored, *wrong.scored]))
    return Item(place, encoded.only(labelled.label))


def units(items: Sequence[Item], unit: Unit) -> int:
    """Count the units that a loss of these items is averaged over."""
    encoded = [item.encoded for item in items]
    if unit == "token":
        return sum(sum(one.scored) for one in encoded)
    if unit == "answer":
        return sum(len(one.options) for one in encoded)
    if unit == "position":
        return sum(one.length for one in encoded)
    if unit == "reply":
        return sum(one.length - len(one.prompt) for one in encoded)
    return len(items)


@dataclass(frozen=True)
class Layout:
    """A micro-batch: the items that share it, and the rows that they fill."""

    items: list[Item]
    rows: list[list[Encoded]]

    def example(self, device: torch.device) -> torch.Tensor:
        """Return the example [O] of each packed option."""
        counts = torch.tensor([len(item.encoded.options) for item in self.items])
        return torch.arange(len(self.items)).repeat_interleave(counts).to(device)

    def truth(self, device: torch.device) -> torch.Tensor:
        """Return the index [E], among the packed options, of each example's true one."""
        found, start = [], 0
        for item in self.items:
            found.append(start + item.truth)
            start += len(item.encoded.options)
        return torch.tensor(found, device=device)

    def positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and column [N] of every token, in order of the examples."""
        widths = [batches.width(row) for row in self.rows]
        rows = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        return rows, torch.cat([torch.arange(width) for width in widths])

    def answers(self) -> torch.Tensor:
        """Tell of every token [N] whether it is of an option."""
        told: list[bool] = []
        for e in chain.from_iterable(self.rows):
            told += [False] * len(e.prompt) + [True] * (e.length - len(e.prompt))
        return torch.tensor(told)

    @property
    def tokens(self) -> list[int]:
        """Tokens of each item, prompts repeated where each option has a row."""
        if len(self.rows) == sum(len(item.encoded.options) for item in self.items):
            return [_in_rows(item.encoded) for item in self.items]
        return [item.encoded.length for item in self.items]


def layouts(way: Way, items: Sequence[Item], budget: int) -> Iterator[Layout]:
    """Lay items out in micro-batches of at most `budget` tokens; an item is never parted.

    Raises:
        BadInput: options that must share a micro-batch, of a model that reads texts of one length
            at a time.
    """
    if way.side_by_side or all(len(item.encoded.options) == 1 for item in items):
        encoded = [item.encoded for item in items]
        for plan in way.plan([e.length for e in encoded], budget):
            order = list(chain.from_iterable(plan))
            yield Layout([items[i] for i in order], batches.rows_of(plan, encoded))
        return
    for item in items:
        rows = [[item.encoded.only(option)] for option in range(len(item.encoded.options))]
        if way.name == "equal rows" and len({row[0].length for row in rows}) > 1:
            raise BadInput(
                "the method compares the options of an example, and the model reads texts of one "
                "length at a time: take a method of one answer, such as random_labels"
            )
        yield Layout([item], rows)


def _in_rows(encoded: Encoded) -> int:
    return sum(encoded.only(option).length for option in range(len(encoded.options)))
