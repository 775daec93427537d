"""Arithmetic: which of two quantities is larger, or smaller?

Questions written for this package about bare numbers, sums, prices, ages, lengths, times and dates. Every two quantities are
asked about both ways, larger and smaller, over the same two choices, so that neither a number, nor its place, nor a word tells
the answer. Both records lie in one split, and no two splits share two quantities or two names; `near` asks in other words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice

from forget.tasks import Record
from forget.tasks.builtin.making import coin, split_of

PEOPLE = "Anna Ben Clara David Emma Felix Greta Hugo Irene Jack Karen Leo Maria Nina Oscar Paula Rita Sam Tom Vera"

STORIES = (
    (
        (2, 60),
        "{a} has {x} apples and {b} has {y}. Who has [more|fewer] apples?",
        "There are {x} apples in the bag of {a} and {y} in that of {b}. Whose bag holds [more|fewer]?",
        PEOPLE,
    ),
    (
        (5, 90),
        "{a} is {x} years old and {b} is {y}. Who is [older|younger]?",
        "The age of {a} is {x} and the age of {b} is {y}. Who has the [higher|lower] age?",
        PEOPLE,
    ),
    (
        (90, 200),
        "{a} is {x} centimetres tall and {b} is {y}. Who is [taller|shorter]?",
        "The height of {a} is {x} centimetres, that of {b} is {y}. Who has the [greater|smaller] height?",
        PEOPLE,
    ),
    (
        (20, 120),
        "{a} weighs {x} kilos and {b} weighs {y}. Who is [heavier|lighter]?",
        "On the scales, {a} reads {x} kilos and {b} reads {y}. Who weighs [more|less]?",
        PEOPLE,
    ),
    (
        (3, 95),
        "{a} paid {x} dollars and {b} paid {y}. Who paid [more|less]?",
        "The bill of {a} was {x} dollars and that of {b} was {y}. Who spent the [larger|smaller] sum?",
        PEOPLE,
    ),
    (
        (2, 50),
        "{a} ran {x} miles and {b} ran {y}. Who ran the [longer|shorter] distance?",
        "The run of {a} was {x} miles, the run of {b} was {y}. Who covered [more|less] ground?",
        PEOPLE,
    ),
    (
        (4, 99),
        "{a} scored {x} points and {b} scored {y}. Who has the [higher|lower] score?",
        "The game gave {a} {x} points and {b} {y}. Who got [more|fewer] points?",
        PEOPLE,
    ),
    (
        (2, 95),
        "{a} costs {x} dollars and {b} costs {y}. Which costs [more|less]?",
        "For {a} you pay {x} dollars, for {b} {y}. Which is [more expensive|cheaper]?",
        "lamp chair book shirt clock radio vase scarf mirror kettle",
    ),
    (
        (20, 900),
        "{a} is {x} metres long and {b} is {y}. Which is [longer|shorter]?",
        "{a} has a length of {x} metres, {b} of {y}. Which has the [greater|smaller] length?",
        "bridge tunnel street beach wall ditch pier path fence canal",
    ),
    (
        (2, 40),
        "In {a} it is {x} degrees and in {b} {y}. Which is [warmer|colder]?",
        "{a} has a temperature of {x} degrees and {b} of {y}. Which is [hotter|cooler]?",
        "kitchen cellar garden hall office shed attic cabin garage shop",
    ),
    (
        (1500, 1990),
        "{a} was built in {x} and {b} in {y}. Which is [newer|older]?",
        "They built {a} in {x} and {b} in {y}. Which did they build [later|earlier]?",
        "church castle palace tower mill library theatre school harbour market",
    ),
    (
        (3, 80),
        "{a} weighs {x} kilos and {b} weighs {y}. Which is [heavier|lighter]?",
        "The weight of {a} is {x} kilos, that of {b} is {y}. Which weighs [more|less]?",
        "trunk table stone bicycle statue barrel ladder printer saddle anchor",
    ),
)
"""Range of the numbers, a story about two people or things, the same in other words, and who or what it may be about.

