"""Words for what a trial forgets and retains, and what sets two treatments apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from forget.analyses.words import flattened
from forget.settings.trial import Trial

if TYPE_CHECKING:
    from forget.analyses.study import Cell

OWN = "own"

TREATMENT = ("method", "forget_set", "noise", "retain")
"""Settings that say what forgetting trains on, and by which loss."""


def set_name(trial: Trial) -> str:
    """Name the kind of forget set: "own" for the task's own examples."""
    return trial.forget_set.name


def of_paper(trial: Trial) -> bool:
    """Tell whether a trial forgets as the paper does, by drawn labels of the task's own examples.

    That is what a trial does by default; with a retain set, or other examples, it does another
    thing, to which the paper's claims say nothing.
    """
    return _treatment(trial) == _treatment(Trial(task=trial.task, model=trial.model))


def _treatment(trial: Trial) -> dict[str, str]:
    """List the settings that say what is trained on, and by which loss, beside `arm`."""
    fields = flattened(trial).items()
    return {name: value for name, value in fields if name.partition(".")[0] in TREATMENT}


def besides(cell: Cell, left_out: Collection[str]) -> str:
    """Write what varies in the study beside some settings; the treatment's words for nothing.

    Args:
        cell: of the study.
        left_out: dotted settings, which stand for those within them too.
    """
    fields = flattened(cell.trial)
    told = []
    for name in cell.study.varying:
        within = any(f"{name}.".startswith(f"{out}.") for out in left_out)
        if name in fields and not within:
            told.append(f"{name} {fields[name]}")
    return ", ".join(told) or cell.treatment


def forgotten_tasks(trial: Trial) -> tuple[str, ...]:
    """Name the tasks whose examples forgetting trains on: the trial's own, and those mixed in."""
    return tuple(dict.fromkeys((trial.task, *mixture(trial))))


def mixture(trial: Trial) -> dict[str, float]:
    """Return the share of each task in the forget set; empty where it is no mixture."""
    return dict(trial.forget_set.tasks)


def retain_weight(trial: Trial) -> float | None:
    """Return the weight of the retain set; None without one."""
    return trial.retain.weight if trial.retain and trial.retain.names else None


def retain_kind(trial: Trial) -> str:
    """Write what is retained, and by which loss, without the weight."""
    retain = trial.retain
    if not retain or not retain.names:
        return "nothing"
    return f"{', '.join(retain.names)} ({retain.loss}, at most {retain.examples})"
