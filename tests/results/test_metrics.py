import math
import random
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from statsmodels.stats.proportion import proportion_confint

from forget.results import estimates, files, measures, metrics
from forget.results.estimates import Estimate
from forget.results.rows import Row, chance, judge, select

OPTION_SHARES = {True: (0.8, 0.2), False: (0.2, 0.8)}


def row(right: bool = True, example: str = "a", **fields: object) -> Row:
    """Truth is option 0; a right answer gives it 0.8 of all probability, a wrong one 0.2."""
    logprobs = tuple(math.log(share) for share in OPTION_SHARES[right])
    given: dict = {
        "trial": "t",
        "phase": "learned",
        "task": "task",
        "split": "test",
        "example": example,
        "truth": 0,
    }
    return Row(**{**given, "logprobs": logprobs, "lengths": (1, 1), **fields})


def rows(right: int, wrong: int) -> list[Row]:
    """`right` right answers, then `wrong` wrong ones, with ids 0, 1, ..."""
    return [row(i < right, str(i)) for i in range(right + wrong)]


def value(estimate: Estimate) -> float:
    return estimate.numbers[0]


def told(name: str, **fields: object) -> float:
    """Return one of the numbers that a single Row gives."""
    return float(getattr(judge([row(**fields)]), name)[0])


def test_accuracy_is_the_share_of_right_answers() -> None:
    # 3 of 4.
    assert value(metrics.accuracy(rows(3, 1))) == 0.75
    assert metrics.accuracy(rows(3, 1)).n == 4


def test_a_tie_shares_the_point_among_the_best() -> None:
    # Two options equally likely: half a point. Of three, the truth ties with one other and beats
    # the third: half a point.
    assert told("correct", logprobs=(-1.0, -1.0)) == 0.5
    assert told("correct", logprobs=(-1.0, -1.0, -2.0), lengths=(1, 1, 1)) == 0.5
    assert told("correct", logprobs=(-2.0, -1.0, -1.0), lengths=(1, 1, 1)) == 0.0
    # (1 + 0.5 + 0) / 3
    three = [row(True, "a"), row(example="b", logprobs=(-1.0, -1.0)), row(False, "c")]
    assert value(metrics.accuracy(three)) == pytest.approx(0.5)


def test_lengths_decide_which_option_scores_highest() -> None:
    # Sums -4 and -3: the second wins. Per token -4/4 = -1 and -3/1 = -3: the first does.
    assert told("correct", logprobs=(-4.0, -3.0)) == 0.0
    assert told("correct", logprobs=(-4.0, -3.0), lengths=(4, 1)) == 1.0


def test_confidence_is_the_share_of_the_true_option() -> None:
    # Probabilities 0.3 and 0.1: 0.3 / 0.4.
    assert told("confidence", logprobs=(math.log(0.3), math.log(0.1))) == pytest.approx(0.75)
    # Mean of 0.8 and 0.2.
    assert value(metrics.confidence(rows(1, 1))) == pytest.approx(0.5)
    # Sums of this size underflow unless the largest is taken out first: e^0 / (e^0 + e^-1).
    assert told("confidence", logprobs=(-2000.0, -2001.0)) == pytest.approx(1 / (1 + math.exp(-1)))


def test_option_mass_is_the_total_probability_of_the_options() -> None:
    # 0.3 + 0.1, and the mean of 0.4 and 0.002; lengths play no part.
    one = row(logprobs=(math.log(0.3), math.log(0.1)), lengths=(3, 5))
    assert judge([one]).mass == pytest.approx(0.4)
    two = row(example="b", logprobs=(math.log(0.001), math.log(0.001)))
    assert value(metrics.option_mass([one, two])) == pytest.approx(0.201)


