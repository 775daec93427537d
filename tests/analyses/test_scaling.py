"""Measures of known accuracies over models of known sizes."""

from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from studies import finished, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.families import families
from forget.analyses.scaling import CHOSEN, TRACED, Trend, interpolated, shape, trends
from forget.report import scaling as report
from forget.results.estimates import RESAMPLES

SIZES = {"toy-10m": 10**7, "toy-100m": 10**8, "toy-1b": 10**9}
SIZES |= {"toy-10m/1": 10**6, "toy-1b/2": 10**8}
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
        ((0.5, 0.9, 0.6), "undecided (three sizes)", 0.75, "from 100,000,000 on"),
    ],
)
def test_a_ratio_over_three_sizes_has_its_shape_and_the_change_that_decides_it(
    after: tuple[float, ...], expected: str, change: float, of: str
) -> None:
    found = trend_of(sized(dict(zip(SIZES, after, strict=False))), HELD_OUT)
    assert found.models == ("toy-10m", "toy-100m", "toy-1b")
    assert found.sizes == (10**7, 10**8, 10**9)
    assert [e.value for e in found.values] == pytest.approx([(0.9 - a_fg) / 0.4 for a_fg in after])
    assert (found.shape, found.of) == (expected, of)
    value, low, high = found.decides.numbers
    assert value == pytest.approx(change)
    assert low <= change <= high
    assert low > 0 or high < 0
    assert found.decides.n == 2 * 400


@pytest.mark.parametrize(
    ("after", "expected", "of"),
    [
        ((0.5, 0.8, 0.8, 0.6), "U-shaped", "from 1,000,000,000 on"),
        ((0.8, 0.6, 0.5, 0.9), "inverted-U-shaped", "up to 100,000,000"),
    ],
)
def test_of_four_sizes_a_turn_lies_between_two_and_two(
    after: tuple[float, ...], expected: str, of: str
) -> None:
    sizes = [10**7, 10**8, 10**9, 10**10]
    lost = noisy(*((0.9 - a_fg) / 0.4 for a_fg in after), deviation=0.02)
    assert shape(sizes, lost, 100)[::2] == (expected, of)


def test_a_line_is_monotone_and_a_turn_of_five_sizes_is_one() -> None:
    sizes = [round(10**size) for size in (7, 7.5, 8, 8.5, 9)]
    logs = np.log10(sizes)
    assert shape(sizes, noisy(*(0.2 + 0.3 * (logs - 7)), deviation=0.02), 100)[0] == "monotone"
    word, change, of = shape(sizes, noisy(*(0.3 * abs(logs - 8)), deviation=0.02), 100)
    assert (word, of) == ("U-shaped", "up to 100,000,000")
    assert change.value == pytest.approx(-0.3)


@pytest.mark.parametrize("sizes", [4, 5])
def test_noise_alone_is_hardly_ever_called_a_turn(sizes: int) -> None:
    """At most 5 % of 1000 studies without any trend are called U-shaped, either way up."""
    rng, calls = np.random.default_rng(0), Counter[str]()
    for _ in range(1000):
        draws = rng.normal(0, 1, (sizes, 1)) + np.insert(rng.normal(0, 1, (sizes, 200)), 0, 0, 1)
        calls[shape([10 ** (7 + i) for i in range(sizes)], draws, 100)[0]] += 1
    assert calls["U-shaped"] + calls["inverted-U-shaped"] <= 50


def test_families_are_told_by_names() -> None:
    names = ["pythia-160m", "pythia-1.4b", "gpt2", "gpt2-large", "smollm2-135m", "smollm2-135m/15"]
    assert families([*names, "a/Llama-2-7b-hf", "a/Llama-2-13b-hf", "gpt-j-6b"]) == {
        "pythia": {"pythia-160m", "pythia-1.4b"},
        "gpt2": {"gpt2", "gpt2-large"},
        "smollm2": {"smollm2-135m"},
        "cuts of smollm2-135m": {"smollm2-135m", "smollm2-135m/15"},
        "a/Llama-2": {"a/Llama-2-7b-hf", "a/Llama-2-13b-hf"},
        "gpt-j": {"gpt-j-6b"},
    }


def test_two_families_have_a_line_each() -> None:
    after = {"toy-10m": 0.9, "toy-1b": 0.5, "toy-10m/1": 0.5, "toy-1b/2": 0.9}
    found = {
        trend.family: trend.shape
        for trend in trends(sized(after, tasks=("a",)))
        if trend.metric == HELD_OUT
    }
    # A cut of a model is on a line with that model alone, whatever its size.
    cuts = {"cuts of toy-10m": "inverse", "cuts of toy-1b": "monotone"}
    assert found == {"toy": "monotone"} | cuts


def test_the_held_out_loss_is_read_at_the_same_loss_on_trained_examples() -> None:
    trained, held_out = (
        np.repeat(np.array(values)[:, None], 2, axis=1)
        for values in ((0.05, 0.4, 0.9, 1.0), (0.02, 0.10, 0.45, 0.80))
    )
    rates = [1e-5, 3e-5, 1e-4, 3e-4]
    rate, lost = interpolated(rates, trained, held_out, 0.8)
    assert rate == pytest.approx([-4.10458] * 2, abs=5e-6)
    assert lost == pytest.approx([0.38] * 2, abs=5e-6)
    # No rate takes so much, and none takes so little.
    assert np.isnan(interpolated(rates[:2], trained[:2], held_out[:2], 0.8)[1]).all()
    assert np.isnan(interpolated(rates[2:], trained[2:], held_out[2:], 0.8)[1]).all()


