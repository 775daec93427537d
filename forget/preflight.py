"""Checks of a trial before anything is computed, and its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from forget import tasks
from forget.errors import BadInput, nearest
from forget.methods.catalogue import METHODS
from forget.models import sources
from forget.settings.identity import digest
from forget.settings.trial import Trial
from forget.tasks import task


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
        return digest([sources.fingerprint(model), tasks.fingerprint(names, folders)])

    def one(trial: Trial) -> Identity:
        whole, own = (
            data(trial.model, names, trial.folders) for names in (trial.tasks, (trial.task,))
        )
        return Identity(trial.id(whole), trial.learned_id(own), whole)

    return [one(trial) for trial in trials]


def check(trial: Trial, shard: bool = False) -> None:
    """Raises BadInput for a task, split, template, model, method or layer that is not there, before anything is computed."""
    check_all([trial], shard)


def check_all(trials: Iterable[Trial], shard: bool = False) -> None:
    """The same of many trials; the tasks and models that several have in common are looked at once."""
    find, model, layers = cache(tasks.find), cache(sources.check), cache(sources.layers)
    for trial in trials:
        _check(trial, shard, find, model, layers)


def _check(
    trial: Trial,
    shard: bool,
    find: Callable[[str, tuple[str, ...]], task.Task],
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
                raise BadInput(
                    f'task "{name}" has no split "{split}", which the trial needs; it has {", ".join(splits)}'
                )
    if trial.method not in METHODS:
        raise BadInput(f'no method is named "{trial.method}"{nearest(trial.method, METHODS)}')
    if trial.template != "task" and trial.template not in task.TEMPLATES:
        raise BadInput(
            f'no template is named "{trial.template}"{nearest(trial.template, ("task", *task.TEMPLATES))}'
        )
    if trial.probe.layers != "all":
        blocks = layers(trial.model)
        for layer in trial.probe.layers:
            if not -blocks - 1 <= layer <= blocks:
                raise BadInput(
                    f'probe.layers asks for {layer}, but "{trial.model}" has hidden states 0 to {blocks}'
                )
