"""Trials of a sweep that have finished, and jobs: those left to run.

They lie on the axes, or Optuna proposes them; no other room knows Optuna.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from forget.planning.cost import cost
from forget.planning.plan import left
from forget.preflight import Expansion, Identity
from forget.results.metrics import metric_name, ratio_name
from forget.results.outcome import Outcome
from forget.settings.identity import digest
from forget.settings.sweep import Search, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store


@dataclass(frozen=True)
class Job:
    """A trial to run."""

    trial: Trial
    id: str
    """Key of its outcome in the store."""
    ended: Callable[[Outcome | None], None] = lambda outcome: None
    """Told the outcome, None where the trial failed."""


def finished(expansion: Expansion, store: Store) -> tuple[Outcome, ...]:
    """Return the outcomes of the sweep's finished trials, in its order."""
    return tuple(Trials(store).outcomes(finished_ids(expansion, store)).values())


def finished_ids(expansion: Expansion, store: Store) -> list[str]:
    """Return the ids of the sweep's finished trials, in its order; no outcome is read."""
    if search := expansion.sweep.search:
        return list(chain.from_iterable(cell.ids() for cell in _cells(expansion, search, store)))
    return Trials(store).done(identity.trial for identity in expansion.identities)


def jobs(expansion: Expansion, store: Store) -> tuple[int, Iterator[Job]]:
    """Return how many trials are left to run, and the trials in the order to run them in."""
    if search := expansion.sweep.search:
        cells = _cells(expansion, search, store)
        return sum(cell.left for cell in cells), _proposals(cells)
    todo = left(expansion, store)
    return len(todo), (Job(todo[identity], identity.trial) for identity in _in_order(todo))


def _in_order(todo: dict[Identity, Trial]) -> Iterator[Identity]:
    """Order trials so that none waits for another and the last ones are short.

    The first trial of each learned checkpoint goes before the others that start from it, which
    would only wait for it. Long trials go before short ones: beside the last of all, slots are
    empty (Graham 1969, longest processing time first).
    """
    first = {identity.learned: identity for identity in reversed(todo)}

    def place(identity: Identity) -> tuple[bool, float]:
        one, leads = cost(todo[identity]), first[identity.learned] == identity
        return not leads, -(one.forgetting + leads * one.learning)

    yield from sorted(todo, key=place)


def _cells(expansion: Expansion, search: Search, store: Store) -> list[Cell]:
    pairs = zip(expansion.trials, expansion.identities, strict=True)
    return [Cell(trial, identity, search, store) for trial, identity in pairs]


def _proposals(cells: list[Cell]) -> Iterator[Job]:
    """Ask the cells in turn, so that each has heard of its earlier trials when it is asked."""
    for number in range(max(cell.left for cell in cells)):
        for cell in cells:
            if number < cell.left:
                yield cell.ask()


class Cell:
    """Optuna's search within one combination of the axes.

    Its study lies in the store, so that it goes on where it stopped. The study only proposes
    settings: whether a trial has finished is for the store to say. A trial that failed or was cut
    short is proposed again, by the next run of the sweep, with the settings it had.
    """

    def __init__(self, cell: Trial, identity: Identity, search: Search, store: Store) -> None:
        """Open the cell's study, or make it.

        Args:
            cell: the combination, whose searched settings do not count.
            identity: its own.
            search: what is searched.
            store: where the study lies.
        """
        self.cell = cell
        self.identity = identity
        self.search = search
        self.store = store
        self.name = digest([identity.trial, search.model_dump(exclude={"trials"})])
        path = store.fetch_growing(f"search/{self.name}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=self.name,
            directions=["maximize", "minimize"] if cell.tasks[1:] else ["maximize"],
            load_if_exists=True,
        )
        self._again: list[dict[str, float]] | None = None
        """Settings to propose again; None until the first is asked for, since another process may
        run the search.
        """
        self.left = max(0, search.trials - len(self.ids()))

    def ids(self) -> list[str]:
        """Return the ids of the study's trials that have finished."""
        return Trials(self.store).done(
            trial.user_attrs["id"] for trial in self.study.trials if "id" in trial.user_attrs
        )

    def ask(self) -> Job:
        """Return the next trial to run."""
        if self._again is None:
            self._again = self._cut_short()
        if self._again:
            self.study.enqueue_trial(self._again.pop(0))
        # A seed for each trial, not one for the study: a sampler that was seeded anew after a stop
        # would repeat itself.
        seed = int(digest([self.name, self.cell.seed, len(self.study.trials)])[:8], 16)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)
        asked = self.study.ask()
        settings = {}
        for key, range in self.search.settings.items():
            settings[key] = asked.suggest_float(key, range.low, range.high, log=range.log)
        trial = overlay(self.cell, settings)
        # The searched settings are numbers: the trial's model and data are its cell's.
        id = trial.id(self.identity.data)
        asked.set_user_attr("id", id)
        self.store.publish_file(f"search/{self.name}.log")
        return Job(trial, id, functools.partial(self._tell, asked.number))

    def objectives(self, outcome: Outcome) -> list[float] | None:
        """Return what the search weighs; None where a number is missing.

        The first is the forget ratio on the task. The second, to be kept low, is the mean ratio
        over the other tasks that have one. A ratio is missing where learning brought a task less
        than 0.05 above chance: there was nothing to forget. Such a trial counts against the number
        of trials, and the sampler learns nothing from it.
        """
        measure = ratio_name(self.cell.labels)
        ratios = [
            outcome.measures[metric_name("forgotten", task, "test", measure)].value
            for task in self.cell.tasks
        ]
        others = [ratio for ratio in ratios[1:] if ratio is not None]
        if ratios[0] is None or (ratios[1:] and not others):
            return None
        return [ratios[0], sum(others) / len(others)] if others else [ratios[0]]

    def _tell(self, number: int, outcome: Outcome | None) -> None:
        values = self.objectives(outcome) if outcome else None
        self.study.tell(number, values, state=None if values else TrialState.FAIL)
        self.store.publish_file(f"search/{self.name}.log")

    def _cut_short(self) -> list[dict[str, float]]:
        """Close what a killed sweep left open; return settings of trials without an outcome."""
        lost = {}
        finished = set(self.ids())
        for trial in self.study.trials:
            id = trial.user_attrs.get("id", "")
            if trial.state == TrialState.RUNNING:
                self._tell(trial.number, Trials(self.store).outcome(id) if id in finished else None)
            # By id: settings that were proposed again stand there twice.
            if id and id not in finished:
                lost[id] = trial.params
        return list(lost.values())
