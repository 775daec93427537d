"""Publishing of trials: what a run lacks is sent from the store alone and exactly once.

That is its curves, estimates, artifacts and model.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Metric

from forget.errors import BadInput
from forget.events import Step
from forget.results import measures
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome, ProbeScore
from forget.results.rows import Row
from forget.storage.finished import MEASURES, Trials
from forget.storage.folders import write_text
from forget.storage.journal import FILE, Ended, Entry, Journal, Started
from forget.storage.store import Store
from forget.tracking.connection import BATCH, reaching
from forget.tracking.provenance import environment
from forget.tracking.registry import model_of, register, registered, registered_trials
from forget.tracking.study import Study, child, connected, dataset

PUBLISHED = "published.json"
"""File of a trial that says, by parent run, which run and version are the trial's."""
MEASURED_BY = "forget.measures"
"""Tag of a trial's run: the code that computed its measures (forget.results.measures.code)."""


def publish(study: Study, store: Store, id: str, again: bool = False) -> bool:
    """Send what the run of a finished trial still lacks, from the store alone.

    A run that was published before gets the measures that the present code computes and other
    code did not, or computed otherwise.

    Args:
        study: with or without its parent run yet.
        store: has what the trial left.
        id: the trial's.
        again: what was published before is gone, at least in part.

    Returns:
        False where the run lacked nothing.

    Raises:
        BadInput: the trial is not finished.
        Unreachable: the server is away.
    """
    trials = Trials(store)
    outcome = trials.outcome(id)
    if outcome is None:
        raise BadInput(f"trial {id} is not finished: {trials.folder(id)} has no outcome.json")
    marker = store.fetch_growing(f"trials/{id}/{PUBLISHED}")
    with FileLock(trials.folder(id) / "publish.lock"), reaching(study.uri):
        study = connected(study, store)
        sent = json.loads(marker.read_text()) if marker.exists() else {}
        before = None if again else sent.get(study.run_id)
        if before and before.get("code") == measures.code():
            return False
        if before:
            found, lacked = before, _renew(study, store, outcome, before["run"])
        else:
            found, lacked = _send_all(study, store, outcome), True
        sent[study.run_id] = {**found, "code": measures.code()}
        write_text(marker, json.dumps(sent, indent=1))
        store.publish_file(f"trials/{id}/{PUBLISHED}")
    if found["model"] and not study.sweep.resources.keep:
        store.delete(f"trials/{id}/model")
    store.drop_copy(f"trials/{id}/model")
    return lacked


def _send_all(study: Study, store: Store, outcome: Outcome) -> dict[str, str | None]:
    """Make the run of a finished trial whole, whatever of it is there; ids of run and model."""
    trials, id = Trials(store), outcome.id
    journal = Journal(store.fetch_growing(f"trials/{id}/{FILE}"))
    entries = journal.entries()
    if entries:
        began, end = entries[0].time, entries[-1].time
    else:
        began = end = (trials.folder(id) / "outcome.json").stat().st_mtime_ns // 1_000_000
    started = journal.started() or Started(
        trial=outcome.trial, id=id, tags=environment(), datasets=study.datasets
    )
    tags = {**started.tags, "forget.learned": outcome.learned_id, "forget.data": outcome.data}
    if outcome.dose:
        tags["forget.dose"] = str(outcome.dose)
    run = child(study, started, began, tags)
    run_id = run.info.run_id
    _send_curves(study, run_id, entries)
    _send_artifacts(study, run_id, outcome, store, started.datasets)
    version, model_id = register(study, outcome, run_id, store, tags)
    # After the model: MLflow gives it the metrics that the run has by then, at a request for each.
    send_estimates(study, run_id, _estimates(outcome, trials.rows(id), end, model_id))
    study.client.set_tag(run_id, MEASURED_BY, measures.code())
    if version:
        study.client.set_tag(run_id, "forget.model", version)
    if "forget.error" in run.data.tags:
        study.client.delete_tag(run_id, "forget.error")
    study.client.set_terminated(run_id, "FINISHED", end)
    return {"run": run_id, "model": version}


