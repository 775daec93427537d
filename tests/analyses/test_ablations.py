"""Settings whose effect is known, over cells that are equal in everything else."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from statsmodels.stats.proportion import proportion_effectsize
from studies import finished, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.ablations import Contrast, contrasts, factors, matched, patterns
from forget.report import ablations as report
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

TRAINED, HELD_OUT = (
    "accuracy after forgetting, trained examples",
    "accuracy after forgetting, held-out examples",
)
HELD_OUT_RATIO = "forget ratio, held-out examples"
SIX = ("a", "b", "c", "d", "e", "f")


def ablated(
    trials: Sequence[Trial], after: Callable[[Trial], float], n: int = 400, **kwargs: object
) -> Study:
    """Plant accuracies of 0.9, after forgetting of 0.5 on trained examples, else of `after`."""
    done = []
    for trial in trials:
        skill = {
            ("base", ""): 0.5,
            ("learned", ""): 0.9,
            ("forgotten", "train"): 0.5,
            ("forgotten", ""): after(trial),
        }
        done.append(finished(trial, dict.fromkeys(trial.tasks, skill), n=n, near=False, **kwargs))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def samples(trial: Trial) -> float:
    return 0.85 if trial.forget.examples == 100 else 0.55


def by_measure(found: Sequence[Contrast]) -> dict[str, Contrast]:
    names = [comparison.measure for comparison in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def test_a_known_difference_is_found_exactly_within_its_interval() -> None:
    study = ablated(sweep_of("a", "b", forget__examples=[100, 1000]).trials(), samples)
    found = by_measure(contrasts(study))
    accuracy = found[HELD_OUT]
    assert (accuracy.factor, accuracy.first, accuracy.other, accuracy.tasks) == (
        "forget.examples",
        "100",
        "1000",
        2,
    )
    assert [e.value for e in accuracy.values] == pytest.approx([0.85, 0.55])
    value, low, high = accuracy.difference.numbers
    assert value == pytest.approx(-0.3)
    assert low < -0.3 < high < -0.2
    assert accuracy.difference.n == 800
    assert accuracy.p == accuracy.adjusted < 1e-6
    assert accuracy.effect == pytest.approx(proportion_effectsize(0.55, 0.85))
    ratio = found[HELD_OUT_RATIO]
    assert ratio.difference.value == pytest.approx(0.3 / 0.4)
    assert ratio.effect is None
    # The same on trained examples: 0.5 with either.
    assert found[TRAINED].difference.value == 0
    assert found[TRAINED].adjusted > 0.05


def test_only_cells_equal_in_everything_else_are_compared() -> None:
    every = sweep_of(
        "a", "b", forget__lr=[1e-4, 3e-4], arm=["random", "random_each_epoch"]
    ).trials()
    # The second labels at one rate and one task alone.
    some = [t for t in every if t.arm == "random" or (t.task, t.forget.lr) == ("a", 1e-4)]
    study = ablated(some, lambda trial: 0.6 if trial.forget.lr == 1e-4 else 0.8)
    ((first, other),) = matched(study, "arm", "random", "random_each_epoch")
    assert (first.task, first.rate, other.task, other.rate) == ("a", 1e-4, "a", 1e-4)
    labels = next(c for c in contrasts(study) if (c.factor, c.measure) == ("arm", HELD_OUT))
    # All random cells together have a mean of 0.7.
    assert (labels.difference.value, labels.tasks) == (0, 1)
    rates = next(c for c in contrasts(study) if (c.factor, c.measure) == ("forget.lr", HELD_OUT))
    assert rates.difference.value == pytest.approx(0.2)
    assert rates.tasks == 2


def test_each_task_counts_once_whatever_else_varies() -> None:
    every = sweep_of(
        "a", "b", method=["random_labels", "gradient_ascent"], forget__examples=[100, 1000]
    ).trials()
    # Task a with both methods, task b with one.
    some = [t for t in every if t.task == "a" or t.method.name == "random_labels"]

    def after(trial: Trial) -> float:
        return 0.6 if trial.task == "a" and trial.forget.examples == 1000 else 0.8

    found = [
        c
        for c in contrasts(ablated(some, after))
        if c.factor == "forget.examples" and c.measure == HELD_OUT
    ]
    assert [(c.difference.value, c.tasks, c.difference.n) for c in found] == [
        (pytest.approx(-0.1), 2, 3 * 400)
    ]


def test_seeds_are_compared_with_themselves() -> None:
    every = sweep_of("a", seed=[0, 1], forget__examples=[100, 1000]).trials()
    # Seed 1 has not finished with 1000 examples; with 100 it is much worse.
    some = [t for t in every if (t.seed, t.forget.examples) != (1, 1000)]
    study = ablated(some, lambda trial: 0.5 if trial.seed else samples(trial))
    ((first, other),) = matched(study, "forget.examples", "100", "1000")
    assert [o.trial.seed for o in (*first.outcomes, *other.outcomes)] == [0, 0]
    assert by_measure(contrasts(study))[HELD_OUT].difference.value == pytest.approx(-0.3)


def test_flipped_labels_are_compared_by_accuracy_not_by_their_ratio() -> None:
    def after(trial: Trial) -> float:
        return 0.3 if trial.arm == "flipped" else 0.6

    kinds = ["random", "random_each_epoch", "flipped"]
    found = contrasts(ablated(sweep_of("a", "b", arm=kinds).trials(), after))
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for contrast in found:
        pairs[contrast.measure].append((contrast.first, contrast.other))
    assert pairs[HELD_OUT] == [
        ("random", "random_each_epoch"),
        ("random", "flipped"),
        ("random_each_epoch", "flipped"),
    ]
    assert pairs[HELD_OUT_RATIO] == [("random", "random_each_epoch")]
    flipped = next(
        c for c in found if (c.measure, c.first, c.other) == (HELD_OUT, "random", "flipped")
    )
    assert flipped.difference.value == pytest.approx(-0.3)


def test_flipped_labels_on_both_sides_have_a_ratio_to_compare() -> None:
    trials = sweep_of("a", arm=["flipped"], forget__lr=[1e-4, 3e-4]).trials()
    found = by_measure(
        contrasts(ablated(trials, lambda trial: 0.6 if trial.forget.lr == 1e-4 else 0.2))
    )
    assert HELD_OUT_RATIO not in found
    # (a_ft - a_fg) / (2 a_ft - 1)
    assert [
        e.value for e in found["flipped forget ratio, held-out examples"].values
    ] == pytest.approx([0.3 / 0.8, 0.7 / 0.8])


def test_ratios_of_both_kinds_are_not_averaged() -> None:
    trials = sweep_of("a", arm=["random", "flipped"], forget__examples=[100, 1000]).trials()
    found = by_measure(
        [c for c in contrasts(ablated(trials, samples)) if c.factor == "forget.examples"]
    )
    assert found[HELD_OUT_RATIO].difference.value == pytest.approx(0.3 / 0.4)
    assert found["flipped forget ratio, held-out examples"].difference.value == pytest.approx(
        0.3 / 0.8
    )
    assert found[HELD_OUT_RATIO].difference.n == 400
    assert found[HELD_OUT].difference.n == 800


def test_holm_corrects_for_the_pairs_of_values() -> None:
    rates = [3e-5, 1e-4, 3e-4]
    study = ablated(
        sweep_of("a", forget__lr=rates).trials(),
        lambda trial: 0.5 + 0.1 * rates.index(trial.forget.lr),
    )
    found = [c for c in contrasts(study) if c.measure == HELD_OUT]
    assert [(c.first, c.other) for c in found] == [
        ("3e-05", "0.0001"),
        ("3e-05", "0.0003"),
        ("0.0001", "0.0003"),
    ]
    ordered = sorted(found, key=lambda c: c.p)
    expected = np.maximum.accumulate([min(1, c.p * (3 - i)) for i, c in enumerate(ordered)])
    assert [c.adjusted for c in ordered] == pytest.approx(expected)
    assert any(c.adjusted > c.p for c in found)


def test_skill_that_a_probe_keeps_is_compared() -> None:
    done = []
    for trial in sweep_of("a", tuning=["full", "lora"]).trials():
        kept = {"base": 0.5, "learned": 1.0, "forgotten": 0.9 if trial.tuning == "full" else 0.6}
        skill = {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.6}
        done.append(finished(trial, {"a": skill}, near=False, layers=3, probed=kept))
    study = study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    kept = by_measure(contrasts(study))["probe skill kept"]
    # Adapters have settings that full fine-tuning lacks; they keep no cell from its match.
    assert (kept.first, kept.other) == ("full", "lora")
    assert kept.difference.value == pytest.approx(-0.3)


def test_task_model_and_seed_are_no_factors() -> None:
    study = ablated(
        sweep_of("a", "b", seed=[0, 1], model=["one", "two"]).trials(), lambda trial: 0.6
    )
    assert factors(study) == {}
    assert contrasts(study) == patterns(study) == []


def pattern_study(tasks: Sequence[str], sign: int = 1, **kwargs: object) -> Study:
    """Plant accuracies that rise over the tasks with 100 examples, and rise or fall with 1000."""

    def after(trial: Trial) -> float:
        place = list(tasks).index(trial.task) - (len(tasks) - 1) / 2
        return 0.7 + 0.08 * place * (1 if trial.forget.examples == 100 else sign)

    return ablated(sweep_of(*tasks, forget__examples=[100, 1000]).trials(), after, **kwargs)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_same_or_the_opposite_pattern_is_told(sign: int) -> None:
    (found,) = patterns(pattern_study(SIX, sign, n=200))
    assert (found.factor, found.first, found.other, found.rho.n) == (
        "forget.examples",
        "100",
        "1000",
        6,
    )
    value, low, high = found.rho.numbers
    assert value == pytest.approx(sign)
    assert min(abs(low), abs(high)) > 0.3
    assert low * high > 0


def test_the_rank_correlation_is_spearmans() -> None:
    order = [3, 0, 4, 1, 5, 2]

    def after(trial: Trial) -> float:
        place = SIX.index(trial.task)
        return 0.55 + 0.05 * (place if trial.forget.examples == 100 else order[place])

    (found,) = patterns(
        ablated(sweep_of(*SIX, forget__examples=[100, 1000]).trials(), after, n=100)
    )
    assert found.rho.value == pytest.approx(spearmanr(range(6), order).statistic)


def test_ratios_of_flipped_and_random_labels_have_comparable_ranks() -> None:
    trials = sweep_of(*SIX, arm=["random", "flipped"]).trials()
    study = ablated(trials, lambda trial: 0.55 + 0.05 * SIX.index(trial.task), n=100)
    (found,) = patterns(study)
    assert found.rho.value == pytest.approx(1)


def test_fewer_than_five_tasks_have_no_pattern() -> None:
    (found,) = patterns(pattern_study(SIX[:4], n=100))
    assert (found.rho.value, found.rho.low, found.rho.n) == (None, None, 4)


def test_a_pattern_is_sought_at_each_value_of_what_else_varies() -> None:
    # Between the rates all ratios differ alike; within a rate the tasks' order turns round.
    def after(trial: Trial) -> float:
        place = SIX.index(trial.task) if trial.forget.examples == 100 else 5 - SIX.index(trial.task)
        return (0.5 if trial.forget.lr == 3e-4 else 0.75) + 0.02 * place

    study = ablated(
        sweep_of(*SIX, forget__lr=[1e-4, 3e-4], forget__examples=[100, 1000]).trials(), after, n=100
    )
    found = next(pattern for pattern in patterns(study) if pattern.factor == "forget.examples")
    assert (found.rho.value, found.rho.n) == (pytest.approx(-1), 6)


def test_the_section_shows_each_factor_and_every_number(tmp_path: Path) -> None:
    kinds = ["random", "random_each_epoch", "flipped"]
    study = ablated(
        sweep_of("a", "b", arm=kinds, forget__examples=[100, 1000]).trials(), samples, layers=2
    )
    section = report.section(study, tmp_path)
    assert section
    assert [picture.title for picture in section.pictures] == ["arm", "forget.examples"]
    assert all(picture.path.stat().st_size > 10_000 for picture in section.pictures)
    ablations, patterns = section.tables
    row = next(
        r for r in ablations.rows if (r["setting"], r["measure"]) == ("forget.examples", HELD_OUT)
    )
    assert row["difference"].value == pytest.approx(-0.3)
    assert {r["tasks"] for r in patterns.rows} == {2}
    for table in section.tables:
        assert table.write(tmp_path).read_text().count("\n") == len(table.rows) + 1


def test_there_is_no_section_where_nothing_varies_or_nothing_matches(tmp_path: Path) -> None:
    assert report.section(ablated(sweep_of("a", "b").trials(), lambda trial: 0.6), tmp_path) is None
    sweep = Sweep(
        name="s", base={"model": "tiny"}, axes={"task": ["a", "b"], "forget.examples": [100, 1000]}
    )
    unmatched = [t for t in sweep.trials() if (t.task == "a") == (t.forget.examples == 100)]
    assert report.section(ablated(unmatched, samples), tmp_path) is None
