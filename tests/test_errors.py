"""Sentences that tell a user what would be right."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from forget.errors import BadInput, nearest, shown, validated


def test_nearest_names_one_or_all() -> None:
    assert nearest("tnny", ["tiny", "gpt2"]) == '; did you mean "tiny"?'
    assert nearest("xyz", ["tiny", "gpt2"]) == "; known are: gpt2, tiny"


def test_a_long_value_is_cut_in_the_middle() -> None:
    assert shown("ab") == "'ab'"
    cut = shown("x" * 500 + "y")
    assert len(cut) <= 80
    assert "..." in cut
    assert cut.endswith("xy'")


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: int = 0


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner | None = None
    each: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": 1}, "spec.toml: base.name: input should be a valid string, not 1"),
        ({"nam": "x"}, 'spec.toml: unknown key "base.nam"; did you mean "name"?'),
        (
            {"name": "x", "inner": {"dept": 1}},
            'spec.toml: unknown key "base.inner.dept"; did you mean "depth"?',
        ),
        (
            {"name": "x", "each": {"a": {"dept": 1}}},
            'spec.toml: unknown key "base.each.a.dept"; did you mean "depth"?',
        ),
        ({"name": "x", "inner": 3}, "spec.toml: base.inner: should be a table, not 3"),
        ({}, "spec.toml: base.name: field required"),
    ],
)
def test_a_mistake_is_named_by_its_file_and_key(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as error:
        validated(Outer, fields, "spec.toml", within="base")
    assert str(error.value) == sentence
