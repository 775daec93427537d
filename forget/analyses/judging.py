"""Verdicts: a claim's number against the ranges in which it holds or is contradicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, TypeVar

from scipy.stats import t as student

from forget.analyses.resampling import Draws, estimate, holm, p_value
from forget.results.estimates import Estimate

Word = Literal[
    "holds",
    "contradicted",
    "not enough data",
    "holds in this run",
    "contradicted in this run",
]

HOLDS: Word = "holds"
CONTRADICTED: Word = "contradicted"
OPEN: Word = "not enough data"

IN_THIS_RUN: dict[Word, Word] = {
    HOLDS: "holds in this run",
    CONTRADICTED: "contradicted in this run",
    OPEN: OPEN,
}
"""Words of a study without replicates, which says nothing of what another run would give."""

SIGNIFICANT = 0.05

Range = tuple[float, float]
"""Everything between two bounds."""


@dataclass(frozen=True)
class Verdict:
    """A claim under one condition."""

    claim: str
    """A key of forget.settings.claims.CLAIMS."""
    verdict: Word
    number: Estimate | None
    """The number that decides; None where there is nothing to compute it from."""
    what: str
    """Words that say which number it is, and over how much."""
    p: float | None = None
    """p of the nearest boundary of the rule; None where there is nothing to test."""
    adjusted: float | None = None
    """p after Holm's correction for the other claims of its part of the page."""
    primary: bool = False
    """True for a claim that the spec declared before."""
    tasks: tuple[str, ...] = ()
    """Tasks that the verdict rests on."""


@dataclass(frozen=True)
class Sides:
    """p of a claim's holding and of its being contradicted; 1 where its number lies elsewhere."""

    holds: float = 1.0
    contradicted: float = 1.0

    @property
    def p(self) -> float:
        return min(self.holds, self.contradicted)

    @property
    def word(self) -> Word:
        if self.p >= SIGNIFICANT:
            return OPEN
        return HOLDS if self.holds <= self.contradicted else CONTRADICTED


def within(number: Estimate | None, ranges: Sequence[Range], degrees: float = inf) -> float:
    """Return the p by which a number lies within one of the ranges, of which none overlap.

    It is below 0.05 where the whole 95 % interval does; within two bounds, it is that of the nearer
    one (two one-sided tests, Schuirmann 1987).
    """
    if number is None or number.value is None:
        return 1.0
    value, low, high = number.numbers
    for bottom, top in ranges:
        if bottom < value < top:
            below = _of_side(value - bottom, value - low, degrees)
            return max(below, _of_side(top - value, high - value, degrees))
    return 1.0


def _of_side(distance: float, reach: float, degrees: float) -> float:
    """Return the two-sided p of a distance, by the reach of the 95 % interval on that side."""
    if math.isinf(distance):
        return 0.0
    if reach <= 0:
        return float(distance == 0)
    return float(2 * student.sf(distance / reach * student.ppf(0.975, degrees), degrees))


def judged(
    number: Estimate | None,
    holds: Sequence[Range],
    contradicted: Sequence[Range],
    degrees: float = inf,
) -> Sides:
    """Judge a number by the ranges of its rule."""
    return Sides(within(number, holds, degrees), within(number, contradicted, degrees))


@dataclass(frozen=True)
class Sorted:
    """Numbers on either side of a value, each by its Holm-adjusted p."""

    above: tuple[int, ...]
    """Places of the numbers that surely lie above."""
    below: tuple[int, ...]
    open: tuple[int, ...]
    sides: Sides
    """The claim that there are some of both, which all on one side, two at least, contradict."""


def sort(numbers: Sequence[Draws], null: float, degrees: float = inf) -> Sorted:
    """Sort numbers by the side of `null` on which they surely lie."""
    adjusted = holm([p_value(number, null, degrees) for number in numbers])
    above: list[int] = []
    below: list[int] = []
    undecided: list[int] = []
    up: list[float] = []
    down: list[float] = []
    for place, (number, p) in enumerate(zip(numbers, adjusted, strict=True)):
        found = 1.0 if p is None or math.isnan(p) else p
        (up if number[0] > null else down).append(found)
        side = above if number[0] > null else below
        (side if found < SIGNIFICANT else undecided).append(place)
    both = max(min(up, default=1.0), min(down, default=1.0))
    alike = up or down if not (up and down) else []
    one_sided = max(alike) if len(alike) > 1 else 1.0
    return Sorted(tuple(above), tuple(below), tuple(undecided), Sides(both, one_sided))


def interval(draws: Draws | None) -> Range:
    """Return the 95 % interval; NaN where there is no number."""
    number = None if draws is None else estimate(draws, 0)
    return number.numbers[1:] if number and number.value is not None else (math.nan, math.nan)


Place = TypeVar("Place")


def corrected(
    told: Mapping[Place, Sequence[Verdict]],
    primary: Sequence[str],
    replicated: Mapping[Place, bool],
) -> dict[Place, list[Verdict]]:
    """Correct the verdicts of a page for their number, primary claims and others apart (Holm 1979).

    A claim that its own interval decides and the corrected p does not has not enough data.

    Args:
        told: verdicts by condition.
        primary: claims that the spec declared.
        replicated: by condition, False where the words are of this run alone.
    """
    places: list[tuple[Place, Verdict]] = []
    for place, found in told.items():
        places += [(place, replace(one, primary=one.claim in primary)) for one in found]
    done: dict[Place, list[Verdict]] = {place: [] for place in told}
    adjusted = {}
    for chosen in (True, False):
        family = [one.p for _, one in places if one.primary == chosen]
        adjusted[chosen] = iter(holm(family))
    for place, one in places:
        p = next(adjusted[one.primary])
        word = one.verdict if p is not None and p < SIGNIFICANT else OPEN
        what = one.what
        if word != one.verdict:
            what += f"; alone it {_verb(one.verdict)} (p {one.p:.2g}), not among so many claims"
        if not replicated[place]:
            word = IN_THIS_RUN[word]
        done[place].append(replace(one, verdict=word, adjusted=p, what=what))
    return done


def _verb(word: Word) -> str:
    return "would hold" if word == HOLDS else "would be contradicted"
