"""The two stages of a trial: it learns a task, which trials share, and then forgets it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from forget.events import Observe, ignore
from forget.methods.catalogue import method
from forget.methods.objective import Method, Work
from forget.methods.retaining import RETAIN_LOSSES
from forget.models import language_model, loading
from forget.models.catalogue import in_bf16
from forget.models.devices import process
from forget.models.holding import Holder
from forget.models.language_model import LanguageModel
from forget.results.dose import end
from forget.results.files import read_rows, write_rows
from forget.results.outcome import Dose, DrawnLabels
from forget.results.rows import Row
from forget.settings.parts import Stage
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.task import Example
from forget.training.checkpoints import Checkpoints
from forget.training.loop import fine_tune
from forget.training.slopes import slopes
from forget.training.terms import META, Labels, Term
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
    id: str = ""
    """Identity of the trial, whose journal other machines have before a checkpoint."""

    def train(
        self,
        model: LanguageModel,
        terms: Sequence[Term],
        settings: Stage,
        stage: Literal["learn", "forget"],
        *,
        state: str,
        watching: Watching,
        method: Method | None = None,
    ) -> list[Row]:
        """Run one stage on a model, in place, and return what was watched (`fine_tune`).

        Args:
            model: what is trained.
            terms: examples with their labels, and the losses of them.
            settings: epochs, batch, rate and schedule.
            stage: its name.
            state: name of the store's folder for its checkpoints.
            watching: when to look at the model on the way, and how.
            method: of the stage that forgets.
        """
        trial = self.trial
        return fine_tune(
            model,
            terms,
            settings,
            stage=stage,
            seed=trial.training_seed,
            method=method,
            bf16=in_bf16(trial.precision),
            lora=trial.lora if trial.tuning == "lora" else None,
            observe=self.observe,
            checkpoints=Checkpoints(self.store, state, self.minutes, self.id),
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
                [Term(lambda epoch: labels.true(examples), name="learn")],
                trainer.trial.learn,
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
    retained: Sequence[Example],
    model: LanguageModel,
    watching: Watching,
    state: str = "checkpoint",
) -> list[Row]:
    """Make a model forget, in place, and return the Rows watched meanwhile.

    Args:
        trainer: the trial that forgets.
        key: identity of the trial that runs.
        examples: what is to be forgotten.
        retained: what is kept meanwhile, on true labels.
        model: the learned model, or the untouched one where nothing is learned.
        watching: how the model is looked at on the way.
        state: name of the folder for its checkpoints, beside what the trial leaves.
    """
    trial = trainer.trial
    how = method(trial.method)
    if how.change(work(trial, model, examples, trainer.store)):
        return []
    return trainer.train(
        model,
        terms(trial, how, examples, retained),
        trial.forget.model_copy(update={"epochs": how.epochs(trial.forget.epochs)}),
        "forget",
        state=f"trials/{key}/{state}",
        watching=watching,
        method=how,
    )


def terms(
    trial: Trial, how: Method, examples: Sequence[Example], retained: Sequence[Example]
) -> list[Term]:
    """Return what the forget stage minimises: the method's loss, and that of a retain set.

    A method that forgets some of the examples at first retains the others.
    """
    seed = trial.training_seed
    parts = how.parts(len(examples), trial.forget.epochs, seed)
    drawn = labelled(how, examples, trial)
    forgets = Term(drawn, how.objective(), weight=how.weight, part=parts)
    meta = []
    if held := how.holds(len(examples)):
        others = [i for i in range(len(examples)) if i not in held]
        forgets = replace(forgets, part=lambda _: others)
        meta = [Term(drawn, name=META, part=lambda _: held)]
    if not retained and parts is None:
        return [forgets, *meta]
    retain = trial.retain
    kept = [*retained, *(examples if parts else ())]

    def rest(epoch: int) -> list[int]:
        forgotten = set(parts(epoch)) if parts else set()
        later = (i for i in range(len(examples)) if parts and i not in forgotten)
        return [*range(len(retained)), *(len(retained) + i for i in later)]

    retains = Term(
        lambda epoch: labels.true(kept),
        RETAIN_LOSSES[retain.loss if retain else "nll"](),
        name="retain",
        weight=retain.weight if retain else 1.0,
        part=rest if parts else None,
    )
    return [forgets, retains, *meta]


def work(trial: Trial, model: LanguageModel, examples: Sequence[Example], store: Store) -> Work:
    """Return what a method works on that does without the loop.

    Args:
        trial: the trial.
        model: the one that forgets.
        examples: what is to be forgotten.
        store: has the untouched model.
    """

    def of(epoch: int, rate: float) -> Mapping[str, torch.Tensor]:
        seed, bf16 = trial.training_seed, in_bf16(trial.precision)
        return slopes(model, examples, trial.forget, seed=seed, epoch=epoch, rate=rate, bf16=bf16)

    def untouched() -> Mapping[str, torch.Tensor]:
        return _weights(trial.model, store)

    return Work(model.network, untouched, of, trial.forget.epochs)


def _weights(name: str, store: Store) -> Mapping[str, torch.Tensor]:
    """Load the weights of a model by name."""
    return loading.load(name, store).network.state_dict()


def drawn(trial: Trial, examples: Sequence[Example]) -> dict[str, int]:
    """Return the label that forgetting trains each example on, where it is drawn once.

    By its place (forget.tasks.labels.place).
    """
    if method(trial.method).trains_on != "drawn":
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
    found = found.model_copy(update={"matched": trial.twin is not None})
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
    seed = trial.training_seed
    if method.trains_on == "drawn":
        return lambda epoch: labels.draw(examples, trial.arm, seed, epoch, trial.noise)
    if method.trains_on == "wrong":
        return lambda epoch: labels.flip(examples, seed)
    return lambda epoch: labels.true(examples)
