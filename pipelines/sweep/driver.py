"""What drives a sweep: it gives Ray Tune the trials, shows what they report, and keeps what failed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from forget import tracking
from forget.redaction import without_secrets
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from pipelines.jobs import Job, jobs
from pipelines.progress import Progress, label
from pipelines.sweep.board import Board
from pipelines.sweep.nodes import bundle
from pipelines.sweep.worker import LEFT, Slot

LEAVING_SECONDS = 1.0
"""Between two looks at which nodes go away; those of a cloud say so half a minute before."""


@dataclass(frozen=True)
class Failure:
    """A trial that has no outcome."""

    trial: Trial
    id: str
    reason: str
    """One line."""


class Driver(tune.Callback):
    """Feeds jobs to Tune, shows what the trials report, keeps what failed, and stops everything when asked to."""

    def __init__(self, sweep: Sweep, store: Store) -> None:
        self.sweep = sweep
        self.store = store
        self.failures: list[Failure] = []
        self.interrupted = False
        self.leaving: frozenset[str] = frozenset()
        self.look_at = 0.0
        self.total, todo = jobs(sweep, store)
        self.queue = Queue(todo)

    def run(self, study: tracking.Study, slots: int) -> None:
        """Returns when every job has ended, or when the running ones have stopped after Ctrl-C or SIGTERM.

        Args:
            slots: how many trials the nodes hold at once.
        """
        resources = self.sweep.resources
        with _on_signal(self._interrupt), _scratch(self.store, self.sweep.name) as scratch:
            # Trials waiting for a slot: as many as there are slots, so that their processes start
            # together; with a search one, since a setting that is proposed later is proposed
            # knowing more.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1" if self.sweep.search else str(slots)
            # Here, since any other node may go away.
            here = NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            self.board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
            slot = tune.with_parameters(
                Slot,
                study=study,
                where=self.store.where,
                scratch=scratch,
                resources=resources,
                board=self.board,
            )
            with Progress(self.total, min(slots, resources.concurrent or slots)) as self.progress:
                tune.run(
                    slot,
                    name=self.sweep.name,
                    storage_path=scratch,
                    search_alg=self.queue,
                    num_samples=-1,
                    max_concurrent_trials=resources.concurrent,
                    resources_per_trial=tune.PlacementGroupFactory([bundle(resources)]),
                    reuse_actors=True,
                    # One more than there are: `on_trial_recover` says which failures count.
                    max_failures=resources.retries + 1,
                    raise_on_failed_trial=False,
                    callbacks=[self],
                    trial_dirname_creator=lambda trial: trial.trial_id,
                    verbose=0,
                )

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if self.interrupted and not self.queue.closed:
            self.queue.closed = True
            self.board.end.remote()
            self.progress.say("stopping the trials that run; Ctrl-C again ends them at once")
        if time.monotonic() >= self.look_at:
            self.leaving = frozenset(ray._private.state.state.get_draining_nodes())
            self.look_at = time.monotonic() + LEAVING_SECONDS
        for id, event in ray.get(self.board.take.remote(self.leaving)):
            self.progress.event(id, event)

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        job = self.queue.jobs[trial.trial_id]
        if not self.queue.closed:
            self.progress.started(job.id, label(job.trial, self.sweep))

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        job = self.queue.jobs[trial.trial_id]
        # Ray may have failed to start its process, so that it never started for Tune.
        self.progress.started(job.id, label(job.trial, self.sweep))
        if (reason := _reason(trial)) == LEFT:
            # No failure of the trial, however often it happens.
            trial.max_failures += 1
        elif trial.run_metadata.num_failures == trial.max_failures:
            self.board.give_up.remote(job.id, self._failure(job, trial))
            return
        self.progress.again(job.id, reason)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        if not trial.last_result["stopped"]:
            self._ended(self.queue.jobs[trial.trial_id], trial.last_result["reason"])

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        job = self.queue.jobs[trial.trial_id]
        self._ended(job, self._failure(job, trial))

    def _failure(self, job: Job, trial: TuneTrial) -> str:
        """Why the trial failed, and where the whole story lies, unless the disk has no room for it."""
        folder = Trials(self.store).folder(job.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            story = Path(trial.error_file).read_text(encoding="utf-8")
            (folder / "error.txt").write_text(without_secrets(story), encoding="utf-8")
        except OSError:
            return _reason(trial)
        return f"{_reason(trial)} (see {folder / 'error.txt'})"

    def _ended(self, job: Job, reason: str | None) -> None:
        outcome = Trials(self.store).outcome(job.id)
        job.ended(outcome)
        if outcome:
            self.progress.finished(job.id, outcome)
        else:
            failure = Failure(
                job.trial, job.id, reason or f"its results are not in {self.store.where}"
            )
            self.failures.append(failure)
            self.progress.failed(job.id, failure.reason)

    def _interrupt(self) -> None:
        self.interrupted = True


class Queue(Searcher):
    """Hands the jobs to Tune, one whenever a slot is free."""

    def __init__(self, todo: Iterator[Job]) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        """By Tune's id."""
        self.closed = False
        self._todo = todo

    def suggest(self, trial_id: str) -> Any:
        job = None if self.closed else next(self._todo, None)
        if job is None:
            return Searcher.FINISHED
        self.jobs[trial_id] = job
        return {"id": job.id, "trial": job.trial.model_dump_json()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to learn here: Driver hears of it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep goes on from the store, not from Tune's own state."""


@contextmanager
def _scratch(store: Store, name: str) -> Iterator[str]:
    """A folder or URL in the store for Tune's own files; that a node sees the folder proves that it sees the store."""
    if store.remote:
        name = f"tune-{secrets.token_hex(8)}"
        try:
            yield f"{store.where}/{name}"
        finally:
            store.remote.clear(name)
        return
    folder = store.root / f".tune-{name}"
    # A sweep is alone: what lies there was left by one that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM (a pod that has to go) calls `stop`; the second does what it always does."""

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def _reason(trial: TuneTrial) -> str:
    text = without_secrets(Path(trial.error_file).read_text(encoding="utf-8").strip())
    if "ActorDiedError" in text or "actor died" in text:
        return "its process died, killed or out of memory"
    last = text.rpartition("\n")[2]
    return LEFT if last.endswith(LEFT) else last
