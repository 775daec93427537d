"""One trial: a model learns a task, forgets it, and is measured before, between and after (Zhang, Choshen, Andreas 2024)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from accelerate import PartialState

from forget import labels, metrics, models, tasks
from forget.events import Observe, Outcome, ignore
from forget.measuring import Measuring, gather, likenesses, similarities
from forget.methods import METHODS
from forget.settings import BadInput, Trial, digest, nearest
from forget.store import Store, whole_folder
from forget.training import Checkpoints, fine_tune


def run_trial(
    trial: Trial, observe: Observe = ignore, store: Store | None = None, checkpoint_minutes: float = 5, shard: bool = False
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
    if done := store.outcome(identity.trial):
        return done
    material = gather(trial)
    bf16 = models.in_bf16(trial.precision)
    lora = trial.lora if trial.tuning == "lora" else None
    train = partial(fine_tune, seed=trial.seed, bf16=bf16, lora=lora, observe=observe)
    saved = partial(Checkpoints, minutes=checkpoint_minutes)
    measuring = Measuring(trial, material, store, bf16, observe)

    # The model in memory, by whose weights it has. Processes that share one wrap it for each training and load it anew.
    held: dict[str, models.LanguageModel] = {}
    alone = PartialState().num_processes == 1

    def load(phase: str, source: str | Path) -> models.LanguageModel:
        if phase not in held:
            held.clear()  # Before the next one is there: two would be the trial's peak.
            held[phase] = models.load(source, store, sharded=shard)
        return held[phase] if alone else held.pop(phase)

    untouched = partial(load, "base", trial.model)
    base = measuring.once("base", models.fingerprint(trial.model), untouched)

    def learn(folder: Path | None) -> None:
        model = untouched()
        held.clear()  # From now on it is no longer that.
        resume = saved(store, f"learning/{identity.learned}")
        watching = measuring.watching("learn", model)
        seen = train(
            model, lambda _: labels.true(material.learn), trial.learn, stage="learn", checkpoints=resume, watching=watching
        )
        models.save(model, folder)
        if folder:
            metrics.write_rows(seen, folder / "watched.parquet")
            store.discard(resume.name)
        if alone:
            held["learned"] = model

    checkpoint = store.shared("learned", identity.learned, learn)
    learned = measuring.once("learned", identity.learned, partial(load, "learned", checkpoint))

    model = load("learned", checkpoint)
    method = METHODS[trial.method]

    def relabelled(epoch: int) -> Sequence[labels.Labelled]:
        drawn = method.on == "drawn"
        return labels.draw(material.forget, trial.labels, trial.seed, epoch) if drawn else labels.true(material.forget)

    resume = saved(store, f"trials/{identity.trial}/checkpoint")
    watching = measuring.watching("forget", model)
    seen = train(model, relabelled, trial.forget, stage="forget", loss=method.loss, checkpoints=resume, watching=watching)
    forgotten = measuring.measure("forgotten", model)

    phases = (base, learned, forgotten)
    watched = metrics.read_rows(checkpoint / "watched.parquet") + seen
    similar = similarities(material)
    rows = [
        replace(row, trial=identity.trial, similarity=similar.get((row.task, row.split, row.example)))
        for part in (*(phase.rows for phase in phases), watched)
        for row in part
    ]
    speaks = PartialState().is_main_process
    if trial.save:
        with whole_folder(store.trial(identity.trial) / "model") if speaks else nullcontext() as folder:
            models.save(model, folder, torch.bfloat16)
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
        store.finish(outcome, rows)
        observe(outcome)
    return outcome


@dataclass(frozen=True)
class Identity:
    trial: str
    learned: str
    data: str


def identify(trial: Trial) -> Identity:
    """Who the trial is, by its settings, its data and its model's weights; nothing is loaded."""
    return identify_all([trial])[0]


def identify_all(trials: Iterable[Trial]) -> list[Identity]:
    """The same of many trials; the data that several have in common are looked at once."""

    @cache
    def data(model: str, names: tuple[str, ...], folders: tuple[str, ...]) -> str:
        return digest([models.fingerprint(model), tasks.fingerprint(names, folders)])

    def one(trial: Trial) -> Identity:
        whole, own = (data(trial.model, names, trial.folders) for names in (trial.tasks, (trial.task,)))
        return Identity(trial.id(whole), trial.learned_id(own), whole)

    return [one(trial) for trial in trials]


def check(trial: Trial, shard: bool = False) -> None:
    """Raises BadInput for a task, split, template, model, method or layer that is not there, before anything is computed."""
    check_all([trial], shard)


def check_all(trials: Iterable[Trial], shard: bool = False) -> None:
    """The same of many trials; the tasks and models that several have in common are looked at once."""
    find, model, layers = cache(tasks.find), cache(models.check), cache(models.layers)
    for trial in trials:
        _check(trial, shard, find, model, layers)


def _check(
    trial: Trial,
    shard: bool,
    find: Callable[[str, tuple[str, ...]], tasks.Task],
    check_model: Callable[[str], None],
    layers: Callable[[str], int],
) -> None:
    if shard and trial.tuning == "lora":
        raise BadInput('shard = true is for whole models: it does not go with tuning = "lora"')
    check_model(trial.model)
    for name in trial.tasks:
        splits = find(name, trial.folders).splits
        for split in ("train", "test") if name == trial.task else ("test",):
            if split not in splits:
                raise BadInput(f'task "{name}" has no split "{split}", which the trial needs; it has {", ".join(splits)}')
    if trial.method not in METHODS:
        raise BadInput(f'no method is named "{trial.method}"{nearest(trial.method, METHODS)}')
    if trial.template != "task" and trial.template not in tasks.TEMPLATES:
        raise BadInput(f'no template is named "{trial.template}"{nearest(trial.template, ("task", *tasks.TEMPLATES))}')
    if trial.probe.layers != "all":
        blocks = layers(trial.model)
        for layer in trial.probe.layers:
            if not -blocks - 1 <= layer <= blocks:
                raise BadInput(f'probe.layers asks for {layer}, but "{trial.model}" has hidden states 0 to {blocks}')