def _renew(study: Study, store: Store, outcome: Outcome, run_id: str) -> bool:
    """Send a published run the measures that it lacks or has otherwise; False where there are none.

    A run that was deleted lacks none: it is `sync` that makes it anew.
    """
    query = f"attributes.run_id = '{run_id}'"
    if not study.client.search_runs([study.experiment_id], query, max_results=1):
        return False
    trials = Trials(store)
    rows = trials.rows(outcome.id)
    found = registered(study, outcome)
    model_id = model_of(found, run_id) if found else ""
    estimates = _estimates(outcome, rows, time.time_ns() // 1_000_000, model_id)
    lacked = send_estimates(study, run_id, estimates)
    if (kept := trials.folder(outcome.id) / MEASURES).exists():
        study.client.log_artifact(run_id, str(kept))
    study.client.set_tag(run_id, MEASURED_BY, measures.code())
    return lacked


def sync(study: Study, store: Store, ids: Sequence[str]) -> int:
    """Publish the finished trials among `ids`, and close the runs that no process runs any more.

    Returns:
        The number of trials that lacked something.

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
        lost = _lost(study, store, finished)
        for id in known:
            if id in finished:
                published += publish(study, store, id, again=id in lost)
            elif store.fetch_growing(f"trials/{id}/{FILE}").exists():
                with (
                    suppress(Timeout),
                    FileLock(Trials(store).folder(id) / "running.lock", timeout=0),
                ):
                    close(study, store, id)
            elif id in running:
                study.client.set_terminated(running[id].info.run_id, "KILLED")
    return published


def _lost(study: Study, store: Store, ids: Set[str]) -> set[str]:
    """Return those of the trials whose run or version was deleted since they were published.

    An alias that was deleted is given again.
    """
    query = f"tags.`mlflow.parentRunId` = '{study.run_id}'"
    runs: set[str] = set()
    page = None
    while page is None or page.token:
        token = page.token if page else None
        page = study.client.search_runs([study.experiment_id], query, page_token=token)
        runs.update(run.info.run_id for run in page)
    versions: dict[str, set[str]] = {}
    lost = set()
    for id in ids:
        marker = store.fetch_growing(f"trials/{id}/{PUBLISHED}")
        sent = json.loads(marker.read_text()) if marker.exists() else {}
        if record := sent.get(study.run_id):
            model = (record["model"] or "").partition("/")[0]
            if model and model not in versions:
                versions[model] = registered_trials(study, model)
            if record["run"] not in runs or (model and id not in versions[model]):
                lost.add(id)
    return lost


def close(study: Study, store: Store, id: str) -> None:
    """End the run of a trial that stopped before it finished: as its journal says, or KILLED."""
    journal = Journal(store.fetch_growing(f"trials/{id}/{FILE}"))
    started = journal.started()
    if started is None:
        return
    entries = journal.entries()
    ended = entries[-1].event
    if not isinstance(ended, Ended):
        ended = Ended(status="KILLED", error="the process was killed")
    with reaching(study.uri):
        study = connected(study, store)
        run = child(study, started, entries[0].time, {**started.tags, "forget.error": ended.error})
        _send_curves(study, run.info.run_id, entries)
        study.client.set_terminated(run.info.run_id, ended.status, entries[-1].time)


def curves(entries: Iterable[Entry]) -> Iterator[Metric]:
    """Yield loss, rate and tokens per second by optimiser step, e.g. learn/loss."""
    for entry in entries:
        step = entry.event
        if isinstance(step, Step) and step.loss is not None:
            speed = 1000 * step.tokens / max(1, entry.elapsed)
            for name, value in (("loss", step.loss), ("lr", step.lr), ("tokens_per_second", speed)):
                if value is not None:
                    yield Metric(f"{step.stage}/{name}", value, entry.time, step.step)


def curves_there(study: Study, run_id: str) -> Set[tuple[str, int]]:
    """Return (key, step) of the points of curves that a run has, a request a key."""
    keys = {last.key for last in _last_points(study, run_id)}
    names = ("/loss", "/lr", "/tokens_per_second")
    return _values(study, run_id, {key for key in keys if key.endswith(names)}).keys()


def _estimates(outcome: Outcome, rows: Sequence[Row], at: int, model_id: str) -> Iterator[Metric]:
    """Yield every estimate with its interval, of the run and of its model.

    Accuracy on the way has the optimiser step as its step, that of a probe the layer.
    """
    for name, fact in _facts(outcome):
        yield Metric(name, fact, at, 0, model_id or None)
    named = [(name, estimate, 0) for name, estimate in outcome.measures.items()]
    named += [(name, estimate, step) for name, step, estimate in measures.course(rows)]
    named += [(_probe_name(probe), probe.accuracy, probe.layer) for probe in outcome.probes]
    for name, estimate, step in named:
        bounds = {"": estimate.value, "/low": estimate.low, "/high": estimate.high}
        for suffix, bound in bounds.items():
            if bound is not None:
                yield Metric(name + suffix, bound, at, step, model_id or None)


def _facts(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Yield by name what a run says of its labels and its dose; these numbers have no interval."""
    if drawn := outcome.drawn:
        yield "draw_right", drawn.right
        if drawn.z is not None:
            yield "draw_z", drawn.z
        for option, share in enumerate(drawn.shares):
            yield f"draw_share_{option}", share
    if dose := outcome.dose:
        yield "dose_step", dose.step
        yield "dose_reached", float(dose.reached)
        if dose.lost is not None:
            yield "dose_lost", dose.lost


def _probe_name(probe: ProbeScore) -> str:
    """Return the name of the metric that holds a probe's accuracy, by layer."""
    measure = f"probe_{'control' if probe.control else 'accuracy'}_{probe.position}"
    return metric_name(probe.phase, probe.task, "test", measure)


def _send_curves(study: Study, run_id: str, entries: Sequence[Entry]) -> None:
    """Log what the run lacks of the curves."""
    # One process sends each curve from its first step to its last. Of several, one may have died
    # with a batch in its hands.
    in_order = sum(isinstance(entry.event, Started) for entry in entries) < 2
    _send(study, run_id, curves(entries), in_order)


def _send(study: Study, run_id: str, points: Iterable[Metric], in_order: bool) -> None:
    """Log the points whose (key, step) the run lacks; not every server drops equal rows by itself.

    Args:
        in_order: whether the run has every step before the last one it has; otherwise it is asked
            for all, a request a key.
    """
    points = list(points)
    if in_order:
        last = {point.key: point.step for point in _last_points(study, run_id)}
        new = [point for point in points if point.step > last.get(point.key, -1)]
    else:
        there = _values(study, run_id, {point.key for point in points})
        new = [point for point in points if (point.key, point.step) not in there]
    _log(study, run_id, new)


def send_estimates(study: Study, run_id: str, estimates: Iterable[Metric]) -> bool:
    """Log the estimates whose point the run lacks or has with another value; False without any.

    A point cannot be taken back. Of two at the same step, the later one counts.
    """
    estimates = list(estimates)
    times = Counter(point.key for point in estimates)
    there = {(last.key, last.step): last.value for last in _last_points(study, run_id)}
    # A number that stands alone is its own last point: only curves cost a request.
    there |= _values(study, run_id, {key for key, count in times.items() if count > 1})
    new = []
    for point in estimates:
        known = there.get((point.key, point.step))
        if known is None:
            new.append(point)
        elif known != point.value:
            now = time.time_ns() // 1_000_000
            new.append(Metric(point.key, point.value, now, point.step, point.model_id))
    _log(study, run_id, new)
    return bool(new)


def _log(study: Study, run_id: str, points: Sequence[Metric]) -> None:
    for start in range(0, len(points), BATCH):
        study.client.log_batch(run_id, metrics=points[start : start + BATCH])


def _last_points(study: Study, run_id: str) -> Sequence[Any]:
    """Return the last point of each of the run's metrics: key, step, timestamp and value."""
    return study.client.get_run(run_id).data.to_proto().metrics


def _values(study: Study, run_id: str, keys: Set[str]) -> dict[tuple[str, int], float]:
    """Return the run's points of the metrics by (key, step), the later of two; a request a key."""
    values: dict[tuple[str, int], float] = {}
    for key in keys & {last.key for last in _last_points(study, run_id)}:
        history = study.client.get_metric_history(run_id, key)
        for point in sorted(history, key=lambda point: point.timestamp):
            values[key, point.step] = point.value
    return values


def _send_artifacts(
    study: Study, run_id: str, outcome: Outcome, store: Store, datasets: Mapping[str, str]
) -> None:
    from forget.report import trial_figures

    trials = Trials(store)
    folder = trials.folder(outcome.id)
    rows = trials.rows(outcome.id)  # Fetched, too, where another machine made them.
    inputs = []
    for task, fingerprint in datasets.items():
        scored = {(row.split, row.example) for row in rows if row.task == task}
        inputs.append(dataset(task, fingerprint, len(scored)))
    study.client.log_inputs(run_id, inputs)
    for name in ("rows.parquet", "outcome.json", MEASURES):
        if (
            folder / name
        ).exists():  # A folder that may only be read has no measures of old trials.
            study.client.log_artifact(run_id, str(folder / name))
    losses = Journal(folder / FILE).losses()
    with tempfile.TemporaryDirectory() as scratch:
        for figure in trial_figures(outcome, rows, losses, Path(scratch)):
            study.client.log_artifact(run_id, str(figure), "figures")
