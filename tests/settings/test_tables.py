"""Tables within tables, and the dotted keys that stand for them."""

from typing import Any

from forget.settings.tables import merged, nested


def test_dotted_keys_and_tables_are_nested_alike() -> None:
    assert nested({"forget.lr": 1, "forget": {"epochs": 2}, "seed": 3}) == {
        "forget": {"lr": 1, "epochs": 2},
        "seed": 3,
    }
    assert nested({"a": {"b.c": 1}}) == {"a": {"b": {"c": 1}}}


def test_one_table_is_laid_on_another_and_neither_is_changed() -> None:
    under: dict[str, Any] = {"a": {"b": 1, "c": 2}}
    over = {"a": {"c": 3}, "d": 4}
    assert merged(under, over) == {"a": {"b": 1, "c": 3}, "d": 4}
    assert under == {"a": {"b": 1, "c": 2}}
    assert over == {"a": {"c": 3}, "d": 4}


def test_a_value_takes_the_place_of_a_table_and_a_table_that_of_a_value() -> None:
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert merged({"a": 2}, {"a": {"b": 1}}) == {"a": {"b": 1}}
