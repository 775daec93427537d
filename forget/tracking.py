"""MLflow: an experiment per study, a parent run per sweep, a child per trial, a registered model per (model, task).

Everything a trial observes lies in its journal first; what reaches MLflow while it runs is a preview, and `publish` and `sync`
send whatever is missing, exactly once. The only room that imports mlflow.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

# MLflow reads these on import. Two retries, not seven: the journal outlasts a server that is away, so nobody need wait for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the URL may hold a password
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import mlflow.transformers
import requests
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema

from forget import tasks
from forget.card import model_card
from forget.events import Event, Observe, Outcome, StageStarted, Step, ignore
from forget.journal import FILE, Ended, Entry, Journal, Started, alone, environment, without_secrets
from forget.metrics import Row, course, metric_name
from forget.remote import within
from forget.settings import BadInput, Sweep, Trial, digest, nearest
from forget.store import Store, whole_folder, write_text
from forget.vetting import check_folder

if TYPE_CHECKING:
    from forget.models import LanguageModel
    from forget.report import Report

log = logging.getLogger(__name__)
# Again, for whoever imported mlflow first.
logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
logging.getLogger("alembic").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])

FLUSH_SECONDS = 5.0
"""Pause between two batches of a running trial's metrics."""
JOURNAL_SECONDS = 30.0
"""Pause between two copies of a running trial's journal, where the store is one that several machines share."""
GIVE_UP_SECONDS = 30.0
"""How long a trial that is done waits for its last batch before it leaves the rest to `sync`."""
BATCH = 1000
"""Metrics a request: MLflow's limit."""
OUR_MISTAKES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
"""Error codes that a server gives when it is there and right."""


class Unreachable(BadInput):
    """The tracking server does not answer, or refuses the user."""


@dataclass(frozen=True)
class Study:
    """Where a sweep's runs go. Ids are empty until the server has answered once."""

    uri: str = field(repr=False)
    """May hold a password."""
    sweep: Sweep
    spec: str = field(repr=False)
    datasets: dict[str, str]
    """Fingerprint by task."""
    experiment_id: str = ""
    run_id: str = ""

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)


