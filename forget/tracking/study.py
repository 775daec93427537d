"""A study's parent run and its trials' runs under it: made or found again, described, ended."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from forget.errors import BadInput
from forget.settings.identity import digest
from forget.settings.parts import Retain
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.journal import Started
from forget.storage.store import Store
from forget.tracking import notes, views
from forget.tracking.card import METHOD
from forget.tracking.connection import (
    BATCH,
    Unreachable,
    Unusable,
    artifacts,
    connect,
    reaching,
    tracking_uri,
    unless_it_exists,
)
from forget.tracking.provenance import environment

if TYPE_CHECKING:
    from forget.preflight import Expansion
    from forget.report import Report

log = logging.getLogger(__name__)

NAMES = 2
"""Version of the names that metrics have in MLflow. Runs with other names are of other sweeps, and
`forget sync` replaces them.
"""


@dataclass(frozen=True)
class Study:
    """The place of a sweep's runs on a server. Ids are empty until the server has answered once.

    (The Study of forget.analyses is another: the finished trials that a report is about.)
    """

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
        """A client of the server."""
        return connect(self.uri)


def open_study(expansion: Expansion, spec_text: str) -> Study:
    """Make or reopen the sweep's parent run.

    Where the server is away there is a warning, and the run is made once it is back.

    Raises:
        BadInput: the experiment was deleted.
        Unusable: the database has to be mended first.
    """
    study = Study(tracking_uri(), expansion.sweep, spec_text, dict(expansion.fingerprints))
    try:
        with reaching(study.uri):
            study = connected(study)
            study.client.update_run(study.run_id, status="RUNNING")
    except Unusable:
        raise
    except Unreachable as error:
        log.warning("%s; the trials' journals keep everything until `forget sync`", error)
    return study


def close_study(
    study: Study, status: str, counts: Mapping[str, float], report: Report | None = None
) -> None:
    """Log the report's files, headline numbers and a note to the parent run, and end it.

    Args:
        study: whose parent run it is.
        status: FINISHED, FAILED or KILLED.
        counts: further numbers by metric name.
        report: over what has finished; None where nothing has.

    Raises:
        Unreachable: the server is away.
    """
    numbers = dict(counts)
    for name, estimate in report.numbers.items() if report else ():
        numbers[name] = estimate.numbers[0]
    with reaching(study.uri):
        study = connected(study)
        if report:
            study.client.log_artifacts(study.run_id, str(report.page.parent), "report")
        run = study.client.get_run(study.run_id)
        before = run.data.metrics
        now = time.time_ns() // 1_000_000

        def next_step(name: str) -> int:
            """Return the next step of this metric's curve: sweeps that continue log it again."""
            return len(study.client.get_metric_history(study.run_id, name)) if name in before else 0

        changed = [
            Metric(name, value, now, next_step(name))
            for name, value in numbers.items()
            if before.get(name) != value
        ]
        tags = []
        if report or notes.NOTE not in run.data.tags:
            note = notes.of_sweep(study.sweep, report, study.experiment_id, study.run_id)
            tags = [RunTag(*tag) for tag in notes.noted(note, run.data.tags).items()]
        for start in range(0, max(1, len(changed)), BATCH):
            study.client.log_batch(
                study.run_id,
                metrics=changed[start : start + BATCH],
                tags=tags if start == 0 else (),
            )
        study.client.set_terminated(study.run_id, status)


def link(study: Study) -> str | None:
    """Return the address of the sweep's trials in MLflow; None while the server is away."""
    if not study.experiment_id:
        return None
    return views.link(views.address(study.uri), study.experiment_id)


def connected(study: Study, store: Store | None = None) -> Study:
    """Return the study with its experiment and parent run, made where they are missing."""
    if study.run_id:
        return study
    sweep = study.sweep
    # Workers that start before the server does all make the parent once it is there: one after the
    # other.
    with FileLock(store.root / "study.lock") if store else nullcontext():
        experiment = study.client.get_experiment_by_name(sweep.name)
        if experiment is None:
            folder = artifacts(study.uri)
            with unless_it_exists():
                study.client.create_experiment(
                    sweep.name, artifact_location=folder and f"{folder}/{sweep.name}"
                )
            experiment = study.client.get_experiment_by_name(sweep.name)
        assert experiment
        refuse_deleted(experiment, " or give the spec another name")
        key, moved = _keys(study, NAMES)
        found = study.client.search_runs(
            [experiment.experiment_id], f"tags.`forget.sweep` = '{key}'", max_results=1
        ) or study.client.search_runs(
            [experiment.experiment_id], f"tags.`forget.study` = '{moved}'", max_results=1
        )
        tags = {
            "forget.sweep": key,
            "forget.study": moved,
            "forget.name": sweep.name,
            "mlflow.source.name": f"{sweep.name}.toml",
            "mlflow.source.type": "LOCAL",
        }
        run = (
            found[0]
            if found
            else study.client.create_run(experiment.experiment_id, tags=tags, run_name=sweep.name)
        )
    _describe(study, run, sweep.base, environment())
    views.save(study.client, experiment, sweep)
    about = notes.of_experiment(sweep, experiment.experiment_id)
    for key, value in notes.noted(about, experiment.tags).items():
        if experiment.tags.get(key) != value:
            study.client.set_experiment_tag(experiment.experiment_id, key, value)
    study.client.log_text(run.info.run_id, study.spec, "spec.toml")
    study.client.log_inputs(
        run.info.run_id,
        [dataset(task, fingerprint) for task, fingerprint in study.datasets.items()],
    )
    return dataclasses.replace(
        study, experiment_id=experiment.experiment_id, run_id=run.info.run_id
    )


