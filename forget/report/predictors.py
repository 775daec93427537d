"""What tells beforehand how much is forgotten, on the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from forget.analyses import Cell, Study
from forget.analyses.correlation import LEAST, Correlation
from forget.analyses.matrix import cross
from forget.analyses.predictors import (
    FEWEST,
    TASK,
    Within,
    across_pairs,
    across_tasks,
    within_tasks,
)
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Cloud
from forget.report.layout import SHOWN, Condition, series
from forget.report.section import Entry, Picture, Section, Table
from forget.results.metrics import Estimate

AXES = {
    "accuracy": "accuracy after learning",
    "confidence": "mean confidence after learning",
    "variability": "variability after learning",
}


def section(study: Study, folder: Path) -> Section | None:
    """None where no task was scored after forgetting."""
    conditions = {
        place: cells
        for place, cells in study.conditions.items()
        if any(c.n("forgotten", "test") for c in cells)
    }
    if not conditions:
        return None
    matrices = {(matrix.setting, matrix.rate): matrix for matrix in cross(study)}
    tasks = {place: across_tasks(cells) for place, cells in conditions.items()}
    pairs = {
        place: across_pairs(matrices[place], cells)
        for place, cells in conditions.items()
        if place in matrices
    }
    pairs = {place: found for place, found in pairs.items() if any(c.spearman.n for c in found)}
    examples = {place: within_tasks(cells) for place, cells in conditions.items()}
    pictures = []
    for i, (setting, places) in enumerate(drawn(list(conditions)).items(), 1):
        found = [_named(tasks[p], pairs.get(p, []), examples[p]) for p in places]
        names = list(dict.fromkeys(name for one in found for name in one))
        if any(estimate.value is not None for one in found for estimate in one.values()):
            path = figures.dots(
                folder / f"predictors-{i}.png",
                names,
                {
                    "correlation with forgetting (Spearman)": series(
                        places, [[one.get(name) for name in names] for one in found]
                    )
                },
                "below 0: a low value goes with more forgetting",
                limits=(-1.05, 1.05),
                lines={"none": 0},
            )
            pictures.append(Picture(path, setting))
        if panels := _clouds(places, conditions):
            ratio = conditions[places[0]][0].ratio.replace("_", " ")
            axis = f"{ratio}, held-out examples"
            path = figures.scatter(
                folder / f"predictors-tasks-{i}.png", panels, axis, limits=(-0.5, 1.5)
            )
            pictures.append(Picture(path, setting, "Each point is a task."))
    return Section(
        "predictors",
        "What tells beforehand how much is forgotten?",
        "Rank correlations of what is known before forgetting with how much is then forgotten: across tasks, of the learned "
        "model's accuracy (difficulty), confidence and variability with the forget ratio on held-out examples; across pairs of "
        "different tasks, of their likeness with the ratio on the one after forgetting the other; within a task, over the "
        "held-out examples that the learned model answers right, with the answer being lost. Intervals are of resampled tasks, "
        "within a task of resampled examples and seeds, of its mean for these very tasks; p is by permutation, of the mean by "
        f"the resamples, adjusted by Holm's method. Fewer than {FEWEST} tasks or {LEAST} examples, or a value that is the same "
        "for all, leave a correlation missing. Accuracy after learning is part of the ratio, so that the two go together by "
        "noise alone. The paper finds that difficulty does not predict forgetting, and that low confidence and low variability "
        "go, weakly, with more of it across tasks, but not within one."
        + (
            ""
            if len(conditions) <= SHOWN
            else f" The figures show at most {SHOWN} settings and {SHOWN} rates of each."
        ),
        pictures,
        [table for table in _tables(tasks, pairs, examples) if table.rows],
    )


def drawn(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    """By setting, the conditions that are drawn: of the first settings, rates that are evenly spread over all, rising."""
    by_setting: dict[str, list[Condition]] = defaultdict(list)
    for setting, rate in conditions:
        by_setting[setting].append((setting, rate))
    chosen = {}
    for setting, places in list(by_setting.items())[:SHOWN]:
        picked = np.linspace(0, len(places) - 1, min(SHOWN, len(places))).round().astype(int)
        chosen[setting] = [sorted(places)[i] for i in picked]
    return chosen


def _named(
    tasks: Sequence[Correlation], pairs: Sequence[Correlation], examples: Sequence[Within]
) -> dict[str, Estimate]:
    found = {f"{c.name}, across tasks": c.spearman for c in tasks}
    found |= {f"{c.name}, across pairs": c.spearman for c in pairs}
    none = Estimate(None, None, None, 0)
    return found | {
        f"{one.name}, within a task": one.mean.spearman if one.mean else none for one in examples
    }


def _clouds(
    places: Sequence[Condition], conditions: dict[Condition, list[Cell]]
) -> dict[str, list[Cloud]]:
    panels: dict[str, list[Cloud]] = {}
    for name in TASK:
        for place, colour, marker in zip(
            places, figures.ramp(len(places)), figures.markers(len(places)), strict=True
        ):
            cells = conditions[place]
            measured = [
                (c.task, c.get("learned", "test", name), c.get("forgotten", "test", c.ratio))
                for c in cells
            ]
            points = [
                (task, x, y)
                for task, x, y in measured
                if x and y and x.value is not None and y.value is not None
            ]
            if points:
                tasks, x, y = zip(*points, strict=True)
                panels.setdefault(AXES[name], []).append(
                    Cloud(f"rate {rate_name(place[1])}", colour, marker, tasks, x, y)
                )
    return panels


def _tables(
    tasks: dict[Condition, list[Correlation]],
    pairs: dict[Condition, list[Correlation]],
    examples: dict[Condition, list[Within]],
) -> list[Table]:
    within = [
        {
            **_condition(place),
            "predictor": one.name,
            "task": task,
            "Spearman": c.spearman,
            "p": c.p_spearman,
            "p adjusted": c.adjusted,
        }
        for place, found in examples.items()
        for one in found
        for task, c in (*one.tasks.items(), *([("mean over tasks", one.mean)] if one.mean else []))
    ]
    return [
        Table(
            "predictors_tasks",
            [{**_condition(place), **_line(c)} for place, found in tasks.items() for c in found],
        ),
        Table(
            "predictors_pairs",
            [{**_condition(place), **_line(c)} for place, found in pairs.items() for c in found],
        ),
        Table("predictors_examples", within),
    ]


def _condition(place: Condition) -> dict[str, Entry]:
    return {"setting": place[0], "rate": rate_name(place[1])}


def _line(c: Correlation) -> dict[str, Entry]:
    return {
        "predictor": c.name,
        "Spearman": c.spearman,
        "p": c.p_spearman,
        "p adjusted": c.adjusted,
        "Pearson": c.pearson,
        "p of Pearson": c.p_pearson,
        "n": c.spearman.n,
    }
