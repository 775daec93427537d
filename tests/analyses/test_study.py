"""Analyses of constructed studies whose answer is known; the larger have files of their own."""

import math
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from studies import KEEPS, LOSES, STAYS, UNLEARNED, finish, finished, study, study_of, sweep_of

from forget.analyses import Study, generalisation
from forget.analyses.arms import pooled
from forget.analyses.matrix import Matrix, cross, leaves, shares, upgma, values
from forget.analyses.replicates import Replicated, over_replicates, pool
from forget.analyses.resampling import (
    estimate,
    holm,
    item_weights,
    of_estimate,
    p_value,
)
from forget.analyses.study import Condition
from forget.analyses.words import rate_name
from forget.results.estimates import RESAMPLES, Estimate
from forget.results.rows import PHASES, Row, select
from forget.settings.sweep import overlay

TINY = Condition("tiny", "", 1e-4)


def test_weights_are_those_of_a_bootstrap_and_of_their_key() -> None:
    weights = item_weights(50, "a")
    assert weights.shape == (1 + RESAMPLES, 50)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights[0], 1 / 50)
    # A count of 50 draws with probability 1/50 each: variance 49/50.
    assert (50 * weights[1:]).var() == pytest.approx(0.98, rel=0.03)
    assert np.array_equal(weights, item_weights(50, "a"))
    assert not np.array_equal(weights, item_weights(50, "b"))


def test_an_interval_of_draws_is_that_of_the_same_rows_alone() -> None:
    (cell,) = study(sweep_of("a"), {"a": LOSES}, n=400, measured=True).cells
    (outcome,) = cell.outcomes
    found = cell.get("forgotten", "test", "accuracy")
    alone = outcome.measures["forgotten/a/test/accuracy"]
    assert found is not None
    assert found.value == pytest.approx(alone.value)
    # Two bootstraps of 1000: the bounds of a binomial's quantiles, with a standard deviation of
    # 0.025, differ by 0.005 at most.
    assert found.numbers == pytest.approx(alone.numbers, abs=0.006)
    assert found.n == alone.n == 400


def test_a_difference_of_equal_items_is_paired() -> None:
    same = {("base", ""): 0.5, ("learned", ""): 0.8, ("forgotten", ""): 0.8}
    trial = sweep_of("a").trials()[0]
    outcome, rows = finished(trial, {"a": same})
    # The same answers before and after.
    copied = [replace(r, phase="forgotten") for r in select(rows, phase="learned")]
    (cell,) = study_of([outcome], {outcome.id: [*select(rows, phase="learned"), *copied]}).cells
    ratio = cell.get("forgotten", "test", "forget_ratio")
    assert ratio is not None
    assert ratio.numbers == (0, 0, 0)


def test_seeds_are_a_level_of_their_own() -> None:
    sweep = sweep_of("a", seed=[0, 1, 2])
    accuracies = (0.7, 0.8, 0.9)
    done = [
        finished(t, {"a": {**LOSES, ("learned", ""): p}}, n=400)
        for t, p in zip(sweep.trials(), accuracies, strict=True)
    ]
    (cell,) = study_of([o for o, _ in done], {o.id: rows for o, rows in done}).cells
    found = cell.get("learned", "test", "accuracy")
    assert found is not None
    assert found.value == pytest.approx(0.8)
    assert found.n == 1200
    # Of three seeds 0.1 apart the mean has a standard error of 0.1 / sqrt(3) = 0.058, and with two
    # degrees of freedom 4.30 of it are the interval's half; a share ends at 1.
    assert 0.8 - found.numbers[1] == pytest.approx(4.303 * 0.0577, rel=0.1)
    assert found.numbers[2] == 1
    assert cell.chance("test") == 0.5


