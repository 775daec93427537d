"""A sweep's trials, run by Ray Tune on this machine or on a cluster; the only room that knows Ray."""

from __future__ import annotations

import errno
import gc
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray import tune
from ray.autoscaler.sdk import request_resources
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from forget import plan, report, tracking
from forget.events import Event, Observe, Outcome, Step
from forget.journal import without_secrets
from forget.kernels import keep_memory
from forget.settings import BadInput, Resources, Sweep, Trial
from forget.store import Store
from forget.trial import run_trial
from pipelines.jobs import Job, finished, finished_ids, jobs
from pipelines.processes import run_processes
from pipelines.progress import Board, Progress, label

POST_SECONDS = 0.2
"""Between two reports of a trial to the driver; each also asks whether to stop."""

LEAVING_SECONDS = 1.0
"""Between two looks at which nodes go away; those of a cloud say so half a minute before."""

NODE_SECONDS = 300
"""How long a cluster may take to grow a node that can hold a trial."""

FULL = os.strerror(errno.ENOSPC)

PROJECT = Path(__file__).parent.parent

FOLDERS, LOCK = Path("/tmp"), "driver.lock"  # noqa: S108  its folders are made by mkdtemp
"""Where the Ray of a sweep keeps its own files, in a folder whose lock says that the sweep lives."""

KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}

OBJECTS = 100 * 2**20
"""Bytes of Ray's object store. Trials exchange files, not objects; Ray would take a third of the memory."""

TUNE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's handler would wait for the running steps, and a step is a whole trial.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's newer output prints a table even where it is told to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Failure:
    """A trial that has no outcome."""

    trial: Trial
    id: str
    reason: str
    """One line."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left behind."""

    outcomes: tuple[Outcome, ...]
    """Finished trials, those of earlier runs of the sweep included, in the sweep's order."""
    failures: tuple[Failure, ...]
    interrupted: bool
    report: Path | None
    """The page; None where the sweep was interrupted or nothing has finished."""


def run(sweep: Sweep, spec_text: str, address: str | None = None) -> SweepResult:
    """Run what is not finished, then log and report everything.

    Args:
        spec_text: the spec as it was written, kept with the study.
        address: of a Ray cluster that runs; by default one is started on this machine for as long as the sweep takes.

    Raises:
        BadInput: a trial that cannot run, resources that no node has, a disk too small, no cluster at the address.
    """
    store = Store(sweep.store)
    left = plan.check(sweep, store).todo
    # Whatever is refused is refused before anything is written or logged.
    with _slots(sweep.resources, address) if left else nullcontext(0) as slots, _alone(sweep, store):
        store.mend()
        driver = Driver(sweep, store)
        study = tracking.open_study(sweep, spec_text)
        status: str = "FAILED"
        written: report.Report | None = None
        try:
            if driver.total:
                driver.run(study, slots)
            outcomes = finished(sweep, store)
            with _tracking_may_be_away():
                tracking.sync(study, store, [outcome.id for outcome in outcomes])
            written = _written(sweep, store, outcomes, driver.failures) if outcomes and not driver.interrupted else None
            status = "KILLED" if driver.interrupted else "FAILED" if driver.failures else "FINISHED"
            return SweepResult(outcomes, tuple(driver.failures), driver.interrupted, written.page if written else None)
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            with _tracking_may_be_away():
                counts = {"trials/finished": len(finished_ids(sweep, store)), "trials/failed": len(driver.failures)}
                tracking.close_study(study, status, counts, written)


def write_report(sweep: Sweep, store: Store) -> report.Report:
    """The report over what has finished, in report/<sweep's name>/.

    Raises:
        BadInput: nothing has.
    """
    outcomes = finished(sweep, store)
    if not outcomes:
        raise BadInput(f'no trial of sweep "{sweep.name}" has finished in {store.where}; run it first with: forget sweep')
    return _written(sweep, store, outcomes)