def test_an_option_that_begins_with_another_counts_once_in_the_mass() -> None:
    # P("Paris") = 0.8 holds P("Paris, Texas") = 0.5 already.
    nested = row(logprobs=(math.log(0.8), math.log(0.5)), weights=(1.0, 0.0))
    assert judge([nested]).mass == pytest.approx(0.8)
    assert judge([nested, row()]).nested.tolist() == [1, 0]


def test_no_total_probability_is_above_one() -> None:
    with pytest.raises(ValueError, match=r"total probability of 1\.3000, above 1"):
        row(logprobs=(math.log(0.8), math.log(0.5)))
    # What bfloat16 rounds up is taken back.
    assert judge([row(logprobs=(math.log(0.8), math.log(0.203)))]).mass == 1.0


def test_chance_is_one_over_the_options() -> None:
    # (1/2 + 1/4) / 2
    four = row(logprobs=(-1.0, -2.0, -2.0, -2.0), lengths=(1,) * 4)
    assert chance([row(), four]) == 0.375


def shared(shares: list[float], right: list[bool]) -> list[Row]:
    """Choose each example's answer with a share of the probability, rightly or not."""
    found = []
    for number, (share, ok) in enumerate(zip(shares, right, strict=True)):
        logprobs = (math.log(share), math.log(1 - share))[:: 1 if ok else -1]
        found.append(row(example=str(number), logprobs=logprobs))
    return found


def test_calibration_error_is_the_gap_between_share_and_accuracy() -> None:
    # All choose with share 0.8, 500 of 1000 are right: of a gap so large noise adds nothing.
    found = metrics.calibration_error(shared([0.8] * 1000, [i % 2 == 0 for i in range(1000)]))
    assert found.numbers[0] == pytest.approx(0.3)
    # Share 0.95, all right (gap 0.05), and share 0.65, half right (gap 0.15), in two bins.
    found = metrics.calibration_error(
        shared([0.95, 0.65] * 2000, [i % 4 != 1 for i in range(4000)])
    )
    assert found.numbers[0] == pytest.approx((0.05 + 0.15) / 2, abs=0.001)
    # A share of 1 falls into the last bin.
    assert metrics.calibration_error([row(logprobs=(0.0, -800.0))] * 3).numbers[0] == 0.0


def test_a_calibrated_model_has_no_calibration_error() -> None:
    draw = random.Random("calibrated")
    held = []
    for n in (100, 160, 400):
        for _ in range(20):
            shares = [0.5 + 0.499 * draw.random() for _ in range(n)]
            found = metrics.calibration_error(shared(shares, [draw.random() < s for s in shares]))
            held.append(found.numbers[1] == 0)
    assert sum(held) >= 55


def test_a_share_near_its_end_has_wilsons_interval() -> None:
    # Of 160 items all right: the lower bound is n / (n + z^2).
    assert metrics.accuracy(rows(160, 0)).numbers == pytest.approx((1, 160 / 163.8415, 1))
    known = proportion_confint(157, 160, method="wilson")
    assert metrics.accuracy(rows(157, 3)).numbers[1:] == pytest.approx(known)


def test_forget_gap_is_the_distance_from_chance() -> None:
    # 0.75 - 0.5
    assert value(metrics.forget_gap(rows(3, 1))) == 0.25


def test_forget_ratio_is_the_share_of_the_skill_that_went() -> None:
    # a_ft 0.9, a_fg 0.6: (0.9 - 0.6) / (0.9 - 0.5).
    assert value(metrics.forget_ratio(rows(9, 1), rows(6, 4))) == pytest.approx(0.75)
    # Untouched, and at chance.
    assert metrics.forget_ratio(rows(9, 1), rows(9, 1)).numbers == (0, 0, 0)
    assert value(metrics.forget_ratio(rows(9, 1), rows(5, 5))) == pytest.approx(1)
    # Four options, chance 0.25: (0.75 - 0.5) / (0.75 - 0.25).

    def of_four(right: int) -> list[Row]:
        some = []
        for i in range(8):
            logprobs = (-1.0 if i < right else -3.0, -2.0, -2.0, -2.0)
            some.append(row(example=str(i), logprobs=logprobs, lengths=(1,) * 4))
        return some

    assert value(metrics.forget_ratio(of_four(6), of_four(4))) == pytest.approx(0.5)


