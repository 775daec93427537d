"""Publishing of audits: what they found of a trial, in the run that the trial has."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import numpy as np
from mlflow.entities import Metric

from forget.analyses.knowing import knowing
from forget.analyses.recovery import Recovery, recoveries, strongest
from forget.analyses.resampling import estimate
from forget.analyses.study import Cell
from forget.analyses.study import Study as Finished
from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.settings.identity import digest
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tracking.card import audited, model_card
from forget.tracking.connection import reaching
from forget.tracking.publishing import send_estimates
from forget.tracking.registry import registered
from forget.tracking.study import Study, connected

AUDITS = "forget.audits"
"""Tag of a trial's run: which audits' numbers it has."""


def publish_audits(study: Study, store: Store, outcomes: Sequence[Outcome]) -> int:
    """Send the runs of trials what audits found of them; return how many lacked something.

    A run gets the accuracy of each arm, R, and the Rows; a registered model's description R.

    Args:
        study: the sweep's.
        store: has the audits' Rows.
        outcomes: of finished trials, whose runs were published.

    Raises:
        Unreachable: the server is away.
    """
    sent = 0
    with reaching(study.uri):
        study = connected(study, store)
        for outcome in outcomes:
            sent += _publish(study, store, outcome)
    return sent


def _publish(study: Study, store: Store, outcome: Outcome) -> bool:
    trials = Trials(store)
    files = trials.audits(outcome.id)
    if not files:
        return False
    query = f"tags.`forget.trial` = '{outcome.id}' and tags.`mlflow.parentRunId` = '{study.run_id}'"
    found = study.client.search_runs([study.experiment_id], query, max_results=1)
    version = digest(sorted(files))
    if not found or found[0].data.tags.get(AUDITS) == version:
        return False
    run_id = found[0].info.run_id
    (cell,) = Finished([outcome], {outcome.id: trials.whole_frame(outcome.id)}).cells
    now = time.time_ns() // 1_000_000
    points = []
    for name, number, step in _numbers(cell):
        bounds = {"": number.value, "/low": number.low, "/high": number.high}
        points += [
            Metric(name + suffix, bound, now, step)
            for suffix, bound in bounds.items()
            if bound is not None and np.isfinite(bound)
        ]
    send_estimates(study, run_id, points)
    for name in files.values():
        study.client.log_artifact(run_id, str(store.fetch_file(name)), "audits")
    if model := registered(study, outcome):
        card = audited(model_card(outcome), strongest(cell))
        study.client.update_model_version(model.name, model.version, card)
    study.client.set_tag(run_id, AUDITS, version)
    return True


def _numbers(cell: Cell) -> Iterator[tuple[str, Estimate, int]]:
    """Yield name, estimate and step of every number; the step is the number of the dose."""
    for one in recoveries(cell):
        step = round(one.dose.at)
        for arm, accuracy in one.accuracy.items():
            yield _name(arm, one, cell.task, "accuracy"), accuracy, step
        yield _name("recovery", one, cell.task, "R"), one.number, step
    for audit, one in strongest(cell).items():
        yield f"recovery_{_plain(audit)}", one.number, 0
    if known := knowing(cell):
        yield "knowing", estimate(known.stated, known.n), 0


def _name(arm: str, one: Recovery, task: str, measure: str) -> str:
    """Spell a metric, e.g. forgotten.relearn.forget/sst2/test/accuracy."""
    told = ".".join(map(_plain, (arm, one.audit, one.dose.group)))
    return metric_name(told, task, "test", measure)


def _plain(text: str) -> str:
    """Put a text into letters that the names of metrics take."""
    return re.sub(r"[^\w-]+", "_", text)
