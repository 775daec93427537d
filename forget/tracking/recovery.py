"""Publishing of audits: what they found of a trial, in the run that the trial has."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import numpy as np
from mlflow.entities import Metric

from forget.analyses.depth import depths
from forget.analyses.knowing import known
from forget.analyses.membership import membership
from forget.analyses.patching import patching
from forget.analyses.recovery import WORST, least, most_undone, recoveries, split_of, strongest
from forget.analyses.study import Cell
from forget.analyses.study import Study as Finished
from forget.analyses.text import reading
from forget.results.doses import read
from forget.results.outcome import Outcome
from forget.settings.identity import digest
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tracking.card import audited, model_card
from forget.tracking.connection import reaching
from forget.tracking.publishing import send_numbers
from forget.tracking.registry import registered
from forget.tracking.study import Study, connected

AUDITS = "forget.audits"
"""Tag of a trial's run: which audits' numbers it has."""


def publish_audits(study: Study, store: Store, outcomes: Sequence[Outcome]) -> int:
    """Send the runs of trials what audits found of them; return how many lacked something.

    A run gets R of each audit at its strongest dose, the accuracy of each arm at each dose, and the
    Rows; a registered model's description R.

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
    numbers = [*((name, number, 0) for name, number in headline(cell)), *curves(cell)]
    points = [
        Metric(name, number, now, step)
        for name, number, step in numbers
        if number is not None and np.isfinite(number)
    ]
    send_numbers(study, run_id, points, {})
    for name in files.values():
        study.client.log_artifact(run_id, str(store.fetch_file(name)), "audits")
    if model := registered(study, outcome):
        card = audited(model_card(outcome), strongest(cell))
        study.client.update_model_version(model.name, model.version, card)
    study.client.set_tag(run_id, AUDITS, version)
    return True


def headline(cell: Cell) -> Iterator[tuple[str, float | None]]:
    """Yield the headline numbers."""
    every = recoveries(cell)
    for audit, one in strongest(cell).items():
        yield f"recovery_{_named(audit)}", one.number.value
        for group, half in least(every, audit).items():
            if audit.partition(",")[0] == "relearn" and not read(group).control:
                yield f"half_back_{_named(audit)}_{group}", half
    for audit, one in most_undone(cell).items():
        assert one.undone is not None
        yield f"undone_{_named(audit)}", float(one.undone[0])
    for one in every:
        if one.dose.name == WORST:
            yield f"recovery_worst_{_named(one.audit)}", one.number.value
    for depth in depths(cell):
        yield f"depth_{_named(depth.audit)}_{_named(depth.decoder)}", depth.first.get("forgotten")
    for found in known(cell):
        yield _named(found.label).replace("know", "knowing", 1), float(found.stated[0])
    if told := membership(cell):
        yield "membership_leak", told.leak.value
    if patched := patching(cell):
        yield "uds", patched.score.value
    if read_ := reading(cell):
        yield "text_bits_more", read_.more.value


def curves(cell: Cell) -> Iterator[tuple[str, float | None, int]]:
    """Yield the accuracy of each arm at each dose, whose number is the step of the metric.

    "forgotten.relearn.forget/world/test/accuracy" has a point at n = 0, 8 and 40.
    """
    for one in recoveries(cell):
        split = split_of(one.audit)
        for arm, accuracy in one.accuracy.items():
            place = f"{arm}.{_named(one.audit)}.{_named(one.dose.group)}/{cell.task}/{split}"
            yield f"{place}/accuracy", accuracy.value, int(one.dose.at)


def _named(words: str) -> str:
    return re.sub(r"[^\w-]+", "_", words)
