"""Audits of a sweep's finished trials: jobs of their own, a process for each model."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ray
import torch

from forget.audits.arms import Arm, arms
from forget.audits.audit import Audit
from forget.audits.catalogue import chosen
from forget.audits.run import apart, audit_model, file, keep, key
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
"""Seconds between two times that the driver asks what has ended."""


@dataclass(frozen=True)
class Job:
    """Audits of one trial that are left to run."""

    trial: Trial
    identity: Identity
    audits: tuple[Audit, ...]
    arms: Mapping[str, Arm]


@dataclass(frozen=True)
class Model:
    """A model that is audited in a process of its own: arms of equal weights, of any trials."""

    job: Job
    """The first that needs it."""
    names: tuple[str, ...]

    @property
    def id(self) -> str:
        """A name that no other model has."""
        return f"{self.job.identity.trial}/{self.names[0]}"

    @property
    def keys(self) -> list[str]:
        """Identities of what it finds, by audit."""
        return [self.key(audit) for audit in self.job.audits]

    def key(self, audit: Audit) -> str:
        """Return the identity of what it finds by an audit."""
        return key(audit, self.job.arms, self.names[0], self.job.trial)


def left(
    sweep: Sweep, audits: Sequence[Audit], outcomes: Sequence[Outcome], store: Store
) -> list[Job]:
    """Return the audits that finished trials lack."""
    jobs = []
    for outcome in outcomes if audits else ():
        if not outcome.trial.audited:
            continue
        known = arms(outcome.trial, store, sweep.never, sweep.more_arms)
        there = Trials(store).audits(outcome.id)
        todo = tuple(audit for audit in audits if file(audit, known) not in there)
        if todo:
            jobs.append(Job(outcome.trial, identify(outcome.trial, store), todo, known))
    return jobs


def models(jobs: Sequence[Job]) -> list[Model]:
    """Return the models that jobs ask of, each once, in the order in which to audit them.

    Forgotten ones are made anew, so they take longest and go before the others.
    """
    found: dict[tuple[str, ...], Model] = {}
    for job in jobs:
        for names in apart(job.arms):
            one = Model(job, names)
            found.setdefault(tuple(one.keys), one)
    return sorted(found.values(), key=lambda one: "forgotten" not in one.names)


def run(sweep: Sweep, jobs: Sequence[Job], store: Store, slots: Slots) -> list[str]:
    """Run audits, as many models at once as there is room for.

    Returns:
        A sentence for each audit that failed: it is missing, and the trial stands.
    """
    need = bundle(slots.resources, slots.memory)
    task = ray.remote(
        num_cpus=need["CPU"],
        num_gpus=need["GPU"],
        memory=need.get("memory", 0),
        max_retries=sweep.resources.retries,
    )(_audit)
    board = Board(f"audits-{secrets.token_hex(8)}")
    todo = models(jobs)
    running = {}
    for one in todo:
        tables = [audit.model_dump(mode="json") for audit in one.job.audits]
        given = one.job.trial.model_dump_json(), tables, sweep.never, sweep.more_arms
        place = store.where, slots.resources.cpus, board, one.id
        running[task.remote(one.names, *given, *place)] = one
    failed: dict[str, str] = {}
    try:
        with Progress(len(todo), min(slots.count, len(todo))) as progress:
            while running:
                ended, _ = ray.wait(list(running), timeout=WAIT_SECONDS)
                for one in running.values():
                    if move := board.at(one.id):
                        progress.started(one.id, _name(one, sweep))
                        progress.event(one.id, move)
                for reference in ended:
                    one = running.pop(reference)
                    told = _told(reference, one)
                    failed |= told
                    progress.started(one.id, _name(one, sweep))
                    count = len(one.job.audits)
                    progress.audited(one.id, f"{count - len(told)} of {count} audits")
    finally:
        # After Ctrl-C those that run are ended: what is whole of them is in the store.
        for reference in running:
            ray.cancel(reference, force=True)
        board.clear()
    missing = []
    for job in jobs:
        missing += [f"{label(job.trial, sweep)}: {said}" for said in _keep(job, failed, store)]
    return missing


def _name(one: Model, sweep: Sweep) -> str:
    return f"{label(one.job.trial, sweep)}, {'/'.join(one.names)}"


def _keep(job: Job, failed: Mapping[str, str], store: Store) -> Iterator[str]:
    """Leave beside a trial what was found of its arms; yield a sentence for each audit missing."""
    whole = []
    for audit in job.audits:
        keys = (Model(job, names).key(audit) for names in apart(job.arms))
        if reasons := [failed[found] for found in keys if found in failed]:
            yield f"audit {audit.label}: {reasons[0]}"
        else:
            whole.append(audit)
    for one in keep(whole, job.arms, job.trial, job.identity.trial, store):
        yield f"audit {one.audit}: {one.reason}"


def _told(ended: ray.ObjectRef, one: Model) -> dict[str, str]:
    """Return the reason of each audit that failed, all of a process that died, by identity."""
    by_label = {audit.label: one.key(audit) for audit in one.job.audits}
    try:
        return {by_label[audit]: reason for audit, reason in ray.get(ended)}
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = without_secrets(str(cause).strip()).splitlines()[0]
        return dict.fromkeys(one.keys, reason)


def _audit(
    names: Sequence[str],
    trial: str,
    tables: Sequence[dict[str, object]],
    never: Sequence[str],
    more: Sequence[str],
    where: str,
    cpus: float,
    board: Board,
    id: str,
) -> list[tuple[str, str]]:
    """Audit arms in a process of its own; return label and reason of each audit that failed."""
    torch.set_num_threads(max(1, int(cpus)))
    keep_memory()
    if ray.get_gpu_ids():
        check_gpu()
    store, audited = Store(where), Trial.model_validate_json(trial)
    material, observe = gather(audited), board.poster(id)
    found = audit_model(
        chosen(tables),
        arms(audited, store, never, more, observe, material),
        names,
        audited,
        material,
        store,
        observe,
    )
    return [(one.audit, one.reason) for one in found]
