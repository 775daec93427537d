"""Acceptability: is this sentence correct English?

Sentences written for this package, in minimal pairs. A line of acceptability.tsv holds a
phenomenon, a sentence with slots, the sentence in other words (for `near`), and fillers of slots.
Fillers "x/y" of {0} and "u/v" of {1} give four sentences: x goes with u and y with v, and the other
two are wrong, so that every word is right as often as wrong. Where there is {0} alone, a sentence
is right as it stands and wrong with the two words of each bracket exchanged. All sentences of a
line lie in one split.
"""

from __future__ import annotations

import re
from itertools import cycle, islice, product
from pathlib import Path

from forget.tasks.builtin.labelled import Judged, labelled_records, sentence
from forget.tasks.task import Record

CHOICES = ("yes", "no")


def records(split: str) -> list[Record]:
    """Make a record of each sentence, as `labelled_records` does; a kind is a phenomenon."""
    phenomena: dict[str, list[list[Judged]]] = {}
    for line in Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines():
        phenomenon, *frames, slots = line.split("\t", 3)
        first, *second = (slot.split(", ") for slot in slots.split("\t"))
        group = _matched(frames, first, *second) if second else _ordered(frames, first)
        phenomena.setdefault(phenomenon, []).append(group)
    return labelled_records("acceptability", CHOICES, phenomena, split)


def _matched(frames: list[str], first: list[str], second: list[str]) -> list[Judged]:
    """Fill {0} and {1} of both wordings: right where both fillers stand on the same side."""
    group: list[Judged] = []
    # A slot with fewer fillers than the other one repeats them.
    longest = max(len(first), len(second))
    for xs, us in islice(zip(cycle(first), cycle(second), strict=False), longest):
        for (i, x), (j, u) in product(enumerate(xs.split("/")), enumerate(us.split("/"))):
            # {0} goes first: its filler may have the slot {1} in it.
            passage, near = (
                sentence(frame.replace("{0}", x).replace("{1}", u), stop="") for frame in frames
            )
            group.append(Judged(passage, near, CHOICES[(i + j) % 2]))
    return group


def _ordered(frames: list[str], fillers: list[str]) -> list[Judged]:
    """Fill {0} of both wordings: right as it stands, wrong with bracketed words exchanged."""
    group: list[Judged] = []
    for filler in fillers:
        for order, label in ((r"\1 \2", "yes"), (r"\2 \1", "no")):
            passage, near = (
                re.sub(r"\[(\S+) (\S+)\]", order, frame.replace("{0}", filler)) for frame in frames
            )
            group.append(Judged(passage, near, label))
    return group
