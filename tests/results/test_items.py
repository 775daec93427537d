"""Planted models that a mere accuracy does not tell apart: forgotten, memorised, and others."""

import random
from collections.abc import Callable, Sequence

import pytest

from forget.results import estimates, measures, metrics
from forget.results.estimates import Estimate
from forget.results.rows import Row, judge

ITEMS = 400
SKILLED = 3.0
"""Nats by which a model that knows the answer prefers it."""


def planted(margin: Callable[[int, int, random.Random], float], phase: str) -> list[Row]:
    """Return Rows of a model that prefers the second option by a margin.

    Args:
        margin: of (truth, drawn label, noise).
        phase: one of PHASES.
    """
    noise = random.Random(phase)
    rows = []
    for number in range(ITEMS):
        # Each of the four cases as often as any other.
        truth, drawn = number % 2, number // 2 % 2
        lead = margin(truth, drawn, noise)
        logprobs = (-20.0 - lead / 2, -20.0 + lead / 2)
        rows.append(
            Row("t", phase, "task", "train", str(number), truth, logprobs, (1, 1), drawn=drawn)
        )
    return rows


def sign(option: int) -> int:
    return 2 * option - 1


LEARNED = planted(lambda truth, drawn, noise: SKILLED * sign(truth) + noise.gauss(0, 1), "learned")

PLANTS: dict[str, Callable[[int, int, random.Random], float]] = {
    "forgotten": lambda truth, drawn, noise: noise.gauss(0, 1),
    "memorised": lambda truth, drawn, noise: 4 * sign(drawn) + noise.gauss(0, 1),
    "one answer": lambda truth, drawn, noise: 9 + 2 * sign(truth) + noise.gauss(0, 1),
    "reversed": lambda truth, drawn, noise: -3 * sign(truth) + noise.gauss(0, 1),
}


@pytest.fixture(params=PLANTS)
def state(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def covers(estimate: Estimate | None, value: float) -> bool:
    """Tell whether an interval covers a value."""
    assert estimate
    _, low, high = estimate.numbers
    return low <= value <= high


def test_planted_states_are_told_apart(state: str) -> None:
    rows = planted(PLANTS[state], "forgotten")
    found = measures.measures([*LEARNED, *rows])

    def of(measure: str) -> Estimate:
        return found[estimates.metric_name("forgotten", "task", "train", measure)]

    right, wrong = of("accuracy_draw_right").numbers[0], of("accuracy_draw_wrong").numbers[0]
    assert covers(of("accuracy"), 0.5) == (state != "reversed")
    assert covers(of("agreement"), 0.5) == (state != "memorised")
    assert (right - wrong > 0.9) == (state == "memorised")
    assert (of("most_given").numbers[0] > 0.95) == (state == "one answer")
    # All but two tell nothing of the truth: one answer still ranks it, and reversed ranks it last.
    area = of("discrimination").numbers[0]
    assert (area > 0.9) == (state == "one answer")
    assert (area < 0.1) == (state == "reversed")
    lost = of("forget_ratio_auc").numbers[0]
    expected = {"forgotten": 1.0, "memorised": 1.0, "one answer": 0.0, "reversed": 2.0}
    assert lost == pytest.approx(expected[state], abs=0.2)


def test_the_area_by_hand() -> None:
    def rows(*pairs: tuple[float, int]) -> list[Row]:
        return [
            Row("t", "base", "task", "test", str(n), truth, (-3.0, lead - 3.0), (1, 1))
            for n, (lead, truth) in enumerate(pairs)
        ]

    # Of four pairs (true, false) 0.9 beats both, 0.1 beats one; with a tie it is half a pair more.
    found = metrics.discrimination(rows((0.9, 1), (0.1, 1), (0.5, 0), (0.0, 0)))
    assert found
    assert found.value == 0.75
    tied = metrics.discrimination(rows((0.9, 1), (0.5, 1), (0.5, 0), (0.0, 0)))
    assert tied
    assert tied.value == 0.875
    assert metrics.discrimination(rows((0.9, 1), (0.1, 1))) is None


def test_the_share_falls_before_an_answer_changes() -> None:
    hesitant = planted(lambda truth, drawn, noise: 0.2 * sign(truth), "forgotten")
    assert metrics.forget_ratio(LEARNED, hesitant).value == pytest.approx(0, abs=0.05)
    share = metrics.share_ratio(LEARNED, hesitant)
    assert share.value == pytest.approx(1 - 0.05 / 0.44, abs=0.03)


def test_without_a_draw_nothing_is_said_of_it() -> None:
    def without(rows: Sequence[Row]) -> list[Row]:
        return [Row("t", r.phase, "task", "test", r.example, 0, r.logprobs, (1, 1)) for r in rows]

    rows = without(LEARNED)
    assert metrics.agreement(rows) is None
    assert metrics.accuracy_by_draw(rows, right=True) is None
    assert str(judge(rows).agrees[0]) == "nan"
    with pytest.raises(ValueError, match="has no option 2, which was drawn"):
        Row("t", "base", "task", "train", "1", 0, (-1.0, -2.0), (1, 1), drawn=2)
