"""The science of forgetting by fine-tuning, for a notebook as well as for a sweep."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forget.analyses import Study
    from forget.models.loading import load as load_model
    from forget.notebook import fine_tune, probe, score
    from forget.results.metrics import accuracy, forget_ratio
    from forget.settings.parts import Probe, Stage
    from forget.settings.trial import Trial
    from forget.storage.store import Store
    from forget.tasks import load as load_task
    from forget.tracking import load_forgotten, load_study
    from forget.trial import run_trial

__all__ = [
    "Probe",
    "Stage",
    "Store",
    "Study",
    "Trial",
    "accuracy",
    "fine_tune",
    "forget_ratio",
    "load_forgotten",
    "load_model",
    "load_study",
    "load_task",
    "probe",
    "run_trial",
    "score",
]

_ROOMS = {
    "Probe": "forget.settings.parts",
    "Stage": "forget.settings.parts",
    "Store": "forget.storage.store",
    "Study": "forget.analyses",
    "Trial": "forget.settings.trial",
    "accuracy": "forget.results.metrics",
    "fine_tune": "forget.notebook",
    "forget_ratio": "forget.results.metrics",
    "load_forgotten": "forget.tracking",
    "load_model": "forget.models.loading",
    "load_study": "forget.tracking",
    "load_task": "forget.tasks",
    "probe": "forget.notebook",
    "run_trial": "forget.trial",
    "score": "forget.notebook",
}
"""Room of each name that a notebook needs. It is imported when it is asked for: torch and MLflow
take seconds, and most of the package does without one of them.
"""

_ELSEWHERE = {"load_model": "load", "load_task": "load"}
"""Names that are shorter in their rooms."""


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), _ELSEWHERE.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
