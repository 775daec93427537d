"""Bad input, and the one sentence that says what would be right."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError


class BadInput(ValueError):
    """Input that the user can mend. Its text is one sentence: what is wrong, where, and what would be right."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?', or, where nothing is near, the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are: {', '.join(names)}"


def shown(value: Any) -> str:
    """A value as a sentence quotes it: what is long is cut in the middle."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)


P = TypeVar("P", bound=BaseModel)


PLAIN = {
    "model_type": "should be a table",
    "dict_type": "should be a table",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
}
"""What pydantic says in terms of Python, in those of TOML."""


def validated(kind: type[P], fields: Mapping[str, Any], where: str = "", within: str = "") -> P:
    """
    Args:
        where: the file, and the line if need be.
        within: dotted key of the table that holds the fields.

    Raises:
        BadInput: names the key, what is wrong with it, and the nearest known key.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        # A key that is misspelt also goes missing; of the two, its spelling is the mistake.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        parts = [str(part) for part in ((within, *first["loc"]) if within else first["loc"])]
        key = ".".join(part if len(part) <= 80 else f"{part[:40]}...{part[-37:]}" for part in parts)
        place = f"{where}: " if where else ""
        if first["type"] == "extra_forbidden":
            raise BadInput(
                f'{place}unknown key "{key}"{nearest(str(first["loc"][-1]), _siblings(kind, first["loc"]))}'
            ) from None
        problem = PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
        given = (
            "" if first["type"] in ("missing", "value_error") else f", not {shown(first['input'])}"
        )
        raise BadInput(
            f"{place}{key + ': ' if key else ''}{problem[0].lower() + problem[1:]}{given}"
        ) from None


def _siblings(kind: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    for name in path[:-1]:
        field = kind.model_fields.get(str(name))
        # The part itself, or the one in "Search | None" and "dict[str, Range]".
        members = (field.annotation, *get_args(field.annotation)) if field else ()
        kind = next(
            (
                member
                for member in members
                if isinstance(member, type) and issubclass(member, BaseModel)
            ),
            kind,
        )
    return list(kind.model_fields)
