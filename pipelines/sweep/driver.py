"""The driver of a sweep: it gives Ray Tune the trials, shows what they report, keeps what failed.

Tune calls the driver's `on_...` methods (tune.Callback) from one loop: `on_step_end` once a turn of
that loop, the others when a trial starts, has ended well or has failed. A trial that is refused, or
stopped, ends well for Tune: its result says which. One that starts again goes back to the queue.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import tune as tuning
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial as TuneTrial

from forget import tracking
from forget.errors import BadInput
from forget.preflight import Expansion
from forget.redaction import without_secrets
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from pipelines.jobs import Job, jobs
from pipelines.progress import Progress, label
from pipelines.sweep.board import Board, Orders
from pipelines.sweep.memory import Shortage, shortage
from pipelines.sweep.nodes import Slots, bundle
from pipelines.sweep.queue import Queue
from pipelines.sweep.worker import LEFT, Slot

LOOK_SECONDS = 0.2
"""Seconds between two looks at where the trials are, and at which nodes go away."""

WAITS = (15, 30, 60, 120, 240)
"""Seconds to wait, time after time, until a trial that ran alone is tried again where others filled
the memory.
"""


@dataclass(frozen=True)
class Failure:
    """A trial that has no outcome."""

    trial: Trial
    id: str
    reason: str
    """One line."""


class Actors(RayActorManager):
    """Tune's manager of the processes of trials.

    Tune's own raises where a process ends otherwise than by dying, e.g. by Ray's hand when memory
    runs short, and takes the sweep along.
    """

    def _actor_task_failed(
        self, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


class Driver(tune.Callback):
    """The sweep's side of Tune: feeds it jobs, hears of their ends, stops them when asked to."""

    def __init__(self, expansion: Expansion, store: Store) -> None:
        self.sweep = expansion.sweep
        self.store = store
        self.failures: list[Failure] = []
        self.interrupted = False
        self.look_at = 0.0
        """When to look at nodes and trials again, on the monotonic clock."""
        self.total, todo = jobs(expansion, store)
        self.most: float = expansion.sweep.resources.concurrent or math.inf
        """Trials that may run at once. The queue hands out fewer while others fill the memory."""
        self.queue = Queue(todo, self.most)
        self.slots = 1
        self.running: set[str] = set()
        """Tune's ids of trials that have started and not ended."""
        self.failed: Counter[str] = Counter()
        """Failures that count against `retries`, by trial."""
        self.waited = 0
        """Times in a row that a trial ran alone, and others filled the memory."""
        self.board = Board(f"forget-{secrets.token_hex(8)}")
        self.orders = Orders()

    def run(self, study: tracking.Study, slots: Slots) -> None:
        """Run every job; after Ctrl-C or SIGTERM, wait until the running ones have stopped.

        Args:
            study: where the trials' runs go.
            slots: the nodes' room for trials.
        """
        self.slots = int(min(slots.count, self.most))
        tune_controller.RayActorManager = Actors  # type: ignore[misc]  # its own name for it
        # What Tune makes of its own files at the end is read by nobody, and raises where the store
        # was away as they were written.
        tuning.ExperimentAnalysis = _no_analysis  # type: ignore[misc, assignment]  # the same
        with _on_signal(self._interrupt), _scratch(self.store, self.sweep.name) as scratch:
            # Trials waiting for a slot: as many as there are slots, so that their processes start
            # together; with a search one, since a setting that is proposed later is proposed
            # knowing more.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = (
                "1" if self.sweep.search else str(slots.count)
            )
            slot = tune.with_parameters(
                Slot,
                study=study,
                where=self.store.where,
                scratch=scratch,
                resources=slots.resources,
                board=self.board,
            )
            try:
                with Progress(self.total, self.slots) as self.progress:
                    tune.run(
                        slot,
                        name=self.sweep.name,
                        storage_path=scratch,
                        search_alg=self.queue,
                        num_samples=-1,
                        resources_per_trial=tune.PlacementGroupFactory(
                            [bundle(slots.resources, slots.memory)]
                        ),
                        reuse_actors=True,
                        raise_on_failed_trial=False,
                        callbacks=[self],
                        trial_dirname_creator=lambda trial: trial.trial_id,
                        verbose=0,
                    )
            # Where Ray's words come from elsewhere than a trial, Tune gives up in a traceback.
            except (RayError, tune.TuneError, RuntimeError) as error:
                short = shortage(str(error), self.board.pids() | {os.getpid()})
                if not short:
                    raise
                raise BadInput(f"{short}; once there is room, the same command goes on") from error
            finally:
                self.board.clear()

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Pass on an interrupt, and now and then look at the nodes and show where trials are."""
        if self.interrupted and not self.orders.stop:
            self._order(stop=True)
            self.progress.say("stopping the trials that run; Ctrl-C again ends them at once")
        if time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + LOOK_SECONDS
            self._order(leaving=tuple(sorted(ray._private.state.state.get_draining_nodes())))
            for running in self.running:
                id = self.queue.jobs[running].id
                if move := self.board.at(id):
                    self.progress.event(id, move)
        self.progress.tick()

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Show the trial, or have it stop at once: the sweep stops, or as many run as may."""
        job = self.queue.jobs[trial.trial_id]
        if len(self.running) >= self.queue.most:
            self._order(back=(*self.orders.back, job.id))
        elif not self.queue.closed:
            self.progress.started(job.id, label(job.trial, self.sweep))
        self.running.add(trial.trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Record a trial that finished or was refused; one that was stopped goes on later."""
        job = self._out(trial)
        if trial.last_result["stopped"]:
            self._order(back=tuple(id for id in self.orders.back if id != job.id))
            self.queue.put_back(job)
        else:
            self._ended(job, trial.last_result["reason"])

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Have a trial that failed start again from its last checkpoint, or record its failure."""
        job = self._out(trial)
        # Its process may have died before it started.
        self.progress.started(job.id, label(job.trial, self.sweep))
        self.board.forget(job.id)
        reason, counts = _reason(trial), True
        if short := shortage(_said(trial), self.board.pids() | {os.getpid()}):
            reason, counts = self._make_room(short)
        elif reason == LEFT:
            # A node that goes away is no failure of the trial, however often it happens.
            counts = False
        self.failed[job.id] += counts
        if self.failed[job.id] > self.sweep.resources.retries:
            last = f"{short}; {short.cure}" if short else reason
            self._ended(job, self._failure(job, trial, last))
        else:
            self.progress.again(job.id, reason)
            self.queue.put_back(job)

    def _out(self, trial: TuneTrial) -> Job:
        """Return the job of a trial that runs no more."""
        self.running.discard(trial.trial_id)
        return self.queue.jobs[trial.trial_id]

    def _make_room(self, short: Shortage) -> tuple[str, bool]:
        """Run fewer trials at once since a trial ended for want of memory.

        Return why it starts again, and whether that counts against `retries`: only that of a trial
        that was alone does, once others have had their time to make room.
        """
        before = min(len(self.queue.out) + 1, max(self.slots, len(self.running) + 1))
        before = int(min(before, self.queue.most))
        self.queue.most = max(1, before - 1)
        if not short.others:
            self.most = self.queue.most
        self.progress.slots = int(self.queue.most)
        if before > 1:
            return f"{short}; {before - 1} at a time from now on", False
        if short.others and self.waited < len(WAITS):
            seconds = WAITS[self.waited]
            self.waited += 1
            self.queue.wait(seconds)
            return f"{short}; trying again in {seconds} s", False
        return str(short), True

    def _failure(self, job: Job, trial: TuneTrial, reason: str) -> str:
        """Return why the trial failed, and the file that holds the whole story if it has room."""
        folder = Trials(self.store).folder(job.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(_said(trial), encoding="utf-8")
        except OSError:
            return reason
        return f"{reason} (see {folder / 'error.txt'})"

    def _ended(self, job: Job, reason: str | None) -> None:
        """Record the end of a trial. The store says whether it has finished, not Tune."""
        outcome = Trials(self.store).outcome(job.id)
        job.ended(outcome)
        if outcome:
            self.progress.finished(job.id, outcome)
            # Others may have made room.
            self.waited = 0
            self.queue.most = min(self.most, self.queue.most + 1)
        else:
            failure = Failure(
                job.trial, job.id, reason or f"its results are not in {self.store.where}"
            )
            self.failures.append(failure)
            self.progress.failed(job.id, failure.reason)

    def _order(self, **changed: Any) -> None:
        """Change the orders to trials."""
        orders = self.orders.model_copy(update=changed)
        if orders != self.orders:
            self.orders = orders
            self.board.command(orders)

    def _interrupt(self) -> None:
        self.interrupted = self.queue.closed = True


def _no_analysis(**about: Any) -> None:
    """Stand for Tune's analysis: the store says which trials have finished."""


@contextmanager
def _scratch(store: Store, name: str) -> Iterator[str]:
    """Make a place in the store for Tune's own files; yield its path or URL.

    A node that sees the folder sees the store (Slot.step).
    """
    if store.remote:
        # A driver that was killed leaves files, and one that was cut off may still write some.
        place = f"tune-{name}"
        store.remote.clear(place)
        try:
            yield f"{store.where}/{place}/{secrets.token_hex(8)}"
        finally:
            store.remote.clear(place)
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


def _said(trial: TuneTrial) -> str:
    """Return the trial's traceback, or Ray's words for why its process ended."""
    return without_secrets(Path(trial.error_file).read_text(encoding="utf-8").strip())


def _reason(trial: TuneTrial) -> str:
    """Return the last line of the trial's traceback, or words for a process that died."""
    text = _said(trial)
    if "ActorDiedError" in text or "actor died" in text:
        return "its process died, killed or out of memory"
    last = text.rpartition("\n")[2]
    return LEFT if last.endswith(LEFT) else last
