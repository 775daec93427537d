"""Methods of forgetting by name: every class of one in this folder's files."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import forget.methods
from forget.errors import BadInput, nearest, validated
from forget.methods.objective import Method
from forget.settings.parts import Choice

ABOVE = (__name__, "forget.methods.listing")
"""Files of this folder that are about all methods."""

COMMON = frozenset(Method.model_fields)
"""Parameters of every method."""


def found() -> dict[str, type[Method]]:
    """List the methods by name; a file that is put into this folder adds its own."""
    classes: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(forget.methods.__path__, "forget.methods."):
        if module.name in ABOVE:
            continue
        for kind in _methods(importlib.import_module(module.name).__dict__.values()):
            if kind.__module__ == module.name:
                classes[kind.name] = kind
    return dict(sorted(classes.items()))


def _methods(values: object) -> Iterator[type[Method]]:
    for value in list(values):  # type: ignore[call-overload]
        if isinstance(value, type) and issubclass(value, Method) and hasattr(value, "name"):
            yield value


METHODS = found()
"""Methods by name (`Trial.method`)."""


def method(choice: Choice) -> Method:
    """Return the method that a trial names, with its parameters.

    Raises:
        BadInput: there is none of that name, or it has no such parameter or value.
    """
    if choice.name not in METHODS:
        raise BadInput(f'no method is named "{choice.name}"{nearest(choice.name, METHODS)}')
    kind = METHODS[choice.name]
    for name in choice.parameters:
        if name not in kind.model_fields:
            raise BadInput(_unknown(choice.name, name))
    return validated(kind, choice.parameters, within="method")


def canonical(choice: Choice) -> Choice:
    """Return the choice with those parameters alone that are not the default.

    Raises:
        BadInput: as `method`.
    """
    given = method(choice).model_dump(mode="json", exclude_defaults=True)
    return Choice(name=choice.name, **given)


def _unknown(method: str, parameter: str) -> str:
    """Say that a method has no such parameter, and which do."""
    own = sorted(METHODS[method].model_fields)
    owners = [name for name, kind in METHODS.items() if parameter in kind.model_fields]
    of = f"it is one of {', '.join(owners)}" if owners else f"it has {', '.join(own)}"
    return f'method.{parameter}: method "{method}" has no parameter "{parameter}"; {of}'
