"""Acceptability: is this sentence correct English?

Sentences written for this package, in minimal pairs. A line of acceptability.tsv holds a phenomenon, a sentence with the slots
{0} and {1}, the same in other words (for `near`), and fillers of the slots. Fillers "x/y" of {0} and "u/v" of {1} give four
sentences: x goes with u and y with v, and the other two are wrong, so that every word is right as often as wrong. Where there
is only {0}, x is right and y is wrong, and both have the same words in another order. All sentences of a line lie in one split.
"""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path

from forget.tasks import Record
from forget.tasks.builtin.labelled import Judged, labelled_records, sentence

CHOICES = ("yes", "no")


def records(split: str) -> list[Record]:
    """See `labelled_records`."""
    phenomena: dict[str, list[list[Judged]]] = {}
    for line in Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines():
        phenomenon, frame, near, *slots = line.split("\t")
        fillers = [slot.split(", ") for slot in slots]
        # A slot with fewer choices than the other one repeats them.
        choices = list(zip(range(max(map(len, fillers))), *map(cycle, fillers), strict=False))
        phenomena.setdefault(phenomenon, []).append([item for _, *choice in choices for item in _judged(frame, near, *choice)])
    return labelled_records("acceptability", CHOICES, phenomena, split)


def _judged(frame: str, near: str, first: str, second: str = "") -> list[Judged]:
    return [
        Judged(_filled(frame, x, u), _filled(near, x, u), CHOICES[(i + j) % 2])
        for (i, x), (j, u) in product(enumerate(first.split("/")), enumerate(second.split("/")))
    ]


def _filled(frame: str, x: str, u: str) -> str:
    # One after the other: a filler of {0} may have the slot {1} in it.
    return sentence(frame.replace("{0}", x).replace("{1}", u), stop="")
