"""Checks before anything is computed, and identities: of one trial, or of a sweep's all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import get_args

import torch

from forget import tasks
from forget.errors import BadInput
from forget.methods.catalogue import METHODS, canonical, method
from forget.models import catalogue, sources
from forget.settings.identity import digest
from forget.settings.parts import Retain
from forget.settings.sweep import Sweep
from forget.settings.trial import Precision, Trial
from forget.storage.store import Store
from forget.tasks import forget_sets
from forget.tasks.draws import OPTIONAL, Draw, draws
from forget.tasks.prose import prose


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
    auto: Precision | None = None
    """Meaning of precision "auto" in these trials; None where none of them leaves it open."""

    @cached_property
    def distinct(self) -> Mapping[Identity, Trial]:
        """The trials by identity; two whose difference changes no answer are one."""
        return dict(zip(self.identities, self.trials, strict=True))


def expand(
    sweep: Sweep, store: Store | None = None, precision: Precision | None = None
) -> Expansion:
    """Expand a sweep into its trials, settle them, check them all, and identify them.

    Args:
        sweep: the study.
        store: remembers what the sweep and its models meant when they were first run (`decide`).
        precision: what "auto" means, unless the store remembers; by default what is best on this
            machine.

    Raises:
        BadInput: a trial cannot run (see `check`), or its data cannot be read.
    """
    known = _Known(store)
    gpu = bool(sweep.resources.gpus) and torch.cuda.is_available()
    precision = remembered(sweep, store) or precision or best_precision(gpu)
    asked = sweep.trials()
    trials = tuple(settled(trial, precision) for trial in asked)
    for trial in trials:
        known.check(trial, sweep.resources.shard)
    identities = tuple(known.identify(trial) for trial in trials)
    # One task has one entry, though trials may find it in different folders: that of the last.
    folders: dict[str, tuple[str, ...]] = {}
    for trial in trials:
        folders |= dict.fromkeys(trial.read_tasks, trial.folders)
    fingerprints = {name: known.fingerprint((name,), where) for name, where in folders.items()}
    return Expansion(
        sweep,
        trials,
        identities,
        fingerprints,
        precision if any(trial.precision == "auto" for trial in asked) else None,
    )


def decide(expansion: Expansion, store: Store) -> None:
    """Keep in the store what the sweep leaves to the day and the machine of its first run.

    That is what precision "auto" means, and the commits of hub models. A sweep that goes on
    elsewhere or later goes on with the same trials.
    """
    if expansion.auto:
        store.decide(_key(expansion.sweep), expansion.auto)
    for model in dict.fromkeys(trial.model for trial in expansion.trials):
        sources.decide(model, store)


def remembered(sweep: Sweep, store: Store | None) -> Precision | None:
    """Return what precision "auto" meant when the sweep first ran; None where it never did."""
    decided = store.decided(_key(sweep)) if store else None
    return next((one for one in get_args(Precision) if one == decided), None)


def _key(sweep: Sweep) -> str:
    """Return the name under which a store remembers a sweep's precision."""
    return f"precision/{sweep.name}"


def best_precision(gpu: bool | None = None) -> Precision:
    """Return what precision "auto" means on this machine: bf16 where it is faster.

    Args:
        gpu: trials run on a GPU; by default where torch sees one.
    """
    return "bf16" if catalogue.in_bf16("auto", gpu) else "fp32"


def settled(trial: Trial, precision: Precision | None = None) -> Trial:
    """Return the trial with what it leaves to the machine said, its precision, and in one form.

    Of two ways to write a trial, such as a parameter that is the default, one is left: so they have
    one identity.

    Args:
        trial: the trial.
        precision: what "auto" means; by default what is best on this machine.

    Raises:
        BadInput: a method that is not there, or a parameter that it lacks.
    """
    changes: dict[str, object] = {}
    if trial.precision == "auto":
        changes["precision"] = precision or best_precision()
    if trial.method.parameters:
        changes["method"] = canonical(trial.method)
    if trial.retain and not trial.retain.names:
        # Where none is asked for, going without one says nothing.
        asks = trial.method.name in METHODS and "retain" in method(trial.method).asks
        changes["retain"] = Retain(tasks=()) if asks else None
    # What was settled before names its loss.
    elif trial.retain and "loss" not in trial.retain.model_fields_set:
        loss = method(trial.method).retains if trial.method.name in METHODS else "nll"
        changes["retain"] = trial.retain.model_copy(update={"loss": loss})
    return trial.model_copy(update=changes) if changes else trial


