"""One trial: a model learns a task, forgets it, and is measured before, between and after.

The protocol of Zhang, Choshen, Andreas (2024), "Unforgettable Generalization in Language Models".
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from itertools import chain
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
from forget.training import stages, twins
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

    In the arm "untaught" nothing is learned, and what forgets is the untouched model.

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
    drawn = stages.drawn(trial, material.forget)
    told = stages.told(trial, identity.trial, material.forget, drawn)
    trainer = Trainer(trial, store, checkpoint_minutes, observe, identity.trial)
    evaluation = Evaluation(trial, material, store, observe)
    holder = Holder(store, trial.model, shard)

    untouched = partial(holder.model, "base", trial.model)
    base = evaluation.evaluate_shared("base", sources.fingerprint(trial.model, store), untouched)

    phases, looks = [base], []
    before, weights = "base", trial.model
    if trial.taught:
        watching = partial(evaluation.watching, "learn")
        checkpoint = stages.learn(trainer, identity.learned, material.learn, holder, watching)
        before, weights = "learned", str(checkpoint)
        phases.append(
            evaluation.evaluate_shared(
                before, identity.learned, partial(holder.model, before, checkpoint)
            )
        )
        looks.append(stages.watched(checkpoint))

    last = twins.steps(
        trainer,
        identity.trial,
        identity.data,
        material,
        partial(holder.training, before, weights),
        partial(evaluation.watching, "forget"),
    )
    with holder.training(before, weights, becomes="forgotten") as model:
        watching_it = evaluation.watching("forget", model, drawn, last)
        seen = stages.forget(
            trainer, identity.trial, material.forget, material.retain, model, watching_it
        )
    phases.append(evaluation.evaluate("forgotten", model))
    looks.append(seen)

    rows = named(identity.trial, material, drawn, [*(phase.rows for phase in phases), *looks])
    if trial.keeps:
        _save(model, Trials(store).folder(identity.trial) / "model")
    outcome = Outcome(
        trial=trial,
        id=identity.trial,
        learned_id=identity.learned,
        data=identity.data,
        measures=measures.measures(rows, flipped=trial.arm == "flipped"),
        likeness=likenesses(material, phases[-2].cka),
        probes=tuple(chain.from_iterable(phase.probes for phase in phases)),
        unprobed=tuple(dict.fromkeys(chain.from_iterable(phase.unprobed for phase in phases))),
        drawn=told,
        dose=stages.dose(trial, material.forget, seen),
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
