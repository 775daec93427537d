from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr, permutation_test, spearmanr
from statsmodels.stats.multitest import multipletests
from studies import answer, finished, study, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.correlation import (
    Correlation,
    Paired,
    corrected,
    midranks,
    missing,
    over_examples,
    pearson,
    spearman,
)
from forget.analyses.matrix import cross
from forget.analyses.predictors import across_pairs, across_tasks, within_task, within_tasks
from forget.analyses.resampling import item_counts, item_weights
from forget.analyses.study import Condition
from forget.report.layout import drawn_conditions
from forget.report.predictors import section
from forget.results.estimates import Estimate
from forget.results.outcome import Likeness, Outcome
from forget.results.rows import Row
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

TASKS = tuple(f"task {letter}" for letter in "abcdefgh")
LOSSES = (0.02, 0.3, 0.1, 0.22, 0.06, 0.26, 0.14, 0.18)
"""Accuracy that forgetting takes from each, in no order of the tasks."""
SKILLS = {
    task: {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.9 - loss}
    for task, loss in zip(TASKS, LOSSES, strict=True)
}


def alone(tasks: tuple[str, ...] = TASKS, **axes: list) -> Sweep:
    """Each of the tasks measured on itself."""
    return Sweep(name="study", base={"model": "tiny"}, axes={"task": list(tasks), **axes})


def by_name(found: list[Correlation]) -> dict[str, Correlation]:
    return {one.name: one for one in found}


def tasks_of(study: Study) -> dict[str, Correlation]:
    (cells,) = study.conditions.values()
    return by_name(across_tasks(cells))


def pairs_of(study: Study) -> dict[str, Correlation]:
    (cells,), (matrix,) = study.conditions.values(), cross(study)
    return by_name(across_pairs(matrix, cells))


def test_a_weighted_rank_correlation_is_that_of_items_repeated() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 6, 30).astype(float), draw.normal(size=30)
    weights = item_weights(30, "any")
    for statistic, known in ((spearman, spearmanr), (pearson, pearsonr)):
        found = statistic(x, y, weights)
        for place in (0, 1, 7, 500):
            items = np.repeat(np.arange(30), np.round(30 * weights[place]).astype(int))
            assert found[place] == pytest.approx(known(x[items], y[items])[0])
    binary = (y > 0).astype(float)
    items = np.repeat(np.arange(30), np.round(30 * weights[3]).astype(int))
    assert spearman(x, binary, weights)[3] == pytest.approx(spearmanr(x[items], binary[items])[0])
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0]), np.full((1, 4), 0.25))[0] == pytest.approx(
        [0.25, -0.375, 0.25, -0.125]
    )


def test_a_resample_in_which_one_side_is_constant_has_no_correlation() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 3.0]), np.array([1.0, 2.0, 4.0, 3.0])
    weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    for statistic in (spearman, pearson):
        assert np.isfinite(statistic(x, y, weights)).tolist() == [True, False, False]
        assert np.isnan(statistic(np.full(4, 0.1), y, weights)).all()


def test_correlations_are_corrected_for_their_number_and_what_is_missing_does_not_count() -> None:
    ps = [0.04, 0.001, 0.03, 0.6, 0.02]
    one = Estimate(0.1, 0.0, 0.2, 9)
    found = corrected(
        [missing("none", 3), *(Correlation("x", one, one, p, p, np.zeros(2)) for p in ps)]
    )
    assert found[0].adjusted is None
    assert [c.adjusted for c in found[1:]] == pytest.approx(multipletests(ps, method="holm")[1])


@pytest.mark.parametrize(
    ("name", "sign"), [("confidence", -1), ("variability", -1), ("variability", 1)]
)
def test_a_predictor_of_what_tasks_lose_is_found_with_its_sign(name: str, sign: int) -> None:
    # The mean confidence follows the share of the chosen option, as accuracy is the same for all.
    values = {t: 0.75 + sign * 0.5 * loss for t, loss in zip(TASKS, LOSSES, strict=True)}
    given = {"shares": values} if name == "confidence" else {"spreads": values}
    found = tasks_of(study(alone(), SKILLS, near=False, **given))[name]
    assert found.spearman.value == pytest.approx(sign)
    assert found.pearson.value == pytest.approx(sign, abs=0.01)
    assert found.spearman.n == 8
    # One of 8! orders and its reverse, which 2000 permutations do not meet.
    assert found.p_spearman == pytest.approx(2 / 2001)
    assert found.adjusted is not None
    assert found.adjusted < 0.01


