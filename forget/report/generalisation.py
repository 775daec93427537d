"""The section on generalisation within a task.

It goes by split, and by similarity to what was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forget.analyses import generalisation
from forget.analyses.study import Condition, Study
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.layout import Group, after_label, setting_pictures
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    "What forgetting took of the trained examples, of paraphrases of them, and of held-out ones. p "
    "is of accuracy on held-out examples being the same before and after (exact McNemar test over "
    "the items of all seeds), and of it being a guess's afterwards (binomial test), both "
    "Holm-adjusted for the tasks of a setting and rate; h is Cohen's effect size (0.2 small, 0.8 "
    "large). The curves show held-out examples and near-duplicates together, by their TF-IDF "
    "cosine to the nearest trained example: where near ones fall and far ones stay, forgetting "
    "goes by similarity."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no cell has accuracies on held-out examples before and after."""
    rows: list[dict[str, Datum]] = []
    for condition, cells in study.conditions.items():
        for change in generalisation.changes(cells):
            rows.append(_change(condition, change))
    if not rows:
        return None
    similar: list[dict[str, Datum]] = []
    for (condition, task), bins in generalisation.bins(study).items():
        for one in bins:
            similar.append(_bin(condition, task, one))
    pictures = setting_pictures(study, folder, "similarity", _figure)
    tables = [Table("within_task", rows), Table("similarity", similar)]
    return Section("within", "Within the task", TEXT, pictures, tables)


def _change(condition: Condition, change: generalisation.Change) -> dict[str, Datum]:
    cell = change.cell
    row: dict[str, Datum] = {
        "setting": condition.setting,
        "rate": rate_name(condition.rate),
        "task": cell.task,
        "seeds": len(cell.outcomes),
    }
    for split, name in SPLIT_WORDS.items():
        row[f"ratio, {name}"] = cell.get("forgotten", split, cell.ratio)
    return row | {
        "p, no change": change.adjusted,
        "p, at chance": change.adjusted_chance,
        "Cohen's h": change.effect,
    }


def _bin(condition: Condition, task: str, one: generalisation.Bin) -> dict[str, Datum]:
    return {
        "setting": condition.setting,
        "rate": rate_name(condition.rate),
        "task": task,
        "similarity from": one.low,
        "to": one.high,
        "accuracy learned": one.cell.get("learned", "test", "accuracy"),
        "accuracy forgotten": one.cell.get("forgotten", "test", "accuracy"),
        "forget ratio": one.cell.get("forgotten", "test", one.cell.ratio),
    }


def _figure(part: Group, path: Path) -> Picture | None:
    """Draw accuracy by similarity, a panel for each task that has two bins or more."""
    binned = generalisation.bins(part.cells[0].study)
    panels = {}
    for task in part.tasks:
        found = {}
        for rate in part.rates:
            cell = part.at.get((task, rate))
            found[rate] = binned[cell.condition, task] if cell else []
        before = next((bins for bins in found.values() if len(bins) > 1), None)
        if before:
            panels[task] = [_curve("after learning", PHASE_COLOURS["learned"], "learned", before)]
            for rate, colour, _ in part.looks:
                panels[task].append(_curve(after_label(rate), colour, "forgotten", found[rate]))
    if not panels:
        return None
    axis = "similarity (TF-IDF cosine)"
    figures.curves(path, panels, axis, "accuracy", guess=0.5, limits=(0.2, 1.02))
    return Picture(path, part.setting)


def _curve(label: str, colour: str, phase: str, bins: Sequence[generalisation.Bin]) -> Series:
    values = [one.cell.get(phase, "test", "accuracy") for one in bins]
    return Series(label, colour, values, [(one.low + one.high) / 2 for one in bins])