def tracking_uri() -> str:
    """$MLFLOW_TRACKING_URI, or the SQLite file mlflow.db in the working directory. Absolute: workers run elsewhere."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def ui_command() -> tuple[list[str], dict[str, str]]:
    """The command that serves MLflow's pages over the local store, to this machine alone, and what to add to its environment.

    Raises:
        BadInput: $MLFLOW_TRACKING_URI is a server, which has its own pages.
    """
    uri = tracking_uri()
    if uri.startswith("http"):
        raise BadInput(f"MLFLOW_TRACKING_URI is the server {without_secrets(uri)}: open that address in a browser")
    # Nobody asks for a password here. The database's own may be in the address, which `ps` must not show.
    serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    folder = _artifacts(uri)
    return [*serve, "--artifacts-destination", folder] if folder else serve, {"MLFLOW_BACKEND_STORE_URI": uri}


def open_study(sweep: Sweep, spec_text: str) -> Study:
    """The sweep's parent run, made or reopened. Where the server is away, a warning, and the run is made once it is back.

    Raises:
        BadInput: a task is unknown, or the experiment was deleted.
    """
    trials = sweep.trials()
    folders = {task: trial.folders for trial in trials for task in trial.tasks}
    datasets = {task: tasks.fingerprint([task], where) for task, where in folders.items()}
    study = Study(tracking_uri(), sweep, spec_text, datasets)
    try:
        with _reaching(study.uri):
            study = _connected(study)
            study.client.update_run(study.run_id, status="RUNNING")
    except Unreachable as error:
        log.warning("%s; the trials' journals keep everything until `forget sync`", error)
    return study


def close_study(study: Study, status: str, counts: Mapping[str, float], report: Report | None = None) -> None:
    """Log the report's files, headline numbers and verdicts to the parent run, and end it FINISHED, FAILED or KILLED.

    Raises:
        Unreachable: the server is away.
    """
    numbers = dict(counts)
    for name, estimate in report.numbers.items() if report else ():
        value, low, high = estimate.numbers
        numbers |= {name: value, f"{name}/low": low, f"{name}/high": high}
    with _reaching(study.uri):
        study = _connected(study)
        if report:
            study.client.log_artifacts(study.run_id, str(report.page.parent), "report")
        before = study.client.get_run(study.run_id).data.metrics
        now = time.time_ns() // 1_000_000

        def goes(name: str) -> int:
            """How often the number was logged: a sweep that went on has another, at the next step of its curve."""
            return len(study.client.get_metric_history(study.run_id, name)) if name in before else 0

        changed = [Metric(name, value, now, goes(name)) for name, value in numbers.items() if before.get(name) != value]
        tags = [RunTag(f"forget.claim.{claim}", verdict) for claim, verdict in report.verdicts.items()] if report else []
        for start in range(0, max(1, len(changed)), BATCH):
            study.client.log_batch(study.run_id, metrics=changed[start : start + BATCH], tags=tags if start == 0 else ())
        study.client.set_terminated(study.run_id, status)


@contextmanager
def trial_sink(study: Study, trial: Trial, id: str, store: Store) -> Iterator[Observe]:
    """A sink for the trial's events: to the journal at once, to the trial's run in the background.

    The run ends FINISHED and published, FAILED with the exception's text as the tag forget.error, or KILLED (interrupt, exit).
    A server that is away costs one warning.

    Raises:
        BadInput: another process is running the trial.
    """
    with alone(store.trial(id), id):
        finished_before = store.outcome(id) is not None
        journal = Journal(store.log(f"trials/{id}/{FILE}"))
        stream = _Stream(study, store, journal)
        if not finished_before:
            datasets = {task: study.datasets[task] for task in trial.tasks if task in study.datasets}
            journal.append(Started(trial=trial, id=id, tags=environment(), datasets=datasets))
            stream.start()
        ended = Ended(status="FINISHED")
        try:
            yield ignore if finished_before else stream.observe
            if store.outcome(id) is None:
                ended = Ended(status="FAILED", error="the trial left no outcome in the store")
        except BaseException as error:
            text = without_secrets(f"{type(error).__name__}: {error}")
            ended = Ended(status="FAILED" if isinstance(error, Exception) else "KILLED", error=text[:2000])
            raise
        finally:
            try:
                if not finished_before:
                    with closing(journal):
                        journal.append(ended)
            finally:
                # Also where the disk is full: the server need not be told by the next sweep.
                stream.finish(lambda: publish(study, store, id) if store.outcome(id) else _close(study, store, id))
            store.send(f"trials/{id}/{FILE}")
            # What could not be sent may be for another machine to send.
            store.send_folder(f"trials/{id}/model")
            store.release(f"trials/{id}/model")


def publish(study: Study, store: Store, id: str) -> bool:
    """Send what the run of a finished trial still lacks, from the store alone; False where it lacks nothing.

    Raises:
        BadInput: the trial is not finished.
        Unreachable: the server is away.
    """
    outcome = store.outcome(id)
    if outcome is None:
        raise BadInput(f"trial {id} is not finished: {store.trial(id)} has no outcome.json")
    marker = store.log(f"trials/{id}/published.json")
    with FileLock(store.trial(id) / "publish.lock"), _reaching(study.uri):
        study = _connected(study, store)
        sent = json.loads(marker.read_text()) if marker.exists() else {}
        if study.run_id in sent:
            return False
        journal = Journal(store.log(f"trials/{id}/{FILE}"))
        entries = journal.entries()
        end = entries[-1].time if entries else (store.trial(id) / "outcome.json").stat().st_mtime_ns // 1_000_000
        started = journal.started() or Started(trial=outcome.trial, id=id, tags=environment(), datasets=study.datasets)
        tags = {**started.tags, "forget.learned": outcome.learned_id, "forget.data": outcome.data}
        run = _child(study, started, entries[0].time if entries else end, tags)
        _send_curves(study, run.info.run_id, entries)
        _send_artifacts(study, run.info.run_id, outcome, store, started.datasets)
        version, model_id = _register(study, outcome, run.info.run_id, store, tags)
        # After the model: MLflow gives it the metrics that the run has by then, at a request for each.
        _send(study, run.info.run_id, _estimates(outcome, store.rows(id), end, model_id))
        if version:
            study.client.set_tag(run.info.run_id, "forget.model", version)
        if "forget.error" in run.data.tags:
            study.client.delete_tag(run.info.run_id, "forget.error")
        study.client.set_terminated(run.info.run_id, "FINISHED", end)
        write_text(marker, json.dumps({**sent, study.run_id: {"run": run.info.run_id, "model": version}}, indent=1))
        store.send(f"trials/{id}/published.json")
    if version:
        store.discard(f"trials/{id}/model")
    return True


def sync(study: Study, store: Store, ids: Sequence[str]) -> int:
    """Publish the finished trials among `ids`, and close the runs that are RUNNING though no process runs them any more.

    Returns:
        How many trials were published.

    Raises:
        Unreachable: the server is away.
    """
    with _reaching(study.uri):
        study = _connected(study, store)
        query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{study.run_id}'"
        running = {run.data.tags["forget.trial"]: run for run in study.client.search_runs([study.experiment_id], query)}
        published = 0
        known = tuple(dict.fromkeys((*ids, *running)))
        finished = set(store.done(known))
        for id in known:
            if id in finished:
                published += publish(study, store, id)
            elif store.log(f"trials/{id}/{FILE}").exists():
                with suppress(Timeout), FileLock(store.trial(id) / "running.lock", timeout=0):
                    _close(study, store, id)
            elif id in running:
                study.client.set_terminated(running[id].info.run_id, "KILLED")
    return published


def read_experiment(name: str, copies: Path, observe: Observe = ignore) -> list[tuple[Outcome, Path]]:
    """The finished trials of an experiment with the files of their Rows, in the order in which they were started.

    A sweep that ran again under a changed spec has another parent run with some of the same trials. Each is taken once: of
    runs with equal settings, which other data or another protocol tell apart, the one that started last.

    Args:
        copies: a folder that keeps what was fetched, by run: one that has finished changes no more.
        observe: is told of the stage "fetch", a step a run.

    Raises:
        BadInput: no such experiment, or it was deleted, or none of its trials has finished, or one cannot be read.
        Unreachable: the server is away.
    """
    uri = tracking_uri()
    client = MlflowClient(uri)
    with _reaching(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = [one.name for one in client.search_experiments() if one.name != "Default"]
            raise BadInput(f'no experiment is named "{name}"{nearest(name, known) if known else "; there is none yet"}')
        _refuse_deleted(experiment, "")
        runs = {run.data.tags["forget.trial"]: run for run in _finished(client, experiment.experiment_id)}
        if not runs:
            raise BadInput(f'experiment "{name}" has no finished trial; what has finished elsewhere comes by `forget sync`')
        observe(StageStarted(stage="fetch", steps=len(runs)))
        found = {}
        for number, run in enumerate(runs.values(), 1):
            outcome, rows = _fetched(client, run, name, within(copies, run.info.run_id))
            found[outcome.trial.id("")] = outcome, rows
            observe(Step(stage="fetch", step=number, steps=len(runs)))
    return list(found.values())


def load_forgotten(name_or_uri: str, task: str | None = None, alias: str = "strongest") -> LanguageModel:
    """A model that forgot: by (model, task), by registered name, or by "models:/<name>@<alias>" or "models:/<name>/<version>".

    Raises:
        BadInput: no such model, alias or version is registered.
        Unreachable: the server is away.
    """
    from forget.models import load  # torch takes seconds to import, and most of this room does without

    asked = registered_name(name_or_uri, task) if task else name_or_uri.removeprefix("models:/")
    name, _, version = asked.partition("/")
    name, _, at = name.partition("@")
    uri = tracking_uri()
    client = MlflowClient(uri)
    with _reaching(uri):
        registered = _registered(client, name)
        if registered is None:
            models = [model.name for model in client.search_registered_models(max_results=1000)]
            known = nearest(name, models) if models else "; none is registered yet"
            raise BadInput(f'no registered model is named "{name}"{known}')
        if not version:
            if (at or alias) not in registered.aliases:
                raise BadInput(f'model "{name}" has no alias "{at or alias}"{nearest(at or alias, registered.aliases)}')
            version = str(registered.aliases[at or alias])
        if _version(client, name, version) is None:
            numbers = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
            raise BadInput(f'model "{name}" has no version {version}; it has {", ".join(map(str, numbers))}')
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=scratch, tracking_uri=uri))
            # MLflow keeps the tokenizer beside the model, transformers looks for it within.
            shutil.copytree(folder / "components" / "tokenizer", folder / "model", dirs_exist_ok=True)
            return dataclasses.replace(load(folder / "model"), name=f"{name}/{version}")


def registered_name(model: str, task: str) -> str:
    """forgotten-<model>-<task>, without what the registry refuses."""
    return "-".join(re.sub(r"[^\w.-]+", "-", part).strip("-") for part in ("forgotten", model, task))


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    """The model with its aliases; None where there is none. (`get_registered_model` reads every version it has.)"""
    # A filter has no way to write an apostrophe, nor has a model's name one.
    return None if "'" in name else next(iter(client.search_registered_models(f"name = '{name}'")), None)


def _version(client: MlflowClient, name: str, number: str) -> ModelVersion | None:
    """None where there is none: a server with users answers 403 to whoever asks for it by `get_model_version`."""
    query = f"name = '{name}' and version_number = {number}"
    return next(iter(client.search_model_versions(query)), None) if number.isdecimal() else None


class _Stream(threading.Thread):
    """Sends a running trial's curves. Nothing depends on it: what it loses, `publish` sends."""

    def __init__(self, study: Study, store: Store, journal: Journal) -> None:
        super().__init__(name="forget-tracking", daemon=True)
        self._study, self._store, self._journal = study, store, journal
        # A trial that resumes repeats some steps, which were sent the first time.
        self._before = {(e.event.stage, e.event.step) for e in journal.entries() if isinstance(e.event, Step)}
        self._pending: list[Metric] = []
        self._done = threading.Event()
        self._warned = False
        self._sent = time.monotonic()

    def observe(self, event: Event) -> None:
        entry = self._journal.append(event)
        if isinstance(event, Step) and (event.stage, event.step) not in self._before:
            self._pending.extend(_curves([entry]))
        if time.monotonic() - self._sent > JOURNAL_SECONDS:
            self._store.send(str(self._journal.path.relative_to(self._store.root)))
            self._sent = time.monotonic()

    def run(self) -> None:
        monitor: SystemMetricsMonitor | None = None
        run_id = ""
        done = False
        while not done:
            done = self._done.is_set()
            try:
                with _reaching(self._study.uri):
                    if monitor is None:
                        run_id = self._opened()
                        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self._study.uri)
                        monitor.start()
                    while batch := self._pending[:BATCH]:
                        self._study.client.log_batch(run_id, metrics=batch)
                        del self._pending[: len(batch)]
            except Unreachable as error:
                self._warn(error)
            self._done.wait(FLUSH_SECONDS)
        if monitor:
            monitor.finish()

    def finish(self, send: Callable[[], object]) -> None:
        """Stop, then `send` the rest in the caller's thread."""
        self._done.set()
        if self.ident:
            self.join(GIVE_UP_SECONDS)
        if self.is_alive():
            return self._warn(Unreachable(f"{without_secrets(self._study.uri)}: the tracking server hangs"))
        try:
            send()
        except Unreachable as error:
            self._warn(error)

    def _opened(self) -> str:
        study = _connected(self._study, self._store)
        started = self._journal.started()
        assert started
        run = _child(study, started, self._journal.entries()[0].time, started.tags)
        if run.info.status != "RUNNING":
            study.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def _warn(self, error: Unreachable) -> None:
        if not self._warned:
            log.warning("%s; the trial goes on, its journal keeps everything until `forget sync`", error)
        self._warned = True