def test_flipped_forget_ratio_is_one_where_every_answer_turned() -> None:
    # (0.9 - 0.1) / (2 x 0.9 - 1), and at chance (0.9 - 0.5) / 0.8.
    assert value(metrics.flipped_forget_ratio(rows(9, 1), rows(1, 9))) == pytest.approx(1)
    assert value(metrics.flipped_forget_ratio(rows(9, 1), rows(5, 5))) == pytest.approx(0.5)


@pytest.mark.parametrize("ratio", [metrics.forget_ratio, metrics.flipped_forget_ratio])
def test_a_ratio_is_missing_where_nothing_was_learned(ratio) -> None:
    # 0.54 < 0.5 + 0.05 is missing, 0.55 is not.
    assert ratio(rows(54, 46), rows(50, 50)) == Estimate(None, None, None, 100)
    assert ratio(rows(11, 9), rows(10, 10)).value is not None
    assert str(ratio(rows(54, 46), rows(50, 50))) == "missing"
    with pytest.raises(ValueError, match="missing"):
        _ = ratio(rows(54, 46), rows(50, 50)).numbers


def test_a_ratio_pairs_its_examples_whatever_their_order() -> None:
    learned, forgotten = rows(8, 2), rows(6, 4)
    shuffled = forgotten.copy()
    random.Random("order").shuffle(shuffled)
    assert metrics.forget_ratio(learned, shuffled) == metrics.forget_ratio(learned, forgotten)


def test_a_ratio_refuses_other_examples() -> None:
    learned = rows(9, 1)
    with pytest.raises(ValueError, match="not of the same examples"):
        metrics.forget_ratio(learned, rows(9, 2))
    with pytest.raises(ValueError, match="not of the same examples"):
        metrics.forget_ratio(learned, [*rows(9, 0), row(example="other")])
    # Two tasks that count their examples alike, mixed into one set.
    with pytest.raises(ValueError, match="not of the same examples"):
        metrics.forget_ratio(learned * 2, rows(5, 5) * 2)


def test_a_ratio_of_one_example_has_an_interval_without_width() -> None:
    # (1 - 0) / (1 - 0.5)
    assert metrics.forget_ratio(rows(1, 0), rows(0, 1)) == Estimate(2, 2, 2, 1)


def test_measures_needs_both_phases_for_a_ratio() -> None:
    before, after = rows(9, 1), [row(i < 6, str(i), phase="forgotten") for i in range(10)]
    found = measures.measures(before + after)
    assert value(found["learned/task/test/accuracy"]) == 0.9
    assert value(found["forgotten/task/test/forget_ratio"]) == pytest.approx(0.75)
    assert value(found["forgotten/task/test/forget_gap"]) == pytest.approx(0.1)
    assert not any(name.endswith("forget_ratio") for name in measures.measures(after))
    flipped = measures.measures(before + after, flipped=True)
    # (0.9 - 0.6) / (2 x 0.9 - 1)
    assert value(flipped["forgotten/task/test/flipped_forget_ratio"]) == pytest.approx(0.375)
    assert "forgotten/task/test/forget_ratio" not in flipped


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    # 300 of 500 right: the standard error is sqrt(0.6 x 0.4 / 500) = 0.0219, the normal interval
    # 0.6 -/+ 0.0429. A 2.5 % quantile of 1000 resamples has itself a standard error of sqrt(0.025 x
    # 0.975 / 1000) / density, where the density of the normal is 0.0584 / 0.0219 there: 0.0018;
    # four of those is 0.0074.
    estimate = metrics.accuracy(rows(300, 200))
    assert estimate.low == pytest.approx(0.6 - 0.0429, abs=0.0074)
    assert estimate.high == pytest.approx(0.6 + 0.0429, abs=0.0074)


