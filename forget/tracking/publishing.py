"""Publishing of trials: what a run lacks is sent from the store alone and exactly once.

That is its curves, headline numbers, artifacts and model.
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
from mlflow.entities import Metric, Run, RunTag

from forget.analyses import headline
from forget.errors import BadInput
from forget.events import Step
from forget.results import measures
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.storage.finished import MEASURES, Trials
from forget.storage.folders import write_text
from forget.storage.journal import FILE, Ended, Entry, Journal, Started
from forget.storage.store import Store
from forget.tracking import notes
from forget.tracking.connection import BATCH, reaching
from forget.tracking.provenance import environment
from forget.tracking.registry import model_of, register, registered, registered_trials
from forget.tracking.study import Study, child, connected, dataset, earlier, runs_under

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
    run = child(study, started, began, started.tags)
    run_id = run.info.run_id
    _send_curves(study, run_id, entries)
    _send_artifacts(study, run_id, outcome, store, started.datasets)
    version, model_id = register(study, outcome, run_id, store)
    rows = trials.rows(id)
    # After the model: MLflow gives it the metrics that the run has by then, at a request for each.
    tags = _tags(study, outcome, rows, version, run.data.tags)
    send_numbers(study, run_id, _numbers(outcome, rows, end, model_id), tags)
    if "forget.error" in run.data.tags:
        study.client.delete_tag(run_id, "forget.error")
    study.client.set_terminated(run_id, "FINISHED", end)
    return {"run": run_id, "model": version}


def _renew(study: Study, store: Store, outcome: Outcome, run_id: str) -> bool:
    """Send a published run the numbers of the present code; False where it was deleted.

    A run that was deleted lacks none: it is `sync` that makes it anew.
    """
    query = f"attributes.run_id = '{run_id}'"
    there = study.client.search_runs([study.experiment_id], query, max_results=1)
    if not there:
        return False
    trials = Trials(store)
    rows = trials.rows(outcome.id)
    found = registered(study, outcome)
    model_id = model_of(found, run_id) if found else ""
    version = f"{found.name}/{found.version}" if found else None
    numbers = _numbers(outcome, rows, time.time_ns() // 1_000_000, model_id)
    send_numbers(study, run_id, numbers, _tags(study, outcome, rows, version, there[0].data.tags))
    with tempfile.TemporaryDirectory() as scratch:
        for path in notes.write_numbers(outcome, Path(scratch)):
            study.client.log_artifact(run_id, str(path))
    if (kept := trials.folder(outcome.id) / MEASURES).exists():
        study.client.log_artifact(run_id, str(kept))
    return True


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
        _replace_earlier(study)
    return published


def _replace_earlier(study: Study) -> None:
    """Delete runs of the sweep from before metrics had their present names.

    A metric cannot be renamed. Trials that have finished are published anew before this is called,
    and get what a user tagged or noted; runs of other trials move to the present sweep's run.
    """
    client = study.client
    for parent in earlier(study):
        present = {run.data.tags["forget.trial"]: run for run in runs_under(study, study.run_id)}
        for run in runs_under(study, parent.info.run_id):
            now = present.get(run.data.tags["forget.trial"])
            if now is None:
                client.set_tag(run.info.run_id, "mlflow.parentRunId", study.run_id)
                continue
            _inherit(study, run, now)
            client.delete_run(run.info.run_id)
        _inherit(study, parent, client.get_run(study.run_id))
        client.delete_run(parent.info.run_id)


def _inherit(study: Study, before: Run, now: Run) -> None:
    """Give a run the tags that a user set on the one that it replaces, and its model's version."""
    tags = {}
    for key, value in before.data.tags.items():
        theirs = not key.startswith(("mlflow.", "forget.", "version."))
        written = key == notes.NOTE and "forget.trial" in before.data.tags
        if theirs or written:
            tags[key] = value
    _log(study, now.info.run_id, [], tags)
    name, _, version = now.data.tags.get("forget.model", "").partition("/")
    if version:
        study.client.set_model_version_tag(name, version, "forget.run", now.info.run_id)


