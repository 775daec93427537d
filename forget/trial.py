"""One trial: a model learns a task, forgets it, and is measured before, between and after.

The protocol of Zhang, Choshen, Andreas (2024), "Unforgettable Generalization in Language Models".
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from forget.evaluation.measuring import Evaluation, named
from forget.events import Observe, ignore
from forget.models import language_model, sources
from forget.models.devices import process
from forget.models.holding import Holder
from forget.models.language_model import LanguageModel
from forget.models.memory import naming_cures
from forget.preflight import check, identify, settled
from forget.results import measures
from forget.results.outcome import Outcome
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.folders import whole_folder
from forget.storage.store import Store
from forget.tasks.draws import gather
from forget.tasks.similarity import likenesses
from forget.training import stages
from forget.training.stages import Trainer


@naming_cures()
def run_trial(
    trial: Trial,
    observe: Observe = ignore,
    store: Store | None = None,
    checkpoint_minutes: float = 5,
    shard: bool = False,
) -> Outcome:
    """Learn, forget, measure. What the store has already is read, not computed.

    All processes of a trial call it together.

    Args:
        trial: the settings.
        observe: receives the trial's events in the main process.
        store: where results are kept and found; by default `Store()`.
        checkpoint_minutes: minutes of training between two checkpoints.
        shard: share the model out over the processes.

    Raises:
        BadInput: something the trial names is not there (`forget.preflight.check`).
        FloatingPointError: a loss that is not finite.
        OutOfMemory: a model that does not fit the memory with one example.
    """
    began = time.monotonic()
    store = store or Store()
    trial = settled(trial)
    check(trial, shard)
    identity = identify(trial, store)
    if done := Trials(store).outcome(identity.trial):
        return done
    material = gather(trial)
    trainer = Trainer(trial, store, checkpoint_minutes, observe)
    evaluation = Evaluation(trial, material, store, observe)
    holder = Holder(store, shard)

    untouched = partial(holder.model, "base", trial.model)
    base = evaluation.evaluate_shared("base", sources.fingerprint(trial.model, store), untouched)

    watching = partial(evaluation.watching, "learn")
    checkpoint = stages.learn(trainer, identity.learned, material.learn, holder, watching)
    learned = evaluation.evaluate_shared(
        "learned", identity.learned, partial(holder.model, "learned", checkpoint)
    )

    with holder.training("learned", checkpoint, becomes="forgotten") as model:
        watching_it = evaluation.watching("forget", model)
        seen = stages.forget(trainer, identity.trial, material.forget, model, watching_it)
    forgotten = evaluation.evaluate("forgotten", model)

    phases = (base, learned, forgotten)
    parts = [*(phase.rows for phase in phases), stages.watched(checkpoint), seen]
    rows = named(identity.trial, material, stages.drawn(trial, material.forget), parts)
    if trial.save:
        _save(model, Trials(store).folder(identity.trial) / "model")
    outcome = Outcome(
        trial=trial,
        id=identity.trial,
        learned_id=identity.learned,
        data=identity.data,
        measures=measures.measures(rows, flipped=trial.labels == "flipped"),
        likeness=likenesses(material, learned.cka),
        probes=(*base.probes, *learned.probes, *forgotten.probes),
        parameters=model.parameters,
        seconds=time.monotonic() - began,
    )
    if process().is_main_process:
        Trials(store).finish(outcome, rows)
        observe(outcome)
    return outcome


def _save(model: LanguageModel, folder: Path) -> None:
    """Save the forgotten model in bfloat16; all processes gather it, the main one writes."""
    writes = process().is_main_process
    with whole_folder(folder) if writes else nullcontext() as draft:
        language_model.save(model, draft, torch.bfloat16)
