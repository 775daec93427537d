"""The catalogue: methods by name, in one form, and in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from forget.errors import BadInput
from forget.methods import listing
from forget.methods.catalogue import METHODS, canonical, method
from forget.methods.objective import Method
from forget.preflight import settled
from forget.settings.parts import Choice
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial

PLAIN = Trial(task="world", model="tiny", precision="fp32")
PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_of_the_docs_is_what_the_command_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == listing.page()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name: str) -> None:
    kind = METHODS[name]
    assert kind.name == name
    assert kind.source
    assert kind.__doc__
    assert "retain" not in kind().asks or listing.NEEDS["retain"] in str(dict(_lines())[name])


def _lines() -> list[tuple[str, tuple[str, ...]]]:
    return [(line[0], line) for line in listing.rows()]


@pytest.mark.parametrize("name", METHODS)
def test_two_ways_to_write_a_method_are_one_trial(name: str) -> None:
    one = overlay(PLAIN, {"method": name})
    given = method(one.method).model_dump(mode="json")
    other = overlay(PLAIN, {"method": {"name": name, **given}})
    assert settled(other) == settled(one)
    assert settled(one).id("data") == one.id("data")
    changed = settled(overlay(PLAIN, {"method": {"name": name, "weight": 7.0}}))
    assert changed.id("data") != one.id("data")
    assert changed.learned_id("data") == one.learned_id("data")


def test_whole_numbers_are_numbers() -> None:
    written = [canonical(Choice(name="npo", beta=value)) for value in (1, 1.0)]
    assert written[0].model_dump_json() == written[1].model_dump_json()


def test_a_method_and_its_parameters_may_be_axes() -> None:
    base = PLAIN.model_dump(exclude={"method"})
    trials = Sweep(
        name="s", base=base | {"method": "npo"}, axes={"method.beta": [0.1, 1.0]}
    ).trials()
    assert [method(trial.method).model_dump()["beta"] for trial in trials] == [0.1, 1.0]
    several = ["random_labels", {"name": "simnpo", "delta": 1.0}, "npo"]
    base["method"] = {"name": "npo", "beta": 0.5}
    trials = Sweep(name="s", base=base, axes={"method": several}).trials()
    assert [str(trial.method) for trial in trials] == ["random_labels", "simnpo delta=1", "npo"]


def test_going_without_a_retain_set_says_nothing_where_none_is_asked_for() -> None:
    plain = overlay(PLAIN, {"retain": "none"})
    assert settled(plain).id("data") == PLAIN.id("data")
    asks = overlay(plain, {"method": "npo"})
    assert settled(asks).retain is not None
    assert settled(asks).retained == ()


def test_a_method_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r'no method is named "nop"; did you mean "npo"\?'):
        method(Choice(name="nop"))
    assert isinstance(method(Choice(name="npo")), Method)


def test_a_retain_set_is_kept_by_what_the_method_moves() -> None:
    """Beside the loss of answers that of hidden states hardly counts."""
    retain = {"retain": {"tasks": ["science"]}}
    told = {
        name: settled(overlay(PLAIN, {"method": name, **retain})).retain.loss  # type: ignore[union-attr]
        for name in ("rmu", "npo", "random_labels")
    }
    assert told == {"rmu": "states", "npo": "nll", "random_labels": "nll"}
    given = {"retain": {"tasks": ["science"], "loss": "nll"}}
    asked = settled(overlay(PLAIN, {"method": "rmu", **given}))
    assert asked.retain is not None
    assert asked.retain.loss == "nll"
    # What was settled stays as it is, also when it was written and read.
    assert settled(Trial.model_validate_json(asked.model_dump_json())) == asked
    plain = overlay(PLAIN, {"method": "npo", **retain})
    assert settled(plain).id("data") == plain.id("data")