def _written(sweep: Sweep, store: Store, outcomes: Sequence[Outcome], failures: Sequence[Failure] = ()) -> report.Report:
    reasons = [f"{label(failure.trial, sweep)}: {failure.reason}" for failure in failures]
    frames = {outcome.id: store.frame(outcome.id) for outcome in outcomes}
    return report.write(sweep, outcomes, frames, Path("report") / sweep.name, failures=reasons)


def send(sweep: Sweep, spec_text: str, store: Store) -> int:
    """Send the tracking server what it lacks of the sweep; how many trials that were.

    Raises:
        Unreachable: the server is away.
    """
    study = tracking.open_study(sweep, spec_text)
    ids = finished_ids(sweep, store)
    sent = tracking.sync(study, store, ids)
    left, _ = jobs(sweep, store)
    tracking.close_study(study, "KILLED" if left else "FINISHED", {"trials/finished": len(ids)})
    return sent


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
            # Trials waiting for a slot: as many as there are slots, so that their processes start together; with a search
            # one, since a setting that is proposed later is proposed knowing more.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1" if self.sweep.search else str(slots)
            # Here, since any other node may go away.
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self.board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
            slot = tune.with_parameters(
                Slot, study=study, where=self.store.where, scratch=scratch, resources=resources, board=self.board
            )
            with Progress(self.total, min(slots, resources.concurrent or slots)) as self.progress:
                tune.run(
                    slot,
                    name=self.sweep.name,
                    storage_path=scratch,
                    search_alg=self.queue,
                    num_samples=-1,
                    max_concurrent_trials=resources.concurrent,
                    resources_per_trial=tune.PlacementGroupFactory([_bundle(resources)]),
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

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        job = self.queue.jobs[trial.trial_id]
        if not self.queue.closed:
            self.progress.started(job.id, label(job.trial, self.sweep))

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        job = self.queue.jobs[trial.trial_id]
        if (reason := _reason(trial)) == LEFT:
            # No failure of the trial, however often it happens.
            trial.max_failures += 1
        elif trial.run_metadata.num_failures == trial.max_failures:
            self.board.give_up.remote(job.id, self._failure(job, trial))
            return
        self.progress.again(job.id, reason)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if not trial.last_result["stopped"]:
            self._ended(self.queue.jobs[trial.trial_id], trial.last_result["reason"])

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        job = self.queue.jobs[trial.trial_id]
        self._ended(job, self._failure(job, trial))

    def _failure(self, job: Job, trial: TuneTrial) -> str:
        """Why the trial failed, and where the whole story lies, unless the disk has no room for it."""
        folder = self.store.trial(job.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            story = Path(trial.error_file).read_text(encoding="utf-8")
            (folder / "error.txt").write_text(without_secrets(story), encoding="utf-8")
        except OSError:
            return _reason(trial)
        return f"{_reason(trial)} (see {folder / 'error.txt'})"

    def _ended(self, job: Job, reason: str | None) -> None:
        outcome = self.store.outcome(job.id)
        job.ended(outcome)
        if outcome:
            self.progress.finished(job.id, outcome)
        else:
            failure = Failure(job.trial, job.id, reason or f"its results are not in {self.store.where}")
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

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn here: Driver hears of it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep goes on from the store, not from Tune's own state."""


class Left(KeyboardInterrupt):
    """The machine goes away: the trial keeps its state."""


LEFT = "its machine goes away"


class Slot(tune.Trainable):
    """A warm process that runs one trial after another: torch is imported once."""

    def setup(  # type: ignore[override]  # tune.with_parameters gives what follows the config
        self,
        config: dict[str, Any],
        study: tracking.Study,
        where: str,
        scratch: str,
        resources: Resources,
        board: ray.actor.ActorHandle,
    ) -> None:
        torch.set_num_threads(max(1, int(resources.cpus)))
        keep_memory()
        # Training collects garbage twice a trial. What was imported is none, and to look through it takes a third of a second.
        gc.freeze()
        self.study = study
        self.store = Store(where)
        self.scratch = scratch
        self.resources = resources
        self.board = board
        self.node = ray.get_runtime_context().get_node_id()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        """A whole trial. An error that would only happen again ends it; any other is Tune's to retry."""
        id, trial = self.config["id"], Trial.model_validate_json(self.config["trial"])
        result: dict[str, Any] = {"done": True, "reason": None, "stopped": False}
        try:
            self._go_on(ray.get(self.board.order.remote(id, self.node)))
            if not self.store.remote and not Path(self.scratch).exists():
                raise BadInput(f"{self.store.root} is not on this node: every node must see the store, set FORGET_STORE")
            with tracking.trial_sink(self.study, trial, id, self.store) as sink:
                self._run(trial, self._observer(id, sink))
        except (BadInput, FloatingPointError) as error:
            result["reason"] = without_secrets(str(error))
        except Left as error:
            raise RuntimeError(LEFT) from error
        except KeyboardInterrupt:
            result["stopped"] = True
        except Exception as error:
            # safetensors has an error of its own for it, which only its text tells.
            if FULL not in str(error):
                raise
            result["reason"] = f"{FULL}: make room for {self.store.root}, and the same command goes on"
        return result

    def _run(self, trial: Trial, observe: Observe) -> None:
        if self.resources.workers > 1:
            run_processes(trial, self.resources, observe, self.store)
        else:
            run_trial(trial, observe, self.store, self.resources.checkpoint_minutes)

    def _observer(self, id: str, sink: Observe) -> Observe:
        """To the sink, and now and then to the driver, which may answer that the sweep stops."""
        posted = 0.0

        def observe(event: Event) -> None:
            nonlocal posted
            sink(event)
            now = time.monotonic()
            if isinstance(event, Step) and now - posted < POST_SECONDS:
                return
            posted = now
            order = ray.get(self.board.post.remote(id, event, self.node))
            if not isinstance(event, Outcome):
                self._go_on(order)

        return observe

    def _go_on(self, order: str) -> None:
        if order == "leave":
            raise Left
        if order == "stop":
            raise KeyboardInterrupt
        if order != "go on":
            raise BadInput(order)


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Ray: the cluster at the address, or one on this machine for as long as the block lasts. Sweeps within the block share it.

    Raises:
        BadInput: no cluster at the address, or it wants another token.
    """
    if ray.is_initialized():
        yield
        return
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(TUNE | {"PYTHONPATH": path})
    # Tune would hand them to each trial in a way that `ps` and Ray's logs show. Trials have the environment of their node.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(KEYS)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    _clear_folders()
    # The folder holds sockets, whose paths end at 107 bytes: TMPDIR may be too long.
    draft = Path(tempfile.mkdtemp(prefix=".ray-", dir=FOLDERS))
    lock = FileLock(draft / LOCK)
    lock.acquire()
    # Under the name at which others look only now that it is locked.
    folder = draft.rename(FOLDERS / draft.name[1:])
    try:
        if not address:
            # Ray protects what it starts by a token, which it would write under HOME. Ours lives as long as this process.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            ray.init(include_dashboard=False, object_store_memory=OBJECTS, _temp_dir=str(folder), **quiet)
            _watch()
        else:
            _connect(address, runtime_env={"env_vars": TUNE | {"PYTHONPATH": path}}, **quiet)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _watch() -> None:
    """From now on this process ends when one that Ray stands on dies before Ray is shut down.

    Nothing goes on without them; Ray itself would wait for a minute and then end this process without a word.
    """
    node = ray._private.worker._global_node

    def wait(name: str) -> None:
        node.all_processes[name][0].process.wait()
        if ray.is_initialized() and ray._private.worker._global_node is node:
            print(f"forget: Ray's process {name} died, killed or out of memory; the same command goes on", file=sys.stderr)
            # Whatever the main thread waits for will never come. What Ray started goes with this process.
            os._exit(1)

    for name in ("gcs_server", "raylet"):
        threading.Thread(target=wait, args=[name], daemon=True).start()


def _clear_folders() -> None:
    """Remove the folders of sweeps that were killed: nobody holds their locks."""
    for path in FOLDERS.glob(f"ray-*/{LOCK}"):
        with suppress(Timeout, OSError), FileLock(path, timeout=0):
            shutil.rmtree(path.parent)


def _connect(address: str, **settings: Any) -> None:
    if "://" in address:
        raise BadInput(f'"{address}" is a Ray client: run the sweep on the cluster (ray job submit), with --address auto')
    host, _, port = address.rpartition(":")
    try:
        if address != "auto":
            # Ray itself would knock for a quarter of an hour.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **settings)
    except (OSError, ValueError, ray.exceptions.AuthenticationError):
        # Ray tells a cluster that is not there from one that refuses our token on standard error alone.
        cure = "start one with: ray start --head; where one runs, RAY_AUTH_TOKEN must be its token"
        raise BadInput(f'no Ray cluster answers at "{address}"; {cure}') from None


@contextmanager
def _slots(resources: Resources, address: str | None) -> Iterator[int]:
    """Ray (see `cluster`), and how many trials its nodes hold at once.

    Raises:
        BadInput: none, nor does a cluster grow a node that does. Ray would wait for ever.
    """
    bundle = _bundle(resources)
    with cluster(address):
        until = time.monotonic() + (NODE_SECONDS if address else 0)
        while not (slots := sum(_fitting(node, bundle) for node in _nodes())):
            if time.monotonic() >= until:
                wanted = ", ".join(f"{n:g} {kind}" for kind, n in bundle.items() if n)
                have = "; ".join(", ".join(f"{node.get(kind, 0):g} {kind}" for kind in bundle) for node in _nodes())
                raise BadInput(f"[resources]: a trial takes {wanted}, which no node has (the nodes have: {have})")
            request_resources(bundles=[bundle])
            time.sleep(1)
        yield slots


def _bundle(resources: Resources) -> dict[str, float]:
    """What a trial takes. One bundle, hence one node: its processes share GPUs by NVLink or PCIe, not by the network."""
    return {"CPU": resources.cpus * resources.workers, "GPU": resources.gpus * resources.workers}


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fitting(node: dict[str, float], bundle: dict[str, float]) -> int:
    return min(int(node.get(kind, 0) // n) for kind, n in bundle.items() if n)


@contextmanager
def _alone(sweep: Sweep, store: Store) -> Iterator[None]:
    """Waits while another process of this machine runs a sweep of that name in the store."""
    (folder := store.root / "sweeps").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{sweep.name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f'another process runs sweep "{sweep.name}" in {store.where}: waiting for its end', flush=True)
        held = lock.acquire(poll_interval=1)
    with held:
        yield


@contextmanager
def _scratch(store: Store, name: str) -> Iterator[str]:
    """A folder or URL in the store for Tune's own files; that a node sees the folder proves that it sees the store."""
    if store.remote:
        name = f"tune/{secrets.token_hex(8)}"
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


@contextmanager
def _tracking_may_be_away() -> Iterator[None]:
    """A server that is away must not cost a sweep its results, which lie in the store."""
    try:
        yield
    except tracking.Unreachable as error:
        logging.getLogger(__name__).warning("%s; once it is back, send what it lacks with: forget sync", error)


def _reason(trial: TuneTrial) -> str:
    text = without_secrets(Path(trial.error_file).read_text(encoding="utf-8").strip())
    if "ActorDiedError" in text or "actor died" in text:
        return "its process died, killed or out of memory"
    last = text.rpartition("\n")[2]
    return LEFT if last.endswith(LEFT) else last
