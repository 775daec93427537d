"""What the run of a trial lacks, sent from the store alone and exactly once: curves, estimates, artifacts, the model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.entities import Metric

from forget.errors import BadInput
from forget.events import Step
from forget.results.metrics import course, metric_name
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.storage.finished import Trials
from forget.storage.folders import write_text
from forget.storage.journal import FILE, Ended, Entry, Journal, Started
from forget.storage.store import Store
from forget.tracking.connection import BATCH, reaching
from forget.tracking.provenance import environment
from forget.tracking.registry import register
from forget.tracking.study import Study, child, connected, dataset


def publish(study: Study, store: Store, id: str) -> bool:
    """Send what the run of a finished trial still lacks, from the store alone; False where it lacks nothing.

    Raises:
        BadInput: the trial is not finished.
        Unreachable: the server is away.
    """
    outcome = Trials(store).outcome(id)
    if outcome is None:
        raise BadInput(
            f"trial {id} is not finished: {Trials(store).folder(id)} has no outcome.json"
        )
    marker = store.fetch_growing(f"trials/{id}/published.json")
    with FileLock(Trials(store).folder(id) / "publish.lock"), reaching(study.uri):
        study = connected(study, store)
        sent = json.loads(marker.read_text()) if marker.exists() else {}
        if study.run_id in sent:
            return False
        journal = Journal(store.fetch_growing(f"trials/{id}/{FILE}"))
        entries = journal.entries()
        end = (
            entries[-1].time
            if entries
            else (Trials(store).folder(id) / "outcome.json").stat().st_mtime_ns // 1_000_000
        )
        started = journal.started() or Started(
            trial=outcome.trial, id=id, tags=environment(), datasets=study.datasets
        )
        tags = {**started.tags, "forget.learned": outcome.learned_id, "forget.data": outcome.data}
        run = child(study, started, entries[0].time if entries else end, tags)
        _send_curves(study, run.info.run_id, entries)
        _send_artifacts(study, run.info.run_id, outcome, store, started.datasets)
        version, model_id = register(study, outcome, run.info.run_id, store, tags)
        # After the model: MLflow gives it the metrics that the run has by then, at a request for
        # each.
        _send(study, run.info.run_id, _estimates(outcome, Trials(store).rows(id), end, model_id))
        if version:
            study.client.set_tag(run.info.run_id, "forget.model", version)
        if "forget.error" in run.data.tags:
            study.client.delete_tag(run.info.run_id, "forget.error")
        study.client.set_terminated(run.info.run_id, "FINISHED", end)
        write_text(
            marker,
            json.dumps(
                {**sent, study.run_id: {"run": run.info.run_id, "model": version}}, indent=1
            ),
        )
        store.publish_file(f"trials/{id}/published.json")
    if version:
        store.delete(f"trials/{id}/model")
    return True


def sync(study: Study, store: Store, ids: Sequence[str]) -> int:
    """Publish the finished trials among `ids`, and close the runs that are RUNNING though no process runs them any more.

    Returns:
        How many trials were published.

    Raises:
        Unreachable: the server is away.
    """
    with reaching(study.uri):
        study = connected(study, store)
        query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{study.run_id}'"
        running = {
            run.data.tags["forget.trial"]: run
            for run in study.client.search_runs([study.experiment_id], query)
        }
        published = 0
        known = tuple(dict.fromkeys((*ids, *running)))
        finished = set(Trials(store).done(known))
        for id in known:
            if id in finished:
                published += publish(study, store, id)
            elif store.fetch_growing(f"trials/{id}/{FILE}").exists():
                with (
                    suppress(Timeout),
                    FileLock(Trials(store).folder(id) / "running.lock", timeout=0),
                ):
                    close(study, store, id)
            elif id in running:
                study.client.set_terminated(running[id].info.run_id, "KILLED")
    return published


def close(study: Study, store: Store, id: str) -> None:
    """End the run of a trial that no process runs and that did not finish: as its journal says, or KILLED."""
    journal = Journal(store.fetch_growing(f"trials/{id}/{FILE}"))
    started = journal.started()
    if started is None:
        return
    entries = journal.entries()
    last = entries[-1].event
    ended = (
        last if isinstance(last, Ended) else Ended(status="KILLED", error="the process was killed")
    )
    with reaching(study.uri):
        study = connected(study, store)
        run = child(study, started, entries[0].time, {**started.tags, "forget.error": ended.error})
        _send_curves(study, run.info.run_id, entries)
        study.client.set_terminated(run.info.run_id, ended.status, entries[-1].time)


def curves(entries: Iterable[Entry]) -> Iterator[Metric]:
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
        named.append(
            (metric_name(probe.phase, probe.task, "test", measure), probe.accuracy, probe.layer)
        )
    for name, estimate, step in named:
        for suffix, value in (
            ("", estimate.value),
            ("/low", estimate.low),
            ("/high", estimate.high),
        ):
            if value is not None:
                yield Metric(name + suffix, value, time, step, model_id or None)


def _send_curves(study: Study, run_id: str, entries: Sequence[Entry]) -> None:
    """Log what the run lacks of the curves."""
    # One process sends each curve from its first step to its last. Of several, one may have died
    # with a batch in its hands.
    in_order = sum(isinstance(entry.event, Started) for entry in entries) < 2
    _send(study, run_id, curves(entries), in_order)


def _send(study: Study, run_id: str, metrics: Iterable[Metric], in_order: bool = False) -> None:
    """Log the metrics whose (key, step) the run lacks. Databases drop equal rows by themselves, not every server does.

    Args:
        in_order: whether the run has every step before the last one it has; otherwise it is asked
            for all, a request a key.
    """
    metrics = list(metrics)
    there = {last.key: last.step for last in study.client.get_run(run_id).data.to_proto().metrics}
    if in_order:
        new = [metric for metric in metrics if metric.step > there.get(metric.key, -1)]
    else:
        keys = {metric.key for metric in metrics} & there.keys()
        sent = {
            (key, metric.step)
            for key in keys
            for metric in study.client.get_metric_history(run_id, key)
        }
        new = [metric for metric in metrics if (metric.key, metric.step) not in sent]
    for start in range(0, len(new), BATCH):
        study.client.log_batch(run_id, metrics=new[start : start + BATCH])


def _send_artifacts(
    study: Study, run_id: str, outcome: Outcome, store: Store, datasets: Mapping[str, str]
) -> None:
    from forget.report import trial_figures

    folder = Trials(store).folder(outcome.id)
    rows = Trials(store).rows(outcome.id)  # Fetched, too, where another machine made them.
    sizes = {
        task: len({(row.split, row.example) for row in rows if row.task == task})
        for task in datasets
    }
    study.client.log_inputs(
        run_id, [dataset(task, fingerprint, sizes[task]) for task, fingerprint in datasets.items()]
    )
    study.client.log_artifact(run_id, str(folder / "rows.parquet"))
    study.client.log_artifact(run_id, str(folder / "outcome.json"))
    losses = Journal(folder / FILE).losses()
    with tempfile.TemporaryDirectory() as scratch:
        for figure in trial_figures(outcome, rows, losses, Path(scratch)):
            study.client.log_artifact(run_id, str(figure), "figures")
