"""Input that users can mend, refused in one sentence that says what would be right."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError


class BadInput(ValueError):
    """Input that the user can mend; its text is one sentence.

    It says what is wrong, where, and what would be right.
    """


class OutOfMemory(RuntimeError):
    """Memory that does not hold a model with a single example; its text names cures."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean "x"?' or, where no known name is near, all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are: {', '.join(names)}"


def shown(value: Any) -> str:
    """Return a value as a sentence quotes it; a long one is cut in the middle."""
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
"""TOML words for pydantic's Python words, by type of error."""


def validated(kind: type[P], fields: Mapping[str, Any], where: str = "", within: str = "") -> P:
    """Build a model of the fields.

    Args:
        kind: the model.
        fields: its fields, as read from a file.
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
        path = first["loc"]
        key = _dotted((within, *path) if within else path)
        place = f"{where}: " if where else ""
        if first["type"] == "extra_forbidden":
            known = nearest(str(path[-1]), _siblings(kind, path))
            raise BadInput(f'{place}unknown key "{key}"{known}') from None
        problem = PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
        problem = problem[0].lower() + problem[1:]
        given = f", not {shown(first['input'])}"
        if first["type"] in ("missing", "value_error"):
            given = ""
        raise BadInput(f"{place}{key + ': ' if key else ''}{problem}{given}") from None


def _dotted(path: Iterable[str | int]) -> str:
    """Join a path to a dotted key; a long part is cut in the middle."""
    parts = [str(part) for part in path]
    return ".".join(part if len(part) <= 80 else f"{part[:40]}...{part[-37:]}" for part in parts)


def _siblings(kind: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Return the fields beside the one at the path, by following its parts down the model."""
    for name in path[:-1]:
        field = kind.model_fields.get(str(name))
        # The part itself, or the one in "Search | None" and "dict[str, Range]".
        members = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
        kind = models[0] if models else kind
    return list(kind.model_fields)
