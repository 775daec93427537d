"""The two stages of a trial: it learns a task, which trials share, and then forgets it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forget.events import Observe, ignore
from forget.methods.catalogue import METHODS, Method
from forget.methods.likelihood import Loss, cross_entropy
from forget.models import language_model
from forget.models.catalogue import in_bf16
from forget.models.devices import process
from forget.models.holding import Holder
from forget.models.language_model import LanguageModel
from forget.results.dose import end
from forget.results.files import read_rows, write_rows
from forget.results.outcome import Dose, DrawnLabels
from forget.results.rows import Row
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.checkpoints import Checkpoints
from forget.training.loop import Labels, fine_tune
from forget.training.watching import Watching

log = logging.getLogger(__name__)

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
) -> list[Row]:
    """Make a model forget, in place, and return the Rows watched meanwhile.

    Args:
        trainer: the trial that forgets.
        key: the trial's identity.
        examples: what is to be forgotten.
        model: the learned model, or the untouched one where nothing is learned.
        watching: how the model is looked at on the way.
    """
    trial = trainer.trial
    method = METHODS[trial.method]
    return trainer.train(
        model,
        labelled(method, examples, trial),
        "forget",
        state=f"trials/{key}/checkpoint",
        watching=watching,
        loss=method.loss,
    )


def drawn(trial: Trial, examples: Sequence[Example]) -> dict[str, int]:
    """Return the label that forgetting trains each example on, where it is drawn once.

    By its place (forget.tasks.labels.place).
    """
    if METHODS[trial.method].on == "true":
        return {}
    return labels.fixed(examples, trial.arm, trial.training_seed, trial.noise)


def told(
    trial: Trial, id: str, examples: Sequence[Example], drawn: Mapping[str, int]
) -> DrawnLabels | None:
    """Count the labels that were drawn, and warn where they are no coins by their looks.

    Args:
        trial: the trial.
        id: its identity.
        examples: what is to be forgotten.
        drawn: the label of each (`drawn`).

    Returns:
        None where nothing was drawn once.
    """
    found = labels.described(examples, drawn, trial.arm, trial.noise)
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
    if process().is_main_process:
        log.info("forgetting: %s", found)
    return found


def labelled(method: Method, examples: Sequence[Example], trial: Trial) -> Labels:
    """Return the labels of forgetting by a method: epoch -> the examples with their labels.

    Args:
        method: says whether labels are drawn.
        examples: what is to be forgotten.
        trial: says which labels are drawn.
    """
    if method.on == "true":
        return lambda epoch: labels.true(examples)
    seed = trial.training_seed
    return lambda epoch: labels.draw(examples, trial.arm, seed, epoch, trial.noise)
