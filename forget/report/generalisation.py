"""How far forgetting generalises within a task, by split and by similarity to what was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forget.analyses import generalisation
from forget.analyses.study import Study
from forget.analyses.words import NAMES, rate_name
from forget.report import figures
from forget.report.figures import PHASE_COLOURS, Series
from forget.report.layout import Group, after_label, drawn
from forget.report.section import Entry, Picture, Section, Table

TEXT = (
    "What forgetting took of the trained examples, of paraphrases of them, and of held-out ones. p is of accuracy on held-out "
    "examples being the same before and after (exact McNemar test over the items of all seeds), and of it being a guess's "
    "afterwards (binomial test), both Holm-adjusted for the tasks of a setting and rate; h is Cohen's effect size (0.2 small, "
    "0.8 large). The curves show held-out examples and near-duplicates together, by their TF-IDF cosine to the nearest trained "
    "example: where near ones fall and far ones stay, forgetting goes by similarity."
)


def section(study: Study, folder: Path) -> Section | None:
    rows: list[dict[str, Entry]] = []
    for (setting, rate), cells in study.conditions.items():
        for change in generalisation.changes(cells):
            ratios = {
                name: change.cell.get("forgotten", split, change.cell.ratio)
                for split, name in NAMES.items()
            }
            rows.append(
                {
                    "setting": setting, "rate": rate_name(rate), "task": change.cell.task, "seeds": len(change.cell.outcomes),
                    **{f"ratio, {name}": ratio for name, ratio in ratios.items()},
                    "p, no change": change.adjusted, "p, at chance": change.adjusted_chance, "Cohen's h": change.effect,
                }
            )  # fmt: skip
    binned = generalisation.bins(study)
    table: list[dict[str, Entry]] = [
        {
            "setting": setting, "rate": rate_name(rate), "task": task, "similarity from": one.low, "to": one.high,
            "accuracy learned": one.cell.get("learned", "test", "accuracy"),
            "accuracy forgotten": one.cell.get("forgotten", "test", "accuracy"),
            "forget ratio": one.cell.get("forgotten", "test", one.cell.ratio),
        }
        for (setting, rate, task), bins in binned.items()
        for one in bins
    ]  # fmt: skip
    if not rows:
        return None
    pictures = drawn(study, folder, "similarity", _figure)
    return Section(
        "within",
        "Within the task",
        TEXT,
        pictures,
        [Table("within_task", rows), Table("similarity", table)],
    )


def _figure(part: Group, path: Path) -> Picture | None:
    binned = generalisation.bins(part.cells[0].study)
    panels = {}
    for task in part.tasks:
        found = {rate: binned.get((part.setting, rate, task), []) for rate in part.rates}
        first = next((bins for bins in found.values() if len(bins) > 1), None)
        if first:
            panels[task] = [
                _curve("after learning", PHASE_COLOURS["learned"], "learned", first),
                *(
                    _curve(after_label(rate), colour, "forgotten", found[rate])
                    for rate, colour, _ in part.looks
                ),
            ]
    if not panels:
        return None
    axis = "similarity (TF-IDF cosine)"
    return Picture(
        figures.curves(path, panels, axis, "accuracy", guess=0.5, limits=(0.2, 1.02)), part.setting
    )


def _curve(label: str, colour: str, phase: str, bins: Sequence[generalisation.Bin]) -> Series:
    values = [one.cell.get(phase, "test", "accuracy") for one in bins]
    return Series(label, colour, values, [(one.low + one.high) / 2 for one in bins])