def _keys(study: Study, names: int | None = None) -> tuple[str, str]:
    """Return the keys of a sweep's run: of its settings, and of these wherever its folders lie.

    Args:
        study: whose run it is.
        names: version of the names of its metrics (NAMES); None for those before there were any.
    """
    # Resources change no number: a sweep that goes on with more CPUs is the same sweep. Nor do
    # audits, which look at its trials when they have finished.
    others = {"resources", "store", "audits", "never", "scrambled", "again"}
    fields = study.sweep.model_dump(mode="json", exclude=others)
    # Nor is one another whose folders were moved, with the same data in them.
    parts = [fields, [_unplaced(fields), study.datasets]]
    key, moved = (digest(part if names is None else [names, part]) for part in parts)
    return key, moved


def earlier(study: Study) -> Iterator[Run]:
    """Yield the runs of the sweep whose metrics have names of before."""
    for tag, key in zip(("forget.sweep", "forget.study"), _keys(study), strict=True):
        yield from study.client.search_runs([study.experiment_id], f"tags.`{tag}` = '{key}'")


def runs_under(study: Study, parent: str) -> Iterator[Run]:
    """Yield the runs of trials under a sweep's run."""
    query, page = f"tags.`mlflow.parentRunId` = '{parent}'", None
    while page is None or page.token:
        token = page.token if page else None
        page = study.client.search_runs([study.experiment_id], query, page_token=token)
        yield from page


def _unplaced(value: Any) -> Any:
    """Return settings with the name of a folder or model in the place of its absolute path."""
    if isinstance(value, dict):
        return {key: _unplaced(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unplaced(one) for one in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def refuse_deleted(experiment: Experiment, otherwise: str) -> None:
    """Raise BadInput for a deleted experiment, with the command that restores it.

    Args:
        experiment: perhaps deleted.
        otherwise: the other cure, in words.
    """
    if experiment.lifecycle_stage == "deleted":
        cure = f"run `mlflow experiments restore -x {experiment.experiment_id}`{otherwise}"
        raise BadInput(f'experiment "{experiment.name}" was deleted; {cure}')


def child(study: Study, started: Started, start: int, tags: Mapping[str, str]) -> Run:
    """Return the trial's run under the sweep's, made or found again.

    Args:
        study: with its parent run.
        started: the event that says which trial it is.
        start: of a run that is made, in milliseconds since 1970.
        tags: to set, on a run that was there as well.
    """
    trial = started.trial
    query = f"tags.`forget.trial` = '{started.id}' and tags.`mlflow.parentRunId` = '{study.run_id}'"
    found = study.client.search_runs([study.experiment_id], query, max_results=1)
    if found:
        run = found[0]
    else:
        identity = {
            "forget.trial": started.id,
            "mlflow.parentRunId": study.run_id,
            "mlflow.source.name": f"{study.sweep.name}.toml",
            "mlflow.source.type": "LOCAL",
        }
        run = study.client.create_run(study.experiment_id, start, identity, run_name(trial))
    _describe(study, run, trial.model_dump(mode="json"), tags)
    return run


def run_name(trial: Trial) -> str:
    """Return the name of a trial's run, e.g. "smollm2-135m world true lr=0.0001"."""
    words = [trial.model, trial.task]
    if trial.method != METHOD:
        words.append(str(trial.method))
    if trial.method == METHOD or trial.arm != "random":
        words.append(trial.arm)
    if trial.forget_set.name != "own":
        words.append(str(trial.forget_set))
    if trial.noise < 1:
        words.append(f"noise={trial.noise:g}")
    if trial.retain:
        words.append(f"retain={_retained(trial.retain)}")
    words.append(f"lr={trial.forget.lr:g}")
    if trial.member:
        words.append(f"member={trial.member}")
    return " ".join(words)


def _retained(retain: Retain) -> str:
    """Write a retain set in a word, e.g. "cola,sst2:kl*0.5"; "none" for a method without one."""
    if not retain.names:
        return "none"
    return f"{','.join(retain.names)}:{retain.loss}*{retain.weight:g}"


def _describe(study: Study, run: Run, fields: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    # MLflow refuses a param's second value; only `save` and `folders` can differ between two goes
    # at a trial.
    params = [Param(key, value) for key, value in _flat(fields) if key not in run.data.params]
    study.client.log_batch(
        run.info.run_id, params=params, tags=[RunTag(key, value) for key, value in tags.items()]
    )


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield key and value of {"forget": {"lr": 1}} as ("forget.lr", "1"); lists become "a, b"."""
    for key, value in fields.items():
        if isinstance(value, Mapping) and "name" in value:
            # One of several things by its name: that stands under the key itself.
            yield prefix + key, str(value["name"])
            rest = {name: one for name, one in value.items() if name != "name"}
            yield from _flat(rest, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, ", ".join(map(str, value))
        else:
            yield prefix + key, str(value)


def dataset(task: str, fingerprint: str, scored: int | None = None) -> DatasetInput:
    """Return a task's data as MLflow lists it among a run's inputs."""
    source = json.dumps({"tags": {"mlflow.source.name": f"forget.tasks.load({task!r}, ...)"}})
    tags = [] if scored is None else [InputTag("examples_scored", str(scored))]
    return DatasetInput(Dataset(task, fingerprint, "code", source), tags)