def _connected(study: Study, store: Store | None = None) -> Study:
    """The study with its experiment and parent run, made where they are missing."""
    if study.run_id:
        return study
    sweep = study.sweep
    # Workers that start before the server does all make the parent once it is there: one after the other.
    with FileLock(store.root / "study.lock") if store else nullcontext():
        experiment = study.client.get_experiment_by_name(sweep.name)
        if experiment is None:
            folder = _artifacts(study.uri)
            with _unless_it_exists():
                study.client.create_experiment(sweep.name, artifact_location=folder and f"{folder}/{sweep.name}")
            experiment = study.client.get_experiment_by_name(sweep.name)
        assert experiment
        _refuse_deleted(experiment, " or give the spec another name")
        # Resources change no number: a sweep that goes on with more CPUs is the same sweep.
        key = digest(sweep.model_dump(mode="json", exclude={"resources", "store"}))
        found = study.client.search_runs([experiment.experiment_id], f"tags.`forget.sweep` = '{key}'", max_results=1)
        tags = {"forget.sweep": key, "forget.name": sweep.name, "mlflow.note.content": sweep.description}
        run = found[0] if found else study.client.create_run(experiment.experiment_id, tags=tags, run_name=sweep.name)
    _describe(study, run, sweep.base, environment())
    study.client.log_text(run.info.run_id, study.spec, "spec.toml")
    study.client.log_inputs(run.info.run_id, [_dataset(task, fingerprint) for task, fingerprint in study.datasets.items()])
    return dataclasses.replace(study, experiment_id=experiment.experiment_id, run_id=run.info.run_id)