def _lost(study: Study, store: Store, ids: Set[str]) -> set[str]:
    """Return those of the trials whose run or version was deleted since they were published.

    An alias that was deleted is given again.
    """
    runs = {run.info.run_id for run in runs_under(study, study.run_id)}
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
    """Yield loss, rate and tokens per second by optimiser step, e.g. learn/loss.

    Where a stage has several terms, the loss of each as well, e.g. forget/retain/loss.
    """
    for entry in entries:
        step = entry.event
        if isinstance(step, Step) and step.loss is not None:
            speed = 1000 * step.tokens / max(1, entry.elapsed)
            named = {"loss": step.loss, "lr": step.lr, "tokens_per_second": speed}
            named |= {f"{term}/loss": loss for term, loss in step.losses.items()}
            for name, value in named.items():
                if value is not None:
                    yield Metric(f"{step.stage}/{name}", value, entry.time, step.step)


def curves_there(study: Study, run_id: str) -> Set[tuple[str, int]]:
    """Return (key, step) of the points of curves that a run has, a request a key."""
    keys = {last.key for last in _last_points(study, run_id)}
    names = ("/loss", "/lr", "/tokens_per_second")
    return _values(study, run_id, {key for key in keys if key.endswith(names)}).keys()


def _numbers(outcome: Outcome, rows: Sequence[Row], at: int, model_id: str) -> Iterator[Metric]:
    """Yield the headline numbers and the curves of what was measured, of the run and its model.

    Accuracy on the way has the optimiser step as its step, that of a probe the layer.
    """
    for name, value in headline.headline(outcome).items():
        yield Metric(name, value, at, 0, model_id or None)
    for name, step, value in headline.curves(outcome, rows):
        yield Metric(name, value, at, step, model_id or None)


def _tags(
    study: Study,
    outcome: Outcome,
    rows: Sequence[Row],
    version: str | None,
    before: Mapping[str, str],
) -> dict[str, str]:
    """Return the tags that a trial's run has once it has finished.

    Args:
        version: "<name>/<version>" of its registered model; None without one.
        before: tags that are there.
    """
    states = headline.end_states(outcome, rows)
    note = notes.of_trial(outcome, states, version, (study.experiment_id, study.run_id))
    tags = {MEASURED_BY: measures.code(), **notes.TABLES, **notes.noted(note, before)}
    tags |= {f"end_state{headline.SUFFIXES[split]}": word for split, word in states.items()}
    if outcome.dose:
        tags["forget.dose"] = str(outcome.dose)
    return tags | ({"forget.model": version} if version else {})


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


def send_numbers(
    study: Study, run_id: str, numbers: Iterable[Metric], tags: Mapping[str, str]
) -> None:
    """Log the tags, and the numbers whose point the run lacks or has with another value.

    A point cannot be taken back. Of two at the same step, the later one counts.
    """
    numbers = list(numbers)
    times = Counter(point.key for point in numbers)
    there = {(last.key, last.step): last.value for last in _last_points(study, run_id)}
    # A number that stands alone is its own last point: only curves cost a request.
    there |= _values(study, run_id, {key for key, count in times.items() if count > 1})
    new = []
    for point in numbers:
        known = there.get((point.key, point.step))
        if known is None:
            new.append(point)
        elif known != point.value:
            now = time.time_ns() // 1_000_000
            new.append(Metric(point.key, point.value, now, point.step, point.model_id))
    _log(study, run_id, new, tags)


def _log(
    study: Study, run_id: str, points: Sequence[Metric], tags: Mapping[str, str] | None = None
) -> None:
    told = [RunTag(key, value) for key, value in (tags or {}).items()]
    for start in range(0, max(len(points), len(told) and 1), BATCH):
        batch = points[start : start + BATCH]
        study.client.log_batch(run_id, metrics=batch, tags=told if start == 0 else ())


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
        for path in notes.write_numbers(outcome, Path(scratch)):
            study.client.log_artifact(run_id, str(path))
        for figure in trial_figures(outcome, rows, losses, Path(scratch) / "figures"):
            study.client.log_artifact(run_id, str(figure), "figures")
