"""Parts of a trial's settings: the values they take, and that these stay."""

import pytest
from pydantic import ValidationError

from forget.settings.parts import Lora, Part, Probe, Retain, Stage, Watch


@pytest.mark.parametrize(
    "part", [Stage(), Lora(), Probe(), Watch()], ids=lambda part: type(part).__name__
)
def test_a_part_cannot_be_changed_in_place_and_takes_no_other_key(part: Part) -> None:
    field = next(iter(type(part).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, field, getattr(part, field))
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(part).model_validate({"other": 1})


def test_layers_are_all_or_numbers() -> None:
    assert Probe().layers == "all"
    assert Probe(layers=[1, -2]).layers == (1, -2)  # type: ignore[arg-type]
    for wrong in ("al", 3, [1, "x"], [0.5]):
        with pytest.raises(ValidationError, match='"all" or a list of whole numbers'):
            Probe(layers=wrong)  # type: ignore[arg-type]


def test_one_position_stands_for_a_list_of_one() -> None:
    assert Probe(positions="first").positions == ("first",)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="at least 1 item"):
        Probe(positions=())


@pytest.mark.parametrize("lr", [0, 1, float("nan"), float("inf")])
def test_a_rate_lies_between_0_and_1(lr: float) -> None:
    with pytest.raises(ValidationError, match="lr"):
        Stage(lr=lr)


def test_neutral_text_is_retained_alone_and_by_losses_that_keep_no_distributions() -> None:
    found = Retain.model_validate({"text": True})
    assert (found.names, found.tasks) == (("neutral-text",), ())
    assert Retain(tasks=("cola",)).names == ("cola",)
    assert Retain(tasks=("cola",)).model_dump(exclude_defaults=True) == {"tasks": ("cola",)}
    with pytest.raises(ValidationError, match="in the place of tasks"):
        Retain(tasks=("cola",), text=True)
    with pytest.raises(ValidationError, match="takes loss = 'nll' or 'states', not 'kl'"):
        Retain.model_validate({"text": True, "loss": "kl"})