In brackets are the words that ask for the larger and, after a bar, for the smaller.
"""

AMOUNTS = (
    (
        "Which takes [more|less] time, {a} or {b}?",
        "Is {a} or {b} the [longer|shorter] time?",
        "hours=60 minutes, days=24 hours, weeks=7 days, years=12 months, minutes=60 seconds",
    ),
    (
        "Which is [longer|shorter], {a} or {b}?",
        "Of {a} and {b}, which is the [greater|smaller] length?",
        "metres=100 centimetres, feet=12 inches, kilometres=1000 metres",
    ),
    (
        "Which is [more|fewer], {a} or {b}?",
        "Of {a} and {b}, which is the [larger|smaller] number?",
        "dozen eggs=12 eggs, pairs of shoes=2 shoes",
    ),
    (
        "Which is worth [more|less], {a} or {b}?",
        "Of {a} and {b}, which is the [larger|smaller] sum?",
        "dollars=100 cents, euros=100 euro cents",
    ),
)
"""A question, the same in other words, and units with what one of them is made of."""

NUMBERS = ("Which number is [larger|smaller], {a} or {b}?", "Of {a} and {b}, which is the [bigger|lesser] number?")
SUMS = ("Which is [greater|less], {a} or {b}?", "Work out {a} and {b}. Which gives the [larger|smaller] result?")
DATES = (
    "Which month comes [later|earlier] in the year, {a} or {b}?",
    "Take {a} and {b}. Which of these months is [later|earlier]?",
)
MONTHS = "January February March April May June July August September October November December"


@dataclass(frozen=True, slots=True)
class Comparison:
    larger: str
    smaller: str
    question: str
    other: str
    """The question in other words."""


def records(split: str) -> list[Record]:
    """Two records a comparison, one true at index 0 and one at index 1; every kind is in all splits in the same proportion."""
    drawn = "train" if split == "near" else split
    made: list[Record] = []
    for kind in (_stories, _amounts, _numbers, _sums, _months):
        for comparison in split_of(list(kind()), f"arithmetic/{kind.__name__}")[drawn]:
            choices = (comparison.larger, comparison.smaller)
            if coin(f"arithmetic/{comparison.question}"):
                choices = choices[::-1]
            text = comparison.other if split == "near" else comparison.question
            for asked, answer in ((r"\1", comparison.larger), (r"\2", comparison.smaller)):
                number = len(made)
                question = re.sub(r"\[(.*?)\|(.*?)\]", asked, text)
                source = f"arithmetic/train/{number}" if split == "near" else ""
                name = f"arithmetic/{split}/{number}"
                made.append(Record(name, question, choices, choices.index(answer), source=source))
    return made


def _comparison(wordings: tuple[str, str], a: str, b: str, x: int, y: int) -> Comparison:
    """`a` of size `x` and `b` of size `y`, named in this order."""
    question, other = (wording.format(a=a, b=b, x=x, y=y) for wording in wordings)
    larger, smaller = (a, b) if x > y else (b, a)
    return Comparison(larger, smaller, question[0].upper() + question[1:], other[0].upper() + other[1:])


def _numbers_apart(low: int, high: int, n: int, seed: str) -> list[tuple[int, int]]:
    """`n` pairs of numbers, a sixth of the range or more apart so that the answer is plain; no two numbers twice together."""
    draw = random.Random(f"arithmetic/{seed}")
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    while len(pairs) < n:
        x, y = draw.randint(low, high), draw.randint(low, high)
        if abs(x - y) >= (high - low) / 6:
            pairs.setdefault(frozenset((x, y)), (x, y))
    return list(pairs.values())


def _drawn_pairs(names: list[str], seed: str) -> Iterator[list[str]]:
    """Every two names once, in drawn order."""
    draw = random.Random(f"arithmetic/{seed}")
    pairs = list(combinations(names, 2))
    draw.shuffle(pairs)
    return (draw.sample(pair, 2) for pair in pairs)


def _stories() -> Iterator[Comparison]:
    people = _drawn_pairs(PEOPLE.split(), "people")
    for (low, high), question, other, names in STORIES:
        pairs = people if names == PEOPLE else _drawn_pairs([f"the {name}" for name in names.split()], names)
        for (x, y), (a, b) in zip(_numbers_apart(low, high, 27, question), pairs, strict=False):
            yield _comparison((question, other), a, b, x, y)


def _amounts() -> Iterator[Comparison]:
    """Some of the large unit against more of the small one, so that the bare number would mislead as often as the unit."""
    for question, other, units in AMOUNTS:
        for unit in units.split(", "):
            large, small = unit.split("=")
            size, _, name = small.partition(" ")
            draw = random.Random(f"arithmetic/{unit}")
            for times, share in zip(draw.sample(range(2, 10), 4), (0.4, 1.6, 0.6, 2.5), strict=True):
                quantities = [
                    (f"{times} {large}", times * int(size)),
                    (f"{(n := _rounded(times * int(size) * share))} {name}", n),
                ]
                (a, x), (b, y) = draw.sample(quantities, 2)
                yield _comparison((question, other), a, b, x, y)


def _rounded(n: float) -> int:
    """Down to its first two digits, as people say it."""
    unit = 10 ** max(len(str(int(n))) - 2, 0)
    return int(n) // unit * unit


def _numbers() -> Iterator[Comparison]:
    for x, y in _numbers_apart(3, 99, 25, "numbers") + _numbers_apart(100, 999, 15, "hundreds"):
        yield _comparison(NUMBERS, str(x), str(y), x, y)


def _sums() -> Iterator[Comparison]:
    draw = random.Random("arithmetic/sums")
    for x, y in _numbers_apart(12, 60, 36, "sums"):
        steps = [draw.randint(2, 9) for _ in range(2)]
        a, b = (draw.choice((f"{n - step} + {step}", f"{n + step} - {step}")) for n, step in zip((x, y), steps, strict=True))
        yield _comparison(SUMS, a, b, x, y)


def _months() -> Iterator[Comparison]:
    months = MONTHS.split()
    for a, b in islice(_drawn_pairs(months, "months"), 32):
        yield _comparison(DATES, a, b, months.index(a), months.index(b))
