"""Audits of a trial: each looks at every arm, and what trials share is computed once a store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from forget import tasks
from forget.audits.arms import Arm
from forget.audits.audit import Audit, Auditing
from forget.evaluation.scoring import Scores
from forget.events import Observe, ignore
from forget.models.catalogue import in_bf16
from forget.models.language_model import LanguageModel
from forget.redaction import without_secrets
from forget.results.files import read_rows, write_rows
from forget.results.rows import Row
from forget.settings.identity import PROTOCOL, digest, settings_of
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks.draws import Material

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Missing:
    """An audit that failed, which neither the trial nor the other audits did."""

    audit: str
    """Its label."""
    reason: str
    """One line."""


def file(audit: Audit, arms: Mapping[str, Arm]) -> str:
    """Name the file in which a trial has an audit; another setting or arm gives another name."""
    weights = {name: arm.weights for name, arm in arms.items()}
    return f"{audit.name}-{digest([audit.version, audit.changed, weights])}"


def audit_trial(
    audits: Sequence[Audit],
    arms: Mapping[str, Arm],
    trial: Trial,
    id: str,
    material: Material,
    store: Store,
    observe: Observe = ignore,
) -> list[Missing]:
    """Audit a finished trial, and leave each audit's Rows beside it.

    An audit that the trial has is not run again. One that fails is left out, and the others go on.

    Args:
        audits: what is asked.
        arms: of whom (`forget.audits.arms.arms`).
        trial: the trial.
        id: its identity.
        material: its examples.
        store: keeps what trials share, and each trial's Rows.
        observe: receives the events.
    """
    there = Trials(store).audits(id)
    todo = [audit for audit in audits if file(audit, arms) not in there]
    failed: dict[str, Missing] = {}
    for names in apart(arms):
        left = [audit for audit in todo if audit.label not in failed]
        failing = audit_model(left, arms, names, trial, material, store, observe)
        failed |= {one.audit: one for one in failing}
    left = [audit for audit in todo if audit.label not in failed]
    return [*failed.values(), *keep(left, arms, trial, id, store)]


def apart(arms: Mapping[str, Arm]) -> list[tuple[str, ...]]:
    """Return the arms in groups of equal weights, which one model serves."""
    groups: dict[str, list[str]] = {}
    for name, arm in arms.items():
        groups.setdefault(arm.weights, []).append(name)
    return [tuple(names) for names in groups.values()]


def audit_model(
    audits: Sequence[Audit],
    arms: Mapping[str, Arm],
    names: Sequence[str],
    trial: Trial,
    material: Material,
    store: Store,
    observe: Observe = ignore,
) -> list[Missing]:
    """Audit arms of equal weights; the store has afterwards what was found of them.

    Args:
        audits: what is asked.
        arms: every arm, since an audit may need others.
        names: those that are looked at.
        trial: the trial.
        material: its examples.
        store: keeps what is found.
        observe: receives the events.

    Returns:
        The audits that failed.
    """
    load = cache(arms[names[0]].load)
    said: dict[int, Scores] = {}
    failed = []
    for audit in audits:
        try:
            for name in names:
                audit_arm(audit, arms, name, load, trial, material, store, observe, said)
        # Whatever goes wrong in one audit is that audit's: the trial has finished, and the other
        # audits can be had. Interrupts are no Exceptions and go through.
        except Exception as error:
            log.warning("audit %s failed on the model %s", audit.label, names[0], exc_info=True)
            reason = without_secrets(str(error) or type(error).__name__).splitlines()[0]
            failed.append(Missing(audit.label, reason))
            load = cache(arms[names[0]].load)  # It may have left the weights changed.
    return failed


def keep(
    audits: Sequence[Audit], arms: Mapping[str, Arm], trial: Trial, id: str, store: Store
) -> list[Missing]:
    """Leave the Rows of audits beside the trial, from what `audit_model` found of every arm.

    Returns:
        The audits of which the store lacks something.
    """
    lacking = []
    for audit in audits:
        rows: list[Row] = []
        try:
            for name in arms:
                rows += found(audit, arms, name, trial, store, _absent)
        except _NotFound:
            lacking.append(Missing(audit.label, f"what was found is not in {store.where}"))
            continue
        rows = [replace(row, trial=id) for row in rows]
        Trials(store).keep_audit(id, file(audit, arms), rows)
    return lacking


class _NotFound(Exception):
    """Raised where the store lacks what was found of an arm."""


def _absent(folder: Path | None) -> None:
    raise _NotFound


def found(
    audit: Audit,
    arms: Mapping[str, Arm],
    name: str,
    trial: Trial,
    store: Store,
    make: Callable[[Path | None], None],
) -> list[Row]:
    """Return the Rows that the store has of an arm, where `make` leaves them if it has none."""
    folder = store.once("audited", key(audit, arms, name, trial), make)
    # Whoever was first may have called the same weights by another arm's name.
    return [replace(row, phase=name) for row in read_rows(folder / "rows.parquet")]


def audit_arm(
    audit: Audit,
    arms: Mapping[str, Arm],
    name: str,
    load: Callable[[], LanguageModel],
    trial: Trial,
    material: Material,
    store: Store,
    observe: Observe = ignore,
    said: dict[int, Scores] | None = None,
) -> list[Row]:
    """Return what an audit finds of one arm, from the store where it has it.

    Args:
        audit: what is asked.
        arms: every arm, since an audit may need others.
        name: the arm.
        load: gives its model.
        trial: the trial.
        material: its examples.
        store: keeps the Rows, for every trial that has an arm of these weights.
        observe: receives the events.
        said: what audits before this one found of the model as it is (`Auditing.said`).
    """

    def make(folder: Path | None) -> None:
        def other(arm: str) -> LanguageModel:
            return arms[arm].load()

        heard = {} if said is None else said
        at = Auditing(trial, name, load(), material, audit, other, observe, heard)
        rows = list(audit.run(at))
        if folder:
            write_rows(rows, folder / "rows.parquet")

    return found(audit, arms, name, trial, store, make)


def key(audit: Audit, arms: Mapping[str, Arm], name: str, trial: Trial) -> str:
    """Return the identity of what an audit finds of an arm: equal ones are computed once."""
    others = [arms[arm].weights for arm in audit.needs]
    return digest([arms[name].weights, others, asked(audit, trial)])


def asked(audit: Audit, trial: Trial) -> list[object]:
    """Return all that an audit's numbers depend on beside weights: settings, examples, data."""
    found: list[object] = [
        PROTOCOL,
        [audit.name, audit.version, audit.changed],
        settings_of(trial, "scoring", "measuring"),
        # Examples that stages train on are what relearning takes, and what shots must not be.
        [trial.learn.examples, trial.forget.examples, trial.lora.model_dump()],
        in_bf16(trial.precision),
        tasks.fingerprint(trial.tasks, trial.folders),
    ]
    return [*found, audit.reads] if audit.reads else found