def test_the_variability_of_the_training_data_is_read_where_it_was_taken() -> None:
    values = {t: 2 - loss for t, loss in zip(TASKS, LOSSES, strict=True)}
    found = tasks_of(study(alone(), SKILLS, near=False, spreads_trained=values))
    assert found["variability, training data"].spearman.value == pytest.approx(-1)
    # Held-out examples have the same variability in every task.
    assert found["variability"].spearman.value is None


def test_across_tasks_difficulty_that_is_the_same_for_all_is_missing_and_not_corrected_for() -> (
    None
):
    found = tasks_of(
        study(
            alone(),
            SKILLS,
            near=False,
            spreads={t: 2 - loss for t, loss in zip(TASKS, LOSSES, strict=True)},
        )
    )
    assert (found["accuracy"].spearman.value, found["accuracy"].p_spearman) == (None, None)
    assert found["confidence"].spearman.value is None
    assert found["variability"].adjusted == found["variability"].p_spearman


def test_across_tasks_unrelated_values_have_an_interval_around_0() -> None:
    spreads = dict(zip(TASKS, (4.0, 5.0, 7.0, 2.0, 1.0, 3.0, 6.0, 8.0), strict=True))
    found = tasks_of(study(alone(), SKILLS, near=False, spreads=spreads))["variability"]
    value, low, high = found.spearman.numbers
    # Ranks 1 8 3 6 2 7 4 5 of the losses: squared differences of 9 9 16 16 1 16 4 9.
    assert value == pytest.approx(1 - 6 * 80 / (8 * 63))
    assert low < -0.4 < 0.4 < high
    assert (found.p_spearman or 0) > 0.5


def test_fewer_than_five_tasks_with_a_ratio_have_no_correlation() -> None:
    unlearned = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}
    skills = {task: skill if i < 4 else unlearned for i, (task, skill) in enumerate(SKILLS.items())}
    found = tasks_of(study(alone(), skills, near=False))
    # Nobody read the hidden states of trained examples.
    assert found.pop("variability, training data").spearman.n == 0
    assert {(c.spearman.value, c.spearman.n, c.p_spearman, c.adjusted) for c in found.values()} == {
        (None, 4, None, None)
    }


def test_of_few_tasks_every_permutation_is_tried() -> None:
    values = {t: 1 - loss for t, loss in zip(TASKS[:5], LOSSES, strict=False)}
    found = tasks_of(study(alone(TASKS[:5]), SKILLS, near=False, spreads=values))["variability"]
    assert found.p_spearman == pytest.approx(2 / 120)


def crossed(
    tasks: tuple[str, ...], follows: bool, states: bool = True, seed: int = 0, n: int = 100
) -> Study:
    """Plant tasks of which forgetting i takes from j by their wording, or whatever it is."""
    draw = np.random.default_rng(seed)
    places = {task: place for place, task in enumerate(tasks)}
    size = len(tasks)
    alike = draw.permutation(size * size).reshape(size, size) / size**2
    lost = alike if follows else draw.permutation(alike.ravel()).reshape(size, size)
    done: list[tuple[Outcome, list[Row]]] = []
    for trial in sweep_of(*tasks).trials():
        i = places[trial.task]
        skills = {
            t: {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.9 - 0.4 * lost[i, j]}
            for t, j in places.items()
        }
        others = [
            Likeness(
                task=t, answers=0.5, wording=alike[i, j], states=1 - alike[i, j] if states else None
            )
            for t, j in places.items()
            if j != i
        ]
        done.append(finished(trial, skills, n=n, near=False, likeness=others))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_likeness_that_forgetting_follows_is_found_across_pairs() -> None:
    found = pairs_of(crossed(TASKS[:6], follows=True))
    assert found["wording"].spearman.numbers[0] > 0.98
    assert found["states"].spearman.numbers[0] < -0.98
    assert found["wording"].spearman.n == 30
    # One of 6! ways to deal the tasks out, and the test is two-sided.
    assert found["wording"].p_spearman == pytest.approx(2 / 720)
    assert found["wording"].spearman.numbers[1] > 0.9
    # The same for all pairs.
    assert found["answers"].spearman.value is None
    assert found["wording"].adjusted == pytest.approx(4 / 720)


