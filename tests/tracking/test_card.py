"""Names of runs and models: an arm that forgets nothing is said to have forgotten nothing."""

from typing import get_args

import pytest

from forget.results.outcome import Dose, DrawnLabels, Outcome
from forget.settings.sweep import overlay
from forget.settings.trial import CONTROLS, Arm
from forget.storage.store import Store
from forget.tracking.card import LABELS, model_card
from forget.tracking.publishing import _numbers
from forget.tracking.study import _flat, run_name


def of(outcome: Outcome, **fields: object) -> Outcome:
    return outcome.model_copy(update={"trial": overlay(outcome.trial, fields)})


@pytest.mark.parametrize("arm", get_args(Arm))
def test_a_card_and_a_run_say_what_was_trained_on(
    arm: Arm, finished: tuple[Store, Outcome]
) -> None:
    outcome = of(finished[1], arm=arm, member=2)
    card = " ".join(model_card(outcome).split())
    assert LABELS[arm] in card
    assert "seed 0, member 2)" in card
    assert ("random" in card) == (arm not in ("true", "flipped"))
    assert ("made to forget:" in card) == (arm != "true")
    assert ("after forgetting vowels" in card) == (arm not in CONTROLS)
    assert ("learned the task" in card) == ("| learned |" in card) == (arm != "untaught")
    assert ("trained to answer wrongly" in card) == (arm != "true")
    assert run_name(outcome.trial) == f"tiny vowels {arm} lr=0.01 member=2"
    assert outcome.trial.keeps == (arm not in CONTROLS)


def test_a_method_without_drawn_labels_is_said_instead(finished: tuple[Store, Outcome]) -> None:
    outcome = of(finished[1], method="gradient_ascent")
    card = " ".join(model_card(outcome).split())
    assert "by the method `gradient_ascent`, from their true labels" in card
    assert "random" not in card
    assert run_name(outcome.trial) == "tiny vowels gradient_ascent lr=0.01"
    untaught = overlay(outcome.trial, {"arm": "untaught"})
    assert run_name(untaught) == "tiny vowels gradient_ascent untaught lr=0.01"


def test_parameters_and_what_is_retained_are_said(finished: tuple[Store, Outcome]) -> None:
    fields = {
        "method": {"name": "npo", "beta": 0.05, "sam": 0.01},
        "retain": {"tasks": ["upper"], "loss": "kl", "weight": 0.5},
    }
    outcome = of(finished[1], **fields)
    card = " ".join(model_card(outcome).split())
    assert "by the method `npo, beta 0.05, sam 0.01`, from their true labels" in card
    assert "at most 1000 examples of `upper` were retained (loss kl, weight 0.5)" in card
    name = "tiny vowels npo beta=0.05 sam=0.01 retain=upper:kl*0.5 lr=0.01"
    assert run_name(outcome.trial) == name
    params = dict(_flat(outcome.trial.model_dump(mode="json")))
    assert params["method"] == "npo"
    assert params["method.beta"] == "0.05"
    assert params["retain.tasks"] == "upper"
    dpo = " ".join(model_card(of(finished[1], method="dpo", retain="none")).split())
    assert "from their true labels and a wrong one each, drawn at random" in dpo


def test_trials_that_differ_in_a_parameter_have_names_of_their_own(
    finished: tuple[Store, Outcome],
) -> None:
    methods = ["npo", {"name": "npo", "beta": 1.0}, {"name": "npo", "sam": 0.1}]
    names = {run_name(overlay(finished[1].trial, {"method": one})) for one in methods}
    assert len(names) == 3


def test_labels_and_dose_are_numbers_of_the_run(finished: tuple[Store, Outcome]) -> None:
    dose = Dose(step=6, steps=18, lost=0.95, reached=True)
    drawn = DrawnLabels(right=0.375, shares=(0.25, 0.75), z=-1.5)
    outcome = finished[1].model_copy(update={"dose": dose, "drawn": drawn})
    found = {point.key: point.value for point in _numbers(outcome, [], 0, "")}
    assert {key: value for key, value in found.items() if key.startswith(("dose", "draw"))} == {
        "draw_right": 0.375,
        "draw_z": -1.5,
        "dose_step": 6,
        "dose_reached": 1,
        "dose_lost": 0.95,
    }
    said = "Dose reached after step 6 of 18 (0.95 of the skill on trained examples lost)."
    assert said in " ".join(model_card(outcome).split())
    plain = finished[1].model_copy(update={"drawn": None})
    named = {point.key for point in _numbers(plain, [], 0, "")}
    assert not [key for key in named if key.startswith(("dose", "draw"))]
