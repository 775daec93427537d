"""Checks before anything is computed, and identities: of one trial, or of a sweep's all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from forget import tasks
from forget.errors import BadInput, nearest
from forget.methods.catalogue import METHODS
from forget.models import sources
from forget.settings.identity import digest
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.tasks import task
from forget.tasks.draws import OPTIONAL, Draw, draws


@dataclass(frozen=True)
class Identity:
    """Keys of what a trial leaves in the store; trials with equal keys share it."""

    trial: str
    """Key of the outcome."""
    learned: str
    """Key of the learned checkpoint."""
    data: str
    """Fingerprint of the model's weights and of the data and wording of all the trial's tasks."""


@dataclass(frozen=True)
class Expansion:
    """A sweep's trials with their identities, checked and made once for all who ask."""

    sweep: Sweep
    trials: tuple[Trial, ...]
    """Every combination of the axes, the first axis outermost."""
    identities: tuple[Identity, ...]
    """The identity of each trial, in the same order."""
    fingerprints: Mapping[str, str]
    """Fingerprint of each task's data and wording, by the task's name."""

    @cached_property
    def distinct(self) -> Mapping[Identity, Trial]:
        """The trials by identity; two whose difference changes no answer are one."""
        return dict(zip(self.identities, self.trials, strict=True))


def expand(sweep: Sweep) -> Expansion:
    """Expand a sweep into its trials, check them all, and identify them.

    Raises:
        BadInput: a trial cannot run (see `check`), or its data cannot be read.
    """
    known = _Known()
    trials = sweep.trials()
    for trial in trials:
        known.check(trial, sweep.resources.shard)
    identities = tuple(known.identify(trial) for trial in trials)
    # One task has one entry, though trials may find it in different folders: that of the last.
    folders: dict[str, tuple[str, ...]] = {}
    for trial in trials:
        folders |= dict.fromkeys(trial.tasks, trial.folders)
    fingerprints = {name: known.fingerprint((name,), where) for name, where in folders.items()}
    return Expansion(sweep, trials, identities, fingerprints)


def identify(trial: Trial) -> Identity:
    """Identify a trial by its settings, its data and its model's weights; nothing is loaded."""
    return _Known().identify(trial)


def check(trial: Trial, shard: bool = False) -> None:
    """Refuse a trial that cannot run, before anything is computed.

    Args:
        trial: the trial.
        shard: its model would be shared out over several processes.

    Raises:
        BadInput: a task, split, template, model, method or layer is not there.
    """
    _Known().check(trial, shard)


class _Known:
    """Tasks and models that trials name; each is looked up once, however many trials share it."""

    def __init__(self) -> None:
        self.task = cache(tasks.find)
        self.check_model = cache(sources.check)
        self.layers = cache(sources.layers)
        self.content = cache(lambda name, folders: tasks.content(self.task(name, folders)))
        self.data = cache(self._data)

    def identify(self, trial: Trial) -> Identity:
        whole = self.data(trial.model, trial.tasks, trial.folders)
        own = self.data(trial.model, (trial.task,), trial.folders)
        return Identity(trial.id(whole), trial.learned_id(own), whole)

    def fingerprint(self, names: Sequence[str], folders: tuple[str, ...]) -> str:
        """Return what `tasks.fingerprint` does."""
        return digest([self.content(name, folders) for name in names])

    def _data(self, model: str, names: tuple[str, ...], folders: tuple[str, ...]) -> str:
        return digest([sources.fingerprint(model), self.fingerprint(names, folders)])

    def check(self, trial: Trial, shard: bool) -> None:
        if shard and trial.tuning == "lora":
            raise BadInput('shard = true is for whole models: it does not go with tuning = "lora"')
        self.check_model(trial.model)
        for draw in draws(trial):
            self._check_split(trial, draw)
        if trial.method not in METHODS:
            raise BadInput(f'no method is named "{trial.method}"{nearest(trial.method, METHODS)}')
        if trial.template != "task" and trial.template not in task.TEMPLATES:
            known = nearest(trial.template, ("task", *task.TEMPLATES))
            raise BadInput(f'no template is named "{trial.template}"{known}')
        if trial.probe.layers != "all":
            self._check_layers(trial.model, trial.probe.layers)

    def _check_split(self, trial: Trial, draw: Draw) -> None:
        splits = self.task(draw.task, trial.folders).splits
        if draw.split not in (*splits, *OPTIONAL):
            raise BadInput(
                f'task "{draw.task}" has no split "{draw.split}", which the trial needs; '
                f"it has {', '.join(splits)}"
            )

    def _check_layers(self, model: str, asked: Sequence[int]) -> None:
        blocks = self.layers(model)
        for layer in asked:
            if not -blocks - 1 <= layer <= blocks:
                raise BadInput(
                    f'probe.layers asks for {layer}, but "{model}" has hidden states 0 to {blocks}'
                )
