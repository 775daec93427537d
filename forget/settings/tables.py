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
    """Lay `over` on `under`, table by table; neither is changed."""
    tree = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merged(tree[key], value) if both else value
    return tree
