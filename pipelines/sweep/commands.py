"""Commands over a sweep: run it, send it to the tracking server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from forget import report, tracking
from forget.audits.catalogue import chosen
from forget.errors import BadInput
from forget.planning import plan
from forget.planning.standing import finished, finished_ids, standings
from forget.preflight import decide, expand, remembered
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep
from forget.settings.trial import Precision
from forget.storage.finished import Trials
from forget.storage.store import Store
from pipelines import reports
from pipelines.progress import label
from pipelines.sweep import auditing
from pipelines.sweep.driver import Driver, Failure
from pipelines.sweep.nodes import Slots, precision, slots


@dataclass(frozen=True)
class SweepResult:
    """Results of a sweep that has ended or was interrupted."""

    outcomes: tuple[Outcome, ...]
    """Finished trials, those of earlier runs of the sweep included, in the sweep's order."""
    failures: tuple[Failure, ...]
    interrupted: bool
    report: Path | None
    """The page; None where the sweep was interrupted or nothing has finished."""
    link: str | None = None
    """Address of its trials in MLflow; None where the server was away."""
    missing: tuple[str, ...] = ()
    """A sentence for each audit that failed; its trial stands."""


def run(sweep: Sweep, spec_text: str, address: str | None = None) -> SweepResult:
    """Run what is not finished, then log and report everything.

    Args:
        sweep: the study.
        spec_text: the spec as it was written, kept with the study.
        address: of a Ray cluster that runs; by default one is started on this machine for as long
            as the sweep takes.

    Raises:
        BadInput: a trial that cannot run, resources that no node has, a disk too small, no cluster
            at the address, a place that cannot be written.
    """
    store = Store(sweep.store)
    audits = chosen(sweep.audits)
    expansion = expand(sweep, store, _precision(sweep, store, address))
    planned = plan.check(expansion, store)
    _auditable(sweep)
    unaudited = auditing.left(sweep, audits, finished(standings(expansion, store), store), store)
    todo = planned.todo or len(unaudited)
    if (why := store.read_only() or reports.no_place(sweep.name)) and todo:
        raise BadInput(why)
    if why:
        # Another user's study, perhaps: what has finished of it can be read all the same.
        logging.getLogger(__name__).warning("%s; nothing is left to run, nor written now", why)
        return SweepResult(finished(standings(expansion, store), store), (), False, None)
    none = nullcontext(Slots(sweep.resources, 0))
    room = slots(sweep.resources, address, planned.memory, planned.footprint) if todo else none
    # Whatever is refused is refused before anything is written or logged.
    with room as held, _alone(sweep, store):
        decide(expansion, store)
        Trials(store).mend()
        driver = Driver(expansion, store)
        study = tracking.open_study(expansion, spec_text)
        status: str = "FAILED"
        written: report.Report | None = None
        try:
            if driver.total:
                driver.run(study, held)
            found = standings(expansion, store)
            outcomes = finished(found, store)
            with _tracking_may_be_away():
                tracking.sync(study, store, [outcome.id for outcome in outcomes])
            missing: list[str] = []
            if audits and not driver.interrupted:
                jobs = auditing.left(sweep, audits, outcomes, store)
                missing = auditing.run(sweep, jobs, store, held)
                with _tracking_may_be_away():
                    tracking.publish_audits(study, store, outcomes)
            if outcomes and not driver.interrupted:
                reasons = [f"{label(one.trial, sweep)}: {one.reason}" for one in driver.failures]
                reasons += missing
                written = reports.write(sweep, found, store, outcomes, reasons)
            status = _status(driver)
            page = written.page if written else None
            return SweepResult(
                outcomes,
                tuple(driver.failures),
                driver.interrupted,
                page,
                tracking.link(study),
                tuple(missing),
            )
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            with _tracking_may_be_away():
                counts = {
                    "trials_finished": len(finished_ids(expansion, store)),
                    "trials_failed": len(driver.failures),
                }
                tracking.close_study(study, status, counts, written)


