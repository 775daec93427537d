"""Twins: a control of a stage that ends at a dose ends where that stage did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate.utils import broadcast_object_list

from forget.events import Event, Observe, Step
from forget.models.devices import process
from forget.models.language_model import LanguageModel
from forget.results.outcome import Dose, Outcome
from forget.storage.finished import Trials
from forget.storage.folders import write_text
from forget.tasks.draws import Material
from forget.training import stages
from forget.training.stages import Trainer
from forget.training.watching import Watching

DOSE = "dose.json"
"""File in which the step at which a twin ends is kept."""


def steps(
    trainer: Trainer,
    id: str,
    data: str,
    material: Material,
    beginning: Callable[[str], AbstractContextManager[LanguageModel]],
    watching: Callable[[LanguageModel, Mapping[str, int]], Watching],
) -> int | None:
    """Return the step after which the trial's twin ends; None where the trial has none.

    The twin's Outcome says it. Where there is none yet, the twin's stage is run here and thrown
    away, for the same step: which of the two runs first changes nothing.

    All processes of a trial call it together.

    Args:
        trainer: the trial.
        id: its identity.
        data: fingerprint of its data, which are those of its twin.
        material: the examples of both.
        beginning: yields the model from which the stage starts, to be held as what it is told.
        watching: how the model is looked at on the way, with the drawn labels.
    """
    twin, examples = trainer.trial.twin, material.forget
    if twin is None:
        return None

    def make(folder: Path | None) -> None:
        outcome = Trials(trainer.store).outcome(twin.id(data))
        (found,) = broadcast_object_list([outcome.dose if outcome else None])
        if found is None:
            its = replace(trainer, trial=twin, observe=partial(_told_apart, trainer.observe))
            with beginning("twin") as model:
                looks = watching(model, stages.drawn(twin, examples))
                seen = stages.forget(its, id, examples, material.retain, model, looks, state="twin")
            found = stages.dose(twin, examples, seen)
        if folder:
            write_text(folder / DOSE, found.model_dump_json())

    folder = trainer.store.once("doses", twin.id(data), make)
    if process().is_main_process:
        trainer.store.delete(f"trials/{id}/twin")
    return Dose.model_validate_json((folder / DOSE).read_text(encoding="utf-8")).step


def _told_apart(observe: Observe, event: Event) -> None:
    """Pass on the events of a twin's stage as work that is no stage of the trial."""
    if not isinstance(event, Outcome):
        event = event.model_copy(update={"stage": "match"})
    if isinstance(event, Step):
        event = event.model_copy(update={"loss": None, "lr": None})
    observe(event)
