"""Tables within tables, as TOML writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"forget.lr": 1, "forget": {"epochs": 2}} into {"forget": {"lr": 1, "epochs": 2}}."""
    tree: dict[str, Any] = {}
    for key, value in fields.items():
        # From the inside out: "a.b" wraps the value in b's table, then that in a's.
        for name in reversed(key.split(".")):
            value = {name: nested(value) if isinstance(value, Mapping) else value}
        tree = merged(tree, value)
    return tree


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `under`, table by table; neither is changed.

    A table with a `name` is another thing than the one below, and takes its place. Parameters
    without one are those of the thing below, which may be a bare name.
    """
    tree = dict(under)
    for key, value in over.items():
        below = tree.get(key)
        if isinstance(value, Mapping) and "name" not in value:
            if isinstance(below, str) and below:
                below = {"name": below}
            if isinstance(below, Mapping):
                value = merged(below, value)
        tree[key] = value
    return tree