def test_the_interval_of_a_ratio_is_that_of_the_delta_method() -> None:
    # Of 1000 examples 900 are right before and 700 of these after: a_ft = 0.9, a_fg = 0.7, ratio
    # 0.2 / 0.4 = 0.5. r = (x - y) / (x - 0.5): dr/dx = (y - 0.5) / (x - 0.5)^2 = 1.25, dr/dy = -1 /
    # (x - 0.5) = -2.5. With var x = 0.09, var y = 0.21 and, paired, cov = 0.7 - 0.63 = 0.07, n var
    # r = 1.5625 x 0.09 + 6.25 x 0.21 - 6.25 x 0.07 = 1.0156: the standard error is 0.0319 and the
    # interval 0.5 -/+ 0.0625. Tolerance as above: 4 x 0.00494 / (0.0584 / 0.0319) = 0.0108.
    estimate = metrics.forget_ratio(rows(900, 100), rows(700, 300))
    assert value(estimate) == pytest.approx(0.5)
    assert estimate.low == pytest.approx(0.5 - 0.0625, abs=0.0108)
    assert estimate.high == pytest.approx(0.5 + 0.0625, abs=0.0108)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # 300 samples of 100 at p = 0.7. A 95 % interval covers 285 of them; 4 standard errors of the
    # count, 4 x sqrt(300 x 0.95 x 0.05) = 15, and the percentile interval's own shortfall at n =
    # 100, about 1 % (3 samples), give 267 at least.
    draw = np.random.default_rng(1)
    found = [estimates.mean((draw.random(100) < 0.7).astype(float)).numbers for _ in range(300)]
    assert sum(low <= 0.7 <= high for _, low, high in found) >= 267


def test_resamples_at_chance_leave_the_sign_of_a_ratio_alone() -> None:
    # 0.6 learned from 20 examples: many resamples fall to 0.5 or below, where the ratio has no
    # sense.
    _, low, high = metrics.forget_ratio(rows(12, 8), rows(10, 10)).numbers
    assert math.isfinite(low)
    assert 0 <= low <= high


def test_intervals_are_the_same_every_time() -> None:
    assert metrics.accuracy(rows(7, 3)) == metrics.accuracy(rows(7, 3))


def test_one_value_and_equal_values_have_no_width() -> None:
    assert estimates.mean([0.3]) == Estimate(0.3, 0.3, 0.3, 1)
    assert metrics.confidence(rows(5, 0)).numbers == pytest.approx((0.8, 0.8, 0.8))


@pytest.mark.parametrize(
    "measure",
    [
        metrics.accuracy,
        metrics.confidence,
        metrics.option_mass,
        metrics.calibration_error,
        chance,
        metrics.forget_gap,
        estimates.mean,
        lambda none: metrics.forget_ratio(none, none),
        lambda none: metrics.forget_ratio(rows(3, 1), none),
        lambda none: metrics.flipped_forget_ratio(none, rows(3, 1)),
    ],
)
def test_an_empty_set_has_no_measure(measure) -> None:
    with pytest.raises(ValueError, match=r"no rows|empty"):
        measure([])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logprob_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"learned/task/test: example a .* not finite"):
        row(logprobs=(-1.0, bad))
    with pytest.raises(ValueError, match="not finite"):
        estimates.mean([0.5, bad])


@pytest.mark.parametrize(
    "fields", [{"truth": 2}, {"truth": -1}, {"lengths": (1,)}, {"logprobs": ()}]
)
def test_a_row_that_contradicts_itself_is_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match="example a has truth"):
        row(**fields)


