"""Audits of a sweep's finished trials: jobs of their own, a process for each trial."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import ray
import torch

from forget.audits.arms import arms
from forget.audits.audit import Audit
from forget.audits.catalogue import chosen
from forget.audits.run import Missing, audit_trial, file
from forget.models.devices import check_gpu
from forget.models.kernels import keep_memory
from forget.preflight import Identity, identify
from forget.redaction import without_secrets
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks.draws import gather
from pipelines.progress import Progress, label
from pipelines.sweep.board import Board
from pipelines.sweep.nodes import Slots, bundle

WAIT_SECONDS = 1.0
"""Seconds between two looks at which jobs have ended."""


@dataclass(frozen=True)
class Job:
    """Audits of one trial that are left to run."""

    trial: Trial
    identity: Identity
    audits: tuple[Audit, ...]


def left(
    sweep: Sweep, audits: Sequence[Audit], outcomes: Sequence[Outcome], store: Store
) -> list[Job]:
    """Return the audits that finished trials lack, in the order in which to run them.

    The first trial of each learned model goes before the others, which would only wait for what
    it finds of the arms that they share.
    """
    jobs = []
    for outcome in outcomes if audits else ():
        if not outcome.trial.forgets:
            continue
        known = arms(outcome.trial, store, sweep.never, sweep.more_arms)
        there = Trials(store).audits(outcome.id)
        todo = tuple(audit for audit in audits if file(audit, known) not in there)
        if todo:
            jobs.append(Job(outcome.trial, identify(outcome.trial, store), todo))
    seen: set[str] = set()
    first, others = [], []
    for job in jobs:
        (others if job.identity.learned in seen else first).append(job)
        seen.add(job.identity.learned)
    return first + others


def run(sweep: Sweep, jobs: Sequence[Job], store: Store, slots: Slots) -> list[str]:
    """Run audits, as many trials at once as there is room for.

    Returns:
        A sentence for each audit that failed: it is missing, and the trial stands.
    """
    need = bundle(slots.resources, slots.memory)
    task = ray.remote(
        num_cpus=need["CPU"],
        num_gpus=need["GPU"],
        memory=need.get("memory"),
        max_retries=sweep.resources.retries,
    )(_audit)
    board = Board(f"audits-{secrets.token_hex(8)}")
    running = {}
    for job in jobs:
        tables = [audit.model_dump(mode="json") for audit in job.audits]
        given = job.trial.model_dump_json(), tables, sweep.never, sweep.more_arms
        running[task.remote(*given, store.where, slots.resources.cpus, board)] = job
    missing: list[str] = []
    try:
        with Progress(len(jobs), min(slots.count, len(jobs))) as progress:
            while running:
                ended, _ = ray.wait(list(running), timeout=WAIT_SECONDS)
                for job in running.values():
                    if move := board.at(job.identity.trial):
                        progress.started(job.identity.trial, label(job.trial, sweep))
                        progress.event(job.identity.trial, move)
                for one in ended:
                    job = running.pop(one)
                    name, id = label(job.trial, sweep), job.identity.trial
                    told = _told(one, job)
                    missing += [f"{name}: audit {found.audit}: {found.reason}" for found in told]
                    progress.started(id, name)
                    progress.audited(id, f"{len(job.audits) - len(told)} of {len(job.audits)}")
    finally:
        # After Ctrl-C those that run are ended: what is whole of them is in the store.
        for one in running:
            ray.cancel(one, force=True)
        board.clear()
    return missing


def _told(ended: ray.ObjectRef, job: Job) -> list[Missing]:
    """Return the audits that failed, all of a job whose process died."""
    try:
        return [Missing(*one) for one in ray.get(ended)]
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = without_secrets(str(cause).strip()).splitlines()[0]
        return [Missing(audit.label, reason) for audit in job.audits]


def _audit(
    trial: str,
    tables: Sequence[dict[str, object]],
    never: Sequence[str],
    more: Sequence[str],
    where: str,
    cpus: float,
    board: Board,
) -> list[tuple[str, str]]:
    """Audit a trial in a process of its own; return label and reason of each audit that failed."""
    torch.set_num_threads(max(1, int(cpus)))
    keep_memory()
    if ray.get_gpu_ids():
        check_gpu()
    store, audited = Store(where), Trial.model_validate_json(trial)
    material, id = gather(audited), identify(audited, store).trial
    observe = board.poster(id)
    found = audit_trial(
        chosen(tables),
        arms(audited, store, never, more, observe, material),
        audited,
        id,
        material,
        store,
        observe,
    )
    return [(one.audit, one.reason) for one in found]
