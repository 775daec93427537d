"""The section on an ensemble's disagreement."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from forget.analyses.ensemble import SINGLE, Ensemble, ensembles
from forget.analyses.resampling import estimate
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import GREY, INK, VERMILION, Series
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    "Members that learned the task apart, on the same held-out items: does their disagreement "
    "tell which items forgetting takes? Each member's loss (1 where a right answer is lost, -1 "
    "where one is won) is correlated with the uncertainty of the other members, so that no luck "
    "of its own is on both sides; Spearman's correlation, mean over the members. Items that "
    "members disagree on are those that each is less confident of, so the number that counts is "
    "the partial correlation given the mean confidence. The control is the "
    f"{SINGLE}, which needs no ensemble."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no cell has members enough that learned apart."""
    found = list(chain.from_iterable(ensembles(cell) for cell in study.cells if cell.mastered))
    if not found:
        return None
    rows: list[dict[str, Datum]] = []
    for one in found:
        rows += _rows(one)
    table = Table("ensemble", rows)
    picture = _picture(found[: 4 * SHOWN], folder / "ensemble.png")
    return Section("ensemble", "Disagreement and forgetting", TEXT, [picture], [table])


def _rows(one: Ensemble) -> list[dict[str, Datum]]:
    rows: list[dict[str, Datum]] = []
    for found in one.found:
        given = None if found.partial is None else estimate(found.partial, one.items)
        rows.append(
            {
                "setting": one.cell.setting,
                "rate": rate_name(one.cell.rate),
                "task": one.cell.task,
                "seed": one.seed,
                "members": one.members,
                "predictor": found.predictor,
                "Spearman": estimate(found.plain, one.items),
                "given the confidence": given,
            }
        )
    return rows


def _picture(found: list[Ensemble], path: Path) -> Picture:
    """Draw the correlations of each ensemble, a row each."""
    names = [f"{one.cell.task}, {rate_name(one.cell.rate)}, seed {one.seed}" for one in found]
    plain, given, single = [], [], []
    for one in found:
        by_name = {part.predictor: part for part in one.found}
        variance = by_name["variance"]
        plain.append(estimate(variance.plain, one.items))
        given.append(None if variance.partial is None else estimate(variance.partial, one.items))
        single.append(estimate(by_name[SINGLE].plain, one.items))
    series = [
        Series("variance", GREY, plain),
        Series("variance, given the confidence", VERMILION, given),
        Series(SINGLE, INK, single, hollow=True),
    ]
    axis = "Spearman's correlation with what is lost"
    figures.dots(path, names, {"held-out items": series}, axis, lines={"none": 0.0})
    return Picture(path, "What predicts the items that are lost")
