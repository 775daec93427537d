"""Arithmetic: which of two quantities is the one that the question asks for?

It is larger than, smaller than, near, between or equal to what the question says. The questions
were written for this package, about bare numbers, sums, prices, ages, lengths, times and months.
Two questions share two choices, and each choice is the answer to one of them, so that neither a
number nor its size nor its place tells the answer. Both records lie in one split; `near` asks in
other words. The question does not name the choices: a small model learns to weigh a quantity
against a question, but hardly to pick one of two that were named.
"""

# ruff: noqa: E501  a table keeps its lines

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import combinations, product

from forget.tasks.builtin.making import Fact, fact_records, share, template_of
from forget.tasks.task import Record

Wordings = tuple[str, str]
"""A question, and the question in other words. Brackets hold the words that ask for more and, after
a bar, those that ask for less.
"""

SIZES: tuple[tuple[str, tuple[int, int], Wordings], ...] = (
    (
        "{} years",
        (3, 95),
        (
            "Which age is [higher|lower] than {z} years?",
            "Which of the two ages is [above|below] {z}?",
        ),
    ),
    (
        "{} dollars",
        (2, 99),
        (
            "Which price is [higher|lower] than {z} dollars?",
            "What costs [more|less] than {z} dollars?",
        ),
    ),
    (
        "{} kilos",
        (5, 200),
        (
            "Which weight is [greater|smaller] than {z} kilos?",
            "What is [heavier|lighter] than {z} kilos?",
        ),
    ),
    (
        "{} metres",
        (5, 300),
        (
            "Which rope is [longer|shorter] than {z} metres?",
            "Which length is [above|below] {z} metres?",
        ),
    ),
    (
        "{} degrees",
        (2, 98),
        (
            "Which is [hotter|colder] than {z} degrees?",
            "What is a [higher|lower] temperature than {z} degrees?",
        ),
    ),
    (
        "{} points",
        (3, 99),
        (
            "Which score is [better|worse] than {z} points?",
            "Which result is [above|below] {z} points?",
        ),
    ),
    (
        "{} miles",
        (2, 99),
        (
            "Which trip is [longer|shorter] than {z} miles?",
            "Which distance is [greater|smaller] than {z} miles?",
        ),
    ),
    (
        "{}",
        (2, 99),
        ("Which number is [more|less] than {z}?", "Which of the two numbers is [above|below] {z}?"),
    ),
    (
        "{}",
        (100, 999),
        ("Which number is [larger|smaller] than {z}?", "Which number lies [above|below] {z}?"),
    ),
)
"""Format of an amount, its range, and questions that ask for more or less than the amount {z}."""

STORIES: tuple[tuple[str, tuple[int, int], Wordings], ...] = (
    (
        "{} years",
        (4, 96),
        (
            "{a} is {z} years old and {b} is [older|younger]. How old could {b} be?",
            "The age of {a} is {z}. If {b} was born [earlier|later], which age could {b} have?",
        ),
    ),
    (
        "{} dollars",
        (3, 98),
        (
            "{a} paid {z} dollars and {b} paid [more|less]. What could {b} have paid?",
            "It cost {a} {z} dollars. If {b} spent a [larger|smaller] sum, which could it be?",
        ),
    ),
    (
        "{} apples",
        (2, 80),
        (
            "{a} has {z} apples and {b} has [more|fewer]. What could {b} have?",
            "There are {z} apples in the bag of {a}. The bag of {b} holds [more|less]. What could it hold?",
        ),
    ),
    (
        "{} kilos",
        (20, 140),
        (
            "{a} weighs {z} kilos and {b} is [heavier|lighter]. What could {b} weigh?",
            "The weight of {a} is {z} kilos. If {b} weighs [more|less], which weight could it be?",
        ),
    ),
    (
        "{} miles",
        (2, 60),
        (
            "{a} ran {z} miles and {b} ran [more|less]. How far could {b} have run?",
            "The run of {a} was {z} miles. The run of {b} was [longer|shorter]. Which could it be?",
        ),
    ),
    (
        "{} points",
        (4, 99),
        (
            "{a} scored {z} points and {b} scored [more|fewer]. What could {b} have scored?",
            "The game gave {a} {z} points. If {b} did [better|worse], which score could {b} have?",
        ),
    ),
)
"""Format, range and questions, as in SIZES, of stories about two people {a} and {b}."""

NAMES = "Anna Ben Clara David Emma Felix Greta Hugo Irene Jack Karen Leo Maria Nina Oscar Paula Rita Sam Tom Vera"

CLOSER: Wordings = (
    "Which number is closer to {z}?",
    "Which of the two numbers lies nearer to {z}?",
)
BETWEEN: Wordings = (
    "Which number is between {x} and {y}?",
    "Which of the numbers lies in the range from {x} to {y}?",
)
SUM: Wordings = ("What is {x} + {y}?", "How much do you get if you add {y} to {x}?")
DIFFERENCE: Wordings = ("What is {x} - {y}?", "How much is left of {x} if you take {y} away?")
MONTH: Wordings = (
    "Which month is between {x} and {y}?",
    "Which month comes after {x} but before {y}?",
)
SCALE: Wordings = (
    "Which is [longer|shorter] than {z}?",
    "Which of the two is [more|less] than {z}?",
)

