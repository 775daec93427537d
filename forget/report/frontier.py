"""The section on methods at matched utility."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from forget.analyses.frontier import (
    UTILITIES,
    Choice,
    Method,
    Point,
    methods,
    over_tasks,
    utility,
)
from forget.analyses.resampling import Draws, estimate
from forget.analyses.states import state
from forget.analyses.study import Study
from forget.report import figures
from forget.report.figures import Cloud
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "Each method at the point of its grid (rate, epochs, weight of the retain set) that takes most "
    "of the held-out skill among those that keep {} of the skill on other tasks: the mean of "
    "(a_fg - chance) / (a_ft - chance), each within 0 and 1, over the tasks that the learned model "
    "masters and that were not forgotten. A share of 1 is a skill that is gone, one above 1 a "
    "skill turned into its opposite, which counts as that much less; the state tells whether the "
    "answers still mean anything. The point is chosen anew in each resample, so that the interval "
    "holds the luck of the choice; what it adds is in the table, beside the control, which is a "
    "point chosen at random among those that keep as much. A method with no such point has a dash. "
    "The last columns set each method against the reference on the same items."
).format(" or ".join(f"{floor:g}" for floor in UTILITIES))

LIMITS = (-0.25, 1.5)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no two methods were put to one task with other tasks beside it."""
    compared = methods(study)
    if not compared:
        return None
    places: dict[tuple[str, str], list[Method]] = defaultdict(list)
    for method in compared:
        places[method.model, method.task].append(method)
    pictures, rows = [], list[dict[str, Datum]]()
    for i, ((model, task), found) in enumerate(places.items(), 1):
        rows += _rows(found)
        if i <= SHOWN:
            pictures.append(_picture(found, f"{task}, {model}", folder / f"frontier-{i}.png"))
    rows += _means(compared)
    points = []
    for method in compared:
        points += [_point(method, point) for point in method.points]
    tables = [Table("frontier", rows), Table("frontier_points", points)]
    return Section("frontier", "Methods at matched utility", TEXT, pictures, tables)


def _picture(found: Sequence[Method], title: str, path: Path) -> Picture:
    """Draw every point of each method, what it takes against what it keeps."""
    clouds = []
    looks = zip(found, figures.ramp(len(found)), figures.markers(len(found)), strict=True)
    for method, colour, marker in looks:
        names = [point.name for point in method.points]
        x = [_share(point.utility, point) for point in method.points]
        y = [_share(point.lost, point) for point in method.points]
        clouds.append(Cloud(figures.short(method.name), colour, marker, names, x, y))
    panels = {"skill kept on other tasks": clouds}
    figures.scatter(path, panels, "share of the held-out skill lost", LIMITS)
    return Picture(path, title, "What lies outside the frame is in the table.")


def _share(draws: Draws, point: Point) -> Estimate:
    return estimate(draws, point.cell.n("forgotten", "test"))


def _rows(found: Sequence[Method]) -> list[dict[str, Datum]]:
    """Return a row for each method of a task and each utility."""
    rows = []
    reference = _reference(found)
    for floor in UTILITIES:
        other = reference.choose(floor)
        for method in found:
            choice = method.choose(floor)
            row: dict[str, Datum] = {"model": method.model, "task": method.task}
            row |= _row(method, choice, floor, method.points[0].cell.n("forgotten", "test"))
            if choice:
                point = method.points[choice.place]
                end = state(point.cell, "test", point.cell.task)
                row |= {"point": point.name, "state there": end.word if end else None}
            rows.append(row | _compared(method, choice, reference, other))
    return rows


def _means(compared: Sequence[Method]) -> Iterator[dict[str, Datum]]:
    """Yield a row for each method's mean over the tasks, where there are several."""
    by_model: dict[str, dict[str, list[Method]]] = defaultdict(lambda: defaultdict(list))
    for method in compared:
        by_model[method.model][method.name].append(method)
    for model, by_name in by_model.items():
        tasks = {method.task for method in compared if method.model == model}
        whole = [found for found in by_name.values() if len(found) == len(tasks)]
        if len(tasks) < 2 or not whole:
            continue
        reference = _reference([found[0] for found in whole])
        for floor in UTILITIES:
            other = over_tasks(by_name[reference.name], floor)
            for found in whole:
                choice = over_tasks(found, floor)
                n = sum(method.points[0].cell.n("forgotten", "test") for method in found)
                row: dict[str, Datum] = {"model": model, "task": f"mean over {len(tasks)} tasks"}
                row |= _row(found[0], choice, floor, n)
                yield row | _compared(found[0], choice, reference, other)


def _reference(found: Sequence[Method]) -> Method:
    """Return the method that the others are compared with: random labels, or the first."""
    return next((method for method in found if method.reference), found[0])


def _row(method: Method, choice: Choice | None, floor: float, n: int) -> dict[str, Datum]:
    return {
        "method": method.name,
        "skill kept elsewhere": f"at least {floor:g}",
        "held-out skill lost": estimate(choice.lost, n) if choice else None,
        "point": None,
        "state there": None,
        "chosen at random": estimate(choice.random, n) if choice else None,
        "luck of the choice": choice.luck if choice else None,
        "same choice": choice.again if choice else None,
        "resamples that keep enough": choice.reached if choice else None,
    }


def _compared(
    method: Method, choice: Choice | None, reference: Method, other: Choice | None
) -> dict[str, Datum]:
    """Return the difference from the reference, both chosen in the same resample."""
    difference = None
    if choice and other and method.name != reference.name:
        n = method.points[0].cell.n("forgotten", "test")
        difference = estimate(choice.lost - other.lost, n)
    return {"reference": reference.name, "less the reference": difference}


def _point(method: Method, point: Point) -> dict[str, Datum]:
    """Return a row of a single point."""
    cell = point.cell
    trained, gap = cell.lost("train"), cell.draws("forgotten", "test", "forget_gap")
    end = state(cell, "test", cell.task)
    return {
        "model": method.model,
        "task": method.task,
        "method": method.name,
        "point": point.name,
        "held-out skill lost": _share(point.lost, point),
        "trained skill lost": None if trained is None else _share(trained, point),
        "skill kept elsewhere": _share(point.utility, point),
        "kept on retained tasks": _kept(point, retained=True),
        "kept on other tasks": _kept(point, retained=False),
        "distance from chance": None if gap is None else _share(abs(gap), point),
        "state": end.word if end else None,
    }


def _kept(point: Point, retained: bool) -> Estimate | None:
    """Return the skill kept on tasks of the retain set, which are trained on, or on others."""
    trial = point.cell.trial
    tasks = tuple(task for task in trial.tasks if (task in trial.retained) == retained)
    found = utility(point.cell, tasks)
    return None if found is None else _share(found, point)