def test_seeds_that_agree_add_no_more_than_their_items_noise() -> None:
    one = study(sweep_of("a"), {"a": LOSES}, n=400).cells[0].get("forgotten", "test", "accuracy")
    four = (
        study(sweep_of("a", seed=[0, 1, 2, 3]), {"a": LOSES}, n=400)
        .cells[0]
        .get("forgotten", "test", "accuracy")
    )
    assert one is not None
    assert four is not None
    narrower = (four.numbers[2] - four.numbers[1]) / (one.numbers[2] - one.numbers[1])
    # The items of the four seeds are other ones, their accuracies the same: half as wide.
    assert narrower == pytest.approx(0.5, abs=0.1)


def test_what_some_seed_lacks_the_cell_lacks() -> None:
    sweep = sweep_of("a", seed=[0, 1])
    (first, rows), (second, others) = (finished(trial, {"a": LOSES}) for trial in sweep.trials())
    (cell,) = study_of(
        [first, second], {first.id: rows, second.id: [r for r in others if r.split != "near"]}
    ).cells
    assert cell.get("forgotten", "near", "accuracy") is None
    assert cell.get("forgotten", "test", "accuracy") is not None


def test_settings_that_vary_tell_cells_apart() -> None:
    sweep = sweep_of("a", forget__lr=[1e-4, 2.5e-5], arm=["random", "flipped"], save=[True])
    cells = study(sweep, {"a": LOSES}, n=20).cells
    assert {(cell.setting, rate_name(cell.rate)) for cell in cells} == {
        *product(("tiny, arm random", "tiny, arm flipped"), ("1e-4", "2.5e-5"))
    }


def test_a_ratio_is_missing_where_nothing_was_learned() -> None:
    (cell,) = study(sweep_of("a"), {"a": UNLEARNED}).cells
    found = cell.get("forgotten", "test", "forget_ratio")
    assert found is not None
    assert found.value is None
    assert pooled([cell], "test") is None


def test_variability_is_the_trace_with_an_interval() -> None:
    (cell,) = study(sweep_of("a"), {"a": LOSES}, spreads={"a": 12.0}).cells
    found = cell.get("learned", "test", "variability")
    assert found is not None
    assert found.numbers == pytest.approx((12, 12, 12))


def test_pooling_weighs_tasks_by_what_there_was_to_lose() -> None:
    # 0.4 of skill, all lost; 0.1 of skill, none lost: 0.4 of 0.5.
    small = {("base", ""): 0.5, ("learned", ""): 0.6, ("forgotten", ""): 0.6}
    whole = {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.5}
    cells = study(sweep_of("a", "b", "c"), {"a": whole, "b": small, "c": UNLEARNED}).cells
    lost = pooled(cells, "test")
    assert lost is not None
    assert lost[0] == pytest.approx(0.8)


def test_p_values_are_those_of_a_normal_error() -> None:
    draws = np.concatenate([[0.3], 0.3 + 0.1 * norm.ppf((np.arange(RESAMPLES) + 0.5) / RESAMPLES)])
    assert p_value(draws) == pytest.approx(2 * norm.sf(3), rel=0.05)
    assert p_value(draws, 0.3) == 1
    assert p_value(np.zeros(1 + RESAMPLES)) == 1


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_missing() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    ps = np.random.default_rng(0).uniform(0, 0.2, 30).tolist()
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])
    assert holm([]) == []


def test_draws_of_an_estimate_have_its_interval() -> None:
    found = estimate(of_estimate(Estimate(0.7, 0.6, 0.8, 50), "probe"), 50)
    assert found.numbers == pytest.approx((0.7, 0.6, 0.8), abs=0.01)
    draws = tuple(of_estimate(Estimate(0.7, 0.7, 0.7, 9), i) for i in range(2))
    own = Replicated("a", ((0, 0), (1, 0)), draws)
    assert estimate(over_replicates(own, pool([own])), 18).numbers == pytest.approx((0.7, 0.7, 0.7))


