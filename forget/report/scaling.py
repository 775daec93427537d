"""The section on the size of the model."""

from __future__ import annotations

import math
from itertools import groupby
from pathlib import Path

from forget.analyses.scaling import FLAT, Trend, measured, trends
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import GREY, VERMILION, Series
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    "Each measure against the logarithm of the number of parameters, over models of one family, or "
    "cuts of one model, that differ in nothing else in the sweep; what else sets two sizes apart "
    "(their data, their shape) goes with the size. Beside the trends at each rate there are two "
    "that take the rate out: the held-out skill lost at each size's best rate of those that keep "
    "the other tasks, and where as much of the trained skill is lost, by interpolation between "
    "rates. A measure is monotone where its least-squares line surely rises, inverse where it "
    "surely falls; U-shaped where the lines on either side of the turn are both sure and opposite "
    "(two-lines test, Simonsohn 2018), with four sizes at least, for with three each line goes "
    f"through two points; flat where the 95 % interval of every line lies within ±{FLAT}; "
    "otherwise undecided: there are too few items or sizes to tell. The change that decides is in "
    "the table, in the measure's own units. Means are over the tasks that have the measure at "
    "every size. Intervals are of items and seeds, not of tasks and not of pretraining, of which "
    "there is one run a size; they are not corrected for the number of measures. With two sizes a "
    "trend is their difference."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where all models are of one size."""
    found = trends(study)
    if not found:
        return None
    models: dict[str, None] = {}
    for trend in found:
        models |= dict.fromkeys(trend.models)
    pictures, shapes, values = [], list[dict[str, Datum]](), list[dict[str, Datum]]()
    families = groupby(found, key=lambda trend: (trend.family, trend.varied, trend.rate))
    for i, (_, group) in enumerate(families, 1):
        family = list(group)
        pictures.append(_picture(family, folder / f"trend-{i}.png"))
        shapes += _shapes(family)
        for trend in family:
            values += _values(trend, list(models))
    tables = [Table("trend", shapes), Table("trend_values", values)]
    return Section("trend", "What grows with the model", TEXT, pictures, tables)


def _name(trend: Trend) -> str:
    rate = "over all rates" if trend.rate is None else f"rate {rate_name(trend.rate)}"
    return ", ".join(filter(None, [trend.family, trend.varied, rate]))


def _picture(family: list[Trend], path: Path) -> Picture:
    """Draw the measures of models that differ in their size alone."""
    panels = {}
    for trend in family:
        at = [math.log10(size) for size in trend.sizes]
        single = [Series("one task", GREY, line, at) for line in trend.tasks.values()]
        panels[trend.metric] = [*single, Series("mean over tasks", VERMILION, trend.values, at)]
    # A task that barely rose above chance has a ratio of any size.
    figures.curves(path, panels, "log10 of the number of parameters", "value", limits=(-0.5, 1.5))
    shapes = "; ".join(f"{trend.metric}: {trend.shape}" for trend in family)
    note = f"{shapes}. What lies outside the frame is in the table."
    return Picture(path, _name(family[0]), note)


def _shapes(family: list[Trend]) -> list[dict[str, Datum]]:
    """Return a row for each measure, also for one that no task has at every size."""
    by_metric = {trend.metric: trend for trend in family}
    rows: list[dict[str, Datum]] = []
    first = family[0]
    for metric in measured((first.family, first.varied, first.rate)):
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


def _values(trend: Trend, models: list[str]) -> list[dict[str, Datum]]:
    """Return a row for the mean and for each task."""
    rows: list[dict[str, Datum]] = []
    for task, line in {"mean over tasks": trend.values, **trend.tasks}.items():
        by_model = dict(zip(trend.models, line, strict=True))
        columns = {model: by_model.get(model) for model in models}
        rows.append({"setting": _name(trend), "measure": trend.metric, "task": task, **columns})
    return rows
