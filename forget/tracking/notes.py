"""Notes that MLflow shows: what an experiment, a sweep and a trial are, in words and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from forget.analyses.states import MEANING, Word
from forget.analyses.words import PHASE_WORDS, SPLIT_WORDS
from forget.results.estimates import metric_name
from forget.results.measures import ratio_name
from forget.results.outcome import Outcome
from forget.results.rows import PHASES
from forget.settings.claims import CLAIMS
from forget.settings.sweep import Sweep
from forget.tracking import views
from forget.tracking.card import done

if TYPE_CHECKING:
    from forget.report import Report

NOTE = "mlflow.note.content"
OURS = "\n\n<!-- forget -->"
"""End of every note of ours, which no page shows: a note without it is a user's, and stays."""

TABLE, MARKDOWN = "numbers.json", "numbers.md"
"""Files with every number of a trial and its bounds."""

TABLES = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}
"""Tag by which MLflow shows TABLE as a table."""


def noted(text: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag that holds a note; nothing where a user has written another.

    Args:
        text: the note.
        tags: that are there.
    """
    before = tags.get(NOTE, "")
    return {NOTE: text + OURS} if not before or before.endswith(OURS) else {}


def report_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a sweep's report on the pages of the server that shows the note."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/report/report.html"


def of_experiment(sweep: Sweep, experiment_id: str) -> str:
    """Say what the study asks, and which views show its trials."""
    # MLflow takes 5,000 letters of it.
    lines = [sweep.description[:3000], ""] if sweep.description else []
    named = {
        views.TRIALS: "Trials",
        views.COMPARED: "Trained against held out",
        views.PROBES: "Probes by layer",
        views.TRAINING: "Training",
    } | ({views.SEARCH: "Search"} if sweep.search else {})
    shown = [f"[{name}]({views.link('', experiment_id, id)[1:]})" for id, name in named.items()]
    return "\n".join([*lines, f"Views: {', '.join(shown)}."])


def of_sweep(sweep: Sweep, report: Report | None, experiment_id: str, run_id: str) -> str:
    """Say what the sweep found: a sentence, a table of its claims, and where its report is."""
    lines = [sweep.description, ""] if sweep.description else []
    if report:
        lines += [report.said, "", "| claim | verdict |", "|---|---|"]
        lines += [
            f"| {CLAIMS.get(name, name)} | {said} |" for name, said in report.verdicts.items()
        ]
        lines += ["", f"[Report]({report_page(experiment_id, run_id)}). "]
    lines.append(
        f"Read its trials in Python by `forget.load_study({sweep.name!r})`; "
        "a forgotten model by `forget.load_forgotten(model, task)`."
    )
    return "\n".join(lines)


def of_trial(
    outcome: Outcome,
    states: Mapping[str, Word],
    version: str | None,
    report: tuple[str, str],
) -> str:
    """Say what was done in a trial, its main numbers, what became of the task, and its model.

    Args:
        outcome: of the trial.
        states: end states by split.
        version: "<name>/<version>" of the registered model; None without one.
        report: ids of the experiment and of the sweep's run.
    """
    trial = outcome.trial
    lines = [done(outcome), "", *accuracies(outcome), ""]
    if states:
        lines += ["What became of it:", ""]
    for split in ("train", "near", "test"):
        if split in states:
            word = states[split]
            lines.append(f"- {SPLIT_WORDS[split].capitalize()}: **{word}**, {MEANING[word]}")
    lines.append("")
    if version:
        lines.append(f'Model: `forget.load_forgotten("models:/{version}")`. ')
    lines.append(
        f"[Report]({report_page(*report)}) of the sweep; every number: {MARKDOWN}, {TABLE}."
    )
    if trial.tasks[1:]:
        lines.append(f"Measured on as well: {', '.join(trial.tasks[1:])}.")
    return "\n".join(lines)


def accuracies(outcome: Outcome) -> list[str]:
    """Return the lines of a Markdown table of the own task: accuracies by phase, and the ratio."""
    trial = outcome.trial
    ratio = ratio_name(trial.arm)
    heads = [*(f"accuracy, {PHASE_WORDS[phase]}" for phase in PHASES), ratio.replace("_", " ")]
    lines = [f"| {trial.task} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for split, words in SPLIT_WORDS.items():
        names = [metric_name(phase, trial.task, split, "accuracy") for phase in PHASES]
        names.append(metric_name("forgotten", trial.task, split, ratio))
        if names[-2] in outcome.measures:
            cells = [str(outcome.measures.get(name, "")) for name in names]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def write_numbers(outcome: Outcome, folder: Path) -> list[Path]:
    """Write every number of a trial with its bounds, as a table for MLflow's page and as Markdown.

    Numbers that are missing are left empty.
    """
    # Pages draw figures, whose library writes into HOME as it is imported.
    from forget.report import tables

    frame = pd.DataFrame(list(tables.numbers(outcome)))
    table, markdown = folder / TABLE, folder / MARKDOWN
    table.write_text(frame.to_json(orient="split", index=False), encoding="utf-8")
    columns = list(frame.columns)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in frame.astype(object).where(frame.notna(), "").itertuples(index=False):
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    markdown.write_text("\n".join([*accuracies(outcome), "", *lines, ""]), encoding="utf-8")
    return [table, markdown]
