"""Report on finished trials: one HTML page that needs nothing beside itself.

Its figures lie beside it as PNG files, its numbers as CSV files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from forget.analyses import Study
from forget.analyses.claims import verdicts
from forget.analyses.words import rate_name
from forget.report import (
    ablations,
    content,
    dose,
    ensemble,
    frontier,
    generalisation,
    matrix,
    mixture,
    noise,
    order,
    overview,
    predictors,
    probes,
    recovery,
    scaling,
    search,
    states,
    tables,
    templates,
)
from forget.report.findings import findings, headline, numbers, summary, together
from forget.report.section import Datum, Table, show
from forget.report.trial import trial_figures
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome
from forget.settings.claims import CLAIMS
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "trial_figures", "write"]

SECTIONS = (
    states.section,
    frontier.section,
    overview.accuracy,
    overview.ratio,
    generalisation.section,
    dose.section,
    matrix.section,
    mixture.section,
    content.section,
    templates.section,
    noise.section,
    predictors.section,
    ensemble.section,
    order.section,
    probes.section,
    recovery.section,
    ablations.section,
    scaling.section,
    overview.mass,
)
"""Sections of the page in its order; each gives None where the study has nothing for it."""

SHOWN = 200
"""Rows of a table that the page shows; the file beside it has them all."""


@dataclass(frozen=True)
class Report:
    """The page that was written, and what of it a tracking server lists."""

    page: Path
    numbers: dict[str, Estimate]
    """Headline numbers by metric name."""
    verdicts: dict[str, str]
    """Verdicts in words, by claim."""
    said: str = ""
    """The sentences that head the page."""


def write(
    sweep: Sweep,
    left: Mapping[Trial, int],
    outcomes: Sequence[Outcome],
    frames: Mapping[str, pd.DataFrame],
    folder: Path,
    failures: Sequence[str] = (),
) -> Report:
    """Write the page `folder/report.html`, its figures as PNG files and its tables as CSV files.

    Args:
        sweep: what was asked for.
        left: by each combination of the sweep's axes, in its order, how many of its trials are left
            to run (forget.planning.standing).
        outcomes: of the trials that finished.
        frames: Rows by trial id (forget.results.files.read_frame).
        folder: made where it is not there.
        failures: a sentence for each trial that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = {trial.id(""): i for i, trial in enumerate(left)}
    outcomes = sorted(outcomes, key=lambda o: place.get(o.trial.id(""), len(place)))
    study = Study(outcomes, frames)
    sections = [section for make in SECTIONS if (section := make(study, folder))]
    if searched := search.section(sweep, outcomes, folder):
        sections.insert(0, searched)
    for section in sections:
        for table in section.tables:
            table.write(folder)
    tables.write_cells(study, folder / "cells.csv")
    told = verdicts(study, sweep.primary)
    tables.findings_table(told).write(folder)
    named: list[dict[str, Datum]] = [
        {"name": name, "number": one} for name, one in numbers(study, told).items()
    ]
    Table("headline", named).write(folder)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(Path(__file__).parent)
    )
    environment.filters |= {"show": show, "rate": rate_name}
    text = environment.get_template("page.html").render(
        sweep=sweep,
        headline=headline(study.cells),
        conditions={condition: headline(part) for condition, part in study.conditions.items()},
        claims=_parted(sweep.primary),
        verdicts=told,
        summary=summary(told),
        findings=findings(study),
        facts=tables.facts(sum(left.values()), outcomes),
        settings=tables.settings(outcomes),
        sections=sections,
        shown=SHOWN,
        header=tables.header(),
        table=list(tables.lines(study.cells)),
        outcomes=outcomes,
        missing=tables.missing(sweep, left),
        failures=failures,
    )
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return Report(path, together(study), summary(told), headline(study.cells))


def _parted(primary: Sequence[str]) -> dict[str, dict[str, str]]:
    """Part the claims into those that were declared before and the exploratory ones."""
    declared = {claim: text for claim, text in CLAIMS.items() if claim in primary}
    others = {claim: text for claim, text in CLAIMS.items() if claim not in primary}
    parts = {"Primary: declared in the spec": declared, "Exploratory": others}
    return {title: claims for title, claims in parts.items() if claims}