def test_entropy_is_1_without_preference_and_0_with_certainty() -> None:
    even, sure = row(logprobs=(-3.0, -3.0)), row(logprobs=(-0.1, -90.0))
    assert judge([even, sure]).entropy == pytest.approx([1, 0], abs=1e-12)
    # Shares 1/4 and 3/4: (ln 4 / 4 + 3 ln(4/3) / 4) / ln 2.
    assert told("entropy", logprobs=(math.log(0.1), math.log(0.3))) == pytest.approx(0.8112781)
    four = row(logprobs=(-2.0,) * 4, lengths=(1,) * 4)
    assert metrics.entropy([even, sure, four]).value == pytest.approx(2 / 3)


def test_what_is_seen_on_the_way_is_no_phase_but_a_course() -> None:
    settled, seen = row(), row(phase="forget", step=3)
    found = measures.measures([settled, seen])
    assert not any(name.startswith("forget/") for name in found)
    names = {
        (name, step): estimate.value for name, step, estimate in measures.course([settled, seen])
    }
    assert names == {
        (f"forget/{seen.task}/{seen.split}/accuracy", 3): told("correct"),
        (f"forget/{seen.task}/{seen.split}/confidence", 3): told("confidence"),
    }


def test_columns_say_what_rows_say(tmp_path: Path) -> None:
    draw = random.Random("columns")
    some = []
    for i, k in product(range(20), (2, 4)):
        some.append(
            row(
                example=str(i),
                logprobs=tuple(-2 - draw.expovariate(1) for _ in range(k)),
                weights=tuple(draw.choices((0.0, 1.0), k=k)),
                lengths=tuple(draw.choices((1, 2, 3), k=k)),
                truth=draw.randrange(k),
                step=draw.choice((None, 4)),
                spread=draw.choice((None, 0.5)),
            )
        )
    files.write_rows(some, tmp_path / "rows.parquet")
    for columns in (files.read_frame(tmp_path / "rows.parquet"), files.frame(some)):
        for name in ("correct", "confidence", "mass", "entropy", "nested"):
            # Sums over neighbours in another order.
            alone = [float(getattr(judge([one]), name)[0]) for one in some]
            assert columns[name].tolist() == pytest.approx(alone, rel=1e-12)
        assert columns["options"].tolist() == [2, 4] * 20
        assert columns["step"].isna().tolist() == [one.step is None for one in some]
        assert columns["spread"].isna().tolist() == [one.spread is None for one in some]
        assert columns["example"].tolist() == [one.example for one in some]


def test_select_keeps_what_matches_every_field() -> None:
    kept, other = row(), row(split="train")
    assert select([kept, other], phase="learned", split="test") == [kept]


def test_rows_come_back_from_parquet_to_the_bit(tmp_path: Path) -> None:
    draw = random.Random("parquet")
    saved = []
    for i, k in product(range(50), (2, 3)):
        logprobs = tuple(-2 - draw.expovariate(1) for _ in range(k))
        name = f"{i}/ü \N{SNOWMAN}"
        saved.append(row(example=name, logprobs=logprobs, lengths=(k,) * k, truth=k - 1))
    files.write_rows(saved, tmp_path / "rows.parquet")
    assert files.read_rows(tmp_path / "rows.parquet") == saved
    files.write_rows([], tmp_path / "none.parquet")
    assert files.read_rows(tmp_path / "none.parquet") == []


def test_rows_of_before_there_were_weights_and_draws_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    saved = [row(example=str(number)) for number in range(3)]
    files.write_rows(saved, path)
    pq.write_table(pq.read_table(path).drop_columns(["weights", "drawn"]), path)
    assert files.read_rows(path) == saved
    frame = files.read_frame(path)
    assert frame["mass"].tolist() == pytest.approx(judge(saved).mass.tolist())
    assert frame["agrees"].isna().all()


def test_an_estimate_prints_its_interval() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 4)) == "0.500 [0.250, 0.750]"
    assert str(Estimate(1.0, None, None, 4)) == "1.000 [1.000, 1.000]"
    assert (
        estimates.metric_name("forgotten", "arc_easy", "test", "accuracy")
        == "forgotten/arc_easy/test/accuracy"
    )
