"""Identity: what changes a trial's answer changes its name, what does not leaves it alone."""

from typing import Any, Literal, get_args

import pytest

from forget.settings import identity
from forget.settings.identity import CHANGES, PROTOCOL, settings_of
from forget.settings.sweep import overlay
from forget.settings.trial import Arm, Trial

TRIAL = Trial(task="piqa", model="tiny", evaluate_on=("arc_easy",))

OTHERWISE: dict[str, Any] = {
    "task": "boolq",
    "model": "tiny/1",
    "method": "gradient_ascent",
    "arm": "flipped",
    "forget_set": "shuffled",
    "noise": 0.5,
    "learn.epochs": 3,
    "learn.lr": 1e-3,
    "forget.examples": 7,
    "forget.until": {},
    "tuning": "lora",
    "precision": "fp32",
    "evaluate_on": ["rte"],
    "evaluation_examples": 5,
    "options": "all",
    "normalise": "bytes",
    "template": "qa",
    "measure_templates": ["qa"],
    "probe.examples": 9,
    "watch.points": 2,
    "seed": 1,
    "member": 1,
}
"""Another value for each field that changes an answer."""

DEFAULTS: dict[int, str] = {7: "ee1c7db074f762fa"}
"""Digest of a trial's defaults by protocol, those of fields that came later left out."""

LATER: set[str] = {"forget_set", "noise", "measure_templates"}
"""Fields that came after the protocol of today."""


def test_every_field_says_what_it_changes() -> None:
    assert CHANGES.keys() == Trial.model_fields.keys()
    silent = {name for name, parts in CHANGES.items() if not parts}
    assert {key.partition(".")[0] for key in OTHERWISE} | silent | {"lora"} == set(CHANGES)


@pytest.mark.parametrize("field", OTHERWISE)
def test_what_changes_the_answer_changes_the_identity(field: str) -> None:
    changed = overlay(TRIAL, {field: OTHERWISE[field]})
    assert changed.id("data") != TRIAL.id("data")
    learns = "learning" in CHANGES[field.partition(".")[0]]
    assert (changed.learned_id("data") != TRIAL.learned_id("data")) == learns


@pytest.mark.parametrize("fields", [{"save": False}, {"folders": ["mine"]}, {"lora.rank": 2}])
def test_what_cannot_change_the_answer_leaves_the_identity_alone(fields: dict[str, Any]) -> None:
    changed = overlay(TRIAL, fields)
    assert changed != TRIAL
    assert changed.id("data") == TRIAL.id("data")
    assert changed.learned_id("data") == TRIAL.learned_id("data")


def test_adapters_count_where_there_are_some() -> None:
    lora = overlay(TRIAL, {"tuning": "lora"})
    assert overlay(lora, {"lora.rank": 2}).id("data") != lora.id("data")
    assert overlay(lora, {"lora.rank": 2}).learned_id("data") != lora.learned_id("data")


def test_what_is_learned_counts_where_something_is() -> None:
    untaught = overlay(TRIAL, {"arm": "untaught"})
    assert overlay(untaught, {"learn.lr": 1e-3}).id("data") == untaught.id("data")
    assert untaught.learned_id("data") == ""
    # Two trials that learn alike and forget otherwise share what they learned.
    for arm in get_args(Arm):
        other = overlay(TRIAL, {"arm": arm})
        assert other.learned_id("data") == (TRIAL.learned_id("data") if other.taught else "")


def test_every_arm_is_another_trial() -> None:
    ids = {overlay(TRIAL, {"arm": arm}).id("data") for arm in get_args(Arm)}
    assert len(ids) == len(get_args(Arm)) == 7


def test_a_mixture_learns_its_tasks_whatever_their_shares() -> None:
    ids = set()
    for share in (0.0, 0.25, 1.0):
        tasks = {"piqa": share, "rte": 1 - share}
        mixed = overlay(TRIAL, {"forget_set": {"name": "mix", "tasks": tasks}})
        assert mixed.tasks == ("piqa", "rte", "arc_easy")
        assert mixed.learned_tasks == ("piqa", "rte")
        # What else it learns is told by the data.
        assert mixed.learned_id("data") == TRIAL.learned_id("data")
        ids.add(mixed.id("data"))
    turned = {"name": "mix", "tasks": {"rte": 0.75, "piqa": 0.25}}
    assert overlay(TRIAL, {"forget_set": turned}).id("data") in ids
    assert len(ids) == 3


def test_templates_that_are_measured_have_no_order_and_leave_out_the_trials_own() -> None:
    names = ["qa", "task", "bare", "qa"]
    asked = overlay(TRIAL, {"measure_templates": names})
    assert asked.measure_templates == ("bare", "qa")
    assert overlay(TRIAL, {"measure_templates": names, "template": "qa"}).measure_templates == (
        "bare",
        "task",
    )
    assert asked.learned_id("data") == TRIAL.learned_id("data")


def test_other_data_are_another_trial() -> None:
    assert TRIAL.id("data") != TRIAL.id("other")
    assert TRIAL.learned_id("data") != TRIAL.learned_id("other")


class Wider(Trial):
    """A trial of next year, with a field that today's lacks."""

    retain: Literal["none", "own"] = "none"


@pytest.mark.parametrize("fields", [{}, *({field: value} for field, value in OTHERWISE.items())])
def test_a_new_field_with_a_default_moves_no_identity(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = overlay(TRIAL, fields)
    monkeypatch.setitem(CHANGES, "retain", ("forgetting",))
    wider = Wider.model_validate(before.model_dump())
    assert wider.id("data") == before.id("data")
    assert wider.learned_id("data") == before.learned_id("data")
    other = wider.model_copy(update={"retain": "own"})
    assert other.id("data") != before.id("data")
    assert other.learned_id("data") == before.learned_id("data")


def test_a_field_that_does_not_say_what_it_changes_is_refused() -> None:
    with pytest.raises(KeyError, match="retain"):
        Wider(task="piqa", model="tiny").id("data")


def test_the_identity_of_a_known_trial_stays() -> None:
    """Stores in use hold results under these names: one moves by PROTOCOL, or by mistake."""
    assert TRIAL.id("data") == "8c47a1767c773511"
    assert TRIAL.learned_id("data") == "3b18f289043800a2"
    lora = overlay(TRIAL, {"tuning": "lora", "forget.lr": 1e-3})
    assert lora.id("data") == "f1ea6271b6fe2219"


def test_a_changed_default_raises_the_protocol() -> None:
    plain = Trial(task="", model="").model_dump(mode="json", exclude=LATER)
    assert identity.digest(plain) == DEFAULTS[PROTOCOL]


def test_only_what_differs_from_its_default_is_hashed() -> None:
    assert settings_of(TRIAL, "forgetting") == {}
    assert settings_of(overlay(TRIAL, {"forget.lr": 1e-3}), "forgetting") == {
        "forget": {"lr": 1e-3}
    }


def test_the_path_of_a_models_folder_is_no_part_of_the_identity() -> None:
    here, there = (overlay(TRIAL, {"model": path}) for path in ("/a/model", "/b/model/3"))
    assert here.id("data") == there.id("data") != TRIAL.id("data")
    assert here.learned_id("data") == there.learned_id("data")
