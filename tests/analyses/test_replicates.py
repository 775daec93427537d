"""Intervals over replicates: the spread is pooled over tasks, and as wide as Student's t asks."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from studies import finished, study_of, sweep_of

from benchmarks.coverage import claims, intervals
from forget.analyses.judging import OPEN, Verdict, corrected, judged, sort, within
from forget.analyses.replicates import NO_DEGREES, Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, estimate, p_value
from forget.analyses.study import degrees
from forget.results.estimates import RESAMPLES, Estimate

SEEDS = ((0, 0), (1, 0))


def drawn(value: float, error: float, key: int) -> Draws:
    noise = np.random.default_rng(key).standard_normal(RESAMPLES)
    return np.concatenate([[value], value + error * noise])


def number(task: str, values: tuple[float, ...], error: float, shared: bool = False) -> Replicated:
    names = tuple((seed, 0) for seed in range(len(values)))
    draws = [
        drawn(value, error, 1000 * ord(task) + (0 if shared else seed))
        for seed, value in enumerate(values)
    ]
    return Replicated(task, names, tuple(draws))


def half(draws: Draws) -> float:
    _, low, high = estimate(draws, 0).numbers
    return (high - low) / 2


def test_the_spread_is_pooled_and_takes_the_quantile_of_its_degrees() -> None:
    # Deviations of 0.1 and 0.05: s^2 = (2 0.01 + 2 0.0025) / 2 = 0.0125; two tasks, two seeds.
    one, other = number("a", (0.5, 0.7), 0.001), number("b", (0.6, 0.7), 0.001)
    spread = pool([one, other])
    assert spread
    assert (spread.degrees, spread.variance) == (2, pytest.approx(0.0125))
    expected = student.ppf(0.975, 2) * math.sqrt(0.0125 / 2)
    for own in (one, other):
        assert half(over_replicates(own, spread)) == pytest.approx(expected, rel=0.2)
    alone = pool([one])
    assert alone
    # One task alone has one degree of freedom, and a quantile of 12.7.
    assert half(over_replicates(one, alone)) == pytest.approx(12.7 * 0.1, rel=0.35)


def test_items_that_replicates_share_show_in_no_spread() -> None:
    apart = number("a", (0.6, 0.6 + 1e-3), 0.03), number("b", (0.7, 0.7 + 1e-3), 0.03)
    same = number("a", (0.6, 0.6 + 1e-3), 0.03, shared=True)
    assert half(over_replicates(apart[0], pool(apart))) == pytest.approx(
        1.96 * 0.03 / math.sqrt(2), rel=0.1
    )
    assert half(over_replicates(same, pool([same]))) == pytest.approx(1.96 * 0.03, rel=0.1)


def test_members_of_a_seed_are_one_replicate_where_there_are_several_seeds() -> None:
    names = ((0, 0), (0, 1), (1, 0), (1, 1))
    draws = tuple(drawn(value, 1e-6, key) for key, value in enumerate((0.4, 0.6, 0.7, 0.9)))
    several = pool([Replicated("a", names, draws)])
    assert several
    # Seeds of 0.5 and 0.8.
    assert (several.degrees, several.variance) == (1, pytest.approx(0.045))
    members = pool([Replicated("a", names[:2], draws[:2])])
    assert members
    assert members.variance == pytest.approx(0.02)


def test_what_falls_together_in_the_replicates_does_so_in_the_resamples() -> None:
    """Before and after move together: their difference is known better than either."""
    tasks = "abcdefgh"
    draw = np.random.default_rng(1)
    shifts = {task: draw.normal(0, 0.1, 2) for task in tasks}
    before = {t: number(t, tuple(0.8 + shifts[t]), 0.001) for t in tasks}
    after = {t: number(t, tuple(0.6 + shifts[t]), 0.001) for t in tasks}
    pools = pool(list(before.values())), pool(list(after.values()))
    fell = over_replicates(before["a"], pools[0]) - over_replicates(after["a"], pools[1])
    assert half(over_replicates(before["a"], pools[0])) > 0.05
    assert half(fell) < 0.005


def test_without_replicates_the_interval_is_of_the_items() -> None:
    own = Replicated("a", ((0, 0),), (drawn(0.5, 0.02, 0),))
    assert pool([own]) is None
    assert np.array_equal(over_replicates(own, None), own.draws[0])


def test_degrees_count_replicates_over_tasks() -> None:
    for seeds, expected in (([0], NO_DEGREES), ([0, 1], 2), ([0, 1, 2], 4)):
        skill = {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.5}
        done = [
            finished(t, {"a": skill, "b": skill}, n=20)
            for t in sweep_of("a", "b", seed=seeds).trials()
        ]
        cells = study_of([o for o, _ in done], {o.id: rows for o, rows in done}).cells
        assert degrees(cells) == expected


def test_a_p_agrees_with_its_interval() -> None:
    draws = drawn(0.3, 0.1, 3)
    _, low, high = estimate(draws, 0).numbers
    for degrees_ in (3.0, 8.0):
        assert p_value(draws, low, degrees_) == pytest.approx(0.05)
        assert p_value(draws, high, degrees_) == pytest.approx(0.05)
        assert p_value(draws, low - 0.1, degrees_) < 0.05 < p_value(draws, low + 0.05, degrees_)


def test_a_range_is_kept_where_the_whole_interval_lies_in_it() -> None:
    inside, across = Estimate(0.0, -0.08, 0.08, 9), Estimate(0.05, -0.03, 0.13, 9)
    near = [(-0.1, 0.1)]
    assert within(inside, near) < 0.05 < within(across, near)
    assert within(Estimate(0.3, 0.2, 0.4, 9), near) == 1
    assert within(Estimate(None, None, None, 9), near) == within(None, near) == 1
    assert judged(inside, near, [(0.1, math.inf)]).word == "holds"
    assert judged(Estimate(0.3, 0.2, 0.4, 9), near, [(0.1, math.inf)]).word == "contradicted"
    assert judged(across, near, [(0.1, math.inf)]).word == OPEN


def test_some_of_both_are_told_from_all_of_one_kind() -> None:
    low, high, open_ = drawn(0.1, 0.02, 1), drawn(0.9, 0.02, 2), drawn(0.5, 0.2, 3)
    assert sort([low, high, open_], 0.5).sides.word == "holds"
    assert sort([low, low], 0.5).sides.word == "contradicted"
    assert sort([low, low, open_], 0.5).sides.word == sort([low], 0.5).sides.word == OPEN


def test_a_page_of_claims_is_corrected_for_their_number() -> None:
    said = [Verdict("some", "holds", None, "", 0.03), Verdict("own", "holds", None, "", 0.001)]
    said += [Verdict("near", OPEN, None, "", None), Verdict("probes", OPEN, None, "", 0.6)]
    found = corrected({"here": said}, (), {"here": True})["here"]
    # Of three that are tested the second smallest counts twice.
    assert found[0].adjusted == pytest.approx(0.06)
    assert [one.verdict for one in found] == [OPEN, "holds", OPEN, OPEN]
    assert "alone it would hold (p 0.03)" in found[0].what
    declared = corrected({"here": said}, ("some",), {"here": False})["here"]
    assert [one.verdict for one in declared] == ["holds in this run"] * 2 + [OPEN] * 2
    assert [one.primary for one in declared] == [True, False, False, False]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.0), (2, 0.08), (3, 0.05)])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, spread: float) -> None:
    found = intervals.covered(seeds, spread, 25, lambda: None)
    # 200 intervals of each number; those of one study share their spread.
    assert all(0.9 <= share <= 1 for share in found.values()), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", claims.CASES, ids=lambda case: f"{case.claim}: {case.what}")
def test_claims_are_seldom_falsely_decided(case: claims.Case) -> None:
    false, _ = claims.told(case, 20, lambda: None)
    # A rate of 0.05 gives more than four of 20 once in 400 times.
    assert false <= 0.2
