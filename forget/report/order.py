"""Order of learning against order of forgetting, on the page."""

from __future__ import annotations

from pathlib import Path

from forget.analyses import Study
from forget.analyses.correlation import LEAST, Correlation
from forget.analyses.order import THRESHOLD, Order, orders, over_tasks
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.layout import SHOWN, Condition, series
from forget.report.predictors import drawn
from forget.report.section import Entry, Picture, Section, Table


def section(study: Study, folder: Path) -> Section | None:
    """None where no trial was watched while it learned and forgot."""
    watched = {place: orders(cells) for place, cells in study.conditions.items()}
    found = {place: ordered for place, ordered in watched.items() if ordered}
    if not found:
        return None
    means = {place: over_tasks(ordered) for place, ordered in found.items()}
    pictures = []
    for i, (setting, places) in enumerate(drawn(list(found)).items(), 1):
        if not any(means[place] for place in places):
            continue
        tasks = list(dict.fromkeys(one.cell.task for place in places for one in found[place]))
        values = []
        for place in places:
            of = {one.cell.task: one.correlation.spearman for one in found[place]}
            mean = means[place]
            values.append([*(of.get(task) for task in tasks), mean.spearman if mean else None])
        path = figures.dots(
            folder / f"order-{i}.png",
            [*tasks, "mean over tasks"],
            {"order of learning against order of forgetting (Spearman)": series(places, values)},
            "below 0: learned early, forgotten late",
            limits=(-1.05, 1.05),
            lines={"none": 0},
        )
        pictures.append(Picture(path, setting))
    rows = [
        _line(place, correlation, one)
        for place, ordered in found.items()
        for correlation, one in [*((one.correlation, one) for one in ordered), (means[place], None)]
        if correlation
    ]
    return Section(
        "order",
        "Is what is learned first forgotten first?",
        f"An example is learned at the first look at which the model's confidence is {THRESHOLD:g} or more, and forgotten at "
        "the first look after learning at which it is less. The rank correlation of the two is over the held-out examples that "
        "are known when forgetting begins; those that never were, or were lost again while learning, are left out, and those "
        "that are never forgotten are tied as the last. Intervals are of resampled examples and seeds, of the mean for these "
        "very tasks; p is by permutation, of the mean by the resamples, adjusted over the tasks by Holm's method. Few looks "
        f"make many ties. Fewer than {LEAST} examples, or the same look for all, leave a correlation missing. The paper finds "
        "a weak anticorrelation: learned early, forgotten late."
        + (
            ""
            if len(found) <= SHOWN
            else f" The figures show at most {SHOWN} settings and {SHOWN} rates of each."
        ),
        pictures,
        [Table("order", rows)],
    )


def _line(place: Condition, correlation: Correlation, one: Order | None) -> dict[str, Entry]:
    """Of a task, or of the mean over them."""
    return {
        "setting": place[0],
        "rate": rate_name(place[1]),
        "task": one.cell.task if one else "mean over tasks",
        "Spearman": correlation.spearman,
        "p": correlation.p_spearman,
        "p adjusted": correlation.adjusted,
        "examples": correlation.spearman.n,
        "never learned": one.never_learned if one else None,
        "lost while learning": one.slipped if one else None,
        "never forgotten": one.never_forgotten if one else None,
        "looks at learning": one.looks[0] if one else None,
        "looks at forgetting": one.looks[1] if one else None,
        "missing because": (one.why or None) if one else None,
    }
