"""Doses of audits: what was done before a model was asked, in words that analyses take apart.

A dose is a list of parts with "/" between them, "forget/n=10/lr=0.0001": words name a group, a part
with "=" holds a number. Doses that differ in a part of CHOSEN alone compete: an arm is read at the
one that is best on validation examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHOSEN = ("lr", "block")
"""Names of numbers that are chosen, arm by arm, on validation examples."""

POOLED = "fold"
"""Name of a number whose doses are asked other items each: they are read as one."""

CONTROLS = ("unrelated", "random", "wrong", "noise")
"""Words of doses that bring no skill of the task: what comes back at these is not recovered."""

PLAIN = "plain"
"""The dose at which nothing was done."""


@dataclass(frozen=True)
class Dose:
    """A dose, taken apart."""

    group: str
    """The words."""
    numbers: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The numbers by name, those of CHOSEN and that of POOLED aside."""
    chosen: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def at(self) -> float:
        """The number by which doses of a group are ordered; 0 without one."""
        return next(iter(self.numbers.values()), 0.0)

    @property
    def control(self) -> bool:
        """True where nothing of the task is given, as `CONTROLS` says."""
        return bool(set(self.group.replace("/", " ").split()) & set(CONTROLS))

    @property
    def plain(self) -> bool:
        """True where nothing was done to the arm."""
        return self.group == PLAIN or self.numbers.get("n") == 0

    @property
    def name(self) -> str:
        """The dose without what is chosen."""
        return dose(*filter(None, [self.group]), **self.numbers)


def dose(*words: str, **numbers: float) -> str:
    """Write a dose of words and numbers, in their order."""
    return "/".join([*words, *(f"{name}={value:g}" for name, value in numbers.items())])


def pooled(text: str) -> str:
    """Return a dose without the part that is POOLED."""
    return "/".join(part for part in text.split("/") if not part.startswith(f"{POOLED}="))


def read(text: str) -> Dose:
    """Take a dose apart.

    Raises:
        ValueError: what follows a "=" is no number.
    """
    words, numbers, chosen = [], {}, {}
    for part in pooled(text).split("/"):
        name, given, value = part.partition("=")
        if not given:
            words.append(part)
        elif name in CHOSEN:
            chosen[name] = float(value)
        else:
            numbers[name] = float(value)
    return Dose("/".join(words), numbers, chosen)
