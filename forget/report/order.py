"""The section on the order of learning against the order of forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forget.analyses import Study
from forget.analyses.correlation import FEWEST_EXAMPLES, Correlation
from forget.analyses.order import THRESHOLD, Order, orders, over_tasks
from forget.analyses.study import Condition
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.layout import SHOWN, drawn_conditions, rate_series
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    f"An example is learned at the first look at which the model's confidence is {THRESHOLD:g} or "
    "more, and forgotten at the first look after learning at which it is less. The correlation of "
    "the two is over the held-out examples that are known when forgetting begins and that the "
    "untouched model did not know: of the others nothing tells when they were learned. The moments "
    "are ranked among the examples with the same true option, since a model that leans to one "
    "answer learns and forgets its examples together, and what goes with the margin after learning "
    "is taken off (a partial rank correlation). The plain correlation of all that are known stands "
    "beside it. Examples that never were known, or were lost again while learning, are left out, "
    "and those that are never forgotten are tied as the last. Intervals are of resampled examples "
    "and replicates, of the mean for these very tasks; p is by permutation, of the mean by its "
    "interval, adjusted over the tasks by Holm's method. Few looks make many ties. Fewer than "
    f"{FEWEST_EXAMPLES} examples, or the same look for all, leave a correlation missing. The paper "
    "finds a weak anticorrelation: learned early, forgotten late."
)

FIGURES = f" The figures show at most {SHOWN} settings and {SHOWN} rates of each."


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no trial was watched while it learned and forgot."""
    found: dict[Condition, list[Order]] = {}
    for condition, cells in study.conditions.items():
        watched = orders(cells)
        if watched:
            found[condition] = watched
    if not found:
        return None
    means = {condition: over_tasks(watched) for condition, watched in found.items()}
    pictures = []
    for i, (setting, conditions) in enumerate(drawn_conditions(list(found)).items(), 1):
        if any(means[condition] for condition in conditions):
            path = folder / f"order-{i}.png"
            pictures.append(Picture(_figure(path, conditions, found, means), setting))
    rows = []
    for condition, watched in found.items():
        rows += [_row(condition, one.correlation, one) for one in watched]
        mean = means[condition]
        if mean:
            rows.append(_row(condition, mean, None))
    return Section(
        "order",
        "Is what is learned first forgotten first?",
        TEXT if len(found) <= SHOWN else TEXT + FIGURES,
        pictures,
        [Table("order", rows)],
    )


def _figure(
    path: Path,
    conditions: Sequence[Condition],
    found: dict[Condition, list[Order]],
    means: dict[Condition, Correlation | None],
) -> Path:
    """Draw the correlations of one setting's conditions, a row for each task and for the mean."""
    tasks: dict[str, None] = {}
    for condition in conditions:
        tasks |= dict.fromkeys(one.cell.task for one in found[condition])
    values = []
    for condition in conditions:
        by_task = {one.cell.task: one.correlation.spearman for one in found[condition]}
        mean = means[condition]
        values.append([*map(by_task.get, tasks), mean.spearman if mean else None])
    title = "order of learning against order of forgetting (Spearman)"
    return figures.dots(
        path,
        [*tasks, "mean over tasks"],
        {title: rate_series(conditions, values)},
        "below 0: learned early, forgotten late",
        limits=(-1.05, 1.05),
        lines={"none": 0},
    )


def _row(condition: Condition, correlation: Correlation, one: Order | None) -> dict[str, Datum]:
    """Return the table's row of a task, or, without an Order, of the mean over the tasks."""
    return {
        "setting": condition.setting,
        "rate": rate_name(condition.rate),
        "task": one.cell.task if one else "mean over tasks",
        "Spearman": correlation.spearman,
        "p": correlation.p_spearman,
        "p adjusted": correlation.adjusted,
        "plain": one.plain.spearman if one else None,
        "examples": correlation.spearman.n,
        "known from the start": one.known_before if one else None,
        "never learned": one.never_learned if one else None,
        "lost while learning": one.slipped if one else None,
        "never forgotten": one.never_forgotten if one else None,
        "looks at learning": one.looks[0] if one else None,
        "looks at forgetting": one.looks[1] if one else None,
        "missing because": (one.why or None) if one else None,
    }