def test_likeness_that_forgetting_does_not_follow_has_an_interval_around_0() -> None:
    found = pairs_of(crossed(TASKS, follows=False))["wording"]
    _, low, high = found.spearman.numbers
    assert low < 0 < high
    assert (found.p_spearman or 0) > 0.05


def test_pairs_of_the_same_tasks_are_not_taken_for_independent() -> None:
    # Likeness and loss are both a matter of the task forgotten: 56 pairs, 8 tasks.
    done = []
    levels = np.random.default_rng(5).permutation(8) / 8
    for i, trial in enumerate(sweep_of(*TASKS).trials()):
        loss = 0.05 + 0.3 * i / 8
        skills = {
            t: {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.9 - loss}
            for t in TASKS
        }
        others = [
            Likeness(task=t, answers=0.5, wording=levels[i], states=None)
            for t in TASKS
            if t != trial.task
        ]
        done.append(finished(trial, skills, n=100, near=False, likeness=others))
    found = pairs_of(
        study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    )["wording"]
    rho, p = spearmanr(levels, np.arange(8))
    assert found.spearman.value == pytest.approx(rho, abs=0.03)
    assert found.p_spearman == pytest.approx(p, abs=0.1)
    _, low, high = found.spearman.numbers
    assert high - low > 0.6


def test_states_that_were_not_read_and_too_few_tasks_are_missing_across_pairs() -> None:
    found = pairs_of(crossed(TASKS[:5], follows=True, states=False))
    assert (found["states"].spearman.value, found["states"].spearman.n) == (None, 0)
    assert found["wording"].spearman.value is not None
    few = pairs_of(crossed(TASKS[:4], follows=True))
    assert (
        few["wording"].spearman.value,
        few["wording"].spearman.n,
        few["wording"].p_spearman,
    ) == (None, 12, None)


def a_trial(
    trial: Trial, lost: list[bool], shares: list[float], similarity: list[float], wrong: int = 5
) -> tuple[Outcome, list[Row]]:
    """Make a trial whose learned model answers right, but for `wrong` more examples.

    Its confidences are `shares`.
    """
    id = trial.id("data")
    rows = []
    for phase in ("base", "learned", "forgotten"):
        for i in range(len(lost) + wrong):
            inside = i < len(lost)
            right = inside and not (phase == "forgotten" and lost[i])
            row = answer(
                id, phase, trial.task, "test", i, right, share=shares[i] if inside else 0.7
            )
            rows.append(replace(row, similarity=similarity[i] if inside else 0.5, spread=10.0))
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


UNSURE = [0.6 + 0.3 * i / 40 for i in range(40)]
"""Confidence of forty examples, rising."""
MIXED = [0.1 * (7 * i % 11) for i in range(40)]


def within(lost: list[bool], seeds: int = 1, tasks: tuple[str, ...] = ("a",)) -> Study:
    places = product(tasks, range(seeds))
    trials = [Trial(task=task, model="tiny", seed=seed) for task, seed in places]
    done = [a_trial(trial, lost, UNSURE, MIXED) for trial in trials]
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_within_a_task_low_confidence_that_goes_with_forgetting_is_negative() -> None:
    (cell,) = within([i < 15 for i in range(40)]).cells
    found = by_name(within_task(cell))
    known = spearmanr(UNSURE, [i < 15 for i in range(40)])[0]
    assert known < -0.8
    assert found["confidence"].spearman.value == pytest.approx(known)
    # What the learned model gets wrong can't be forgotten.
    assert found["confidence"].spearman.n == 40
    assert (found["confidence"].p_spearman or 1) < 1e-6
    assert found["confidence"].spearman.numbers[2] < -0.7
    _, low, high = found["similarity"].spearman.numbers
    assert low < 0 < high
    # Every example has the same spread.
    assert (found["variability"].spearman.value, found["variability"].p_spearman) == (None, None)


