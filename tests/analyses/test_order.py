from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from studies import answer

from forget.analyses import Study
from forget.analyses.order import THRESHOLD, Order, _given, _ranks, orders, over_tasks
from forget.report.order import section
from forget.results.files import frame
from forget.results.outcome import Outcome
from forget.results.rows import PHASES, Row
from forget.settings.trial import Trial

KNOWN, UNKNOWN = 0.9, 0.3
LOOKS = 4
"""Within each stage; with both ends an example is learned at one of 0 to 5 and forgotten at one of
1 to 5, or never.
"""


def watched(
    trial: Trial, moments: list[tuple[int | None, int | None]]
) -> tuple[Outcome, list[Row]]:
    """Make a trial whose examples are learned and forgotten at given looks; None is never."""
    id = trial.id("data")
    rows = []
    for i, (learned_at, forgotten_at) in enumerate(moments):
        learning = [
            KNOWN if learned_at is not None and look >= learned_at else UNKNOWN
            for look in range(LOOKS + 2)
        ]
        forgetting = [
            UNKNOWN if forgotten_at is not None and look >= forgotten_at else KNOWN
            for look in range(1, LOOKS + 2)
        ]
        looks = [("base", None), *(("learn", 10 * s) for s in range(1, 5)), ("learned", None)]
        looks += [*(("forget", 10 * s) for s in range(1, 5)), ("forgotten", None)]
        for (phase, step), confidence in zip(looks, learning + forgetting, strict=True):
            rows.append(
                replace(answer(id, phase, trial.task, "test", i, True, share=confidence), step=step)
            )
    outcome = Outcome(
        trial=trial,
        id=id,
        learned_id=trial.learned_id("data"),
        data="data",
        measures={},
        parameters=1,
        seconds=1.0,
    )
    return outcome, rows


def study(
    moments: dict[str, list[tuple[int | None, int | None]]], seeds: int = 1, rate: float = 1e-4
) -> Study:
    trials = []
    for task, seed in product(moments, range(seeds)):
        trials.append(Trial(task=task, model="tiny", seed=seed, forget={"lr": rate}))
    done = [watched(trial, moments[trial.task]) for trial in trials]
    return Study(
        [outcome for outcome, _ in done], {outcome.id: frame(rows) for outcome, rows in done}
    )


def ordered(found: Study) -> list[Order]:
    (cells,) = found.conditions.values()
    return orders(cells)


SAME = sorted(6 * [(i, i) for i in range(1, 6)])
OPPOSITE = sorted(6 * [(i, 6 - i) for i in range(1, 6)])


def unrelated(seed: int, n: int = 60) -> list[tuple[int | None, int | None]]:
    draw = np.random.default_rng(seed)
    return [
        (int(a), int(b))
        for a, b in zip(draw.integers(1, 6, n), draw.integers(1, 6, n), strict=True)
    ]


def test_what_is_learned_first_and_forgotten_last_anticorrelates() -> None:
    (one,) = ordered(study({"a": OPPOSITE}))
    assert one.correlation.spearman.value == pytest.approx(-1)
    assert one.correlation.p_spearman is not None
    assert one.correlation.p_spearman < 1e-4
    assert (one.looks, one.correlation.spearman.n, one.why) == ((6, 6), 30, "")
    (other,) = ordered(study({"a": SAME}))
    assert other.correlation.spearman.value == pytest.approx(1)


def test_unrelated_orders_have_an_interval_around_0_and_the_mean_over_tasks_is_tighter() -> None:
    found = ordered(study({task: unrelated(i) for i, task in enumerate("abcdef")}))
    intervals = [one.correlation.spearman.numbers[1:] for one in found]
    assert sum(low <= 0 <= high for low, high in intervals) >= 5
    assert all(
        one.correlation.adjusted == 1 for one in found if (one.correlation.p_spearman or 0) > 1 / 6
    )
    mean = over_tasks(found)
    assert mean
    value, low, high = mean.spearman.numbers
    assert value == pytest.approx(np.mean([one.correlation.spearman.numbers[0] for one in found]))
    assert low < 0 < high
    assert mean.spearman.n == 360
    assert high - low < 0.6 * min(most - least for least, most in intervals)


def test_an_order_that_a_few_share_is_weaker_and_its_interval_holds_it_apart_from_0() -> None:
    (one,) = ordered(study({"a": OPPOSITE * 3 + unrelated(0)}))
    value, low, high = one.correlation.spearman.numbers
    assert -1 < low < value < high < 0


def test_examples_never_learned_or_lost_before_forgetting_are_left_out_and_counted() -> None:
    found = study({"a": [*OPPOSITE, (None, 1), (None, 1), (None, 1)]})
    (one,) = ordered(found)
    assert (one.never_learned, one.slipped, one.correlation.spearman.n) == (3, 0, 30)
    assert one.correlation.spearman.value == pytest.approx(-1)
    # Example 32 is known at the second look alone.
    ((id, rows),) = found.frames.items()
    seen = (rows["example"] == "test-32") & (rows["phase"] == "learn") & (rows["step"] == 20)
    again = Study(
        found.outcomes, {id: rows.assign(confidence=rows["confidence"].where(~seen, KNOWN))}
    )
    (one,) = ordered(again)
    assert (one.never_learned, one.slipped, one.correlation.spearman.n) == (2, 1, 30)