def identify(trial: Trial, store: Store | None = None) -> Identity:
    """Identify a trial by its settings, its data and its model's weights; nothing is loaded.

    Args:
        trial: the trial; what it leaves to the machine is settled first.
        store: remembers the commits of hub models.
    """
    return _Known(store).identify(settled(trial))


def check(trial: Trial, shard: bool = False) -> None:
    """Refuse a trial that cannot run, before anything is computed.

    Args:
        trial: the trial.
        shard: its model would be shared out over several processes.

    Raises:
        BadInput: a task, split, template, model, method or layer is not there.
    """
    _Known(None).check(trial, shard)


class _Known:
    """Tasks and models that trials name; each is looked up once, however many trials share it."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self.task = cache(tasks.find)
        self.check_model = cache(sources.check)
        self.layers = cache(sources.layers)
        self.content = cache(
            lambda name, folders, instructed: tasks.content(self.task(name, folders), instructed)
        )
        self.data = cache(self._data)

    def identify(self, trial: Trial) -> Identity:
        learns = tasks.instructs(trial.template)
        asks = tasks.instructs(trial.template, *trial.measure_templates)
        whole = self.data(trial.model, trial.read_tasks, trial.folders, asks)
        own = self.data(trial.model, trial.learned_tasks, trial.folders, learns)
        if trial.retain and trial.retain.text:
            whole = digest([whole, prose()])
        return Identity(trial.id(whole), trial.learned_id(own), whole)

    def fingerprint(
        self, names: Sequence[str], folders: tuple[str, ...], instructed: bool = False
    ) -> str:
        """Return what `tasks.fingerprint` does."""
        return digest([self.content(name, folders, instructed) for name in names])

    def _data(
        self, model: str, names: tuple[str, ...], folders: tuple[str, ...], instructed: bool
    ) -> str:
        read = self.fingerprint(names, folders, instructed)
        return digest([sources.fingerprint(model, self.store), read])

    def check(self, trial: Trial, shard: bool) -> None:
        if shard and trial.tuning == "lora":
            raise BadInput('shard = true is for whole models: it does not go with tuning = "lora"')
        self.check_model(trial.model)
        if why := forget_sets.refusal(trial, self.task):
            raise BadInput(why)
        for draw in draws(trial):
            self._check_split(trial, draw)
        self._check_method(trial, shard)
        if trial.noise < 1 and method(trial.method).trains_on != "drawn":
            raise BadInput(
                f'method "{trial.method.name}" draws no labels, so noise = {trial.noise:g} would '
                "be the trial without it once more"
            )
        for name in trial.tasks:
            tasks.check_template(self.task(name, trial.folders), trial.template)
        for template in trial.measure_templates:
            tasks.check_template(self.task(trial.task, trial.folders), template)
        if trial.probe.layers != "all":
            self._check_layers(trial.model, trial.probe.layers)

    def _check_method(self, trial: Trial, shard: bool) -> None:
        how, name = method(trial.method), trial.method.name
        if how.trains_on != "drawn" and trial.arm not in ("random", "untaught"):
            raise BadInput(
                f'method "{name}" draws no labels, so arm = "{trial.arm}" would be the '
                'trial of arm = "random" once more; of arms it takes that and "untaught"'
            )
        if "retain" in how.asks and trial.retain is None:
            raise BadInput(
                f'method "{name}" asks for a retain set, [base.retain] with tasks = ["..."]; '
                'retain = "none" goes without'
            )
        if trial.task in trial.retained:
            raise BadInput(f'retain.tasks holds "{trial.task}", the task that is to be forgotten')
        if "learned" in how.asks and not trial.taught:
            raise BadInput(
                f'method "{name}" goes back to the untouched model, from which arm = "untaught" '
                "begins: there is nothing to take away"
            )
        retains = trial.retain and trial.retain.names
        if not how.trains and (shard or trial.forget.until or retains):
            raise BadInput(
                f'method "{name}" changes the weights without training steps: leave out shard, '
                "forget.until and retain"
            )
        if shard and how.lat:
            raise BadInput("shard = true does not go with method.lat, which needs slopes of states")
        if shard and how.holds(2):
            raise BadInput(
                f'shard = true does not go with method "{name}", which needs all weights'
            )
        if trial.retain and trial.retain.text and name == "layered":
            raise BadInput(
                'method "layered" retains examples of the task, which retain.text = true would '
                "outweigh token for token: retain tasks"
            )
        if trial.forget.until and name == "layered":
            raise BadInput('method "layered" takes all its folds: leave out forget.until')

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