def test_sizes_are_compared_at_equal_dose_and_at_their_best_rates() -> None:
    """At each rate the large model loses more, because it is trained harder; at equal dose, less.

    At 1e-4 and 1e-3 the small one loses 0.4 and 0.9 of the trained skill, the large one 0.6 and 1.
    """
    trained = {("toy-10m", 1e-4): 0.4, ("toy-10m", 1e-3): 0.9}
    trained |= {("toy-1b", 1e-4): 0.6, ("toy-1b", 1e-3): 1.0}
    part = {"toy-10m": 0.75, "toy-1b": 0.5}
    done = []
    sweep = sweep_of("a", "b", model=list(part), forget__lr=[1e-4, 1e-3])
    for trial in sweep.trials():
        dose = trained[trial.model, trial.forget.lr]
        begin = {("base", ""): 0.5, ("learned", ""): 0.9}
        lost = {("forgotten", "train"): 0.9 - 0.4 * dose}
        own = begin | lost | {("forgotten", ""): 0.9 - 0.4 * dose * part[trial.model]}
        # The higher rate takes half of the other task as well.
        other = begin | {("forgotten", ""): 0.9 if trial.forget.lr < 1e-3 else 0.7}
        skills = {"a": own, "b": other} if trial.task == "a" else {"a": other, "b": own}
        outcome, rows = finished(trial, skills, n=400, near=False)
        done.append((outcome.model_copy(update={"parameters": SIZES[trial.model]}), rows))
    study = study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    best, at_dose = CHOSEN
    matched = trend_of(study, at_dose)
    assert [one.value for one in matched.values] == pytest.approx([0.6, 0.4])
    assert (matched.shape, matched.rate) == ("inverse", None)
    assert [one.value for one in trend_of(study, best).values] == pytest.approx([0.3, 0.3])


def test_what_does_not_change_is_flat() -> None:
    found = trend_of(
        sized({"toy-10m": 0.9, "toy-100m": 0.7, "toy-1b": 0.5}), "option mass after forgetting"
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
        trend.metric: trend
        for trend in trends(sized({"toy-10m": 0.9, "toy-100m": 0.7, "toy-1b": 0.5}))
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
        sized({"toy-10m": 0.8, "toy-100m": 0.7, "toy-1b": 0.7}, n=10, tasks=("a",)), HELD_OUT
    )
    assert found.shape == "undecided"
    _, low, high = found.decides.numbers
    assert low < 0 < high
    assert high - low > 0.2


def test_two_sizes_differ_or_not() -> None:
    rising = trend_of(sized({"toy-10m": 0.9, "toy-1b": 0.6}), HELD_OUT)
    assert (rising.shape, rising.decides.value) == ("monotone", pytest.approx(0.75))
    flat = trend_of(
        sized({"toy-10m": 0.7, "toy-1b": 0.7}, n=800, tasks=("a",)), "accuracy after forgetting"
    )
    assert (flat.shape, flat.of) == ("flat", "all sizes")


def test_one_size_has_no_trend() -> None:
    assert trends(sized({"toy-10m": 0.9})) == []


def test_models_are_compared_at_equal_rates_and_settings_only() -> None:
    study = sized(
        {"toy-10m": 0.9, "toy-1b": 0.5},
        forget__lr=[1e-4, 3e-4],
        arm=["random", "random_each_epoch"],
    )
    found = [trend for trend in trends(study) if trend.metric == HELD_OUT]
    labels = ("arm random", "arm random_each_epoch")
    assert {(trend.varied, trend.rate) for trend in found} == {*product(labels, (1e-4, 3e-4))}
    assert all(
        trend.models == ("toy-10m", "toy-1b") and trend.shape == "monotone" for trend in found
    )


def test_the_mean_is_over_tasks_that_have_the_measure_at_every_size() -> None:
    done = []
    for trial in sweep_of("a", "b", model=["toy-10m", "toy-1b"]).trials():
        learned = 0.5 if (trial.model, trial.task) == ("toy-10m", "b") else 0.9
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
        sized({"toy-10m": 0.9, "toy-100m": 0.7, "toy-1b": 0.5}, forget__lr=[1e-4, 3e-4]), tmp_path
    )
    assert section
    assert [picture.title for picture in section.pictures] == [
        "toy, rate 1e-4",
        "toy, rate 3e-4",
    ]
    assert all(picture.path.stat().st_size > 10_000 for picture in section.pictures)
    shapes, values = section.tables
    assert len(shapes.rows) == 2 * len(TRACED)
    assert {row["shape"] for row in shapes.rows if row["measure"] == HELD_OUT} == {"monotone"}
    assert len(values.rows) == 2 * len(TRACED) * 3
    line = next(row for row in values.rows if row["measure"] == HELD_OUT and row["task"] == "a")
    assert [line[model].value for model in list(SIZES)[:3]] == pytest.approx([0.0, 0.5, 1.0])
    for table in section.tables:
        assert table.write(tmp_path).read_text().count("\n") == len(table.rows) + 1


def test_the_section_says_what_is_missing_and_is_left_out_for_one_size(tmp_path: Path) -> None:
    assert report.section(sized({"toy-10m": 0.9}), tmp_path) is None
    done = []
    for trial in sweep_of("a", model=["toy-10m", "toy-1b"]).trials():
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
