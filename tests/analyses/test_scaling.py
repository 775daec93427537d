"""Measures of known accuracies over models of known sizes."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from studies import finished, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.scaling import TRACED, Trend, shape, trends
from forget.report import scaling as report
from forget.results.estimates import RESAMPLES

SIZES = {"small": 10**7, "middle": 10**8, "large": 10**9}
HELD_OUT, TRAINED = "forget ratio, held-out examples", "forget ratio, trained examples"


def sized(
    after: Mapping[str, float], n: int = 400, tasks: tuple[str, ...] = ("a", "b"), **axes: list
) -> Study:
    """Make models, of the sizes in SIZES, by accuracy on held-out examples after forgetting.

    On trained ones it ends at 0.5.
    """
    done = []
    # The largest first: the order of the trials must not matter.
    for trial in sweep_of(*tasks, model=list(after)[::-1], **axes).trials():
        skill = {
            ("base", ""): 0.5,
            ("learned", ""): 0.9,
            ("forgotten", "train"): 0.5,
            ("forgotten", ""): after[trial.model],
        }
        probed = {"base": 0.5, "learned": 1.0, "forgotten": after[trial.model]}
        outcome, rows = finished(
            trial, dict.fromkeys(tasks, skill), n=n, near=False, layers=3, probed=probed
        )
        done.append((outcome.model_copy(update={"parameters": SIZES[trial.model]}), rows))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def trend_of(study: Study, metric: str) -> Trend:
    (found,) = (trend for trend in trends(study) if trend.metric == metric)
    return found


@pytest.mark.parametrize(
    ("after", "expected", "change", "of"),
    [
        ((0.9, 0.7, 0.5), "monotone", 1.0, "all sizes"),
        ((0.5, 0.7, 0.9), "inverse", -1.0, "all sizes"),
        ((0.5, 0.9, 0.6), "U-shaped", 0.75, "from 100,000,000 on"),
        ((0.8, 0.5, 0.9), "inverted-U-shaped", 0.75, "up to 100,000,000"),
    ],
)
def test_a_ratio_over_three_sizes_has_its_shape_and_the_change_that_decides_it(
    after: tuple[float, ...], expected: str, change: float, of: str
) -> None:
    found = trend_of(sized(dict(zip(SIZES, after, strict=True))), HELD_OUT)
    assert found.models == ("small", "middle", "large")
    assert found.sizes == (10**7, 10**8, 10**9)
    assert [e.value for e in found.values] == pytest.approx([(0.9 - a_fg) / 0.4 for a_fg in after])
    assert (found.shape, found.of) == (expected, of)
    value, low, high = found.decides.numbers
    assert value == pytest.approx(change)
    assert low <= change <= high
    assert low > 0 or high < 0
    assert found.decides.n == 2 * 400


def test_what_does_not_change_is_flat() -> None:
    found = trend_of(
        sized({"small": 0.9, "middle": 0.7, "large": 0.5}), "option mass after forgetting"
    )
    # It is 0.4 in every row.
    assert found.shape == "flat"
    assert found.decides.numbers == (0, 0, 0)


def test_a_rounding_error_that_all_resamples_share_is_no_trend() -> None:
    draws = np.full((2, 1 + RESAMPLES), 0.5)
    draws[1] += 1.2e-16
    assert (draws[1] > draws[0]).all()
    assert shape([10**7, 10**8], draws, 100)[0] == "flat"


def test_all_headline_measures_have_their_trend() -> None:
    found = {
        trend.metric: trend for trend in trends(sized({"small": 0.9, "middle": 0.7, "large": 0.5}))
    }
    assert list(found) == list(TRACED)
    assert found["accuracy after forgetting"].shape == "inverse"
    assert found["accuracy after forgetting"].decides.value == pytest.approx(-0.4)
    kept = found["probe skill kept"]
    assert [e.value for e in kept.values] == pytest.approx([0.9, 0.7, 0.5])
    assert kept.shape == "inverse"
    # Two tasks of 400 questions.
    assert {e.n for e in kept.values} == {800}


def test_too_few_items_leave_a_trend_undecided() -> None:
    found = trend_of(
        sized({"small": 0.8, "middle": 0.7, "large": 0.7}, n=10, tasks=("a",)), HELD_OUT
    )
    assert found.shape == "undecided"
    _, low, high = found.decides.numbers
    assert low < 0 < high
    assert high - low > 0.2


def test_two_sizes_differ_or_not() -> None:
    rising = trend_of(sized({"small": 0.9, "large": 0.6}), HELD_OUT)
    assert (rising.shape, rising.decides.value) == ("monotone", pytest.approx(0.75))
    flat = trend_of(
        sized({"small": 0.7, "large": 0.7}, n=800, tasks=("a",)), "accuracy after forgetting"
    )
    assert (flat.shape, flat.of) == ("flat", "all sizes")


def test_one_size_has_no_trend() -> None:
    assert trends(sized({"small": 0.9})) == []


def test_models_are_compared_at_equal_rates_and_settings_only() -> None:
    study = sized(
        {"small": 0.9, "large": 0.5},
        forget__lr=[1e-4, 3e-4],
        arm=["random", "random_each_epoch"],
    )
    found = [trend for trend in trends(study) if trend.metric == HELD_OUT]
    labels = ("arm random", "arm random_each_epoch")
    assert {(trend.varied, trend.rate) for trend in found} == {*product(labels, (1e-4, 3e-4))}
    assert all(trend.models == ("small", "large") and trend.shape == "monotone" for trend in found)


def test_the_mean_is_over_tasks_that_have_the_measure_at_every_size() -> None:
    done = []
    for trial in sweep_of("a", "b", model=["small", "large"]).trials():
        learned = 0.5 if (trial.model, trial.task) == ("small", "b") else 0.9
        skill = {("base", ""): 0.5, ("learned", ""): learned, ("forgotten", ""): 0.7}
        outcome, rows = finished(trial, dict.fromkeys("ab", skill), near=False)
        done.append((outcome.model_copy(update={"parameters": SIZES[trial.model]}), rows))
    study = study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    # The small model never learned b: no ratio, but accuracies.
    ratio, accuracy = trend_of(study, HELD_OUT), trend_of(study, "accuracy after learning")
    assert list(ratio.tasks) == ["a"]
    assert [e.value for e in ratio.values] == pytest.approx([0.5, 0.5])
    assert list(accuracy.tasks) == ["a", "b"]
    assert [e.value for e in accuracy.values] == pytest.approx([0.7, 0.9])
    # No probe was fit.
    assert "probe skill kept" not in {trend.metric for trend in trends(study)}


def noisy(*values: float, deviation: float = 0.01) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, (len(values), RESAMPLES))
    return np.concatenate([np.zeros((len(values), 1)), noise], axis=1) + np.array(values)[:, None]


def test_a_measure_that_levels_off_is_not_u_shaped() -> None:
    values = (0.0, 0.5, 0.8, 0.85, 0.85, 0.85)
    sizes = [10**7 * 2**i for i in range(6)]
    # A quadratic falls at the largest size.
    curvature, slope, _ = np.polyfit(np.log10(sizes), values, 2)
    assert 2 * curvature * np.log10(sizes[-1]) + slope < 0
    assert shape(sizes, noisy(*values), 100)[0] == "monotone"


def test_flat_takes_either_side_of_the_turn_to_be_flat() -> None:
    sizes = [10**7, 10**8, 10**9]
    assert shape(sizes, noisy(0.5, 0.52, 0.5, deviation=0.015), 100)[0] == "flat"
    # The ends are as near to each other; the rise to the middle could be none, or one of 0.2.
    uneven = np.concatenate([noisy(0.5), noisy(0.58, deviation=0.06), noisy(0.5)])
    assert shape(sizes, uneven, 100)[0] == "undecided"


def test_the_section_shows_each_family_and_every_number(tmp_path: Path) -> None:
    section = report.section(
        sized({"small": 0.9, "middle": 0.7, "large": 0.5}, forget__lr=[1e-4, 3e-4]), tmp_path
    )
    assert section
    assert [picture.title for picture in section.pictures] == ["rate 1e-4", "rate 3e-4"]
    assert all(picture.path.stat().st_size > 10_000 for picture in section.pictures)
    shapes, values = section.tables
    assert len(shapes.rows) == 2 * len(TRACED)
    assert {row["shape"] for row in shapes.rows if row["measure"] == HELD_OUT} == {"monotone"}
    assert len(values.rows) == 2 * len(TRACED) * 3
    line = next(row for row in values.rows if row["measure"] == HELD_OUT and row["task"] == "a")
    assert [line[model].value for model in SIZES] == pytest.approx([0.0, 0.5, 1.0])
    for table in section.tables:
        assert table.write(tmp_path).read_text().count("\n") == len(table.rows) + 1


def test_the_section_says_what_is_missing_and_is_left_out_for_one_size(tmp_path: Path) -> None:
    assert report.section(sized({"small": 0.9}), tmp_path) is None
    done = []
    for trial in sweep_of("a", model=["small", "large"]).trials():
        skill = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}
        outcome, rows = finished(trial, {"a": skill}, near=False)
        done.append((outcome.model_copy(update={"parameters": SIZES[trial.model]}), rows))
    section = report.section(
        study_of([o for o, _ in done], {o.id: rows for o, rows in done}), tmp_path
    )
    assert section
    shapes = {row["measure"]: row for row in section.tables[0].rows}
    assert shapes[HELD_OUT]["shape"] == "no task has it at every size"
    assert shapes[HELD_OUT]["change"] is None
    assert shapes["accuracy after learning"]["change"].value == 0
