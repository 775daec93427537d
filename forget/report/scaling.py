"""The section on the size of the model."""

from __future__ import annotations

import math
from itertools import groupby
from pathlib import Path

from forget.analyses.scaling import FLAT, METRICS, Trend, trends
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import GREY, VERMILION, Series
from forget.report.section import Entry, Picture, Section, Table

TEXT = f"""\
Each measure against the logarithm of the number of parameters, over models that differ in nothing else in the sweep; what \
else sets two models apart (their family, their data) goes with the size. A measure is monotone where its least-squares line \
surely rises, inverse where it surely falls; U-shaped where the line up to the turn and the line from it on are both sure and \
opposite (two-lines test, Simonsohn 2018); flat where the 95 % interval of every line lies within ±{FLAT}; otherwise \
undecided: there are too few items or sizes to tell. The change that decides is in the table, in the measure's own units. \
Means are over the tasks that have the measure at every size; intervals are of items and seeds, not of tasks, and not \
corrected for the number of measures. With two sizes a trend is their difference."""


def section(study: Study, folder: Path) -> Section | None:
    """None where all models are of one size."""
    found = trends(study)
    if not found:
        return None
    families = [
        list(family) for _, family in groupby(found, key=lambda trend: (trend.setting, trend.rate))
    ]
    pictures = [_picture(family, folder / f"trend-{i}.png") for i, family in enumerate(families, 1)]
    shapes = [row for family in families for row in _shapes(family)]
    models = list(dict.fromkeys(model for trend in found for model in trend.models))
    values = [row for trend in found for row in _values(trend, models)]
    tables = [Table("trend", shapes), Table("trend_values", values)]
    return Section("trend", "What grows with the model", TEXT, pictures, tables)


def _name(trend: Trend) -> str:
    return ", ".join(
        [part for part in (trend.setting,) if part] + [f"rate {rate_name(trend.rate)}"]
    )


def _picture(family: list[Trend], path: Path) -> Picture:
    panels = {}
    for trend in family:
        at = [math.log10(size) for size in trend.sizes]
        single = [Series("one task", GREY, line, at) for line in trend.tasks.values()]
        panels[trend.metric] = [*single, Series("mean over tasks", VERMILION, trend.values, at)]
    # A task that barely rose above chance has a ratio of any size.
    figures.curves(path, panels, "log10 of the number of parameters", "value", limits=(-0.5, 1.5))
    shapes = "; ".join(f"{trend.metric}: {trend.shape}" for trend in family)
    return Picture(
        path, _name(family[0]), f"{shapes}. What lies outside the frame is in the table."
    )


def _shapes(family: list[Trend]) -> list[dict[str, Entry]]:
    """A row for each measure, also for one that no task has at every size."""
    by_metric = {trend.metric: trend for trend in family}
    rows: list[dict[str, Entry]] = []
    for metric in METRICS:
        trend = by_metric.get(metric)
        rows.append(
            {
                "setting": _name(family[0]),
                "measure": metric,
                "shape": trend.shape if trend else "no task has it at every size",
                "smallest model": trend.values[0] if trend else None,
                "largest model": trend.values[-1] if trend else None,
                "change": trend.decides if trend else None,
                "of": trend.of if trend else None,
                "models": len(family[0].models),
                "tasks": len(trend.tasks) if trend else 0,
            }
        )
    return rows


def _values(trend: Trend, models: list[str]) -> list[dict[str, Entry]]:
    """A row for the mean and for each task."""
    rows: list[dict[str, Entry]] = []
    for task, line in {"mean over tasks": trend.values, **trend.tasks}.items():
        by_model = dict(zip(trend.models, line, strict=True))
        columns = {model: by_model.get(model) for model in models}
        rows.append({"setting": _name(trend), "measure": trend.metric, "task": task, **columns})
    return rows
