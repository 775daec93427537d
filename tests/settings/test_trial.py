"""A trial as a value: it survives JSON, and cannot be changed."""

import json

import pytest

from forget.settings.sweep import overlay
from forget.settings.trial import Trial

TRIAL = Trial(task="arc_easy", model="smollm2-135m", evaluate_on=("piqa",))


def test_a_trial_survives_json() -> None:
    trial = overlay(TRIAL, {"probe.layers": [0, -1], "folders": ["a", "b"]})
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
    assert Trial.model_validate(json.loads(json.dumps(trial.model_dump(mode="json")))).id(
        "d"
    ) == trial.id("d")


def test_one_name_stands_for_a_list_of_one() -> None:
    assert Trial(task="a", model="tiny", evaluate_on="b", folders="f") == Trial(  # type: ignore[arg-type]
        task="a", model="tiny", evaluate_on=("b",), folders=("f",)
    )
    assert Trial(task="a", model="tiny", evaluate_on=("b", "a", "b")).tasks == ("a", "b")


def test_a_trial_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TRIAL.seed = 3  # type: ignore[misc]
