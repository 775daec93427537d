"""Commands about audits: list them, run them on a finished study or on one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from forget.errors import BadInput
from forget.results.doses import pooled, read
from forget.settings import addresses
from forget.settings.reading import read_sweep, spec_path
from pipelines.cli.shared import Folders, absolute, console, print_table

if TYPE_CHECKING:
    from forget.results.outcome import Outcome
    from forget.results.rows import Row

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[AUDIT]...", help="Names of audits; by default those of the spec."),
]


def audits() -> None:
    """List the audits by name, with the question of each and what it costs."""
    from forget.audits.catalogue import audits as known

    rows = [(name, kind.asks, kind.cost) for name, kind in known().items()]
    print_table(("name", "question", "cost of an arm"), rows)
    console.print(
        "\nA pass is one scoring of the audit's examples; the arms base, learned and never taught "
        "are audited once a store.",
        markup=False,
    )


def audit(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC",
            help='A study that has finished, or a registered model, "models:/name@alias".',
        ),
    ],
    names: Names = None,
    task: Annotated[
        str | None, typer.Option(help="The task that a registered model forgot.")
    ] = None,
    folder: Folders = [],  # noqa: B006  typer copies it
    address: Annotated[
        str | None, typer.Option(help='A running Ray cluster, e.g. "auto" on one of its nodes.')
    ] = None,
) -> None:
    """Ask of a finished study or a registered model if what it forgot is gone, or only hidden."""
    if what.startswith(("models:/", "forgotten-")):
        _audit_model(what, names or [], task, absolute(folder))
        return
    addresses.check()
    study = read_sweep(what)
    wanted = {str(table["name"]): table for table in study.audits}
    if names:
        tables = tuple(wanted.get(name, {"name": name}) for name in dict.fromkeys(names))
        study = study.model_copy(update={"audits": tables})
    if not study.audits:
        raise BadInput(f'no audit is named: forget audit {what} relearn, or audits = ["relearn"]')
    from forget.audits.catalogue import chosen

    chosen(study.audits)  # A misspelt name is refused before Ray starts.
    from pipelines.sweep import audit, cluster

    if address in (None, "auto"):
        address = addresses.ray() or address
    with cluster(address):
        result = audit(study, spec_path(what).read_text(encoding="utf-8"), address)
    for reason in result.missing:
        console.print(f"missing: {reason}", markup=False, soft_wrap=True)
    console.print(f"report: {result.report}", markup=False)


def _audit_model(name: str, names: list[str], task: str | None, folders: tuple[str, ...]) -> None:
    """Audit a registered model: as the trial that made it, where the store has it."""
    if not names or not task:
        raise BadInput(
            f"give the task that it forgot and audits: forget audit {name} --task world relearn"
        )
    from forget import tracking
    from forget.audits.catalogue import chosen, named
    from forget.audits.published import audit_published
    from forget.models.kernels import keep_to_cores
    from forget.models.memory import naming_cures
    from forget.storage.store import Store

    wanted = chosen(named(names))
    outcome, version = tracking.forgotten_trial(name)
    trial = outcome.trial
    if trial.task != task:
        raise BadInput(f'model {version} forgot "{trial.task}", not "{task}"')
    if folders:
        trial = trial.model_copy(update={"folders": folders})
    keep_to_cores()
    store = Store()
    with naming_cures():
        rows, notes = audit_published(
            wanted, trial, version, lambda: tracking.load_forgotten(name), store
        )
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    print_table(("audit", "dose", *COLUMNS, "R"), _lines(outcome, rows))


COLUMNS = ("forgotten", "learned", "never", "base")
"""Arms of which the table has the accuracy."""


def _lines(outcome: Outcome, rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield a line for each audit and dose: the accuracy of each arm, and R."""
    from forget.analyses import Study
    from forget.analyses.recovery import recoveries, split_of
    from forget.analyses.text import reading
    from forget.results.files import frame
    from forget.results.metrics import accuracy
    from forget.results.rows import select

    (cell,) = Study([outcome], {outcome.id: frame(rows)}).cells
    found = {(one.audit, one.dose.name): one.number for one in recoveries(cell)}
    rows = [replace(row, dose=pooled(row.dose)) for row in rows]
    for audit, dose in dict.fromkeys((row.audit, row.dose) for row in rows):
        own = select(rows, audit=audit, dose=dose, split=split_of(audit))
        told = []
        for arm in COLUMNS:
            some = select(own, phase=arm)
            told.append(str(accuracy(some)) if some else "")
        if not own and (read_ := reading(cell)):
            told = [f"{read_.bits[arm]} bits a byte" for arm in COLUMNS]
        yield audit, dose, *told, str(found.get((audit, read(dose).name), ""))
