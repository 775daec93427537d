"""What of a sweep is done and what is left to run, be it on the axes or proposed by Optuna; the only room that knows Optuna."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from forget.planning.cost import cost
from forget.preflight import Identity, identify, identify_all
from forget.results.metrics import metric_name
from forget.results.outcome import Outcome
from forget.settings.identity import digest
from forget.settings.sweep import Search, Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store


@dataclass(frozen=True)
class Job:
    """A trial to run."""

    trial: Trial
    id: str
    ended: Callable[[Outcome | None], None] = lambda outcome: None
    """Told the outcome, None where the trial failed."""


def finished(sweep: Sweep, store: Store) -> tuple[Outcome, ...]:
    """The sweep's finished trials, in its order."""
    return tuple(Trials(store).outcomes(finished_ids(sweep, store)).values())


def finished_ids(sweep: Sweep, store: Store) -> list[str]:
    """Their ids; no outcome is read."""
    if sweep.search:
        return [id for trial in sweep.trials() for id in Cell(trial, sweep.search, store).ids()]
    return Trials(store).done(identity.trial for identity in identify_all(sweep.trials()))


def jobs(sweep: Sweep, store: Store) -> tuple[int, Iterator[Job]]:
    """How many trials are left to run, and the trials."""
    if sweep.search:
        cells = [Cell(trial, sweep.search, store) for trial in sweep.trials()]
        rounds = max(cell.left for cell in cells)
        return sum(cell.left for cell in cells), (
            cell.ask() for i in range(rounds) for cell in cells if i < cell.left
        )
    trials = sweep.trials()
    identified = dict(zip(identify_all(trials), trials, strict=True))
    done = set(Trials(store).done(identity.trial for identity in identified))
    todo = {identity: trial for identity, trial in identified.items() if identity.trial not in done}
    return len(todo), (Job(todo[identity], identity.trial) for identity in _in_order(todo))


def _in_order(todo: Mapping[Identity, Trial]) -> Iterator[Identity]:
    """The first trial of each learned checkpoint goes before the others that start from it, which would only wait for it.

    Long trials go before short ones: beside the last of all, slots are empty (Graham 1969, longest
    processing time first).
    """
    first = {identity.learned: identity for identity in reversed(todo)}

    def place(identity: Identity) -> tuple[bool, float]:
        one, leads = cost(todo[identity]), first[identity.learned] == identity
        return not leads, -(one.forgetting + leads * one.learning)

    yield from sorted(todo, key=place)


class Cell:
    """Optuna's search within one combination of the axes. Its study lies in the store, so that it goes on where it stopped.

    The study only proposes settings: whether a trial has finished is for the store to say. A trial
    that failed or was cut short is proposed again, by the next run of the sweep, with the settings
    it had.
    """

    def __init__(self, cell: Trial, search: Search, store: Store) -> None:
        self.cell = cell
        self.search = search
        self.store = store
        self.name = digest([identify(cell).trial, search.model_dump(exclude={"trials"})])
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
        """Settings to propose again; None until the first is asked for, since another process may run the
        search.
        """
        self.left = max(0, search.trials - len(self.ids()))

    def ids(self) -> list[str]:
        """Trials of the study that have finished."""
        return Trials(self.store).done(
            trial.user_attrs["id"] for trial in self.study.trials if "id" in trial.user_attrs
        )

    def ask(self) -> Job:
        """The next trial to run."""
        if self._again is None:
            self._again = self._cut_short()
        if self._again:
            self.study.enqueue_trial(self._again.pop(0))
        # A seed for each trial, not one for the study: a sampler that was seeded anew after a stop
        # would repeat itself.
        seed = int(digest([self.name, self.cell.seed, len(self.study.trials)])[:8], 16)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)
        asked = self.study.ask()
        ranges = self.search.settings.items()
        settings = {
            key: asked.suggest_float(key, range.low, range.high, log=range.log)
            for key, range in ranges
        }
        trial = overlay(self.cell, settings)
        id = identify(trial).trial
        asked.set_user_attr("id", id)
        self.store.publish_file(f"search/{self.name}.log")
        return Job(trial, id, functools.partial(self._tell, asked.number))

    def objectives(self, outcome: Outcome) -> list[float] | None:
        """Forget ratio on the task and, to be kept low, its mean over the other tasks that have one; None where one is missing.

        A ratio is missing where learning brought a task less than 0.05 above chance: there was
        nothing to forget. Such a trial counts against the number of trials, and the sampler learns
        nothing from it.
        """
        measure = "flipped_forget_ratio" if self.cell.labels == "flipped" else "forget_ratio"
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
        """Close what a sweep that was killed left open; the settings of trials without an outcome, each once."""
        lost = {}
        finished = set(self.ids())
        for trial in self.study.trials:
            id = trial.user_attrs.get("id", "")
            if trial.state == TrialState.RUNNING:
                self._tell(trial.number, Trials(self.store).outcome(id) if id in finished else None)
            if id and id not in finished:
                lost[id] = trial.params
        return list(lost.values())
