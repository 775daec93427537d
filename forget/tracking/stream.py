"""A trial's events while it runs: to the journal at once, to its run in the background.

The run shows a preview of the trial's curves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import closing, contextmanager

from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from forget.events import Event, Observe, Step, ignore
from forget.redaction import without_secrets
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.journal import FILE, Ended, Journal, Started, alone
from forget.storage.store import Store
from forget.tracking.connection import BATCH, Unreachable, Unusable, reaching
from forget.tracking.provenance import environment
from forget.tracking.publishing import close, curves, curves_there, publish
from forget.tracking.study import Study, child, connected

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
"""Pause between two batches of a running trial's metrics."""
JOURNAL_SECONDS = 30.0
"""Pause between two copies of a running trial's journal, where the store is one that several
machines share.
"""
GIVE_UP_SECONDS = 30.0
"""The time that a trial which is done waits for its last batch; the rest is left to `sync`."""


@contextmanager
def trial_sink(study: Study, trial: Trial, id: str, store: Store) -> Iterator[Observe]:
    """Give a sink for the trial's events: to the journal at once, to its run in the background.

    The run ends FINISHED and published, FAILED with the exception's text as the tag forget.error,
    or KILLED (interrupt, exit). A server that is away costs one warning.

    Raises:
        BadInput: another process is running the trial.
    """
    trials = Trials(store)
    with alone(trials.folder(id), id):
        finished_before = trials.outcome(id) is not None
        journal = Journal(store.fetch_growing(f"trials/{id}/{FILE}"))
        stream = _Stream(study, store, journal)
        if not finished_before:
            datasets = {
                task: study.datasets[task] for task in trial.tasks if task in study.datasets
            }
            journal.append(Started(trial=trial, id=id, tags=environment(), datasets=datasets))
            stream.start()
        ended = Ended(status="FINISHED")
        try:
            yield ignore if finished_before else stream.observe
            if trials.outcome(id) is None:
                ended = Ended(status="FAILED", error="the trial left no outcome in the store")
        except BaseException as error:
            text = without_secrets(f"{type(error).__name__}: {error}")
            ended = Ended(
                status="FAILED" if isinstance(error, Exception) else "KILLED", error=text[:2000]
            )
            raise
        finally:
            try:
                if not finished_before:
                    with closing(journal):
                        journal.append(ended)
            finally:
                # Also where the disk is full: the server need not be told by the next sweep.
                stream.finish(lambda: (publish if trials.outcome(id) else close)(study, store, id))
            store.publish_file(f"trials/{id}/{FILE}")
            # What could not be sent may be for another machine to send.
            store.publish_folder(f"trials/{id}/model")
            store.drop_copy(f"trials/{id}/model")


class _Stream(threading.Thread):
    """Sends a running trial's curves. Nothing depends on it: what it loses, `publish` sends."""

    def __init__(self, study: Study, store: Store, journal: Journal) -> None:
        super().__init__(name="forget-tracking", daemon=True)
        self._study, self._store, self._journal = study, store, journal
        # A trial that resumes repeats some steps, which were sent the first time.
        self._before = {
            (e.event.stage, e.event.step) for e in journal.entries() if isinstance(e.event, Step)
        }
        self._pending: list[Metric] = []
        self._done = threading.Event()
        self._warned = False
        self._sent = time.monotonic()

    def observe(self, event: Event) -> None:
        """Write an event to the journal, and keep its points for the next batch."""
        entry = self._journal.append(event)
        if isinstance(event, Step) and (event.stage, event.step) not in self._before:
            self._pending.extend(curves([entry]))
        if time.monotonic() - self._sent > JOURNAL_SECONDS:
            self._store.publish_file(str(self._journal.path.relative_to(self._store.root)))
            self._sent = time.monotonic()

    def run(self) -> None:
        """Open the run and send batches until `finish`; try again where the server is away."""
        monitor: SystemMetricsMonitor | None = None
        run_id = ""
        there: Set[tuple[str, int]] = set()
        done = False
        while not done:
            done = self._done.is_set()
            try:
                with reaching(self._study.uri):
                    if monitor is None:
                        run_id = self._opened()
                        # A machine that vanished may have sent what its journal in the store lacks.
                        there = curves_there(self._study, run_id)
                        monitor = SystemMetricsMonitor(
                            run_id, resume_logging=True, tracking_uri=self._study.uri
                        )
                        monitor.start()
                    while batch := self._pending[:BATCH]:
                        new = [one for one in batch if (one.key, one.step) not in there]
                        self._study.client.log_batch(run_id, metrics=new)
                        del self._pending[: len(batch)]
            except Unreachable as error:
                self._warn(error)
                # A database that has to be mended first is not asked again.
                done = done or isinstance(error, Unusable)
            self._done.wait(FLUSH_SECONDS)
        if monitor:
            monitor.finish()

    def finish(self, send: Callable[[], object]) -> None:
        """Stop, then `send` the rest in the caller's thread."""
        self._done.set()
        if self.ident:
            self.join(GIVE_UP_SECONDS)
        if self.is_alive():
            return self._warn(
                Unreachable(f"{without_secrets(self._study.uri)}: the tracking server hangs")
            )
        try:
            send()
        except Unreachable as error:
            self._warn(error)

    def _opened(self) -> str:
        study = connected(self._study, self._store)
        started = self._journal.started()
        assert started
        run = child(study, started, self._journal.entries()[0].time, started.tags)
        if run.info.status != "RUNNING":
            study.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def _warn(self, error: Unreachable) -> None:
        if not self._warned:
            log.warning(
                "%s; the trial goes on, its journal keeps everything until `forget sync`", error
            )
        self._warned = True
