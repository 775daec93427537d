"""A trial as a value: it survives JSON, and cannot be changed."""

import json
from itertools import product

import pytest
from pydantic import TypeAdapter

from forget.errors import BadInput, validated
from forget.settings.parts import Forgetting, Stage, Until
from forget.settings.sweep import overlay
from forget.settings.trial import RecordedTrial, Trial

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


def test_a_member_is_a_training_of_its_own_and_the_first_one_is_the_seeds() -> None:
    seeds = [
        overlay(TRIAL, {"seed": seed, "member": member}).training_seed
        for seed, member in product(range(3), repeat=2)
    ]
    assert seeds[::3] == [0, 1, 2]
    assert len(set(seeds)) == len(seeds)


def test_a_stage_without_a_dose_serves_for_forgetting() -> None:
    assert Trial(task="a", model="tiny", forget=Stage(lr=1e-3)).forget == Forgetting(lr=1e-3)
    until = overlay(TRIAL, {"forget.until.every": 5}).forget.until
    assert until == Until(trained_lost=0.9, examples=64, every=5)


def test_a_recorded_trial_may_be_older_than_its_arms() -> None:
    fields = {"task": "a", "model": "tiny", "labels": "flipped"}
    known = TypeAdapter(RecordedTrial).validate_python(fields)
    assert known == Trial(task="a", model="tiny", arm="flipped")
    with pytest.raises(BadInput, match="write arm in its place"):
        validated(Trial, fields)


def test_a_trial_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TRIAL.seed = 3  # type: ignore[misc]
