"""Trials run by Ray Tune on this machine or on a cluster; the only folder that knows Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.sweep.nodes import cluster

if TYPE_CHECKING:
    from pipelines.sweep.commands import SweepResult, audit, run, send
    from pipelines.sweep.driver import Failure

__all__ = ["Failure", "SweepResult", "audit", "cluster", "run", "send"]


def __getattr__(name: str) -> Any:
    # The processes of trials import `worker` alone: what drives a sweep and reports it would cost
    # each of them a second.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines.sweep import commands, driver

    return getattr(driver if name == "Failure" else commands, name)
