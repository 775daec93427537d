"""The two stages of a trial: it learns a task, which trials share, and then forgets it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from accelerate.utils import broadcast_object_list

from forget.events import Event, Observe, Step, ignore
from forget.methods.catalogue import METHODS, Method
from forget.methods.likelihood import Loss, cross_entropy
from forget.models import language_model
from forget.models.catalogue import in_bf16
from forget.models.devices import process
from forget.models.holding import Holder
from forget.models.language_model import LanguageModel
from forget.results.dose import end
from forget.results.files import read_rows, write_rows
from forget.results.outcome import Dose, DrawnLabels, Outcome
from forget.results.rows import Row
from forget.settings.trial import Arm, Trial
from forget.storage.finished import Trials
from forget.storage.folders import write_text
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.checkpoints import Checkpoints
from forget.training.loop import Labels, fine_tune
from forget.training.watching import Watching

log = logging.getLogger(__name__)

DOSE = "dose.json"
"""File in which the step at which a twin ends is kept."""

WATCHED = "watched.parquet"
"""File beside learned weights with the Rows that were watched on the way to them."""


@dataclass(frozen=True)
class Trainer:
    """Trains a model as a trial says: with what both of its stages share."""

    trial: Trial
    store: Store
    minutes: float = 5
    """Minutes of training between two checkpoints."""
    observe: Observe = ignore

    def train(
        self,
        model: LanguageModel,
        labelled: Labels,
        stage: Literal["learn", "forget"],
        *,
        state: str,
        watching: Watching,
        loss: Loss = cross_entropy,
    ) -> list[Row]:
        """Run one stage on a model, in place, and return what was watched (`fine_tune`).

        Args:
            model: what is trained.
            labelled: epoch -> the examples with their labels.
            stage: whose settings it takes.
            state: name of the store's folder for its checkpoints.
            watching: when to look at the model on the way, and how.
            loss: the loss of each answer token.
        """
        trial = self.trial
        return fine_tune(
            model,
            labelled,
            trial.learn if stage == "learn" else trial.forget,
            stage=stage,
            seed=trial.training_seed,
            loss=loss,
            bf16=in_bf16(trial.precision),
            lora=trial.lora if trial.tuning == "lora" else None,
            observe=self.observe,
            checkpoints=Checkpoints(self.store, state, self.minutes),
            watching=watching,
        )


def learn(
    trainer: Trainer,
    key: str,
    examples: Sequence[Example],
    holder: Holder,
    watching: Callable[[LanguageModel], Watching],
) -> Path:
    """Return the folder of the learned checkpoint with this identity, made unless it is there.

    All processes of a trial call it together.

    Args:
        trainer: the trial that learns.
        key: identity of what is learned (`forget.settings.identity.learned_id`).
        examples: what it learns, on true labels.
        holder: has the untouched model, and the learned one afterwards.
        watching: how the model is looked at on the way.
    """
    store, state = trainer.store, f"learning/{key}"

    def make(folder: Path | None) -> None:
        with holder.training("base", trainer.trial.model, becomes="learned") as model:
            rows = trainer.train(
                model,
                lambda epoch: labels.true(examples),
                "learn",
                state=state,
                watching=watching(model),
            )
            language_model.save(model, folder)
        if folder:
            write_rows(rows, folder / WATCHED)
            store.delete(state)

    return store.once("learned", key, make)


def watched(checkpoint: Path) -> list[Row]:
    """Return the Rows that were watched while a checkpoint was learned."""
    return read_rows(checkpoint / WATCHED)


def forget(
    trainer: Trainer,
    key: str,
    examples: Sequence[Example],
    model: LanguageModel,
    watching: Watching,
    state: str = "checkpoint",
) -> list[Row]:
    """Make a model forget, in place, and return the Rows watched meanwhile.

    Args:
        trainer: the trial that forgets.
        key: identity of the trial that runs.
        examples: what is to be forgotten.
        model: the learned model, or the untouched one where nothing is learned.
        watching: how the model is looked at on the way.
        state: name of the folder for its checkpoints, beside what the trial leaves.
    """
    trial = trainer.trial
    method = METHODS[trial.method]
    return trainer.train(
        model,
        labelled(method, examples, trial.arm, trial.training_seed),
        "forget",
        state=f"trials/{key}/{state}",
        watching=watching,
        loss=method.loss,
    )


def steps_of_twin(
    trainer: Trainer,
    id: str,
    data: str,
    examples: Sequence[Example],
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
        examples: what is to be forgotten.
        beginning: yields the model from which the stage starts, to be held as what it is told.
        watching: how the model is looked at on the way, with the drawn labels.
    """
    twin = trainer.trial.twin
    if twin is None:
        return None

    def make(folder: Path | None) -> None:
        outcome = Trials(trainer.store).outcome(twin.id(data))
        (found,) = broadcast_object_list([outcome.dose if outcome else None])
        if found is None:
            its = replace(trainer, trial=twin, observe=partial(_told_apart, trainer.observe))
            with beginning("twin") as model:
                looks = watching(model, drawn(twin, examples))
                seen = forget(its, id, examples, model, looks, state="twin")
            found = dose(twin, examples, seen)
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


def drawn(trial: Trial, examples: Sequence[Example]) -> dict[str, int]:
    """Return the label that forgetting trains each example on, by id, where it is drawn once."""
    if METHODS[trial.method].on == "true":
        return {}
    return labels.fixed(examples, trial.arm, trial.training_seed)


def told(
    trial: Trial, id: str, examples: Sequence[Example], drawn: Mapping[str, int]
) -> DrawnLabels | None:
    """Count the labels that were drawn, and warn where they are no coins by their looks.

    Args:
        trial: the trial.
        id: its identity.
        examples: what is to be forgotten.
        drawn: the label of each, by id (`drawn`).

    Returns:
        None where nothing was drawn once.
    """
    found = labels.described(examples, drawn, trial.arm)
    if found and found.z is not None and abs(found.z) > 2 and process().is_main_process:
        log.warning(
            "trial %s: the labels drawn are right in %.1f %% of the examples, %.1f standard "
            'deviations from chance, so they teach something (arm = "balanced" draws none such)',
            id,
            100 * found.right,
            found.z,
        )
    return found


def dose(trial: Trial, examples: Sequence[Example], seen: Sequence[Row]) -> Dose | None:
    """Return where the forget stage ended, and say so, if it had a dose to reach.

    Args:
        trial: the trial.
        examples: what was to be forgotten.
        seen: Rows that were watched meanwhile (`forget`).
    """
    if trial.forget.until is None:
        return None
    found = end(trial.forget.until, seen, trial.forget.steps(len(examples)))
    found = found.model_copy(update={"matched": trial.twin is not None})
    if process().is_main_process:
        log.info("forgetting: %s", found)
    return found


def labelled(method: Method, examples: Sequence[Example], arm: Arm, seed: int) -> Labels:
    """Return the labels of forgetting by a method: epoch -> the examples with their labels.

    Args:
        method: says whether labels are drawn.
        examples: what is to be forgotten.
        arm: what labels are drawn (`Trial.arm`).
        seed: decides every draw.
    """
    if method.on == "true":
        return lambda epoch: labels.true(examples)
    return lambda epoch: labels.draw(examples, arm, seed, epoch)
