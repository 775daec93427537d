"""Facts of the run and numbers of its cells, as lines of text and of CSV."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from forget.analyses import Cell, Study
from forget.analyses.judging import Verdict
from forget.analyses.study import Condition
from forget.analyses.words import PHASE_WORDS, SPLIT_WORDS, flattened, rate_name
from forget.report.section import Datum, Table, write_csv
from forget.results import measures
from forget.results.estimates import Estimate, name_parts, probe_name
from forget.results.outcome import Outcome
from forget.settings.claims import CLAIMS
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial


def missing(sweep: Sweep, left: Mapping[Trial, int]) -> list[str]:
    """Return a line for each combination of the axes of which trials are left to run.

    Args:
        sweep: what was asked for.
        left: by combination, how many (forget.report.write).
    """
    lines = []
    for trial, count in left.items():
        if count:
            fields = {"task": trial.task, **flattened(trial)}
            shown = [key for key in dict.fromkeys(("task", "model", *sweep.axes)) if key in fields]
            name = ", ".join(f"{key} {fields[key]}" for key in shown)
            # In a search it is a line for each cell with too few.
            wanted = sweep.search.trials if sweep.search else 0
            lines.append(f"{name}: {wanted - count} of {wanted} finished" if wanted else name)
    return lines


def facts(left: int, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Say in words what was run.

    Args:
        left: trials of the sweep without an outcome.
        outcomes: of the trials that finished.
    """
    trials = [outcome.trial for outcome in outcomes]
    planned = len(outcomes) + left
    facts = {"Trials": f"{len(outcomes)} finished of {planned} planned"}
    if not outcomes:
        return facts
    sizes = {outcome.trial.model: f"{outcome.parameters:,} parameters" for outcome in outcomes}

    def each(get: Callable[[Trial], object]) -> str:
        return ", ".join(dict.fromkeys(str(get(trial)) for trial in trials))

    others: dict[str, None] = {}
    layers: set[int] = set()
    unprobed: set[str] = set()
    for outcome in outcomes:
        others |= dict.fromkeys(outcome.trial.tasks[1:])
        layers.update(probe.layer for probe in outcome.probes)
        unprobed.update(outcome.unprobed)
    seconds = [outcome.seconds for outcome in outcomes]
    probes = []
    if layers:
        fit_on = each(lambda t: {"held_out": "held-out", "trained": "trained"}[t.probe.fit_on])
        at_most = each(lambda t: t.probe.examples)
        probes.append(f"{len(layers)} layers, fit on {fit_on} questions, {at_most} at most")
    probes += [f"left out: {why}" for why in sorted(unprobed)]
    python = f"Python {platform.python_version()}"
    return facts | {
        "Models": "; ".join(f"{name} ({size})" for name, size in sizes.items()),
        "Tasks forgotten": each(lambda t: t.task),
        "Measured on besides": ", ".join(others) or "nothing else",
        "Forgetting": f"method {each(lambda t: t.method)}, arm {each(lambda t: t.arm)}",
        "Forget sets": each(lambda t: t.forget_set),
        "Rate of forgetting": each(lambda t: rate_name(t.forget.lr)),
        "Rate of learning": each(lambda t: rate_name(t.learn.lr)),
        "Examples to learn": each(
            lambda t: f"at most {t.learn.examples} in {t.learn.epochs} epochs"
        ),
        "Examples to forget": each(
            lambda t: f"at most {t.forget.examples} in {t.forget.epochs} epochs"
        ),
        "Tuning": each(lambda t: t.tuning if t.tuning == "full" else f"LoRA of rank {t.lora.rank}"),
        "Examples measured": f"{', '.join(_measured(outcomes))} a task",
        "Probes": "; ".join(probes) or "none",
        "Seeds": each(lambda t: t.seed),
        "Members": each(lambda t: t.member),
        "Time": f"{_duration(sum(seconds))} over all trials, {_duration(max(seconds))} the longest",
        "Versions": ", ".join(
            [python, *map(_version, ("forget", "torch", "transformers", "numpy"))]
        ),
    }


