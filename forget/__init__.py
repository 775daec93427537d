"""How far does forgetting by fine-tuning reach? The science of it, for a notebook as well as for a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forget.tracking import load_forgotten

__all__ = ["load_forgotten"]


def __getattr__(name: str) -> Any:
    # MLflow takes seconds to import, and most of the package does without it.
    if name == "load_forgotten":
        from forget.tracking import load_forgotten

        return load_forgotten
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
