"""The section on end states: what became of each task, and what the trained examples show."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from forget.analyses import arms
from forget.analyses.resampling import Draws, estimate
from forget.analyses.states import COLLAPSE, DELTA, MEANING, ONE_ANSWER, State, states
from forget.analyses.study import Cell, Study
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report import figures
from forget.report.layout import Group, setting_pictures
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "An accuracy at chance can mean several things, which the numbers beside it tell apart. "
    + "; ".join(f"{word}: {meaning}" for word, meaning in MEANING.items())
    + ". Memorised is where the drawn label surely is given more often than by a guess and "
    f"{DELTA:g}, one answer where the answer given most surely has more than {ONE_ANSWER:g}, "
    "reversed where the discrimination (AUC of the margin against the truth) surely is below 0.5, "
    f"silent where the option mass is below {COLLAPSE:g} of what it was before. The figure shows "
    "trained examples: a model that forgot them agrees with the draw as a coin does, and tells "
    "nothing of the truth. The arms compare what random labels took with what true labels took in "
    "their place, in the same order, steps and rate."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no task was scored after forgetting."""
    found = list(chain.from_iterable(states(cell) for cell in study.cells))
    if not found:
        return None
    trained = [_trained(one) for one in found if one.split == "train"]
    controlled = list(chain.from_iterable(_arms(cell) for cell in study.cells))
    tables = [Table("states", [_row(one) for one in found])]
    tables += [Table(name, rows) for name, rows in (("trained", trained), ("arms", controlled))]
    pictures = setting_pictures(study, folder, "states", _figure)
    shown = [table for table in tables if table.rows]
    return Section("states", "What became of each task", TEXT, pictures, shown)


def _place(cell: Cell) -> dict[str, Datum]:
    return {"setting": cell.setting, "rate": rate_name(cell.rate), "forgotten": cell.task}


def _row(one: State) -> dict[str, Datum]:
    return _place(one.cell) | {
        "measured": one.task,
        "split": SPLIT_WORDS[one.split],
        "state": one.word,
        "accuracy": one.accuracy,
        "discrimination": one.discrimination,
        "answer given most": one.most_given,
        "option mass before": one.mass[0] if one.mass else None,
        "after": one.mass[1] if one.mass else None,
        "forget ratio": one.ratio,
        "by share": one.by_share,
        "by AUC": one.by_auc,
    }


def _trained(one: State) -> dict[str, Datum]:
    recorded = "" if one.agreement else "not recorded"
    return _place(one.cell) | {
        "state": one.word,
        "accuracy": one.accuracy,
        "agreement with the draw": one.agreement or recorded,
        "accuracy where the draw was right": one.draw_right,
        "where it was wrong": one.draw_wrong,
        "discrimination": one.discrimination,
    }


def _arms(cell: Cell) -> list[dict[str, Datum]]:
    """Return a line for each task and split that true labels were run on as well."""
    other = arms.control(cell)
    if other is None:
        return []
    lines = []
    places = [(cell.task, split) for split in SPLIT_WORDS]
    for task, split in [*places, *((task, "test") for task in cell.trial.tasks[1:])]:
        n = cell.n("forgotten", split, task)
        if n:
            lines.append(
                _place(cell)
                | {
                    "measured": task,
                    "split": SPLIT_WORDS[split],
                    "lost": _number(cell.lost(split, task), n),
                    "lost by true labels": _number(other.lost(split, task), n),
                    "difference": _number(arms.lost(cell, split, task), n),
                }
            )
    return lines


def _number(draws: Draws | None, n: int) -> Estimate | None:
    return None if draws is None else estimate(draws, n)


def _figure(part: Group, path: Path) -> Picture | None:
    panels = {}
    for measure, title in (
        ("accuracy", "accuracy"),
        ("agreement", "agreement with the draw"),
        ("discrimination", "discrimination (AUC)"),
    ):
        series = part.after("train", measure)
        if any(chain.from_iterable(one.values for one in series)):
            panels[title] = series
    if not panels:
        return None
    lines = {"a coin": 0.5}
    figures.dots(path, part.tasks, panels, "trained examples", limits=(-0.03, 1.03), lines=lines)
    return Picture(path, part.setting)
