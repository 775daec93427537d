"""Forget sets as specs write them, and what is refused of them."""

from typing import Any, get_args

import pytest

from forget.errors import BadInput
from forget.settings.forget_set import WORDS, ForgetSet, Kind, Synthetic
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.tasks.synthetic import MAKERS

TRIAL = Trial(task="a", model="tiny")
MIX = {"name": "mix", "tasks": {"a": 0.5, "b": 0.5}}


def test_every_kind_has_words_and_every_made_one_a_maker() -> None:
    assert set(WORDS) == set(get_args(Kind))
    assert set(MAKERS) == set(get_args(Synthetic)) < set(WORDS)


@pytest.mark.parametrize(
    ("given", "kept", "words"),
    [
        ("own", "own", "own"),
        ({"name": "shuffled"}, "shuffled", "shuffled"),
        ({"name": "other", "task": "b"}, {"name": "other", "task": "b"}, "other b"),
        (MIX, MIX, "mix a=0.5 b=0.5"),
        (
            {"name": "mix", "tasks": {"x.y": 0, "a": 0.25}, "fill": "bigram"},
            {"name": "mix", "tasks": {"a": 0.25, "x.y": 0}, "fill": "bigram"},
            "mix a=0.25 x.y=0 fill=bigram",
        ),
    ],
)
def test_a_set_is_a_name_or_a_table_and_is_kept_as_such(given: Any, kept: Any, words: str) -> None:
    trial = overlay(TRIAL, {"forget_set": given})
    assert trial.model_dump(mode="json")["forget_set"] == kept
    assert str(trial.forget_set) == words
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
    assert len({trial, overlay(TRIAL, {"forget_set": kept})}) == 1


def test_a_table_with_a_name_takes_the_place_of_another() -> None:
    mixed = overlay(TRIAL, {"forget_set": MIX})
    other = {"name": "mix", "tasks": {"a": 1, "c": 0}}
    assert overlay(mixed, {"forget_set": other}).forget_set == ForgetSet.model_validate(other)
    assert overlay(mixed, {"forget_set": "own"}) == TRIAL
    spec = Sweep(
        name="s",
        base={"task": "a", "model": "tiny", "forget_set": MIX},
        axes={"forget_set": [other, MIX, "bigram"]},
    )
    assert [str(one.forget_set) for one in spec.trials()] == [
        "mix a=1 c=0",
        "mix a=0.5 b=0.5",
        "bigram",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("bigramm", "should be 'own', 'half', 'near'"),
        ("mix", "tasks and fill are of a mixture"),
        ("other", "task names the task whose texts are taken"),
        ({"name": "near", "task": "b"}, "task names the task whose texts are taken"),
        ({"name": "near", "fill": "bigram"}, "tasks and fill are of a mixture"),
        ({"name": "mix", "tasks": {"a": 0.5, "b": 0.4}}, "add up to 0.9, not to 1"),
        ({**MIX, "fill": "bigram"}, "add up to 1, which leaves nothing for fill"),
        ({"name": "mix", "tasks": {"a": 1}}, 'is forget_set = "own"'),
        ({"name": "mix", "tasks": {"a": 0}, "fill": "bigram"}, 'is forget_set = "bigram"'),
        ({"name": "mix", "tasks": {"a": 1.5, "b": -0.5}}, "forget_set.tasks"),
        ({**MIX, "seed": 1}, "seed"),
    ],
)
def test_what_makes_no_set_is_refused_in_a_sentence(given: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        overlay(TRIAL, {"forget_set": given})


@pytest.mark.parametrize("noise", [0, 1.5])
def test_noise_is_a_share_and_none_of_it_is_another_arm(noise: float) -> None:
    with pytest.raises(BadInput, match="noise"):
        overlay(TRIAL, {"noise": noise})
