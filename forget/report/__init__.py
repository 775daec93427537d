"""Finished trials as one HTML page that needs nothing beside itself, with its figures as PNG and its numbers as CSV."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from forget import metrics
from forget.events import Outcome
from forget.metrics import PHASES, Estimate, Row
from forget.report import figures, tables
from forget.report.cells import NAMES, Cell, Matrix, by_condition, cross, group, numbers, rate_name
from forget.report.figures import PHASE_COLOURS, Cloud, Series
from forget.report.findings import COLLAPSE, collapsed, findings, headline
from forget.settings import Sweep

TITLES = {
    "accuracy": "Accuracy before and after",
    "ratio": "Forget ratio",
    "matrix": "From task to task",
    "probes": "What a linear probe still reads",
    "scatter": "Confidence, variability and forgetting",
    "mass": "Option mass: at chance, or broken?",
}
"""The sections of figures by name, in the page's order."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    path: Path
    title: str
    note: str = ""

    @property
    def data(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


def write(
    sweep: Sweep, outcomes: Sequence[Outcome], rows: Mapping[str, Sequence[Row]], folder: Path, failures: Sequence[str] = ()
) -> Path:
    """The page `folder/report.html`, its figures as PNG files, and cells.csv and cross_task.csv with every number.

    Args:
        rows: by trial id. A trial without them is left out of two baselines of the cross-task matrix, of nothing else.
        failures: a sentence for each trial that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = {trial.id(""): i for i, trial in enumerate(sweep.trials())}
    outcomes = sorted(outcomes, key=lambda o: place.get(o.trial.id(""), len(place)))
    cells = group(outcomes)
    crossed = cross(cells, rows)
    drawn: dict[str, list[Picture]] = {}
    for i, matrix in enumerate(crossed, 1):
        drawn.setdefault("matrix", []).append(_matrix(matrix, folder / f"matrix-{i}.png"))
    draw = {"accuracy": _accuracy, "ratio": _ratio, "probes": _probes, "scatter": _scatter, "mass": _mass}
    for i, part in enumerate(_by_setting(cells), 1):
        for name, figure in draw.items():
            if picture := figure(part, folder / f"{name}-{i}.png"):
                drawn.setdefault(name, []).append(picture)
    tables.write_csv(folder / "cells.csv", tables.cell_lines(cells))
    tables.write_csv(folder / "cross_task.csv", tables.cross_lines(crossed))
    page = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(Path(__file__).parent))
    page.filters |= {"estimate": _show, "rate": rate_name}
    text = page.get_template("page.html").render(
        sweep=sweep,
        headline=headline(cells),
        conditions={condition: headline(part) for condition, part in by_condition(cells).items()},
        findings=findings(cells, crossed),
        facts=tables.facts(sweep, outcomes),
        settings=tables.settings(outcomes),
        titles=TITLES,
        drawn=drawn,
        collapse=COLLAPSE,
        collapses=collapsed(cells),
        defined_above=metrics.DEFINED_ABOVE_CHANCE,
        table=list(tables.lines(cells)),
        outcomes=outcomes,
        missing=tables.missing(sweep, outcomes),
        failures=failures,
    )
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def trial_figures(
    outcome: Outcome, rows: Sequence[Row], losses: Mapping[str, Sequence[tuple[int, float]]], folder: Path
) -> list[Path]:
    """Figures of one trial: losses, accuracy by split, confidence over the examples, probe accuracy by layer.

    Args:
        losses: (step, loss in nats) by stage. A figure without data is not drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (cell,) = group([outcome])
    label = {"base": "untouched", "learned": "after learning", "forgotten": f"after forgetting, rate {rate_name(cell.rate)}"}
    made = []
    curves = {stage: [_losses(points)] for stage, points in losses.items() if points}
    if curves:
        made.append(figures.curves(folder / "losses.png", curves, "optimiser step", "loss (nats per answer token)"))
    places = [(cell.task, split) for split in NAMES] + [(task, "test") for task in cell.trial.tasks[1:]]
    places = [(task, split) for task, split in places if cell.get("forgotten", split, "accuracy", task)]
    if places:
        names = [NAMES[split] if task == cell.task else f"{task}, held out" for task, split in places]
        marks = [
            Series(label[p], PHASE_COLOURS[p], [cell.get(p, s, "accuracy", t) for t, s in places], hollow=p == "base")
            for p in PHASES
        ]
        guesses = [cell.chance(split, task) for task, split in places]
        made.append(figures.dots(folder / "accuracy.png", names, {cell.task: marks}, "accuracy", chance=guesses))
    own = [row for row in rows if row.task == cell.task]
    shares = {
        name: [_confidences(label[p], PHASE_COLOURS[p], metrics.select(own, phase=p, split=split)) for p in PHASES]
        for split, name in NAMES.items()
        if metrics.select(own, split=split)
    }
    if shares:
        axis = "confidence in the true option"
        made.append(figures.curves(folder / "confidence.png", shares, axis, "share of examples at or below", limits=(0, 1)))
    lines = [_layers(cell, phase, label[phase], PHASE_COLOURS[phase]) for phase in PHASES]
    if any(line.values for line in lines):
        made.append(_layer_figure(folder / "probes.png", {cell.task: lines}))
    return made


def _losses(points: Sequence[tuple[int, float]]) -> Series:
    return Series(
        "loss of a batch", figures.BLUE, [Estimate(v, None, None, 1) for _, v in points], [step for step, _ in points]
    )


def _confidences(label: str, colour: str, rows: Sequence[Row]) -> Series:
    """The share of examples at or below each confidence."""
    ordered = sorted(row.confidence for row in rows)
    shares = [Estimate((i + 1) / len(ordered), None, None, len(ordered)) for i in range(len(ordered))]
    return Series(label, colour, shares, ordered)


class Group:
    """The cells of one setting, as a grid of tasks and rates."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.setting = cells[0].setting
        self.tasks = list(dict.fromkeys(cell.task for cell in cells))
        self.rates = sorted({cell.rate for cell in cells})
        self.at = {(cell.task, cell.rate): cell for cell in cells}
        self.of = {cell.task: cell for cell in reversed(cells)}
        """A cell of each task, for what comes before forgetting and is the same at each rate."""
        self.looks = list(zip(self.rates, figures.ramp(len(self.rates)), figures.markers(len(self.rates)), strict=True))

    def splits(self, measure: str) -> list[str]:
        """Where the measure was taken after forgetting."""
        return [split for split in NAMES if any(cell.get("forgotten", split, measure) for cell in self.cells)]

    def before(self, split: str, measure: str) -> list[Series]:
        """A mark for each task: untouched, and after learning."""
        named = (("base", "untouched"), ("learned", "after learning"))
        return [
            Series(
                label, PHASE_COLOURS[phase], [self.of[t].get(phase, split, measure) for t in self.tasks], hollow=phase == "base"
            )
            for phase, label in named
        ]

    def after(self, split: str, measure: str) -> list[Series]:
        """A mark for each task and rate."""
        return [
            Series(
                _label(rate),
                colour,
                [c.get("forgotten", split, measure) if c else None for c in self.column(rate)],
                marker=marker,
            )
            for rate, colour, marker in self.looks
        ]

    def column(self, rate: float) -> list[Cell | None]:
        return [self.at.get((task, rate)) for task in self.tasks]


def _label(rate: float) -> str:
    return f"after forgetting, rate {rate_name(rate)}"


def _by_setting(cells: Sequence[Cell]) -> list[Group]:
    settings = dict.fromkeys(cell.setting for cell in cells)
    return [Group([cell for cell in cells if cell.setting == setting]) for setting in settings]


def _accuracy(part: Group, path: Path) -> Picture | None:
    splits = part.splits("accuracy")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "accuracy") + part.after(s, "accuracy") for s in splits}
    guesses = [part.of[task].chance(splits[-1]) for task in part.tasks]
    return Picture(figures.dots(path, part.tasks, panels, "accuracy", chance=guesses), part.setting)


def _ratio(part: Group, path: Path) -> Picture | None:
    cell = part.cells[0]
    splits = part.splits(cell.ratio)
    if not splits:
        return None
    lines = {"untouched": 0.0, "at chance": 0.5, "reversed": 1.0} if cell.flipped else {"untouched": 0.0, "at chance": 1.0}
    panels = {NAMES[s]: part.after(s, cell.ratio) for s in splits}
    axis = cell.ratio.replace("_", " ")
    return Picture(figures.dots(path, part.tasks, panels, axis, limits=(-0.5, 1.5), lines=lines), part.setting)


def _mass(part: Group, path: Path) -> Picture | None:
    splits = part.splits("option_mass")
    if not splits:
        return None
    panels = {NAMES[s]: part.before(s, "option_mass") + part.after(s, "option_mass") for s in splits}
    # Down to a power of ten below the lowest mass that is not 0.
    masses = [e.value for marks in panels.values() for one in marks for e in one.values if e and e.value]
    limits = min([0.1, *(10.0 ** math.floor(math.log10(mass)) for mass in masses)]), max([1.0, *masses])
    return Picture(figures.dots(path, part.tasks, panels, "option mass (probability)", limits=limits, log=True), part.setting)


def _probes(part: Group, path: Path) -> Picture | None:
    panels = {}
    for task in part.tasks:
        lines = [
            _layers(part.of[task], "base", "untouched", PHASE_COLOURS["base"]),
            _layers(part.of[task], "learned", "after learning", PHASE_COLOURS["learned"]),
            *(_layers(part.at[task, r], "forgotten", _label(r), colour) for r, colour, _ in part.looks if (task, r) in part.at),
        ]
        if any(line.values for line in lines):
            panels[task] = lines
    return Picture(_layer_figure(path, panels), part.setting) if panels else None


def _layers(cell: Cell, phase: str, label: str, colour: str) -> Series:
    found = cell.probes(phase)
    return Series(label, colour, list(found.values()), list(found), hollow=phase == "base")


def _layer_figure(path: Path, panels: Mapping[str, Sequence[Series]]) -> Path:
    axis = "layer (0: embedding)"
    return figures.curves(path, panels, axis, "probe accuracy", guess=0.5, limits=(0.35, 1.02), whole=True)


def _scatter(part: Group, path: Path) -> Picture | None:
    panels, said = {}, []
    ratio = part.cells[0].ratio
    for measure, axis in (
        ("confidence", "mean confidence in the true option, after learning"),
        ("variability", "variability of the hidden states, after learning"),
    ):
        clouds = []
        for rate, colour, marker in part.looks:
            cells = [c for c in part.column(rate) if c]
            found = [(c.task, c.get("learned", "test", measure), c.get("forgotten", "test", ratio)) for c in cells]
            points = [(name, x, y) for name, x, y in found if x and y and x.value is not None and y.value is not None]
            if points:
                names, x, y = zip(*points, strict=True)
                clouds.append(Cloud(_label(rate), colour, marker, names, x, y))
                rho = metrics.rank_correlation([e.numbers[0] for e in x], [e.numbers[0] for e in y])
                told = "" if rho.value is None else "{:.2f} (95 % interval {:.2f} to {:.2f})".format(*rho.numbers)
                said += [f"{measure} at rate {rate_name(rate)}: {told}, {rho.n} tasks"] if told else []
        if clouds:
            panels[axis] = clouds
    if not panels:
        return None
    text = f"Rank correlation with the ratio: {'; '.join(said)}." if said else "Too few tasks for a correlation."
    axis = f"{ratio.replace('_', ' ')}, held-out examples"
    return Picture(figures.scatter(path, panels, axis, limits=(-0.5, 1.5)), part.setting, text)


def _matrix(matrix: Matrix, path: Path) -> Picture:
    panels = {baseline: table for baseline, table in matrix.ratios.items() if np.isfinite(numbers(table)).any()}
    names = "task measured (j)", "task forgotten (i)"
    figures.matrices(path, panels or matrix.ratios, matrix.rows, matrix.columns, *names, "forget ratio")
    own = np.array([[row == column for column in matrix.columns] for row in matrix.rows])
    values = {baseline: np.where(own, np.nan, numbers(table)) for baseline, table in matrix.ratios.items()}
    note = ""
    for baseline, off in values.items():
        rows, columns = ([np.nanmean(v) for v in table if np.isfinite(v).any()] for table in (off, off.T))
        if min(len(rows), len(columns)) > 1:
            note = (
                f"Against {baseline}, off the diagonal, the mean ratio has a standard deviation of {np.std(columns):.2f} "
                f"over the tasks measured and of {np.std(rows):.2f} over the tasks forgotten."
            )
            break
    return Picture(path, f"{matrix.setting}, rate {rate_name(matrix.rate)}", note)


def _show(estimate: Estimate | None, digits: str = "z.2f") -> str:
    if estimate is None:
        return "\N{EN DASH}"
    if estimate.value is None:
        return "missing"
    value, low, high = (format(number, digits) for number in estimate.numbers)
    return value if estimate.low is None else f"{value} [{low}, {high}]"
