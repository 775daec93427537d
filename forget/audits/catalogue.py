"""Audits by name: the classes in this folder's files, whichever files there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import forget.audits as folder
from forget.audits.audit import Audit
from forget.errors import BadInput, nearest, shown, validated

FRAME = ("arms", "audit", "catalogue", "published", "run")
"""Files of the folder that are no audits."""


@cache
def audits() -> dict[str, type[Audit]]:
    """Return every audit by its name, which is that of its file."""
    found = {}
    for module in sorted(pkgutil.iter_modules(folder.__path__), key=lambda one: one.name):
        if module.name in FRAME:
            continue
        room = importlib.import_module(f"{folder.__name__}.{module.name}")
        for kind in vars(room).values():
            own = isinstance(kind, type) and issubclass(kind, Audit)
            if own and kind.__module__ == room.__name__:
                found[kind.model_fields["name"].default] = kind
    return found


def chosen(tables: Sequence[Mapping[str, Any]]) -> tuple[Audit, ...]:
    """Return the audits that a spec names, each a table with a name.

    Raises:
        BadInput: an unknown name, a setting of another audit, or one audit twice.
    """
    known = audits()
    found: list[Audit] = []
    for table in tables:
        name = table["name"]
        if name not in known:
            raise BadInput(f"no audit is named {shown(name)}{nearest(str(name), known)}")
        found.append(validated(known[name], table, within=f"audits.{name}"))
    labels = [audit.label for audit in found]
    if len(set(labels)) < len(labels):
        raise BadInput("audits names one audit twice")
    return tuple(found)


def named(words: Iterable[str]) -> list[dict[str, str]]:
    """Return names of audits as a spec's tables: with the defaults of each."""
    return [{"name": word} for word in words]
