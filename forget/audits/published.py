"""Audits of one registered model, against the arms of the trial that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from forget.audits.arms import Arm, arms, order
from forget.audits.audit import Audit
from forget.audits.run import audit_arm
from forget.models.language_model import LanguageModel
from forget.preflight import identify
from forget.results.rows import Row
from forget.settings.identity import digest
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import gather


def audit_published(
    audits: Sequence[Audit],
    trial: Trial,
    version: str,
    load: Callable[[], LanguageModel],
    store: Store,
) -> tuple[list[Row], list[str]]:
    """Audit a registered model as it was published, in bfloat16.

    Args:
        audits: what is asked.
        trial: the one that made the model.
        version: "<name>/<version>".
        load: gives the model.
        store: has the learned model, perhaps.

    Returns:
        The Rows, with the trial's id; and a sentence for each arm that is missing.
    """
    material = gather(trial)
    identity = identify(trial, store)
    found = arms(trial, store, material=material)
    found["forgotten"] = Arm(digest(["registered", version]), load)
    notes = []
    if not store.has("learned", identity.learned):
        del found["learned"]
        notes.append(
            f"the learned model {identity.learned} is not in {store.where}, so there is no R: "
            "set FORGET_STORE to the store of the study"
        )
    rows: list[Row] = []
    last = ""
    for name in order(found):
        if found[name].weights != last:
            last, held = found[name].weights, cache(found[name].load)
        for audit in audits:
            if set(audit.needs) <= found.keys():
                rows += audit_arm(audit, found, name, held, trial, material, store)
    return [replace(row, trial=identity.trial) for row in rows], notes
