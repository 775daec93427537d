"""The section on what the content of the forget set is for."""

from __future__ import annotations

from pathlib import Path

from forget.analyses.content import Content, contents, drawn_loss
from forget.analyses.frontier import utility
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import GREY, VERMILION, Series
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "The same steps of forgetting on the task's own examples, and on texts that lack ever more of "
    "them, behind the same options with labels drawn alike. The share is what such a set takes of "
    "the held-out skill, over what the task's own examples take: one less it is what their content "
    "buys. The controls are beside it: how well the forget set itself was fit (-log of the share "
    "of the drawn label; with two options, coins that are not memorised cost 0.69), since a text "
    "that is easy to fit presses less, and the skill kept on other tasks."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no task was forgotten by its own examples and by others."""
    found = contents(study)
    if not found:
        return None
    rows: list[dict[str, Datum]] = []
    for one in found:
        rows += _rows(one)
    pictures = []
    for i, one in enumerate(found[:SHOWN], 1):
        pictures.append(_picture(one, folder / f"content-{i}.png"))
    return Section(
        "content", "Forget sets without content", TEXT, pictures, [Table("content", rows)]
    )


def _held_out(draws: Draws | None, cell: Cell) -> Estimate | None:
    return None if draws is None else estimate(draws, cell.n("forgotten", "test"))


def _rows(one: Content) -> list[dict[str, Datum]]:
    rows: list[dict[str, Datum]] = []
    for kind in one.kinds:
        cell, loss, trained = kind.cell, drawn_loss(kind.cell), kind.cell.lost("train")
        rows.append(
            {
                "setting": f"{one.model}, {one.setting}",
                "rate": rate_name(one.rate),
                "task": one.task,
                "forget set": kind.name,
                "held-out skill lost": _held_out(kind.lost, cell),
                "share of the own": _held_out(kind.share, cell),
                "lost on its own texts": (
                    None if trained is None else estimate(trained, cell.n("forgotten", "train"))
                ),
                "loss of the drawn labels": None if loss is None else estimate(*loss),
                "skill kept elsewhere": _held_out(utility(cell), cell),
            }
        )
    return rows


def _picture(one: Content, path: Path) -> Picture:
    """Draw what each forget set takes held out, and of its own texts."""
    names = [kind.name for kind in one.kinds]
    held_out = [_held_out(kind.lost, kind.cell) for kind in one.kinds]
    trained = []
    for kind in one.kinds:
        draws, n = kind.cell.lost("train"), kind.cell.n("forgotten", "train")
        trained.append(None if draws is None else estimate(draws, n))
    panels = {
        "held-out examples": [Series("held out", VERMILION, held_out)],
        "texts of the forget set": [Series("its own texts", GREY, trained, hollow=True)],
    }
    axis = "share of the skill lost"
    figures.dots(path, names, panels, axis, limits=(-0.5, 1.5), lines={"none": 0.0, "all": 1.0})
    return Picture(path, f"{one.task}, rate {rate_name(one.rate)}, {one.setting}, {one.model}")