def crossing() -> Study:
    """Plant two tasks.

    i takes j from 0.7 by way of 0.8 to 0.6; j itself goes from 0.7 by way of 0.9 to 0.5.
    """
    trial_i, trial_j = sweep_of("i", "j").trials()
    other = {("base", ""): 0.7, ("learned", ""): 0.8, ("forgotten", ""): 0.6}
    own = {("base", ""): 0.7, ("learned", ""): 0.9, ("forgotten", ""): 0.5}
    done = [finished(trial_i, {"i": LOSES, "j": other}), finished(trial_j, {"i": STAYS, "j": own})]
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_the_cross_task_matrix_under_its_three_baselines() -> None:
    whole = crossing()
    (found,) = cross(whole)
    assert (found.rows, found.columns) == (("i", "j"), ("i", "j"))
    ratios = {baseline: values(table)[0, 1] for baseline, table in found.ratios.items()}
    # a_fg[i, j] = 0.6. Learned on j: (0.9 - 0.6) / 0.4; learned on i: (0.8 - 0.6) / 0.3; untouched:
    # (0.7 - 0.6) / 0.2.
    assert ratios == pytest.approx({"learned on j": 0.75, "learned on i": 2 / 3, "untouched": 0.5})
    assert found.estimates("learned on j")[1][1] == whole.cells[1].get(
        "forgotten", "test", "forget_ratio"
    )
    rows, columns, ratios = found.pairs("learned on j")
    assert list(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]
    assert ratios[0, 0] == pytest.approx(0.75)
    assert found.n == [[200, 200], [200, 200]]


def test_a_baseline_of_other_examples_or_another_seed_is_none() -> None:
    whole = crossing()
    first, second = whole.outcomes
    renamed = whole.frames[second.id].assign(example=lambda frame: frame["example"] + "'")
    (found,) = cross(Study([first, second], {**whole.frames, second.id: renamed}))
    assert found.ratios["learned on j"][0][1] is None
    assert found.ratios["learned on i"][0][1] is not None
    seeded = second.model_copy(update={"trial": overlay(second.trial, {"seed": 1})})
    (found,) = cross(Study([first, seeded], whole.frames))
    assert found.ratios["learned on j"][0][1] is None


def test_trials_measured_on_one_task_make_no_matrix() -> None:
    assert cross(study(sweep_of("a"), {"a": LOSES})) == []


def test_clustering_puts_similar_rows_side_by_side() -> None:
    # 0 and 2 are near, 1 and 3 are near, and the pairs are far apart, a hole notwithstanding.
    table = np.array([[0.0, 0.1, 0.0], [1.0, 0.9, 1.0], [0.1, np.nan, 0.0], [0.9, 1.0, 1.0]])
    tree = upgma(table)
    assert tree is not None
    order = leaves(tree)
    assert sorted(order) == [0, 1, 2, 3]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset((0, 2)), frozenset((1, 3))}
    blank = upgma(np.full((3, 3), np.nan))
    assert blank is not None
    assert sorted(leaves(blank)) == [0, 1, 2]
    assert upgma(np.zeros((2, 5))) is None


def matrix_of(ratios: np.ndarray, noise: float) -> Matrix:
    """Make a matrix of ratios [rows, columns], each known to a normal error."""
    draw = np.random.default_rng(0)
    names = tuple(f"task {i}" for i in range(len(ratios)))
    table = []
    for row in ratios:
        table.append([np.r_[x, x + noise * draw.standard_normal(RESAMPLES)] for x in row])
    return Matrix(
        TINY,
        names,
        names,
        {"learned on i": table},
        {"learned on i": [[""] * len(names) for _ in names]},
        [[100] * len(names)] * len(names),
        (None, None),
    )  # type: ignore[arg-type]


def test_shares_of_the_variance_are_type_ii_sums_of_squares() -> None:
    draw = np.random.default_rng(1)
    size = 6
    ratios = (
        draw.normal(0, 0.3, size)[None, :]
        + draw.normal(0, 0.1, size)[:, None]
        + draw.normal(0, 0.05, (size, size))
    )
    found = shares(matrix_of(ratios, 1e-9), "learned on i")
    assert found is not None
    off = [(i, j, ratios[i, j]) for i, j in permutations(range(size), 2)]
    table = pd.DataFrame(off, columns=["i", "j", "y"])
    squares = anova_lm(ols("y ~ C(i) + C(j)", table).fit(), typ=2)["sum_sq"]
    total = squares.sum()
    assert found.evaluated.value == pytest.approx(squares["C(j)"] / total)
    assert found.trained.value == pytest.approx(squares["C(i)"] / total)
    assert found.rest.value == pytest.approx(squares["Residual"] / total)
    assert (found.rows, found.columns) == (size, size)


