"""The dose of forgetting: what is forgotten counts, what is memorised or given always does not."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest

from forget.results.dose import discrimination, end, lost, reached
from forget.results.rows import Row
from forget.settings.parts import Until

Lead = Callable[[Row, random.Random], float]
"""(Row with truth and draw, noise) -> by how much the second option leads the first."""


def row(example: int, truth: int, drawn: int | None, lead: float, step: int = 0) -> Row:
    """Return a Row of two options, of which the second leads by so many nats."""
    second = 1 / (1 + math.exp(-lead))
    logprobs = math.log(0.9 * (1 - second)), math.log(0.9 * second)
    place = {"trial": "", "phase": "forget", "task": "a", "split": "train"}
    return Row(
        **place,
        example=f"e{example}",
        truth=truth,
        logprobs=logprobs,
        lengths=(1, 1),
        step=step,
        drawn=drawn,
    )


def state(lead: Lead, step: int, n: int = 400, drawn: bool = True) -> list[Row]:
    """Return Rows of one look at a model in a planted state; truth and draw are fair coins."""
    coins, noise = random.Random("coins"), random.Random(f"noise/{step}")
    rows = []
    for example in range(n):
        truth, label = coins.randrange(2), coins.randrange(2)
        plain = row(example, truth, label if drawn else None, 0.0, step)
        rows.append(row(example, truth, plain.drawn, lead(plain, noise), step))
    return rows


def sign(option: int | None) -> int:
    return 1 if option else -1


def knows(one: Row, noise: random.Random) -> float:
    return 4 * sign(one.truth) + noise.gauss(0, 1)


def tells_nothing(one: Row, noise: random.Random) -> float:
    return noise.gauss(0, 1)


def memorised(one: Row, noise: random.Random) -> float:
    return 4 * sign(one.drawn) + noise.gauss(0, 1)


def one_answer(one: Row, noise: random.Random) -> float:
    return 6 + sign(one.truth) + noise.gauss(0, 0.5)


def in_reverse(one: Row, noise: random.Random) -> float:
    return -knows(one, noise)


BEFORE = state(knows, 0)


@pytest.mark.parametrize(
    ("lead", "low", "high"),
    [
        (knows, -0.01, 0.01),
        (tells_nothing, 0.85, 1.15),
        # Accuracy is at chance in these two, too.
        (memorised, -0.01, 0.01),
        (one_answer, -0.01, 0.1),
        (in_reverse, 1.9, 2.0),
    ],
)
def test_what_is_lost_is_told_from_what_is_memorised_or_always_answered(
    lead: Lead, low: float, high: float
) -> None:
    share = lost(BEFORE, state(lead, 1))
    assert share is not None
    assert low <= share <= high


def test_without_labels_all_examples_count() -> None:
    before = state(knows, 0, drawn=False)
    share = lost(before, state(tells_nothing, 1, drawn=False))
    assert share == pytest.approx(1, abs=0.15)
    assert lost(before, state(knows, 1, drawn=False)) == pytest.approx(0, abs=0.01)
    # No label of the flipped is right: they all count, and the rule is reversed.
    flipped = [row(i, r.truth, 1 - r.truth, 4 * sign(r.truth)) for i, r in enumerate(BEFORE)]
    now = [row(i, r.truth, 1 - r.truth, -4 * sign(r.truth)) for i, r in enumerate(BEFORE)]
    assert lost(flipped, now) == 2


@pytest.mark.parametrize("lead", [tells_nothing, in_reverse])
def test_where_there_was_no_skill_none_is_lost(lead: Lead) -> None:
    assert lost(state(lead, 0), state(tells_nothing, 1)) is None
    one_sided = [one for one in BEFORE if one.truth == 0]
    assert lost(one_sided, one_sided) is None


def test_discrimination_is_the_share_of_pairs_in_the_right_order() -> None:
    leads = [(0, -2.0), (0, 1.0), (1, 0.5), (1, 1.0), (1, 3.0)]
    rows = [row(i, truth, None, lead) for i, (truth, lead) in enumerate(leads)]
    pairs = [(x, y) for (t, x), (u, y) in permutations(leads, 2) if (t, u) == (0, 1)]
    wins = sum((x < y) + (x <= y) for x, y in pairs) / 2
    assert discrimination(rows) == pytest.approx(wins / len(pairs))


def test_discrimination_of_several_options_is_one_against_the_rest() -> None:
    def three(truth: int, best: int, n: int) -> list[Row]:
        scores = tuple(-0.5 if option == best else -3.0 for option in range(3))
        place = ("", "forget", "a", "train")
        return [Row(*place, f"{truth}{best}{i}", truth, scores, (1, 1, 1)) for i in range(n)]

    whole: list[Row] = []
    for option in range(3):
        whole += three(option, option, 4)
    assert discrimination(whole) == 1
    always = [*three(0, 0, 4), *three(1, 0, 4), *three(2, 0, 4)]
    assert discrimination(always) == 0.5
    # The third option is never true, so nothing is to be told of it.
    assert discrimination([*three(0, 0, 4), *three(1, 1, 4), *three(1, 0, 4)]) == 0.75
    assert discrimination([]) is None


def course(*leads: Lead, every: int = 2) -> list[Row]:
    """Return the Rows of looks at such states, one after the other."""
    rows: list[Row] = []
    for number, lead in enumerate(leads):
        rows += state(lead, number * every)
    return rows


def ends(rows: Sequence[Row], until: Until) -> tuple[int, bool]:
    found = end(until, rows, steps=20)
    assert found.reached == reached(until, rows)
    return found.step, found.reached


def test_the_dose_is_that_of_the_last_look() -> None:
    until = Until(trained_lost=0.8)
    assert not reached(until, course(knows))
    assert ends(course(knows, one_answer, tells_nothing), until) == (4, True)
    assert ends(course(knows, tells_nothing, memorised), until) == (4, False)
    # A look that the dose did not ask for ends nothing.
    assert not reached(Until(trained_lost=0.8, every=4), course(knows, tells_nothing))
    held_out = [row(i, 0, None, 9.0, 6) for i in range(5)]
    for one in held_out:
        object.__setattr__(one, "split", "test")
    assert ends([*course(knows, tells_nothing), *held_out], until) == (2, True)


def test_a_dose_is_told_in_a_sentence() -> None:
    found = end(Until(), course(knows, tells_nothing), steps=20)
    assert str(found).startswith("dose reached after step 2 of 20 (")
    assert str(found).endswith("of the skill on trained examples lost)")
    none = end(Until(), course(tells_nothing, tells_nothing), steps=20)
    assert none.lost is None
    assert str(none) == "dose not reached after step 2 of 20 (there was no skill to lose)"
