"""Families of models by their names: sizes of one kind, and cuts of one model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

SIZE = re.compile(r"[-_](\d+(\.\d+)?[kmbt]\b|(tiny|mini|small|base|medium|large|xl|xxl)$)", re.I)
"""Part of a name that says how large a model is, e.g. the "-160m" of "pythia-160m"."""

CUT = re.compile(r"(?P<model>.+?)/\d+(?P<revision>@.*)?")
"""Name of a model that is cut to its first blocks (forget.models.catalogue.parse)."""


def family(model: str) -> str:
    """Return the family of a whole model: its name up to its size, and its revision.

    A name without a size is a family of its own.
    """
    name, at, revision = model.partition("@")
    stem = name[: found.start()] if (found := SIZE.search(name)) else name
    return f"{stem}{at}{revision}"


def whole(model: str) -> str:
    """Return the model that this one is cut from; itself where it is not cut."""
    found = CUT.fullmatch(model)
    return f"{found['model']}{found['revision'] or ''}" if found else model


def families(models: Iterable[str]) -> dict[str, set[str]]:
    """Return the models that are compared by size, by family.

    Whole models of a family are compared with each other; cuts of one model with each other and
    with it, and never with another model.
    """
    named = set(models)
    found: dict[str, set[str]] = defaultdict(set)
    for model in sorted(named):
        source = whole(model)
        if source == model:
            found[family(model)].add(model)
        else:
            found[f"cuts of {source}"] |= {model, source} & named
    return dict(found)