def test_examples_never_forgotten_are_tied_as_the_last() -> None:
    # Forgotten at 5, 4, 3, 2 or never: the last to be learned is now the last to go.
    (one,) = ordered(study({"a": [(a, b if a < 5 else None) for a, b in OPPOSITE]}))
    assert one.never_forgotten == 6
    # Ranks 5 4 3 2 1 against 1 2 3 4 5 with the 1 moved to the top: 4 3 2 1 5, rho = 1 - 6 (9 + 1 +
    # 1 + 9 + 0) / 120.
    assert one.correlation.spearman.value == pytest.approx(0)


def test_what_the_untouched_model_knows_stands_apart() -> None:
    # Known from the start and forgotten last: a plain correlation takes it for learned early.
    (one,) = ordered(study({"a": [*SAME, *30 * [(0, None)]]}))
    assert (one.known_before, one.correlation.spearman.n, one.plain.spearman.n) == (30, 30, 60)
    assert one.correlation.spearman.value == pytest.approx(1)
    assert one.plain.spearman.numbers[0] < 0


def test_a_model_that_leans_to_one_answer_has_no_order() -> None:
    """Examples of one answer are learned early and forgotten late, in no order among themselves."""
    draw = np.random.default_rng(4)
    moments: list[tuple[int | None, int | None]] = []
    for i in range(120):
        early = i % 2 == 0  # the examples' true option
        learned, forgotten = draw.integers(1, 3), draw.integers(1, 4)
        moments.append((int(learned + (0 if early else 3)), int(forgotten + (2 if early else 0))))
    (one,) = ordered(study({"a": moments}))
    assert one.plain.spearman.numbers[2] < -0.4
    assert one.correlation.spearman.numbers[1] < 0 < one.correlation.spearman.numbers[2]


def test_what_goes_with_the_margin_is_taken_off() -> None:
    draw = np.random.default_rng(5)
    margin = _ranks(draw.permutation(200), np.zeros(200))
    learned, forgotten = margin + 0.1 * draw.normal(size=200), -margin + 0.1 * draw.normal(size=200)
    left = spearmanr(_given(learned, margin), _given(forgotten, margin))[0]
    assert spearmanr(learned, forgotten)[0] < -0.8
    assert abs(left) < 0.2


def test_the_threshold_belongs_to_what_is_learned() -> None:
    found = study({"a": OPPOSITE})
    ((id, rows),) = found.frames.items()
    edge = rows.assign(
        confidence=rows["confidence"].where(rows["confidence"] < THRESHOLD, THRESHOLD)
    )
    (one,) = ordered(Study(found.outcomes, {id: edge}))
    assert one.correlation.spearman.value == pytest.approx(-1)


@pytest.mark.parametrize(
    ("moments", "why"),
    [
        (OPPOSITE[::4], "fewer than 10 examples were learned and known when forgetting begins"),
        ([(1, 1 + i % 5) for i in range(30)], "all were learned by the same look"),
        ([(1 + i % 5, None) for i in range(30)], "all were forgotten by the same look, or none"),
    ],
)
def test_what_cannot_be_ordered_is_missing_and_says_why(
    moments: list[tuple[int | None, int | None]], why: str
) -> None:
    (one,) = ordered(study({"a": moments}))
    assert one.correlation.spearman.value is None
    assert (one.correlation.p_spearman, one.correlation.adjusted, one.why) == (None, None, why)
    assert over_tasks([one]) is None


def test_seeds_are_averaged_each_with_its_own_order() -> None:
    (one,) = ordered(study({"a": OPPOSITE}, seeds=2))
    assert one.correlation.spearman.value == pytest.approx(-1)
    assert one.correlation.spearman.n == 60
    # The same examples in the same order twice say no more than once.
    (single,) = ordered(study({"a": unrelated(3)}))
    (double,) = ordered(study({"a": unrelated(3)}, seeds=2))
    assert double.correlation.p_spearman == pytest.approx(single.correlation.p_spearman)
    assert double.correlation.spearman.numbers == pytest.approx(single.correlation.spearman.numbers)


def test_the_page_shows_each_task_and_the_mean(tmp_path: Path) -> None:
    made = section(study({"a": OPPOSITE, "b": unrelated(1), "c": OPPOSITE[::4]}), tmp_path)
    assert made
    (table,) = made.tables
    assert [row["task"] for row in table.rows] == ["a", "b", "c", "mean over tasks"]
    assert [row["missing because"] is None for row in table.rows] == [True, True, False, True]
    assert "order.csv" in [table.write(tmp_path).name]
    (picture,) = made.pictures
    assert Image.open(picture.path).width > 500


def test_a_study_that_was_not_watched_has_no_section(tmp_path: Path) -> None:
    found = study({"a": OPPOSITE})
    settled = {id: rows[rows["phase"].isin(PHASES)] for id, rows in found.frames.items()}
    assert section(Study(found.outcomes, settled), tmp_path) is None
