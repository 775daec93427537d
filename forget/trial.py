"""One trial: a model learns a task, forgets it, and is measured before, between and after (Zhang, Choshen, Andreas 2024)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from forget.evaluation.measuring import Measuring
from forget.events import Observe, ignore
from forget.methods.catalogue import METHODS
from forget.models import catalogue, language_model, loading, sources
from forget.preflight import check, identify
from forget.results import files, metrics
from forget.results.outcome import Outcome
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.folders import whole_folder
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.draws import gather
from forget.tasks.similarity import likenesses, similarities
from forget.training.checkpoints import Checkpoints
from forget.training.loop import fine_tune


def run_trial(
    trial: Trial,
    observe: Observe = ignore,
    store: Store | None = None,
    checkpoint_minutes: float = 5,
    shard: bool = False,
) -> Outcome:
    """Learn, forget, measure. What is in the store already is read, not computed.

    All processes of a trial call it together; `shard` shares the model out over them.

    Raises:
        BadInput: something the trial names is not there (see `check`).
        FloatingPointError: a loss that is not finite.
    """
    began = time.monotonic()
    store = store or Store()
    check(trial, shard)
    identity = identify(trial)
    if done := Trials(store).outcome(identity.trial):
        return done
    material = gather(trial)
    bf16 = catalogue.in_bf16(trial.precision)
    lora = trial.lora if trial.tuning == "lora" else None
    train = partial(fine_tune, seed=trial.seed, bf16=bf16, lora=lora, observe=observe)
    saved = partial(Checkpoints, minutes=checkpoint_minutes)
    measuring = Measuring(trial, material, store, bf16, observe)

    # The model in memory, by whose weights it has. Processes that share one wrap it for each
    # training and load it anew.
    held: dict[str, language_model.LanguageModel] = {}
    alone = PartialState().num_processes == 1

    def load(phase: str, source: str | Path) -> language_model.LanguageModel:
        if phase not in held:
            held.clear()  # Before the next one is there: two would be the trial's peak.
            held[phase] = loading.load(source, store, sharded=shard)
        return held[phase] if alone else held.pop(phase)

    untouched = partial(load, "base", trial.model)
    base = measuring.once("base", sources.fingerprint(trial.model), untouched)

    def learn(folder: Path | None) -> None:
        model = untouched()
        held.clear()  # From now on it is no longer that.
        resume = saved(store, f"learning/{identity.learned}")
        watching = measuring.watching("learn", model)
        seen = train(
            model,
            lambda _: labels.true(material.learn),
            trial.learn,
            stage="learn",
            checkpoints=resume,
            watching=watching,
        )
        language_model.save(model, folder)
        if folder:
            files.write_rows(seen, folder / "watched.parquet")
            store.delete(resume.name)
        if alone:
            held["learned"] = model

    checkpoint = store.once("learned", identity.learned, learn)
    learned = measuring.once("learned", identity.learned, partial(load, "learned", checkpoint))

    model = load("learned", checkpoint)
    method = METHODS[trial.method]

    def relabelled(epoch: int) -> Sequence[labels.Labelled]:
        drawn = method.on == "drawn"
        return (
            labels.draw(material.forget, trial.labels, trial.seed, epoch)
            if drawn
            else labels.true(material.forget)
        )

    resume = saved(store, f"trials/{identity.trial}/checkpoint")
    watching = measuring.watching("forget", model)
    seen = train(
        model,
        relabelled,
        trial.forget,
        stage="forget",
        loss=method.loss,
        checkpoints=resume,
        watching=watching,
    )
    forgotten = measuring.measure("forgotten", model)

    phases = (base, learned, forgotten)
    watched = files.read_rows(checkpoint / "watched.parquet") + seen
    similar = similarities(material)
    rows = [
        replace(
            row, trial=identity.trial, similarity=similar.get((row.task, row.split, row.example))
        )
        for part in (*(phase.rows for phase in phases), watched)
        for row in part
    ]
    speaks = PartialState().is_main_process
    if trial.save:
        with (
            whole_folder(Trials(store).folder(identity.trial) / "model")
            if speaks
            else nullcontext() as folder
        ):
            language_model.save(model, folder, torch.bfloat16)
    outcome = Outcome(
        trial=trial,
        id=identity.trial,
        learned_id=identity.learned,
        data=identity.data,
        measures=metrics.measures(rows, flipped=trial.labels == "flipped"),
        likeness=likenesses(material, learned.alike),
        probes=tuple(probe for phase in phases for probe in phase.probes),
        parameters=model.parameters,
        seconds=time.monotonic() - began,
    )
    if speaks:
        Trials(store).finish(outcome, rows)
        observe(outcome)
    return outcome
