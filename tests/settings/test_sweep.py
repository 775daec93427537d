"""A sweep and the trials that its axes make."""

import re

import pytest

from forget.errors import BadInput, validated
from forget.settings import sweep
from forget.settings.sweep import Resources, Sweep, dotted, overlay
from forget.settings.trial import Trial


def test_the_first_axis_is_the_outermost() -> None:
    study = Sweep(name="s", base={"model": "tiny"}, axes={"task": ["a", "b"], "seed": [0, 1, 2]})
    assert [(t.task, t.seed) for t in study.trials()] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
        ("b", 2),
    ]


def test_axes_reach_into_parts_without_disturbing_their_siblings() -> None:
    study = Sweep(
        name="s",
        base={"task": "a", "model": "tiny", "forget": {"epochs": 7}, "forget.batch": 3},
        axes={"forget.lr": [1e-3, 1e-2], "learn": [{"epochs": 1}, {"epochs": 2, "lr": 0.5}]},
    )
    assert [(t.forget.lr, t.learn.epochs, t.learn.lr) for t in study.trials()] == [
        (1e-3, 1, 1e-4),
        (1e-3, 2, 0.5),
        (1e-2, 1, 1e-4),
        (1e-2, 2, 0.5),
    ]
    assert {(t.forget.epochs, t.forget.batch) for t in study.trials()} == {(7, 3)}


def test_without_axes_a_sweep_is_one_trial() -> None:
    assert Sweep(name="s", base={"task": "a", "model": "tiny"}).trials() == (
        Trial(task="a", model="tiny"),
    )


def test_a_bare_key_is_dotted_and_a_range_stays_whole() -> None:
    assert dotted({"forget": {"lr": [1]}, "seed": [2]}) == {"forget.lr": [1], "seed": [2]}
    assert dotted({"forget": {"lr": {"low": 1, "high": 2}}}) == {"forget.lr": {"low": 1, "high": 2}}


def test_an_overlay_changes_the_given_fields_and_no_other() -> None:
    trial = Trial(task="a", model="tiny", seed=3)
    changed = overlay(trial, {"forget.lr": 0.5, "learn": {"epochs": 7}})
    assert (changed.forget.lr, changed.learn.epochs) == (0.5, 7)
    assert overlay(changed, {"forget": trial.forget, "learn": trial.learn}) == trial


@pytest.mark.parametrize(
    ("axes", "trials"), [({"seed": [0, 1]}, 2 * 500), ({"seed": [0], "forget.batch": [1]}, 500)]
)
def test_the_most_trials_count_those_of_the_search(
    axes: dict[str, list[int]], trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"trials": 500, "settings": {"forget.lr": {"low": 1e-5, "high": 1e-3}}}
    fields = {"name": "s", "base": {"task": "a", "model": "tiny"}, "axes": axes, "search": search}
    monkeypatch.setattr(sweep, "TRIALS", trials)
    assert Sweep.model_validate(fields).axes == axes
    monkeypatch.setattr(sweep, "TRIALS", trials - 1)
    with pytest.raises(
        ValueError, match=f"make {trials:,} trials, where a sweep has {trials - 1:,}"
    ):
        Sweep.model_validate(fields)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (
            {"gpus": 0.75, "workers": 2},
            "gpus = 0.75 with workers = 2: several processes of a trial take whole GPUs",
        ),
        ({"gpus": 1.5}, "gpus = 1.5 is no whole number: only one GPU is divided"),
        ({"gpus": "all"}, "gpus: should be \"auto\" or a number from 0 on, not 'all'"),
        ({"gpus": True}, 'gpus: should be "auto" or a number from 0 on, not True'),
        ({"gpus": -1}, 'gpus: should be "auto" or a number from 0 on, not -1'),
    ],
)
def test_gpus_that_no_trial_can_take_are_refused(resources: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        validated(Resources, resources)


@pytest.mark.parametrize(
    "resources", [{}, {"gpus": 0}, {"gpus": 0.5}, {"gpus": 1, "workers": 2}, {"gpus": 2.0}]
)
def test_gpus_that_a_trial_can_take(resources: dict[str, object]) -> None:
    assert validated(Resources, resources).gpus == resources.get("gpus", "auto")