MONTHS = "January February March April May June July August September October November December"

SCALES = (
    "a second, a minute, an hour, a day, a week, a month, a year, a decade, a century",
    "a millimetre, a centimetre, a metre, a kilometre, a light year",
)
"""Units from small to large."""


Both = tuple[Fact, Fact]
"""Two questions, of which each has the other's answer for a distractor."""


def records(split: str) -> list[Record]:
    """Make two records of each pair of questions; every kind is in all splits in proportion."""
    pairs: list[Both] = []
    for kind in (_sizes, _stories, _closer, _between, _sums, _months, _scales):
        pairs += share(list(kind()), f"arithmetic/{kind.__name__}", split, template_of)
    return fact_records("arithmetic", pairs, split)


def _asked(wordings: Wordings, answer: str, side: int = 0, **slots: object) -> Fact:
    """Fill the slots of both wordings.

    Args:
        wordings: the question in two wordings.
        answer: the true answer.
        side: index of the words that are taken from each bracket.
        slots: text by slot.
    """
    question, near = (
        re.sub(r"\[(.*?)\]", lambda words: words[1].split("|")[side], wording).format(**slots)
        for wording in wordings
    )
    return Fact(question, near, answer, template=wordings[0])


def _triples(low: int, high: int, n: int, seed: str) -> list[tuple[int, int, int]]:
    """Draw `n` different rising triples from low to high.

    Their gaps are a sixth of the range or more, so that the answer is plain.
    """
    draw = random.Random(f"arithmetic/{seed}")
    triples: dict[tuple[int, int, int], None] = {}
    while len(triples) < n:
        less, middle, more = sorted(draw.sample(range(low, high + 1), 3))
        if min(middle - less, more - middle) >= (high - low) / 6:
            triples[less, middle, more] = None
    return list(triples)


def _sizes() -> Iterator[Both]:
    for unit, (low, high), wordings in SIZES:
        # A question names the middle alone: it may come only once.
        middles = {
            middle: (less, more) for less, middle, more in _triples(low, high, 200, wordings[0])
        }
        asked = []
        for middle, (less, more) in middles.items():
            # Of "7" and "71" the sum of log-probabilities always prefers the first.
            if not unit.format(more).startswith(unit.format(less)):
                asked.append(
                    (
                        _asked(wordings, unit.format(more), 0, z=middle),
                        _asked(wordings, unit.format(less), 1, z=middle),
                    )
                )
        yield from asked[:20]


def _stories() -> Iterator[Both]:
    people = list(combinations(NAMES.split(), 2))
    random.Random("arithmetic/people").shuffle(people)
    pairs = iter(people)
    for unit, (low, high), wordings in STORIES:
        for (less, middle, more), (one, other) in zip(
            _triples(low, high, 20, wordings[0]), pairs, strict=False
        ):
            yield (
                _asked(wordings, unit.format(more), 0, a=one, b=other, z=middle),
                _asked(wordings, unit.format(less), 1, a=one, b=other, z=middle),
            )


def _closer() -> Iterator[Both]:
    draw = random.Random("arithmetic/closer")
    targets = sorted(draw.sample(range(10, 1000), 88))
    asked = [_asked(CLOSER, str(target + draw.randint(1, 6)), z=target) for target in targets]
    yield from zip(asked[:44], asked[44:], strict=True)


def _between() -> Iterator[Both]:
    draw = random.Random("arithmetic/between")
    lows = draw.sample(range(10, 900, 10), 88)
    asked = [_asked(BETWEEN, str(low + draw.randint(2, 18)), x=low, y=low + 20) for low in lows]
    # Windows next to each other share numbers: the sorted halves keep the two of a pair far apart.
    asked.sort(key=lambda item: int(item.answer))
    yield from zip(asked[:44], asked[44:], strict=True)


def _sums() -> Iterator[Both]:
    draw = random.Random("arithmetic/sums")
    for wordings, sign in ((SUM, 1), (DIFFERENCE, -1)):
        terms = draw.sample(list(product(range(11, 80), range(2, 10))), 60)
        asked = [_asked(wordings, str(x + sign * y), x=x, y=y) for x, y in terms]
        for one, other in zip(asked[:30], asked[30:], strict=True):
            if one.answer != other.answer:
                yield one, other


def _months() -> Iterator[Both]:
    """Yield windows of one to three months, each paired with one that starts five months later."""
    months = MONTHS.split()
    for width in (2, 3, 4):
        asked = [
            _asked(MONTH, months[start + 1], x=months[start], y=months[start + width])
            for start in range(len(months) - width)
        ]
        yield from zip(asked, asked[5:], strict=False)


def _scales() -> Iterator[Both]:
    """Ask for a unit that is certainly larger, and one that is smaller, than a few of another."""
    draw = random.Random("arithmetic/scales")
    for scale in SCALES:
        units = scale.split(", ")
        for rank, count in product(range(1, len(units) - 2), (2, 3, 4)):
            middle = f"{count} {units[rank].partition(' ')[2]}s"
            # Two ranks up, because four weeks are nearly the next unit.
            more, less = draw.choice(units[rank + 2 :]), draw.choice(units[:rank])
            yield _asked(SCALE, more, 0, z=middle), _asked(SCALE, less, 1, z=middle)
