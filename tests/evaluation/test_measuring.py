"""Evaluation: what a phase looks at, what trials share of it, and what tells two looks apart."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from forget.evaluation import logistic
from forget.evaluation.measuring import Evaluation, named
from forget.evaluation.scoring import score
from forget.models.language_model import LanguageModel, tiny
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import gather
from forget.tasks.labels import place
from forget.tasks.task import Example


@pytest.fixture
def small(quick: Trial) -> Trial:
    """`quick` with few examples."""
    return overlay(quick, {"evaluation_examples": 12, "probe.examples": 16, "watch.examples": 6})


def evaluation(trial: Trial, folder: Path) -> Evaluation:
    return Evaluation(trial, gather(trial), Store(folder))


def counted(model: LanguageModel) -> tuple[Callable[[], LanguageModel], list[str]]:
    """Return a function that gives the model, and the list of its calls."""
    calls: list[str] = []

    def load() -> LanguageModel:
        calls.append(model.name)
        return model

    return load, calls


def test_every_split_is_scored_and_the_own_task_alone_probed(small: Trial, tmp_path: Path) -> None:
    result = evaluation(small, tmp_path).evaluate("base", tiny())
    found = {(row.task, row.split) for row in result.rows}
    # No phase looks at validation.
    assert found == {("vowels", split) for split in ("train", "test", "near")} | {("upper", "test")}
    assert {score.task for score in result.probes} == {"vowels"}
    assert set(result.cka) == {"upper"}
    spread = {(row.task, row.split) for row in result.rows if row.spread is not None}
    assert spread == {("vowels", "test"), ("upper", "test"), ("vowels", "train")}
    # 16 questions are probed, of which 12 have Rows; so have those of the other task.
    assert {score.accuracy.n for score in result.probes} == {16}
    own = [row for row in result.rows if (row.task, row.split) == ("vowels", "test")]
    assert len(own) == 12
    assert all((row.probe is not None) == (row in own) for row in result.rows)
    assert result.unprobed == ()


def test_the_variability_of_the_training_data_is_of_the_untouched_model(
    small: Trial, tmp_path: Path
) -> None:
    looks, model = evaluation(small, tmp_path), tiny()
    base, learned = (looks.evaluate(phase, model) for phase in ("base", "learned"))
    trained = [row for row in base.rows if row.split == "train"]
    # Of so small a model the first block's.
    states = score(model, looks.material.trained, states=()).questions[:, 1]
    whole = sum(row.spread for row in trained if row.spread is not None)
    assert whole / (len(trained) - 1) == pytest.approx(states.T.cov().trace().item(), rel=1e-4)
    # The answers are those of a phase that reads no states.
    assert [replace(row, spread=None) for row in trained] == [
        replace(row, phase="base") for row in learned.rows if row.split == "train"
    ]


def test_probes_of_few_questions_leave_the_rest_of_the_rows_alone(
    small: Trial, tmp_path: Path
) -> None:
    few = overlay(small, {"probe.examples": 10})
    rows = evaluation(few, tmp_path).evaluate("base", tiny()).rows
    own = [row for row in rows if (row.task, row.split) == ("vowels", "test")]
    assert [row.probe is None for row in own] == [False] * 10 + [True] * 2


def test_probes_may_be_fit_on_what_forgetting_trains_on(small: Trial, tmp_path: Path) -> None:
    trained = overlay(small, {"probe.fit_on": "trained"})
    looks = evaluation(trained, tmp_path)
    result = looks.evaluate("base", tiny())
    plain = evaluation(small, tmp_path).evaluate("base", tiny())
    assert len(result.probes) == len(plain.probes)
    assert result.probes != plain.probes
    # The answers are the same ones.
    assert [replace(row, probe=None) for row in result.rows] == [
        replace(row, probe=None) for row in plain.rows
    ]


def test_too_few_questions_leave_the_probes_out_and_say_so(small: Trial, tmp_path: Path) -> None:
    result = evaluation(overlay(small, {"probe.examples": 9}), tmp_path).evaluate("base", tiny())
    assert result.probes == ()
    assert result.unprobed == (
        'task "vowels": too few examples for probes, 9 held-out questions to fit them on where '
        "they take 10 at least",
    )
    assert all(row.probe is None for row in result.rows)


def test_fits_that_do_not_converge_cost_probes_and_no_trial(
    small: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "LIMIT", 1)
    result = evaluation(small, tmp_path).evaluate("base", tiny())
    assert result.probes == ()
    assert (
        "no probes at the position last of layers 0, 1, 2, whose fits on 16" in result.unprobed[0]
    )
    assert "no controls" in result.unprobed[1]


def test_a_trial_without_probes_reads_no_hidden_state(small: Trial, tmp_path: Path) -> None:
    plain = overlay(small, {"probe.examples": 0})
    result = evaluation(plain, tmp_path).evaluate("base", tiny())
    assert result.probes == ()
    assert result.cka == {}
    assert all(row.spread is None for row in result.rows)
    with_probes = evaluation(small, tmp_path).evaluate("base", tiny())
    assert [replace(row, spread=None, probe=None) for row in with_probes.rows] == result.rows


def test_a_shared_look_is_computed_once_and_read_to_the_bit(small: Trial, tmp_path: Path) -> None:
    load, calls = counted(tiny())
    first = evaluation(small, tmp_path).evaluate_shared("base", "weights", load)
    again = evaluation(overlay(small, {"forget.lr": 1e-3}), tmp_path)
    assert again.evaluate_shared("base", "weights", load) == first
    assert calls == ["tiny"]
    assert evaluation(small, tmp_path).evaluate("base", tiny()) == first


@pytest.mark.parametrize(
    "fields",
    [
        {"evaluation_examples": 11},
        {"probe.examples": 15},
        {"probe.fit_on": "trained"},
        {"seed": 1},
        {"normalise": "tokens"},
        {"template": "qa"},
        {"precision": "bf16"},
        {"evaluate_on": []},
    ],
)
def test_another_look_is_another_entry(
    fields: dict[str, object], small: Trial, tmp_path: Path
) -> None:
    load, calls = counted(tiny())
    for trial in (small, overlay(small, fields)):
        evaluation(trial, tmp_path).evaluate_shared("base", "weights", load)
    assert len(calls) == 2


def test_trials_of_two_tasks_score_a_third_once(small: Trial, tmp_path: Path) -> None:
    load, _ = counted(tiny())
    one = overlay(small, {"evaluate_on": ["world"], "probe.examples": 24})
    two = overlay(one, {"task": "upper"})
    for trial in (one, two):
        evaluation(trial, tmp_path).evaluate_shared("base", "weights", load)
    assert len(list((tmp_path / "scored").glob("*/rows.parquet"))) == 1


def test_rows_bear_their_trial_and_their_similarity(small: Trial, tmp_path: Path) -> None:
    looks = evaluation(small, tmp_path)
    rows = named("abc", looks.material, {}, [looks.evaluate("base", tiny()).rows])
    assert {row.trial for row in rows} == {"abc"}
    assert all((row.similarity is None) == (row.split == "train") for row in rows)
    near = [row.similarity for row in rows if row.split == "near"]
    assert min(near) > 0.5


def test_what_is_watched_bears_its_step(small: Trial, tmp_path: Path) -> None:
    watching = evaluation(small, tmp_path).watching("learn", tiny())
    assert watching.points == 4
    assert watching.look(3, steps=30) == []
    rows = watching.look(6, steps=30)
    # Six held-out examples, and six that are trained on.
    assert Counter((row.phase, row.split, row.step) for row in rows) == {
        ("learn", "test", 6): 6,
        ("learn", "train", 6): 6,
    }


def test_a_dose_is_asked_for_between_the_looks_and_at_both_ends(
    small: Trial, tmp_path: Path
) -> None:
    dosed = overlay(small, {"forget.until": {"examples": 5, "every": 4}, "watch.points": 1})
    looks = evaluation(dosed, tmp_path)
    drawn = {place(example.task, example.id): 1 for example in looks.material.forget}
    forget = looks.watching("forget", tiny(), drawn)
    seen = {step: forget.look(step, steps=10) for step in range(11)}
    splits = {step: Counter(map(attrgetter("split"), rows)) for step, rows in seen.items() if rows}
    assert splits == {
        0: {"train": 5},
        4: {"train": 5},
        5: {"test": 6, "train": 5},
        8: {"train": 5},
        10: {"train": 5},
    }
    assert {row.drawn for row in seen[5] if row.split == "train"} == {1}
    assert {row.drawn for row in seen[5] if row.split == "test"} == {None}
    learn = looks.watching("learn", tiny())
    assert [step for step in range(11) if learn.due(step, 10)] == [5]


@pytest.mark.parametrize("phase", ["learned", "forgotten"])
def test_a_model_whose_answers_are_not_finite_is_refused_with_its_rate(
    phase: str, small: Trial, tmp_path: Path
) -> None:
    trial = overlay(small, {"learn.lr": 0.125, "forget.lr": 0.25})
    model = tiny()
    # The weights themselves are finite.
    model.network.base_model.norm.weight.data.fill_(3e38)
    rate = {"learned": "0.12", "forgotten": "0.25"}[phase]
    with pytest.raises(FloatingPointError, match=f"{phase}: .* not finite, rate {rate}; lower"):
        evaluation(trial, tmp_path).evaluate(phase, model)


def test_questions_with_other_distractors_are_not_the_same_questions(
    small: Trial, tmp_path: Path
) -> None:
    found = evaluation(small, tmp_path)
    model, calls = counted(tiny())
    found.evaluate_shared("base", "weights", model)

    def swapped(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(replace(one, options=one.options[::-1]) for one in examples)

    test = {task: swapped(examples) for task, examples in found.material.test.items()}
    other = Evaluation(small, replace(found.material, test=test), Store(tmp_path))
    other.evaluate_shared("base", "weights", model)
    assert len(calls) == 2