def _measured(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield, for each split, how many examples were measured after forgetting."""
    counts: dict[str, list[int]] = {}
    for outcome in outcomes:
        for name, estimate in outcome.measures.items():
            phase, _, split, measure = name_parts(name)
            if (phase, measure) == ("forgotten", "accuracy"):
                counts.setdefault(split, []).append(estimate.n)
    for split, ns in counts.items():
        yield f"{SPLIT_WORDS.get(split, split)} {_span(min(ns), max(ns))}"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        # A checkout on the path works without being installed, and a page can be written where
        # torch is not.
        return f"{package} (not installed)"


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def settings(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return every setting with the values that it took."""
    values: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for key, value in flattened(outcome.trial).items():
            values.setdefault(key, {})[value] = None
    return {key: ", ".join(found) for key, found in values.items()}


def header() -> list[str]:
    """Return the headings of what `lines` has of each measure."""
    headings = []
    for measure in measures.MEASURES:
        title = measure.title[:1].upper() + measure.title[1:]
        words = [PHASE_WORDS[phase] for phase in measure.page]
        if len(words) > 1:
            headings += [f"{title} {words[0]}", *words[1:]]
        elif words:
            headings.append(title)
    return headings


def lines(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yield a line for each cell, task measured and split; `values` are (number, format)."""
    for cell in cells:
        places = [(cell.task, split) for split in SPLIT_WORDS]
        places += [(task, "test") for task in cell.trial.tasks[1:]]
        for task, split in places:
            after = cell.get("forgotten", split, "accuracy", task)
            if after is None:
                continue
            values: list[tuple[Datum, str]] = []
            for measure in measures.MEASURES:
                name = measure.under(cell.flipped).name
                for phase in measure.page:
                    values.append((cell.get(phase, split, name, task), measure.digits))
            yield {
                "cell": cell,
                "task": task,
                "split": SPLIT_WORDS[split],
                "n": after.n,
                "chance": cell.chance(split, task),
                "values": values,
            }


def write_cells(study: Study, path: Path) -> None:
    """Write every measure of every trial, seed by seed, as CSV."""
    write_csv(path, list(_cell_lines(study.cells)))


def _cell_lines(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for outcome in cell.outcomes:
            trial = outcome.trial
            head = {
                "trial": outcome.id,
                "setting": cell.setting,
                "model": trial.model,
                "task": cell.task,
                "method": trial.method,
                "arm": trial.arm,
                "learn_lr": trial.learn.lr,
                "forget_lr": cell.rate,
                "seed": trial.seed,
                "member": trial.member,
            }
            for name, estimate in outcome.measures.items():
                yield head | _fields(name, estimate)
            for probe in outcome.probes:
                name = probe_name(probe.phase, probe.task, probe.position, probe.control)
                yield head | _fields(name, probe.accuracy, probe.layer)


def _fields(name: str, estimate: Estimate, layer: int | None = None) -> dict[str, Any]:
    """Return the columns of a metric: the parts of its name, and its number."""
    phase, task, split, measure = name_parts(name)
    return {
        "phase": phase,
        "measured_on": task,
        "split": split,
        "measure": measure,
        "layer": layer,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
    }


def findings_table(told: Mapping[Condition, Sequence[Verdict]]) -> Table:
    """Return every claim under every condition."""
    rows: list[dict[str, Datum]] = []
    for condition, verdicts in told.items():
        for one in verdicts:
            rows.append(
                {
                    "setting": condition.setting,
                    "rate": rate_name(condition.rate),
                    "claim": CLAIMS[one.claim],
                    "primary": "primary" if one.primary else "exploratory",
                    "verdict": one.verdict,
                    "p": one.p,
                    "p adjusted": one.adjusted,
                    "number": one.number,
                    "what": one.what,
                }
            )
    return Table("findings", rows)
