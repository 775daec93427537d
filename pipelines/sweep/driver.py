"""The driver of a sweep: it gives Ray Tune the trials, shows what they report, keeps what failed.

Tune calls the driver's `on_...` methods (tune.Callback) from one loop: `on_step_end` once a turn of
that loop, the others when a trial starts, will start again, has ended well or has failed for good.
A trial that is refused, or stopped with the sweep, ends well for Tune: its result says which.
"""

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
from forget.preflight import Expansion
from forget.redaction import without_secrets
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from pipelines.jobs import Job, jobs
from pipelines.progress import Progress, label
from pipelines.sweep.board import Board
from pipelines.sweep.nodes import bundle
from pipelines.sweep.worker import LEFT, Slot

LEAVING_SECONDS = 1.0
"""Seconds between two looks at which nodes go away; a cloud's say so half a minute before."""


@dataclass(frozen=True)
class Failure:
    """A trial that has no outcome."""

    trial: Trial
    id: str
    reason: str
    """One line."""


class Driver(tune.Callback):
    """The sweep's side of Tune: feeds it jobs, hears of their ends, stops them when asked to."""

    def __init__(self, expansion: Expansion, store: Store) -> None:
        self.sweep = expansion.sweep
        self.store = store
        self.failures: list[Failure] = []
        self.interrupted = False
        self.leaving: frozenset[str] = frozenset()
        """Nodes that go away."""
        self.look_at = 0.0
        """When to look at the nodes again, on the monotonic clock."""
        self.total, todo = jobs(expansion, store)
        self.queue = Queue(todo)

    def run(self, study: tracking.Study, slots: int) -> None:
        """Run every job; after Ctrl-C or SIGTERM, wait until the running ones have stopped.

        Args:
            study: where the trials' runs go.
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
                    # Tune must not give up before we do: `on_trial_recover` gives a trial up, and
                    # does not count a node that went away.
                    max_failures=resources.retries + 1,
                    raise_on_failed_trial=False,
                    callbacks=[self],
                    trial_dirname_creator=lambda trial: trial.trial_id,
                    verbose=0,
                )

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Pass on an interrupt, look at the nodes now and then, and show what trials reported."""
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
        """Show the trial. One that starts while the sweep stops will end at once."""
        job = self.queue.jobs[trial.trial_id]
        if not self.queue.closed:
            self.progress.started(job.id, label(job.trial, self.sweep))

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Say why a trial starts again, or have it refused if it has failed too often.

        Tune has counted the failure already and will start the trial again in any case. Its last
        try, the one more than `retries` that Tune was given, reads on the board that it was given
        up, and ends with that reason.
        """
        job = self.queue.jobs[trial.trial_id]
        # Ray may have failed to start its process, so that it never started for Tune.
        self.progress.started(job.id, label(job.trial, self.sweep))
        if (reason := _reason(trial)) == LEFT:
            # A node that goes away is no failure of the trial, however often it happens.
            trial.max_failures += 1
        elif trial.run_metadata.num_failures == trial.max_failures:
            self.board.give_up.remote(job.id, self._failure(job, trial))
            return
        self.progress.again(job.id, reason)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Record a trial that finished or was refused; one that was stopped goes on another day."""
        if not trial.last_result["stopped"]:
            self._ended(self.queue.jobs[trial.trial_id], trial.last_result["reason"])

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Record a trial that Tune itself gave up."""
        job = self.queue.jobs[trial.trial_id]
        self._ended(job, self._failure(job, trial))

    def _failure(self, job: Job, trial: TuneTrial) -> str:
        """Return why the trial failed, and the file that holds the whole story if it has room."""
        folder = Trials(self.store).folder(job.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            story = Path(trial.error_file).read_text(encoding="utf-8")
            (folder / "error.txt").write_text(without_secrets(story), encoding="utf-8")
        except OSError:
            return _reason(trial)
        return f"{_reason(trial)} (see {folder / 'error.txt'})"

    def _ended(self, job: Job, reason: str | None) -> None:
        """Record the end of a trial. The store says whether it has finished, not Tune."""
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
    """Jobs for Tune, which asks for one whenever a slot is free."""

    def __init__(self, todo: Iterator[Job]) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        """Jobs that were handed out, by Tune's id."""
        self.closed = False
        """No more jobs are handed out: the sweep stops."""
        self._todo = todo

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next job, or Tune's word for the end."""
        job = None if self.closed else next(self._todo, None)
        if job is None:
            return Searcher.FINISHED
        self.jobs[trial_id] = job
        return {"id": job.id, "trial": job.trial.model_dump_json()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn nothing from a trial's end, of which Driver hears."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a sweep goes on from the store, not from Tune's own state."""


@contextmanager
def _scratch(store: Store, name: str) -> Iterator[str]:
    """Make a place in the store for Tune's own files; yield its path or URL.

    A node that sees the folder sees the store (Slot.step).
    """
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
    """Call `stop` at the first Ctrl-C or SIGTERM (a pod that has to go).

    The second does what it always does.
    """

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
    """Return the last line of the trial's traceback, or words for a process that died."""
    text = without_secrets(Path(trial.error_file).read_text(encoding="utf-8").strip())
    if "ActorDiedError" in text or "actor died" in text:
        return "its process died, killed or out of memory"
    last = text.rpartition("\n")[2]
    return LEFT if last.endswith(LEFT) else last
