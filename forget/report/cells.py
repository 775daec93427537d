"""A sweep as a table: cells over seeds, and the matrix of what forgetting one task does to another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from forget import metrics
from forget.events import Outcome
from forget.metrics import Estimate, Row, metric_name
from forget.settings import Trial

BASELINES = ("learned on j", "learned on i", "untouched")
"""What FR[i, j] compares with: the model that learned j, the trial's own after learning i, the one before any training."""

LABELS = {
    "random": "random labels",
    "random_each_epoch": "random labels drawn anew each epoch",
    "flipped": "flipped labels",
}


NAMES = {"train": "trained examples", "near": "near-duplicates", "test": "held-out examples"}
"""Splits in words."""


@dataclass(frozen=True)
class Cell:
    """Trials that differ in nothing but the seed."""

    setting: str
    """The model, and whatever else varies in the sweep beside task, rate and seed."""
    rate: float
    """Peak learning rate of forgetting."""
    task: str
    outcomes: tuple[Outcome, ...]

    @property
    def trial(self) -> Trial:
        return self.outcomes[0].trial

    @property
    def treatment(self) -> str:
        """What the model was made to forget with, in words."""
        labels, method = LABELS[self.trial.labels], self.trial.method
        return labels if method == "random_labels" else method.replace("_", " ")

    @property
    def flipped(self) -> bool:
        return self.trial.labels == "flipped"

    @property
    def ratio(self) -> str:
        """The name of the forget ratio that fits the labels."""
        return "flipped_forget_ratio" if self.flipped else "forget_ratio"

    @property
    def half(self) -> float:
        """The ratio at which half of the skill is gone: the flipped ratio is 0.5, not 1, at chance."""
        return 0.25 if self.flipped else 0.5

    def get(self, phase: str, split: str, measure: str, task: str | None = None) -> Estimate | None:
        """A measure over all seeds; None where it was not taken."""
        name = metric_name(phase, task or self.task, split, measure)
        found = [o.measures[name] for o in self.outcomes if name in o.measures]
        return metrics.over_seeds(found) if found else None

    def chance(self, split: str, task: str | None = None) -> float | None:
        """Accuracy of a guess, by the definition of the forget gap: a_fg - chance."""
        after, gap = (self.get("forgotten", split, measure, task) for measure in ("accuracy", "forget_gap"))
        return after.numbers[0] - gap.numbers[0] if after and gap else None

    def probes(self, phase: str) -> dict[int, Estimate]:
        """Probe accuracy by layer, on the cell's own task."""
        scores: dict[int, list[Estimate]] = defaultdict(list)
        for outcome in self.outcomes:
            for score in outcome.probes:
                if (score.phase, score.task) == (phase, self.task):
                    scores[score.layer].append(score.accuracy)
        return {layer: metrics.over_seeds(found) for layer, found in sorted(scores.items())}


def group(outcomes: Sequence[Outcome]) -> list[Cell]:
    """Cells, in the order in which their first trial comes."""
    flat = [flattened(outcome.trial) for outcome in outcomes]
    keys = dict.fromkeys(key for fields in flat for key in fields)
    named = ("model", "forget.lr", "seed")
    varying = [key for key in keys if key not in named and len({fields.get(key) for fields in flat}) > 1]
    cells: dict[tuple[str, float, str], list[Outcome]] = defaultdict(list)
    for outcome, fields in zip(outcomes, flat, strict=True):
        trial = outcome.trial
        setting = ", ".join([trial.model, *(f"{key} {fields[key]}" for key in varying if key in fields)])
        cells[setting, trial.forget.lr, trial.task].append(outcome)
    return [Cell(*key, tuple(found)) for key, found in cells.items()]


