"""The section on predictors of how much is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forget.analyses import Cell, Study
from forget.analyses.correlation import FEWEST_EXAMPLES, Correlation
from forget.analyses.matrix import cross
from forget.analyses.predictors import (
    FEWEST,
    Within,
    across_pairs,
    across_tasks,
    within_tasks,
)
from forget.analyses.study import Condition
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Cloud
from forget.report.layout import SHOWN, drawn_conditions, rate_series
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate
from forget.results.measures import named

AXES = {
    "accuracy": "accuracy after learning",
    "confidence": "mean confidence after learning",
    "variability": "variability after learning",
}

TEXT = (
    "Rank correlations of what is known before forgetting with how much is then forgotten: across "
    "tasks, of the learned model's accuracy (difficulty), confidence and variability on held-out "
    "examples, of the untouched model's confidence and of the variability of the training data (of "
    "which the paper's abstract speaks) with the share of the skill lost held out; across pairs of "
    "different tasks, of their likeness with "
    "the ratio on the one after forgetting the other; within a task, over the held-out examples "
    "that the learned model answers right, with the answer being lost. Intervals are of resampled "
    "tasks, within a task of resampled examples and seeds, of its mean for these very tasks; p is "
    "by permutation, of the mean by the resamples, adjusted by Holm's method. Fewer than "
    f"{FEWEST} tasks or {FEWEST_EXAMPLES} examples, or a value that is the same for all, leave a "
    "correlation missing. Accuracy after learning is part of the ratio, so that the two go "
    "together by noise alone. The paper finds that difficulty does not predict forgetting, and "
    "that low confidence and low variability go, weakly, with more of it across tasks, but not "
    "within one."
)

FIGURES = f" The figures show at most {SHOWN} settings and {SHOWN} rates of each."


@dataclass(frozen=True)
class Levels:
    """Correlations of one condition on each level."""

    tasks: list[Correlation]
    pairs: list[Correlation]
    """Empty where no pair of tasks was measured."""
    examples: list[Within]


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no task was scored after forgetting."""
    matrices = {matrix.condition: matrix for matrix in cross(study)}
    found: dict[Condition, Levels] = {}
    for condition, cells in study.conditions.items():
        if not any(cell.n("forgotten", "test") for cell in cells):
            continue
        matrix = matrices.get(condition)
        pairs = across_pairs(matrix, cells) if matrix else []
        if not any(one.spearman.n for one in pairs):
            pairs = []
        found[condition] = Levels(across_tasks(cells), pairs, within_tasks(cells))
    if not found:
        return None
    pictures = []
    for i, (setting, conditions) in enumerate(drawn_conditions(list(found)).items(), 1):
        forest = _forest(folder / f"predictors-{i}.png", conditions, found)
        if forest:
            pictures.append(Picture(forest, setting))
        panels = _clouds(study, conditions)
        if panels:
            ratio = named(study.conditions[conditions[0]][0].ratio).title
            axis = f"{ratio}, held-out examples"
            path = folder / f"predictors-tasks-{i}.png"
            figures.scatter(path, panels, axis, limits=(-0.5, 1.5))
            pictures.append(Picture(path, setting, "Each point is a task."))
    return Section(
        "predictors",
        "What tells beforehand how much is forgotten?",
        TEXT if len(found) <= SHOWN else TEXT + FIGURES,
        pictures,
        [table for table in _tables(found) if table.rows],
    )


def _forest(
    path: Path, conditions: Sequence[Condition], found: dict[Condition, Levels]
) -> Path | None:
    """Draw the correlations of one setting's conditions; None where all are missing."""
    by_name = [_named(found[condition]) for condition in conditions]
    names: dict[str, None] = {}
    defined = False
    for numbers in by_name:
        names |= dict.fromkeys(numbers)
        defined |= any(number.value is not None for number in numbers.values())
    if not defined:
        return None
    values = [[*map(numbers.get, names)] for numbers in by_name]
    return figures.dots(
        path,
        list(names),
        {"correlation with forgetting (Spearman)": rate_series(conditions, values)},
        "below 0: a low value goes with more forgetting",
        limits=(-1.05, 1.05),
        lines={"none": 0},
    )


def _named(levels: Levels) -> dict[str, Estimate]:
    """Return Spearman's correlations by predictor and level."""
    found = {f"{one.name}, across tasks": one.spearman for one in levels.tasks}
    found |= {f"{one.name}, across pairs": one.spearman for one in levels.pairs}
    none = Estimate(None, None, None, 0)
    for one in levels.examples:
        found[f"{one.name}, within a task"] = one.mean.spearman if one.mean else none
    return found


def _clouds(study: Study, conditions: Sequence[Condition]) -> dict[str, list[Cloud]]:
    """Return a panel for each predictor of tasks, with a cloud of tasks for each rate."""
    n = len(conditions)
    looks = list(zip(conditions, figures.ramp(n), figures.markers(n), strict=True))
    panels: dict[str, list[Cloud]] = {}
    for name in AXES:
        for condition, colour, marker in looks:
            points = _points(study.conditions[condition], name)
            if points:
                label = f"rate {rate_name(condition.rate)}"
                cloud = Cloud(label, colour, marker, *zip(*points, strict=True))
                panels.setdefault(AXES[name], []).append(cloud)
    return panels


def _points(cells: Sequence[Cell], name: str) -> list[tuple[str, Estimate, Estimate]]:
    """List (task, predictor, forget ratio) of the tasks that have both numbers."""
    points = []
    for cell in cells:
        x = cell.get("learned", "test", name)
        y = cell.get("forgotten", "test", cell.ratio)
        if x and y and x.value is not None and y.value is not None:
            points.append((cell.task, x, y))
    return points


def _tables(found: dict[Condition, Levels]) -> list[Table]:
    tasks: list[dict[str, Datum]] = []
    pairs: list[dict[str, Datum]] = []
    examples: list[dict[str, Datum]] = []
    for condition, levels in found.items():
        tasks += [_row(condition, one) for one in levels.tasks]
        pairs += [_row(condition, one) for one in levels.pairs]
        for one in levels.examples:
            for task, correlation in one.tasks.items():
                examples.append(_example_row(condition, task, correlation))
            if one.mean:
                examples.append(_example_row(condition, "mean over tasks", one.mean))
    return [
        Table("predictors_tasks", tasks),
        Table("predictors_pairs", pairs),
        Table("predictors_examples", examples),
    ]


def _row(condition: Condition, one: Correlation) -> dict[str, Datum]:
    return {
        "setting": condition.setting,
        "rate": rate_name(condition.rate),
        "predictor": one.name,
        "Spearman": one.spearman,
        "p": one.p_spearman,
        "p adjusted": one.adjusted,
        "Pearson": one.pearson,
        "p of Pearson": one.p_pearson,
        "n": one.spearman.n,
    }


def _example_row(condition: Condition, task: str, one: Correlation) -> dict[str, Datum]:
    return {
        "setting": condition.setting,
        "rate": rate_name(condition.rate),
        "predictor": one.name,
        "task": task,
        "Spearman": one.spearman,
        "p": one.p_spearman,
        "p adjusted": one.adjusted,
    }