def audit(sweep: Sweep, spec_text: str, address: str | None = None) -> SweepResult:
    """Audit what has finished of a sweep; no trial is run.

    Args:
        sweep: the study, with the audits to run.
        spec_text: the spec as it was written.
        address: of a Ray cluster that runs; by default one is started on this machine.

    Raises:
        BadInput: nothing has finished, an unknown audit, or a place that cannot be written.
    """
    store = Store(sweep.store)
    audits = chosen(sweep.audits)
    expansion = expand(sweep, store, _precision(sweep, store, address))
    found = standings(expansion, store)
    outcomes = finished(found, store)
    if not outcomes:
        raise BadInput(
            f'no trial of sweep "{sweep.name}" has finished in {store.where}; '
            "run it first with: forget sweep"
        )
    if why := store.read_only() or reports.no_place(sweep.name):
        raise BadInput(why)
    _auditable(sweep)
    jobs = auditing.left(sweep, audits, outcomes, store)
    missing: list[str] = []
    if jobs:
        with slots(sweep.resources, address) as held, _alone(sweep, store):
            missing = auditing.run(sweep, jobs, store, held)
    link = None
    with _tracking_may_be_away():
        study = tracking.open_study(expansion, spec_text)
        tracking.publish_audits(study, store, outcomes)
        link = tracking.link(study)
    page = reports.write(sweep, found, store, outcomes, missing).page
    return SweepResult(outcomes, (), False, page, link, tuple(missing))


def _auditable(sweep: Sweep) -> None:
    """Refuse audits of models that one process does not hold.

    Raises:
        BadInput: the sweep shares its models out.
    """
    if sweep.audits and sweep.resources.shard:
        raise BadInput("[resources] shard = true: audits take a model whole, in one process")


def _precision(sweep: Sweep, store: Store, address: str | None) -> Precision | None:
    """Ask the nodes of a cluster what "auto" means there; None where nobody needs to be asked."""
    asked = sweep.base.get("precision", "auto") == "auto" or "precision" in sweep.axes
    if not address or not asked or remembered(sweep, store):
        return None
    with slots(sweep.resources, address) as held:
        return precision(held.resources)


def _status(driver: Driver) -> str:
    """Return MLflow's word for how the sweep ended."""
    if driver.interrupted:
        return "KILLED"
    return "FAILED" if driver.failures else "FINISHED"


def send(sweep: Sweep, spec_text: str, store: Store) -> tuple[int, str | None]:
    """Send the tracking server what it lacks of the sweep.

    Returns:
        The number of trials that lacked something, and the address of all in MLflow.

    Raises:
        Unreachable: the server is away.
        BadInput: the store may only be read; what was sent is noted there.
    """
    if why := store.read_only():
        raise BadInput(why)
    expansion = expand(sweep, store)
    study = tracking.open_study(expansion, spec_text)
    found = standings(expansion, store)
    ids = list(chain.from_iterable(one.done for one in found))
    sent = tracking.sync(study, store, ids)
    status = "KILLED" if any(one.left for one in found) else "FINISHED"
    # Without a report, a run that was made anew would have neither page nor numbers.
    written = None
    if ids and not reports.no_place(sweep.name):
        written = reports.write(sweep, found, store, finished(found, store))
    tracking.close_study(study, status, {"trials_finished": len(ids)}, written)
    return sent, tracking.link(study)


@contextmanager
def _alone(sweep: Sweep, store: Store) -> Iterator[None]:
    """Wait while another process of this machine runs a sweep of that name in the store."""
    (folder := store.root / "sweeps").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{sweep.name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(
            f'another process runs sweep "{sweep.name}" in {store.where}: waiting for its end',
            flush=True,
        )
        held = lock.acquire(poll_interval=1)
    with held:
        yield


@contextmanager
def _tracking_may_be_away() -> Iterator[None]:
    """Warn where the server is away: the sweep's results lie in the store and are not lost."""
    try:
        yield
    except tracking.Unreachable as error:
        logging.getLogger(__name__).warning(
            "%s; once it is back, send what it lacks with: forget sync", error
        )
