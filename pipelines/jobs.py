"""Jobs: the trials of a sweep that are left to run.

They lie on the axes, or Optuna proposes them; no other room knows Optuna.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from forget.planning.cost import cost
from forget.planning.standing import Standing, standings
from forget.preflight import Expansion, Identity
from forget.results.estimates import metric_name
from forget.results.measures import ratio_name
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


def jobs(expansion: Expansion, store: Store) -> tuple[int, Iterator[Job]]:
    """Return how many trials are left to run, and the trials in the order to run them in."""
    unfinished = [one for one in standings(expansion, store) if one.left]
    total = sum(one.left for one in unfinished)
    if search := expansion.sweep.search:
        name = expansion.sweep.name
        return total, _proposals([Cell(name, one, search, store) for one in unfinished])
    todo = {one.identity: one.trial for one in unfinished}
    return total, (Job(todo[identity], identity.trial) for identity in _in_order(todo))


def _in_order(todo: dict[Identity, Trial]) -> Iterator[Identity]:
    """Order trials so that none waits for another and the last ones are short.

    The first trial of each learned checkpoint goes before the others that start from it, which
    would only wait for it. A trial that takes the steps of its twin goes after all others, which
    the twin is among: else it would find them itself. Long trials go before short ones: beside the
    last of all, slots are empty (Graham 1969, longest processing time first).
    """
    ids = {identity.trial for identity in todo}
    follows = {
        identity
        for identity, trial in todo.items()
        if trial.twin and trial.twin.id(identity.data) in ids
    }
    first = {identity.learned: identity for identity in reversed(todo)}
    first |= {one.learned: one for one in reversed(todo) if one not in follows}

    def place(identity: Identity) -> tuple[bool, bool, float]:
        one, leads = cost(todo[identity]), first[identity.learned] == identity
        return identity in follows, not leads, -(one.forgetting + leads * one.learning)

    yield from sorted(todo, key=place)


def _proposals(cells: list[Cell]) -> Iterator[Job]:
    """Ask the cells in turn, so that each has heard of its earlier trials when it is asked."""
    for number in range(max((cell.left for cell in cells), default=0)):
        for cell in cells:
            if number < cell.left:
                yield cell.ask()


class Cell:
    """Optuna's search within one combination of the axes.

    Its study lies in the store, so that it goes on where it stopped. The study only proposes
    settings: which trials have finished is for the store to say (forget.planning.standing), and the
    sampler hears of them whoever ran them. A trial that failed or was cut short is proposed again,
    by the next run of the sweep, with the settings it had.
    """

    def __init__(self, sweep: str, standing: Standing, search: Search, store: Store) -> None:
        """Open the cell's study, or make it.

        Args:
            sweep: the sweep's name; another one with an equal search may run at the same time, and
                has a study of its own.
            standing: the cell, with what of it has finished.
            search: what is searched.
            store: where the study lies.
        """
        self.cell = standing.trial
        self.identity = standing.identity
        self.done = standing.done
        self.left = standing.left
        self.search = search
        self.store = store
        self.name = digest([sweep, self.identity.trial, search.model_dump(exclude={"trials"})])
        path = store.fetch_growing(f"search/{self.name}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=self.name,
            directions=["maximize", "minimize"] if self.cell.tasks[1:] else ["maximize"],
            load_if_exists=True,
        )
        self._again: list[dict[str, float]] | None = None
        """Settings to propose again; None until the first is asked for, since another process may
        run the search.
        """

    def ask(self) -> Job:
        """Return the next trial to run."""
        if self._again is None:
            self._again = self._cut_short()
            self._hear()
        if self._again:
            self.study.enqueue_trial(self._again.pop(0))
        # A seed for each trial, not one for the study: a sampler that was seeded anew after a stop
        # would repeat itself.
        seed = int(digest([self.name, self.cell.seed, len(self.study.trials)])[:8], 16)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)
        asked = self.study.ask()
        settings = {}
        for key, bounds in self.search.settings.items():
            settings[key] = asked.suggest_float(key, bounds.low, bounds.high, log=bounds.log)
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
        measure = ratio_name(self.cell.arm)
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

    def _hear(self) -> None:
        """Tell the study of the cell's finished trials that another study proposed, or none."""
        known = {trial.user_attrs.get("id") for trial in self.study.trials}
        unheard = [id for id in self.done if id not in known]
        for id, outcome in Trials(self.store).outcomes(unheard).items():
            values = self.objectives(outcome)
            found = optuna.trial.create_trial(
                params={key: attrgetter(key)(outcome.trial) for key in self.search.settings},
                distributions={
                    key: FloatDistribution(bounds.low, bounds.high, bounds.log)
                    for key, bounds in self.search.settings.items()
                },
                values=values,
                state=TrialState.COMPLETE if values else TrialState.FAIL,
                user_attrs={"id": id},
            )
            self.study.add_trial(found)

    def _cut_short(self) -> list[dict[str, float]]:
        """Close what a killed sweep left open; return settings of trials without an outcome."""
        lost = {}
        for trial in self.study.trials:
            id = trial.user_attrs.get("id", "")
            if trial.state == TrialState.RUNNING:
                outcome = Trials(self.store).outcome(id) if id in self.done else None
                self._tell(trial.number, outcome)
            # By id: settings that were proposed again stand there twice.
            if id and id not in self.done:
                lost[id] = trial.params
        return list(lost.values())
