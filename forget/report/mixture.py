"""The section on mixtures of forget sets."""

from __future__ import annotations

from pathlib import Path

from forget.analyses.mixture import Line, Mixture, mixtures
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Series
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "Share of the held-out skill lost, by the share of a task's examples in the forget set, of "
    "which there are as many at each share. The mixture excess is the mean distance from the line "
    "between a share of 0 and of 1, also as a part of what 1 takes more than 0: above 0, a little "
    "of a task in the mix takes more of it than its share. Where the other task's examples are "
    "replaced by made texts (dashed), the same share of a task takes what it takes alone; what the "
    "other task's examples add is in the table. Tasks whose answers are alike may lose their "
    "options together, which looks like an effect of the mixture."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no two tasks were mixed in three shares."""
    found = mixtures(study)
    if not found:
        return None
    rows: list[dict[str, Datum]] = []
    values: list[dict[str, Datum]] = []
    for one in found:
        for line in one.lines:
            rows += [_row(one, line)] if line.mixed else []
            values += _values(one, line)
    panels = {_title(one): _series(one) for one in found[: 2 * SHOWN]}
    path = folder / "mixture.png"
    axis = "share of the first task in the forget set"
    figures.curves(path, panels, axis, "share of the skill lost", limits=(-0.25, 1.5))
    picture = Picture(path, "What a share of a task takes")
    tables = [Table("mixture", rows), Table("mixture_values", values)]
    return Section("mixture", "Mixtures of tasks", TEXT, [picture], tables)


def _title(one: Mixture) -> str:
    return f"{' with '.join(one.tasks)}, rate {rate_name(one.rate)}, {one.setting}, {one.model}"


def _series(one: Mixture) -> list[Series]:
    """Return a line for each task over the share of the first, dashed where texts are made."""
    series = []
    for line, colour in zip(one.lines, figures.ramp(len(one.lines)), strict=True):
        turned = line.task == one.tasks[1]
        at = [1 - share if turned else share for share in line.shares]
        values = [estimate(draws, line.n) for draws in line.lost]
        series.append(Series(line.task, colour, values, at))
        if line.filled and not turned:
            made = [estimate(draws, line.n) for draws in line.filled.values()]
            label = f"{line.task}, made texts"
            series.append(Series(label, colour, made, list(line.filled), hollow=True))
    return series


def _row(one: Mixture, line: Line) -> dict[str, Datum]:
    def shown(draws: Draws | None) -> Estimate | None:
        return None if draws is None else estimate(draws, line.n)

    found = line.excess
    return {
        "setting": f"{one.model}, {one.setting}",
        "rate": rate_name(one.rate),
        "mixture": " with ".join(one.tasks),
        "task": line.task,
        "lost at 0": shown(line.lost[0] if line.whole else None),
        "lost at 1": shown(line.lost[-1] if line.whole else None),
        "mixture excess": shown(found[0] if found else None),
        "part of the whole": shown(found[1] if found else None),
        "added by the other task": shown(line.by_others),
        "likeness of the answers": one.answers,
    }


def _values(one: Mixture, line: Line) -> list[dict[str, Datum]]:
    rows: list[dict[str, Datum]] = []
    for place, share in enumerate(line.shares):
        filled = line.filled.get(share)
        rows.append(
            {
                "setting": f"{one.model}, {one.setting}",
                "rate": rate_name(one.rate),
                "mixture": " with ".join(one.tasks),
                "task": line.task,
                "share of": line.task if line.mixed else one.tasks[0],
                "share": share,
                "lost": estimate(line.lost[place], line.n),
                "lost with made texts": None if filled is None else estimate(filled, line.n),
            }
        )
    return rows