def flattened(trial: Trial) -> dict[str, str]:
    """Settings by dotted name, without the task and what changes no number."""
    unused = {"lora"} if trial.tuning == "full" else set()
    flat: dict[str, str] = {}
    for field, value in trial.model_dump(mode="json", exclude={"task", "evaluate_on", "folders", "save"} | unused).items():
        inner = {f"{field}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {field: value}
        flat |= {name: str(part) for name, part in inner.items()}
    return flat


def by_condition(cells: Sequence[Cell]) -> dict[tuple[str, float], list[Cell]]:
    """Cells by setting and rate."""
    conditions: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        conditions[cell.setting, cell.rate].append(cell)
    return dict(conditions)


def rate_name(rate: float) -> str:
    """0.00025 -> 2.5e-4."""
    mantissa, exponent = f"{rate:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


@dataclass(frozen=True)
class Matrix:
    """FR[i, j]: the forget ratio on the held-out examples of task j after random labels from task i."""

    setting: str
    rate: float
    rows: tuple[str, ...]
    """Tasks forgotten, similar rows side by side."""
    columns: tuple[str, ...]
    """Tasks measured, likewise."""
    half: float
    """See `Cell.half`."""
    ratios: dict[str, list[list[Estimate | None]]]
    """By baseline; None where the trial it needs is not there."""

    def elsewhere(self, baseline: str) -> list[tuple[str, str, Estimate]]:
        """(forgotten task, measured task, ratio) for the pairs of different tasks that have a ratio."""
        table = zip(self.rows, self.ratios[baseline], strict=True)
        entries = ((row, column, e) for row, line in table for column, e in zip(self.columns, line, strict=True))
        return [(row, column, e) for row, column, e in entries if row != column and e and e.value is not None]


def cross(cells: Sequence[Cell], rows: Mapping[str, Sequence[Row]]) -> list[Matrix]:
    """The cross-task matrix of each setting and rate that measured a task after forgetting another one.

    Args:
        rows: by trial id. The baselines `learned on j` and `untouched` need them.
    """
    held_out: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for id, found in rows.items():
        for row in found:
            if row.split == "test":
                held_out[id, row.phase, row.task].append(row)
    # Trials that share the learned model have the same rows of it, whatever their forgetting.
    learned_on = {(_learning(o.trial), o.trial.task): o.id for cell in cells for o in cell.outcomes if o.id in rows}

    def against(cell: Cell, task: str, baseline: str) -> Estimate | None:
        if baseline == "learned on i" or (baseline == "learned on j" and task == cell.task):
            return cell.get("forgotten", "test", cell.ratio, task)
        ratio = metrics.flipped_forget_ratio if cell.flipped else metrics.forget_ratio
        phase = "learned" if baseline == "learned on j" else "base"
        found = []
        for outcome in cell.outcomes:
            source = learned_on.get((_learning(outcome.trial), task), "") if phase == "learned" else outcome.id
            before, after = held_out.get((source, phase, task)), held_out.get((outcome.id, "forgotten", task))
            if before and after and {row.example for row in before} == {row.example for row in after}:
                found.append(ratio(before, after))
        return metrics.over_seeds(found) if found else None

    crossed = []
    for (setting, rate), group in by_condition(cells).items():
        columns = list(dict.fromkeys(task for cell in group for task in cell.trial.tasks))
        if len(columns) < 2:
            continue
        ratios = {b: [[against(cell, task, b) for task in columns] for cell in group] for b in BASELINES}
        fullest = max((numbers(table) for table in ratios.values()), key=lambda values: np.isfinite(values).sum())
        down, across = upgma(fullest), upgma(fullest.T)
        ordered = {b: [[table[i][j] for j in across] for i in down] for b, table in ratios.items()}
        names = tuple(group[i].task for i in down), tuple(columns[j] for j in across)
        crossed.append(Matrix(setting, rate, *names, group[0].half, ordered))
    return crossed


def _learning(trial: Trial) -> str:
    """What two trials share where the learned model of one is the baseline of the other."""
    fields = {
        "model",
        "learn",
        "tuning",
        "lora",
        "precision",
        "options",
        "template",
        "normalise",
        "seed",
        "evaluation_examples",
    }
    return trial.model_dump_json(include=fields)


def numbers(estimates: Sequence[Sequence[Estimate | None]]) -> np.ndarray:
    """Values of a table; NaN where there is none."""
    return np.array([[np.nan if e is None or e.value is None else e.value for e in row] for row in estimates], dtype=float)


def upgma(values: np.ndarray) -> list[int]:
    """Order of the rows in which average-linkage clustering puts them.

    The distance of two rows is the root mean square over the columns that both have; rows that share none are as far apart
    as any two are.
    """
    n = len(values)
    if n < 3:
        return list(range(n))
    squared = (values[:, None] - values[None]) ** 2
    shared = np.isfinite(squared)
    distances = np.sqrt(np.where(shared, squared, 0).sum(-1) / np.maximum(shared.sum(-1), 1))
    distances[~shared.any(-1)] = distances.max()
    np.fill_diagonal(distances, 0)
    return [int(i) for i in leaves_list(linkage(squareform(distances), "average", optimal_ordering=True))]
