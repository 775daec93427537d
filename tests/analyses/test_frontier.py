"""Methods whose curves are known, and studies made up of them."""

from pathlib import Path

import numpy as np
import pytest
from studies import finished, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.frontier import choose, methods
from forget.analyses.resampling import estimate, item_weights
from forget.analyses.states import state
from forget.report import frontier as report
from forget.results.estimates import RESAMPLES
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.settings.trial import Trial

CURVE = {1e-5: (0.2, 0.98), 3e-5: (0.5, 0.95), 1e-4: (0.8, 0.93), 3e-4: (0.95, 0.5)}
"""Share lost held out and utility by rate: the third point is the best at a utility of 0.9."""


def certain(*values: float) -> np.ndarray:
    """Make numbers that are the same in every resample."""
    return np.repeat(np.array(values)[:, None], 1 + RESAMPLES, axis=1)


def test_the_point_that_takes_most_is_chosen_among_those_that_keep_enough() -> None:
    lost, kept = (certain(*values) for values in zip(*CURVE.values(), strict=True))
    found = choose(lost, kept, 0.9)
    assert found
    assert (found.place, found.again, found.reached, found.luck) == (2, 1, 1, 0)
    assert estimate(found.lost, 1).numbers == (0.8, 0.8, 0.8)
    assert found.random[0] == pytest.approx((0.2 + 0.5 + 0.8) / 3)
    assert choose(lost, kept, 0.99) is None


def test_a_skill_turned_into_its_opposite_is_no_more_forgotten_than_a_half() -> None:
    found = choose(certain(0.6, 1.9), certain(1, 1), 0.9)
    assert found
    assert found.place == 0
    assert found.lost[0] == 0.6


def simulated(rng: np.random.Generator, n: int, weights: np.ndarray) -> np.ndarray:
    """Draw the items of a method of the known curve, [2, points, 1 + RESAMPLES].

    The model was right in 0.9 of the items of its task and of another, of two options each.
    """
    numbers = []
    for skill_kept in [[1 - lost for lost, _ in CURVE.values()], [u for _, u in CURVE.values()]]:
        right = rng.random((len(CURVE), n)) < 0.5 + 0.4 * np.array(skill_kept)[:, None]
        numbers.append((right @ weights.T - 0.5) / 0.4)
    return np.stack([1 - numbers[0], np.clip(numbers[1], 0, 1)])


def test_two_methods_of_equal_curves_tie() -> None:
    rng, n, ties = np.random.default_rng(0), 400, 0
    for study in range(100):
        weights = item_weights(n, ["tie", study])
        first, second = (choose(*simulated(rng, n, weights), 0.8) for _ in range(2))
        assert first
        assert second
        _, low, high = estimate(first.lost - second.lost, n).numbers
        ties += low <= 0 <= high
    assert ties >= 90


def test_the_choice_of_the_best_of_equal_points_is_luck() -> None:
    """The best of twelve points that take the same seems to take more; a fixed one does not."""
    weights = item_weights(100, "luck")
    right = np.random.default_rng(0).random((12, 100)) < 0.7
    lost = 1 - (right @ weights.T - 0.5) / 0.4
    found = choose(lost, certain(*[1.0] * 12), 0.9)
    assert found
    assert found.luck > 0.05
    assert found.again < 0.9
    alone = choose(lost[:1], certain(1.0), 0.9)
    assert alone
    assert (alone.luck, alone.again) == (0, 1)


def grid(curves: dict[str, dict[float, tuple[float, float]]], n: int = 400) -> Study:
    """Finish a study of methods of known points on the task "a", with "b" beside it."""
    rates = list(next(iter(curves.values())))
    sweep = sweep_of("a", "b", method=list(curves), forget__lr=rates)
    done: list[tuple[Outcome, list[Row]]] = []
    for trial in sweep.trials():
        if trial.task == "a":
            lost, kept = curves[str(trial.method)][trial.forget.lr]
            begin = {("base", ""): 0.5, ("learned", ""): 0.9}
            own = {**begin, ("forgotten", ""): 0.9 - 0.4 * lost}
            other = {**begin, ("forgotten", ""): 0.5 + 0.4 * kept}
            done.append(finished(trial, {"a": own, "b": other}, n=n, near=False))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


WEAK = {rate: (lost / 2, kept) for rate, (lost, kept) in CURVE.items()}
BROKEN = {rate: (lost, 0.2) for rate, (lost, _) in CURVE.items()}


def test_methods_are_read_of_rows_at_the_utility_that_they_keep(tmp_path: Path) -> None:
    curves = {"random_labels": CURVE, "gradient_ascent": WEAK}
    study = grid(curves)
    assert state(study.cells[0], "test", "a")
    strong, weak = methods(study)
    assert (strong.reference, weak.reference) == (True, False)
    chosen = {method.name: method.choose(0.8) for method in (strong, weak)}
    assert [choice.lost[0] for choice in chosen.values() if choice] == pytest.approx([0.8, 0.4])
    section = report.section(study, tmp_path)
    assert section
    table, points = section.tables
    assert len(points.rows) == 8
    assert len(table.rows) == 2 * 2
    row = table.rows[-1]
    difference = row["less the reference"]
    assert row["point"] == "1e-4"
    assert difference.value == pytest.approx(-0.4)
    assert difference.high < 0
    (picture,) = section.pictures
    assert picture.path.stat().st_size > 10_000


def test_a_method_that_keeps_nothing_has_a_dash(tmp_path: Path) -> None:
    section = report.section(grid({"random_labels": CURVE, "gradient_ascent": BROKEN}), tmp_path)
    assert section
    rows = [row for row in section.tables[0].rows if "gradient_ascent" in str(row["method"])]
    assert [row["held-out skill lost"] for row in rows] == [None, None]


def test_the_utility_is_over_the_tasks_that_each_method_was_measured_on() -> None:
    """A method that was measured on a task more, which it lost, is not held against the other."""
    begin = {("base", ""): 0.5, ("learned", ""): 0.9}
    after = {"a": 0.5, "b": 0.9, "c": 0.5}
    skills = {task: {**begin, ("forgotten", ""): end} for task, end in after.items()}
    done = []
    for method, others in (("random_labels", ("b",)), ("gradient_ascent", ("b", "c"))):
        trial = Trial.model_validate(
            {"task": "a", "model": "tiny", "evaluate_on": others, "method": method}
        )
        done.append(finished(trial, skills, n=100, near=False))
    found = study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    kept = {method.name: method.points[0].utility[0] for method in methods(found)}
    assert list(kept.values()) == pytest.approx([1, 1])


def test_one_method_is_no_comparison(tmp_path: Path) -> None:
    assert report.section(grid({"random_labels": CURVE}), tmp_path) is None