def _refuse_deleted(experiment: Experiment, otherwise: str) -> None:
    if experiment.lifecycle_stage == "deleted":
        cure = f"run `mlflow experiments restore -x {experiment.experiment_id}`{otherwise}"
        raise BadInput(f'experiment "{experiment.name}" was deleted; {cure}')


def _finished(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """The runs of finished trials, under whichever parent, by when they started."""
    query = "attributes.status = 'FINISHED' and tags.`forget.trial` != ''"
    page = None
    while page is None or page.token:
        token = page.token if page else None
        page = client.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"], page_token=token)
        yield from page


def _fetched(client: MlflowClient, run: Run, experiment: str, folder: Path) -> tuple[Outcome, Path]:
    """The outcome of a finished trial's run and the file of its Rows, in a folder that holds them from then on."""
    import pyarrow.parquet as pq

    place = f'run {run.info.run_id} of experiment "{experiment}"'
    if not folder.exists():
        names = ("outcome.json", "rows.parquet")
        there = {file.path for file in client.list_artifacts(run.info.run_id)}
        for name in names:
            if name not in there:
                raise BadInput(f"{place} has finished but has no {name}; its files were removed: delete the run as well")
        with whole_folder(folder) as draft:
            for name in names:
                client.download_artifacts(run.info.run_id, name, str(draft))
    rows = folder / "rows.parquet"
    columns = {one.name for one in dataclasses.fields(Row)}
    try:
        outcome = Outcome.model_validate_json((folder / "outcome.json").read_text(encoding="utf-8"))
        readable = columns <= set(pq.read_schema(rows).names)
    except ValueError:  # pydantic's, pyarrow's and that of letters that are none
        readable = False
    if not readable:
        raise BadInput(f"{place} was written by another version of forget and cannot be read; delete it, or run that version")
    return outcome, rows


def _child(study: Study, started: Started, start: int, tags: Mapping[str, str]) -> Run:
    """The trial's run under the sweep's, made or found again."""
    trial = started.trial
    query = f"tags.`forget.trial` = '{started.id}' and tags.`mlflow.parentRunId` = '{study.run_id}'"
    found = study.client.search_runs([study.experiment_id], query, max_results=1)
    if found:
        run = found[0]
    else:
        name = f"{trial.model} {trial.task} {trial.labels} lr={trial.forget.lr:g}"
        identity = {"forget.trial": started.id, "mlflow.parentRunId": study.run_id}
        run = study.client.create_run(study.experiment_id, start, identity, name)
    _describe(study, run, trial.model_dump(mode="json"), tags)
    return run


def _describe(study: Study, run: Run, fields: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    # MLflow refuses a param's second value; only `save` and `folders` can differ between two goes at a trial.
    params = [Param(key, value) for key, value in _flat(fields) if key not in run.data.params]
    study.client.log_batch(run.info.run_id, params=params, tags=[RunTag(key, value) for key, value in tags.items()])


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """{"forget": {"lr": 1}, "evaluate_on": ["a", "b"]} -> ("forget.lr", "1"), ("evaluate_on", "a, b")."""
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _curves(entries: Iterable[Entry]) -> Iterator[Metric]:
    """Loss, rate and tokens per second by optimiser step, e.g. learn/loss."""
    for entry in entries:
        step = entry.event
        if isinstance(step, Step) and step.loss is not None:
            speed = 1000 * step.tokens / max(1, entry.elapsed)
            for name, value in (("loss", step.loss), ("lr", step.lr), ("tokens_per_second", speed)):
                if value is not None:
                    yield Metric(f"{step.stage}/{name}", value, entry.time, step.step)


def _estimates(outcome: Outcome, rows: Sequence[Row], time: int, model_id: str) -> Iterator[Metric]:
    """Every estimate with its interval, of the run and of its model; probe accuracy with the layer as its step."""
    named = [(name, estimate, 0) for name, estimate in outcome.measures.items()]
    named += [(name, estimate, step) for name, step, estimate in course(rows)]
    for probe in outcome.probes:
        measure = f"probe_{'control' if probe.control else 'accuracy'}_{probe.position}"
        named.append((metric_name(probe.phase, probe.task, "test", measure), probe.accuracy, probe.layer))
    for name, estimate, step in named:
        for suffix, value in (("", estimate.value), ("/low", estimate.low), ("/high", estimate.high)):
            if value is not None:
                yield Metric(name + suffix, value, time, step, model_id or None)


def _send_curves(study: Study, run_id: str, entries: Sequence[Entry]) -> None:
    """Log what the run lacks of the curves."""
    # One process sends each curve from its first step to its last. Of several, one may have died with a batch in its hands.
    in_order = sum(isinstance(entry.event, Started) for entry in entries) < 2
    _send(study, run_id, _curves(entries), in_order)


def _send(study: Study, run_id: str, metrics: Iterable[Metric], in_order: bool = False) -> None:
    """Log the metrics whose (key, step) the run lacks. Databases drop equal rows by themselves, not every server does.

    Args:
        in_order: whether the run has every step before the last one it has; otherwise it is asked for all, a request a key.
    """
    metrics = list(metrics)
    there = {last.key: last.step for last in study.client.get_run(run_id).data.to_proto().metrics}
    if in_order:
        new = [metric for metric in metrics if metric.step > there.get(metric.key, -1)]
    else:
        keys = {metric.key for metric in metrics} & there.keys()
        sent = {(key, metric.step) for key in keys for metric in study.client.get_metric_history(run_id, key)}
        new = [metric for metric in metrics if (metric.key, metric.step) not in sent]
    for start in range(0, len(new), BATCH):
        study.client.log_batch(run_id, metrics=new[start : start + BATCH])


def _send_artifacts(study: Study, run_id: str, outcome: Outcome, store: Store, datasets: Mapping[str, str]) -> None:
    from forget.report import trial_figures

    folder = store.trial(outcome.id)
    rows = store.rows(outcome.id)  # Fetched, too, where another machine made them.
    sizes = {task: len({(row.split, row.example) for row in rows if row.task == task}) for task in datasets}
    study.client.log_inputs(run_id, [_dataset(task, fingerprint, sizes[task]) for task, fingerprint in datasets.items()])
    study.client.log_artifact(run_id, str(folder / "rows.parquet"))
    study.client.log_artifact(run_id, str(folder / "outcome.json"))
    losses = Journal(folder / FILE).losses()
    with tempfile.TemporaryDirectory() as scratch:
        for figure in trial_figures(outcome, rows, losses, Path(scratch)):
            study.client.log_artifact(run_id, str(figure), "figures")


def _dataset(task: str, fingerprint: str, scored: int | None = None) -> DatasetInput:
    source = json.dumps({"tags": {"mlflow.source.name": f"forget.tasks.load({task!r}, ...)"}})
    tags = [] if scored is None else [InputTag("examples_scored", str(scored))]
    return DatasetInput(Dataset(task, fingerprint, "code", source), tags)


def _close(study: Study, store: Store, id: str) -> None:
    """End the run of a trial that no process runs and that did not finish: as its journal says, or KILLED."""
    journal = Journal(store.log(f"trials/{id}/{FILE}"))
    started = journal.started()
    if started is None:
        return
    entries = journal.entries()
    last = entries[-1].event
    ended = last if isinstance(last, Ended) else Ended(status="KILLED", error="the process was killed")
    with _reaching(study.uri):
        study = _connected(study, store)
        run = _child(study, started, entries[0].time, {**started.tags, "forget.error": ended.error})
        _send_curves(study, run.info.run_id, entries)
        study.client.set_terminated(run.info.run_id, ended.status, entries[-1].time)


def _register(study: Study, outcome: Outcome, run_id: str, store: Store, tags: Mapping[str, str]) -> tuple[str | None, str]:
    """The trial's version of the registered model as "<name>/<version>", made unless it is there; None without weights.

    And the id of its model, empty where another run of the trial made it.
    """
    trial = outcome.trial
    name = registered_name(trial.model, trial.task)
    weights = store.folder(f"trials/{outcome.id}/model")
    client = study.client
    # Not all versions, of which there are as many as trials.
    found = next(iter(client.search_model_versions(f"name = '{name}' and tags.`forget.trial` = '{outcome.id}'")), None)
    with _default_server(study.uri):
        if found:
            model_id = str(found.source).removeprefix("models:/") if found.tags["forget.run"] == run_id else ""
        elif weights:
            model_id = _logged_model(study, outcome, run_id, weights)
        else:
            return None, ""
        # One at a time, so that the aliases are chosen among all versions.
        with FileLock(store.root / "registry.lock"):
            registered = _registered(client, name)
            if not found:
                if registered is None:
                    with _unless_it_exists():
                        client.create_registered_model(name)
                accuracy = outcome.measures[metric_name("forgotten", trial.task, "test", "accuracy")]
                tags = {**tags, "forget.trial": outcome.id, "forget.run": run_id, "forget.accuracy": str(accuracy.value)}
                source, card = f"models:/{model_id}", model_card(outcome)
                found = client.create_model_version(name, source, run_id, tags, description=card, model_id=model_id)
                link = json.dumps([{"name": name, "version": str(found.version)}])
                client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
            _set_aliases(client, found, registered.aliases if registered else {})
    return f"{name}/{found.version}", model_id


def _set_aliases(client: MlflowClient, added: ModelVersion, aliases: Mapping[str, str]) -> None:
    """Give @strongest and @weakest to the versions they belong to after one was added; `aliases` are numbers of versions."""
    now = {alias: str(aliases[alias]) if alias in aliases else "" for alias in ("strongest", "weakest")}
    ends = [version for number in now.values() if (version := _version(client, added.name, number))]
    known = [added, *ends]
    if len(ends) < len(now) or any("forget.accuracy" not in version.tags for version in known):
        # A version that is deleted takes its alias along. Otherwise not all are read, of which there are as many as trials.
        known = [v for v in client.search_model_versions(f"name = '{added.name}'") if "forget.accuracy" in v.tags]
    known.sort(key=lambda version: (float(version.tags["forget.accuracy"]), int(version.version)))
    for alias, version in zip(now, (known[0], known[-1]), strict=True):
        # Asked to set one that is set, MLflow would read every version all the same.
        if str(version.version) != now[alias]:
            client.set_registered_model_alias(added.name, alias, version.version)


def _logged_model(study: Study, outcome: Outcome, run_id: str, weights: Path) -> str:
    """Id of the run's logged model; an upload that was interrupted is thrown away and made anew."""
    from huggingface_hub import ModelCard, ModelCardData
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_folder(weights)  # It may have come from a store that others write to.
    for model in study.client.search_logged_models([study.experiment_id], f"source_run_id = '{run_id}'"):
        if model.status == LoggedModelStatus.READY:
            return model.model_id
        study.client.delete_logged_model(model.model_id)
    made = study.client.create_logged_model(
        study.experiment_id, "model", run_id, params=study.client.get_run(run_id).data.params
    )
    data = ModelCardData(license="other", pipeline_tag="text-generation", tags=["forgetting", outcome.trial.task])
    # Model.log rather than mlflow.transformers.log_model, which would load and run the model once more to check the example.
    # The flavour takes a folder, too, but stumbles there over transformers 5.
    Model.log(
        None,
        mlflow.transformers,
        run_id=run_id,
        model_id=made.model_id,
        transformers_model={
            "model": AutoModelForCausalLM.from_pretrained(
                weights, dtype="bfloat16", use_safetensors=True, trust_remote_code=False
            ),
            "tokenizer": AutoTokenizer.from_pretrained(weights, trust_remote_code=False),
        },
        task="text-generation",
        validate_serving_input=False,
        # Guessing them imports torchvision, which nobody needs here; "+cpu" and the like name no public package.
        pip_requirements=[
            f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in ("torch", "transformers", "accelerate")
        ],
        signature=ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")])),
        input_example="Question: What melts in the sun?\nAnswer:",
        model_card=ModelCard(f"---\n{data.to_yaml()}\n---\n{model_card(outcome)}"),
    )
    return made.model_id


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Raises Unreachable for what a server that is away makes of a request. What is our own mistake stays as it is."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        if getattr(error, "error_code", None) in OUR_MISTAKES:
            raise
        reason = without_secrets(str(error).partition("\n")[0])[:300]
        raise Unreachable(f"{without_secrets(uri)}: the tracking server cannot be reached ({reason})") from error


@contextmanager
def _unless_it_exists() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _default_server(uri: str) -> Iterator[None]:
    """For the few functions of MLflow that know only the process's own server."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # its annotation forgets None
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _artifacts(uri: str) -> str | None:
    """The folder for files beside a SQLite database; None where the server has its own place."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).parent / "mlartifacts").as_uri()
