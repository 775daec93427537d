"""Reports over what has finished of a sweep: where they go, and their writing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forget import report
from forget.analyses.words import rate_name
from forget.errors import BadInput
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep
from forget.storage.finished import Trials
from forget.storage.folders import unwritable
from forget.storage.journal import FILE, Journal
from forget.storage.store import Store

if TYPE_CHECKING:
    from forget.planning.standing import Standing

FOLDER = Path("report")
"""The folder in the working directory that gets a folder for each report."""


def no_place(name: str = "") -> str | None:
    """Say in a sentence why a report of that name cannot be written; None where it can."""
    if (place := unwritable((FOLDER / name).absolute())) is None:
        return None
    return f"{place} cannot be written, where the report goes: run the command in a folder of yours"


def write_report(sweep: Sweep, store: Store) -> report.Report:
    """Write the report over what has finished, in report/<sweep's name>/.

    Raises:
        BadInput: nothing has, or the report cannot be written.
    """
    # torch takes seconds to import, and whoever compares studies does without.
    from forget.planning.standing import finished, standings
    from forget.preflight import expand

    if why := no_place(sweep.name):
        raise BadInput(why)
    found = standings(expand(sweep, store), store)
    outcomes = finished(found, store)
    if not outcomes:
        raise BadInput(
            f'no trial of sweep "{sweep.name}" has finished in {store.where}; '
            "run it first with: forget sweep"
        )
    return write(sweep, found, store, outcomes)


def write(
    sweep: Sweep,
    found: Sequence[Standing],
    store: Store,
    outcomes: Sequence[Outcome],
    failures: Sequence[str] | None = None,
) -> report.Report:
    """Write the report over finished trials.

    Args:
        sweep: what was asked for.
        found: how it stands.
        store: has the trials' Rows.
        outcomes: of the trials that finished.
        failures: a sentence for each trial that failed; by default as their journals say.
    """
    if failures is None:
        failures = _failed(found, store)
    frames = {outcome.id: Trials(store).whole_frame(outcome.id) for outcome in outcomes}
    left = {one.trial: one.left for one in found}
    return report.write(sweep, left, outcomes, frames, FOLDER / sweep.name, failures=failures)


def _failed(found: Sequence[Standing], store: Store) -> list[str]:
    """Say of each trial that is left whether it failed when it ran last, and why."""
    told = []
    for one in found:
        journal = Journal(store.path(f"trials/{one.identity.trial}/{FILE}"))
        if one.left and (why := journal.failure()):
            told.append(f"{one.trial.task}, rate {rate_name(one.trial.forget.lr)}: {why}")
    return told