def test_noise_alone_is_nobodys_share() -> None:
    # Every pair has the same ratio; what differs is sampling alone. The lead's interval must hold
    # 0.
    draw = np.random.default_rng(2)
    leads = []
    for _ in range(20):
        found = shares(matrix_of(0.4 + 0.1 * draw.standard_normal((6, 6)), 0.1), "learned on i")
        leads.append(found is None or found.lead.numbers[1] <= 0 <= found.lead.numbers[2])
    assert sum(leads) >= 17


def test_too_few_tasks_have_no_shares() -> None:
    assert shares(matrix_of(np.array([[0.1, 0.2], [0.3, 0.4]]), 0.01), "learned on i") is None


def test_the_change_on_held_out_examples_is_tested() -> None:
    found = {
        change.cell.task: change
        for change in generalisation.changes(
            study(sweep_of("a", "b"), {"a": LOSES, "b": STAYS}).cells
        )
    }
    # 0.9 to 0.52: h = 2 asin sqrt 0.52 - 2 asin sqrt 0.9.
    assert found["a"].effect == pytest.approx(2 * math.asin(0.52**0.5) - 2 * math.asin(0.9**0.5))
    assert found["a"].adjusted < 1e-6
    assert found["a"].adjusted == pytest.approx(2 * found["a"].p)
    assert found["b"].adjusted > 0.05
    # 104 of 200 right can be a guess, 176 cannot.
    assert found["a"].adjusted_chance > 0.5
    assert found["b"].adjusted_chance < 1e-6


def test_excess_tells_forgetting_that_generalises() -> None:
    cells = {cell.task: cell for cell in study(sweep_of("a", "b"), {"a": LOSES, "b": KEEPS}).cells}
    reached, spared = (generalisation.excess(cells[task]) for task in ("a", "b"))
    assert reached is not None
    assert spared is not None
    # 0.95 - 0.95 / 2, and (0.05 / 0.4) - 1 / 2.
    assert reached[0] == pytest.approx(0.475)
    assert spared[0] == pytest.approx(-0.375)


def test_bins_hold_held_out_examples_and_near_duplicates_by_similarity() -> None:
    whole = study(sweep_of("a"), {"a": {**KEEPS, ("forgotten", "near"): 0.5}})
    bins = generalisation.bins(whole)[TINY, "a"]
    # Half of the 200 held-out examples are at 0.05, half at 0.25; the near-duplicates at 0.9.
    assert [(one.low, one.high, one.cell.n("forgotten", "test")) for one in bins] == [
        (0, 0.1, 100),
        (0.2, 0.35, 100),
        (0.5, 1, 200),
    ]
    near = bins[-1].cell.get("forgotten", "test", "forget_ratio")
    assert near is not None
    assert near.value == pytest.approx(1)
    far = [one.cell.get("forgotten", "test", "accuracy") for one in bins[:2]]
    assert np.mean([one.value for one in far if one and one.value is not None]) == pytest.approx(
        0.85
    )


def test_bins_of_few_examples_are_left_out() -> None:
    assert generalisation.bins(study(sweep_of("a"), {"a": KEEPS}, n=8))[TINY, "a"] == []


def test_looks_on_the_way_are_no_phase() -> None:
    (outcome,), rows = finish(sweep_of("a"), {"a": LOSES}, n=20)
    seen: list[Row] = [
        replace(r, phase="forget", step=3) for r in select(rows[outcome.id], phase="learned")
    ]
    whole = study_of([outcome], {outcome.id: rows[outcome.id] + seen})
    assert {phase for _, phase, _, _ in whole.samples} == set(PHASES)
