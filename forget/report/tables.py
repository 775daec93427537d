"""What was run and what came of it, as lines of text and of CSV."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from forget.analyses import Cell, Study
from forget.analyses.claims import CLAIMS, Verdict
from forget.analyses.words import NAMES, flattened, rate_name
from forget.report.section import Table, write_csv
from forget.results.metrics import Estimate
from forget.results.outcome import Outcome
from forget.results.rows import PHASES
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial


def missing(sweep: Sweep, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each trial of the sweep without an outcome; in a search, for each cell with too few."""
    # The trials of a search differ from their cell in the searched settings alone.
    searched = (
        {key: bounds.low for key, bounds in sweep.search.settings.items()} if sweep.search else {}
    )
    wanted = sweep.search.trials if sweep.search else 1
    done = Counter(overlay(outcome.trial, searched).id("") for outcome in outcomes)
    lines = []
    for trial in trials:
        count = done[overlay(trial, searched).id("")]
        if count < wanted:
            fields = {"task": trial.task, **flattened(trial)}
            name = ", ".join(
                f"{key} {fields[key]}"
                for key in dict.fromkeys(("task", "model", *sweep.axes))
                if key in fields
            )
            lines.append(f"{name}: {count} of {wanted} finished" if sweep.search else name)
    return lines


def facts(sweep: Sweep, cells: int, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """What was run, in words."""
    trials = [outcome.trial for outcome in outcomes]
    planned = cells * (sweep.search.trials if sweep.search else 1)
    facts = {"Trials": f"{len(outcomes)} finished of {planned} planned"}
    if not outcomes:
        return facts
    sizes = {outcome.trial.model: f"{outcome.parameters:,} parameters" for outcome in outcomes}

    def each(get: Callable[[Trial], object]) -> str:
        return ", ".join(dict.fromkeys(str(get(trial)) for trial in trials))

    seen: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        for name, estimate in outcome.measures.items():
            phase, _, split, measure = _parts(name)
            if (phase, measure) == ("forgotten", "accuracy"):
                low, high = seen.get(split, (estimate.n, estimate.n))
                seen[split] = min(low, estimate.n), max(high, estimate.n)
    others = dict.fromkeys(task for trial in trials for task in trial.tasks[1:])
    seconds = [outcome.seconds for outcome in outcomes]
    layers = {probe.layer for outcome in outcomes for probe in outcome.probes}
    return facts | {
        "Models": "; ".join(f"{name} ({size})" for name, size in sizes.items()),
        "Tasks forgotten": each(lambda t: t.task),
        "Measured on besides": ", ".join(others) or "nothing else",
        "Forgetting": f"method {each(lambda t: t.method)}, labels {each(lambda t: t.labels)}",
        "Rate of forgetting": each(lambda t: rate_name(t.forget.lr)),
        "Rate of learning": each(lambda t: rate_name(t.learn.lr)),
        "Examples to learn": each(
            lambda t: f"at most {t.learn.examples} in {t.learn.epochs} epochs"
        ),
        "Examples to forget": each(
            lambda t: f"at most {t.forget.examples} in {t.forget.epochs} epochs"
        ),
        "Tuning": each(lambda t: t.tuning if t.tuning == "full" else f"LoRA of rank {t.lora.rank}"),
        "Examples measured": ", ".join(
            f"{NAMES.get(s, s)} {_span(*span)}" for s, span in seen.items()
        )
        + " a task",
        "Probes": f"{len(layers)} layers, at most {each(lambda t: t.probe.examples)} examples"
        if layers
        else "none",
        "Seeds": each(lambda t: t.seed),
        "Time": f"{_duration(sum(seconds))} over all trials, {_duration(max(seconds))} the longest",
        "Versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *map(_version, ("forget", "torch", "transformers", "numpy")),
            ]
        ),
    }


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
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min"
        if minutes
        else f"{seconds:.0f} s"
    )


def settings(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Every setting with the values that it took."""
    values: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for key, value in flattened(outcome.trial).items():
            values.setdefault(key, {})[value] = None
    return {key: ", ".join(found) for key, found in values.items()}


def lines(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """A line for each cell, task measured and split."""
    for cell in cells:
        for task, split in [(cell.task, split) for split in NAMES] + [
            (task, "test") for task in cell.trial.tasks[1:]
        ]:
            after = cell.get("forgotten", split, "accuracy", task)
            if after is None:
                continue
            yield {
                "cell": cell,
                "task": task,
                "split": NAMES[split],
                "n": after.n,
                "chance": cell.chance(split, task),
                "accuracy": [cell.get(phase, split, "accuracy", task) for phase in PHASES],
                "ratio": cell.get("forgotten", split, cell.ratio, task),
                "confidence": [
                    cell.get(phase, split, "confidence", task) for phase in ("learned", "forgotten")
                ],
                "mass": [
                    cell.get(phase, split, "option_mass", task)
                    for phase in ("learned", "forgotten")
                ],
                "entropy": [
                    cell.get(phase, split, "entropy", task) for phase in ("learned", "forgotten")
                ],
            }


def _parts(name: str) -> tuple[str, str, str, str]:
    """(phase, task, split, measure) of a metric's name; a task's name may hold slashes."""
    phase, rest = name.split("/", 1)
    task, split, measure = rest.rsplit("/", 2)
    return phase, task, split, measure


def write_cells(study: Study, path: Path) -> None:
    """Every measure of every trial, seed by seed, as CSV."""
    write_csv(path, list(_cell_lines(study.cells)))


def _cell_lines(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for o in cell.outcomes:
            head = {
                "trial": o.id,
                "setting": cell.setting,
                "model": o.trial.model,
                "task": cell.task,
                "method": o.trial.method,
                "labels": o.trial.labels,
                "learn_lr": o.trial.learn.lr,
                "forget_lr": cell.rate,
                "seed": o.trial.seed,
            }
            for name, estimate in o.measures.items():
                phase, task, split, measure = _parts(name)
                yield head | _fields(phase, task, split, measure, estimate)
            for p in o.probes:
                measure = f"probe_{'control' if p.control else 'accuracy'}_{p.position}"
                yield head | _fields(p.phase, p.task, "test", measure, p.accuracy, p.layer)


def _fields(
    phase: str, task: str, split: str, measure: str, estimate: Estimate, layer: int | None = None
) -> dict[str, Any]:
    place = {
        "phase": phase,
        "measured_on": task,
        "split": split,
        "measure": measure,
        "layer": layer,
    }
    return place | _numbers(estimate)


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def findings_table(told: Mapping[tuple[str, float], Sequence[Verdict]]) -> Table:
    """Every claim under every setting and rate."""
    rows = [
        {
            "setting": setting, "rate": rate_name(rate), "claim": CLAIMS[one.claim], "verdict": one.verdict,
            "number": one.number, "what": one.what,
        }
        for (setting, rate), verdicts in told.items()
        for one in verdicts
    ]  # fmt: skip
    return Table("findings", rows)