def test_a_task_that_forgets_nothing_has_no_correlation_within_it() -> None:
    (cell,) = within([False] * 40).cells
    assert all(c.spearman.value is None for c in within_task(cell))


def test_the_p_over_examples_is_that_of_permuting_them() -> None:
    draw = np.random.default_rng(2)
    x = draw.normal(size=60)
    y = (x + 2.5 * draw.normal(size=60) > 0.5).astype(float)
    names = np.array([str(i) for i in range(60)], dtype=object)
    found = over_examples("x", [Paired(names, x, y, item_counts(60, "x"), 60)])
    known = permutation_test(
        (x,), lambda x: spearmanr(x, y)[0], permutation_type="pairings", n_resamples=3000, rng=0
    )
    assert 0.005 < known.pvalue < 0.5
    assert found.p_spearman == pytest.approx(known.pvalue, rel=0.25)
    # The same seed twice is no more evidence, another one with other examples is.
    other = Paired(
        np.array([f"other {name}" for name in names], dtype=object), x, y, item_counts(60, "y"), 60
    )
    twice, more = (
        over_examples("x", [Paired(names, x, y, item_counts(60, "x"), 60), one])
        for one in (Paired(names, x, y, item_counts(60, "x"), 60), other)
    )
    assert twice.p_spearman == pytest.approx(found.p_spearman)
    assert (more.p_spearman or 1) < (found.p_spearman or 0)


def test_within_tasks_are_corrected_over_the_tasks_and_averaged() -> None:
    found = within([i % 3 == 0 or i < 8 for i in range(40)], tasks=("a", "b", "c"))
    (cells,) = found.conditions.values()
    confidence = within_tasks(cells)[0]
    one = confidence.tasks["a"]
    assert one.adjusted == pytest.approx(3 * (one.p_spearman or 1))
    assert confidence.mean
    assert confidence.mean.spearman.value == pytest.approx(one.spearman.value)
    assert confidence.mean.spearman.n == 120
    (_, low, high), (_, least, most) = confidence.mean.spearman.numbers, one.spearman.numbers
    assert high - low < 0.8 * (most - least)


def test_the_page_has_what_each_level_found(tmp_path: Path) -> None:
    made = section(crossed(TASKS[:6], follows=True, n=60), tmp_path)
    assert made
    assert [table.name for table in made.tables] == [
        "predictors_tasks",
        "predictors_pairs",
        "predictors_examples",
    ]
    assert [table.write(tmp_path).exists() for table in made.tables] == [True] * 3
    assert [row["predictor"] for row in made.tables[1].rows] == ["answers", "wording", "states"]
    assert [Image.open(picture.path).format for picture in made.pictures] == ["PNG", "PNG"]


def test_few_tasks_leave_tables_that_say_missing_and_no_forest(tmp_path: Path) -> None:
    made = section(study(alone(TASKS[:2]), SKILLS, near=False, n=40), tmp_path)
    assert made
    assert [table.name for table in made.tables] == ["predictors_tasks", "predictors_examples"]
    missing = [row["Spearman"] for row in made.tables[0].rows]
    assert all(isinstance(entry, Estimate) and entry.value is None for entry in missing)


def test_of_many_conditions_a_few_are_drawn_evenly_over_the_rates() -> None:
    rates = (7e-4, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4)
    settings = [f"setting {s}" for s in range(6)]
    conditions = [Condition(setting, "", rate) for setting, rate in product(settings, rates)]
    found = drawn_conditions(conditions)
    assert list(found) == [f"setting {s}" for s in range(4)]
    assert [condition.rate for condition in found["setting 0"]] == [1e-4, 3e-4, 5e-4, 7e-4]
