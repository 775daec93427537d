"""Check of what a sweep leaves behind after a fault.

It must be everything that an undisturbed sweep leaves, once, and nothing else.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run

from forget.preflight import identify
from forget.storage.finished import Trials
from forget.storage.store import Store

from .world import Cell, World

MODEL = "forgotten-tiny-sentiment"

Point = tuple[str, str, int]
"""A trial's metric at a step; the trial is empty where the metric is the sweep's own."""

MEASURED = "tokens_per_second|^system/|seconds"
"""Metrics that differ from run to run."""


@dataclass(frozen=True)
class Undisturbed:
    """Rows and numbers that a sweep leaves which nothing happened to."""

    rows: dict[str, pd.DataFrame]
    """By trial."""
    points: dict[Point, float]


def undisturbed(world: World) -> Undisturbed:
    """Run it.

    Raises:
        Unexpected: it did not end well.
        AssertionError: something does not hold.
    """
    cell = world.cell("undisturbed")
    try:
        cell.start().ends(0)
        found = Undisturbed(
            _rows(cell), {point: values[0] for point, values in _points(cell).items()}
        )
        assert len(found.rows) == 3
        problems = list(broken(cell, found))
        assert not problems, problems
    finally:
        clear(cell)
    return found


def broken(cell: Cell, expected: Undisturbed) -> Iterator[str]:
    """Say what does not hold, a line each."""
    yield from _broken_rows(cell, expected)
    yield from _broken_runs(cell, expected)
    yield from _broken_points(cell, expected)
    yield from _broken_versions(cell, expected)
    yield from _left_behind(cell)


def clear(cell: Cell) -> None:
    """End the sweep, and unregister its models.

    Those of the next one, whose trials are the same, are to be registered anew.
    """
    cell.end()
    client = MlflowClient()
    if client.search_registered_models(f"name = '{MODEL}'"):
        client.delete_registered_model(MODEL)


def _rows(cell: Cell) -> dict[str, pd.DataFrame]:
    ids = [identify(trial).trial for trial in cell.spec.trials()]
    store = Store(cell.root)
    return {id: Trials(store).frame(id) for id in Trials(store).done(ids)}


def _broken_rows(cell: Cell, expected: Undisturbed) -> Iterator[str]:
    rows = _rows(cell)
    if missing := expected.rows.keys() - rows.keys():
        yield f"not finished: {', '.join(sorted(missing))}"
    for id, frame in rows.items():
        try:
            pd.testing.assert_frame_equal(frame, expected.rows[id], check_exact=True)
        except AssertionError as error:
            yield f"trial {id}: other Rows: {' '.join(str(error).split())}"


def _runs(cell: Cell) -> list[Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(cell.name)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def _broken_runs(cell: Cell, expected: Undisturbed) -> Iterator[str]:
    runs = _runs(cell)
    if off := [
        f"{run.data.tags['mlflow.runName']} is {run.info.status}"
        for run in runs
        if run.info.status != "FINISHED"
    ]:
        yield f"runs: {', '.join(off)}"
    children = Counter(run.data.tags.get("forget.trial", "the sweep") for run in runs)
    if wrong := {id: children[id] for id in ("the sweep", *expected.rows) if children[id] != 1}:
        yield f"not one run each, but {wrong}"
    if errors := [run.data.tags["forget.error"] for run in runs if "forget.error" in run.data.tags]:
        yield f"finished, but with an error: {errors}"


def _points(cell: Cell) -> dict[Point, list[float]]:
    """Values by point, as they lie in the database: more than one is a double."""
    import psycopg2  # the list of faults is read without it

    query = """
        select coalesce(trial.value, ''), metrics.key, metrics.step, metrics.value
        from metrics join runs using (run_uuid) join experiments using (experiment_id)
        left join tags trial on trial.run_uuid = runs.run_uuid and trial.key = 'forget.trial'
        where experiments.name = %s
    """
    address = cell.world.database.address.replace("+psycopg2", "")
    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(query, [cell.name])
        found: dict[Point, list[float]] = {}
        for trial, key, step, value in cursor.fetchall():
            found.setdefault((trial, key, step), []).append(value)
    connection.close()
    return found


def _broken_points(cell: Cell, expected: Undisturbed) -> Iterator[str]:
    points = _points(cell)
    yield from _some(
        "metric points that are doubled",
        [point for point, values in points.items() if len(values) > 1],
    )
    ours, theirs = (
        _comparable({point: values[0] for point, values in points.items()}),
        _comparable(expected.points),
    )
    yield from _some("metric points that are missing", sorted(theirs.keys() - ours.keys()))
    yield from _some("metric points too many", sorted(ours.keys() - theirs.keys()))
    other = [point for point in ours.keys() & theirs.keys() if ours[point] != theirs[point]]
    yield from _some("metric points with another value", other)


def _comparable(points: dict[Point, float]) -> dict[Point, float]:
    """Return the points that are alike in every run of the sweep.

    Which of the trials learns for all is chance, and another may take over. What the sweep says of
    itself it says anew when it goes on.
    """
    kept = {
        point: value
        for point, value in points.items()
        if point[0] and not re.search(MEASURED, point[1])
    }
    return {
        ("learning" if key.startswith("learn/") else trial, key, step): value
        for (trial, key, step), value in kept.items()
    }


def _some(what: str, points: Sequence[Point]) -> Iterator[str]:
    if points:
        yield f"{what}: {len(points)}, e.g. {points[0]}"


def _broken_versions(cell: Cell, expected: Undisturbed) -> Iterator[str]:
    client = MlflowClient()
    runs = {run.info.run_id: run for run in _runs(cell)}
    experiments = list({run.info.experiment_id for run in runs.values()})
    models = {model.model_id: model for model in client.search_logged_models(experiments)}
    versions = client.search_model_versions(f"name = '{MODEL}'")
    trials = Counter(version.tags["forget.trial"] for version in versions)
    if wrong := {id: trials[id] for id in expected.rows if trials[id] != 1}:
        yield f"not one version each, but {wrong}"
    stored = cell.world.s3.keys("mlflow")
    for version in versions:
        run = runs.get(version.run_id or "")
        model = models.get(str(version.source).removeprefix("models:/"))
        if run is None or model is None:
            yield f"version {version.version} without {'its run' if run is None else 'its model'}"
        elif model.status != "READY" or model.source_run_id != version.run_id:
            about = f"its model is {model.status}, of run {model.source_run_id}"
            yield f"version {version.version}: {about}"
        elif run.data.tags.get("forget.model") != f"{MODEL}/{version.version}":
            named = run.data.tags.get("forget.model")
            yield f"version {version.version} is not what its run names: {named}"
        elif not any(
            f"/models/{model.model_id}/" in f"/{key}" and key.endswith(".safetensors")
            for key in stored
        ):
            yield f"version {version.version} without weights"
    if len(models) != len(versions):
        yield f"{len(models)} models for {len(versions)} versions"


def _left_behind(cell: Cell) -> Iterator[str]:
    """Temporary files, locks that are held, processes."""
    patterns = r"(^|/)\.[^/]+-[0-9a-f]{32}(/|$)|(^|/)\.tune-|/checkpoint/|^learning/[^/]+/"
    # A forgotten model stays in the store; of one in a bucket no copy stays.
    patterns += "|/model/" * ("://" in cell.where)
    names = [
        str(path.relative_to(cell.root)) + "/" * path.is_dir() for path in cell.root.rglob("*")
    ]
    if left := sorted(name for name in names if re.search(patterns, name)):
        yield f"left in the store: {left[0]} and {len(left) - 1} more"
    for lock in cell.root.rglob("*.lock"):
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            yield f"a lock that is held: {lock.relative_to(cell.root)}"
    if "://" in cell.where:
        keys = cell.world.s3.keys("forget", f"{cell.name}/")
        remote = r"\.claim$|\.[0-9a-f]{32}$|/trials/[^/]+/checkpoint\.|/learning/|/tune"
        if left := sorted(key for key in keys if re.search(remote, key)):
            yield f"left in the bucket: {left[0]} and {len(left) - 1} more"
        present = {Path(key).parent.name for key in keys if key.endswith("/outcome.json")}
        if missing := {path.name for path in (cell.root / "trials").iterdir()} - present:
            yield f"not in the bucket: {', '.join(sorted(missing))}"
    if left := sorted(str(path) for path in cell.scratch if path.exists()):
        yield f"left by Ray: {', '.join(left)}"
    if alive := cell.alive():
        yield f"still running: {', '.join(process.name() for process in alive)}"
