"""The section on how forgetting one task changes the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forget.analyses.matrix import Matrix, Shares, cross, shares, values
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.section import Datum, Picture, Section, Table

TEXT = (
    "Row i, column j: the forget ratio on held-out examples of task j after forgetting task i, "
    "against up to three baselines: the model that learned j (how much less it does of what it "
    "could learn), the same trial before forgetting (learned on i: what forgetting itself took), "
    "and the untouched model. Similar rows and similar columns stand side by side (average-linkage "
    "clustering, UPGMA, whose trees are drawn below). The task's own cells are framed. A dot: no "
    "trial to compare with. A dash: the baseline has not mastered the task, so that there is no "
    "skill to lose, or the options lost nearly all their probability, so that there is no answer "
    "to read; the table says which. Where the arm with true labels was run, what it took is taken "
    "off in a panel of its own, to which the claims are put. The table shares out the variance of "
    "the ratios off the diagonal (type II sums of squares of rows and columns, less what the "
    "sampling of items alone gives)."
)


def section(study: Study, folder: Path) -> Section | None:
    """Return None where no task was measured after forgetting another one."""
    crossed = cross(study)
    if not crossed:
        return None
    pictures: list[Picture] = []
    parted: list[dict[str, Datum]] = []
    rows: list[dict[str, Datum]] = []
    for i, matrix in enumerate(crossed, 1):
        found = {baseline: shares(matrix, baseline) for baseline in matrix.ratios}
        first = found[matrix.judged] or next(filter(None, found.values()), None)
        title = f"{matrix.condition.setting}, rate {rate_name(matrix.condition.rate)}"
        heat = _heat(matrix, folder / f"matrix-{i}.png")
        pictures.append(Picture(heat, title, _told(first)))
        trees = _trees(matrix, folder / f"tree-{i}.png")
        if trees:
            pictures.append(Picture(trees, f"{title}: which tasks go together"))
        parted += [_parted(matrix, parts) for parts in found.values() if parts]
        for baseline in matrix.ratios:
            rows += _ratios(matrix, baseline)
    tables = [Table("shares", parted)] if parted else []
    tables.append(Table("cross_task", rows))
    return Section("matrix", "From task to task", TEXT, pictures, tables)


def _condition(matrix: Matrix) -> dict[str, Datum]:
    return {"setting": matrix.condition.setting, "rate": rate_name(matrix.condition.rate)}


def _parted(matrix: Matrix, parts: Shares) -> dict[str, Datum]:
    return _condition(matrix) | {
        "baseline": parts.baseline,
        "tasks forgotten": parts.rows,
        "tasks measured": parts.columns,
        "task evaluated": parts.evaluated,
        "task trained on": parts.trained,
        "neither": parts.rest,
        "lead": parts.lead,
    }


def _ratios(matrix: Matrix, baseline: str) -> list[dict[str, Datum]]:
    """Return a row for each pair of tasks."""
    rows = []
    table = zip(matrix.rows, matrix.estimates(baseline), matrix.blanks[baseline], strict=True)
    for forgotten, line, blanks in table:
        for measured, ratio, blank in zip(matrix.columns, line, blanks, strict=True):
            pair: dict[str, Datum] = {
                "baseline": baseline,
                "forgotten": forgotten,
                "measured": measured,
                "forget ratio": ratio,
                "left out": blank or None,
            }
            rows.append(_condition(matrix) | pair)
    return rows


def _heat(matrix: Matrix, path: Path) -> Path:
    """Draw the matrix against each baseline that some trial has; against all where none has."""
    taken = [name for name, table in matrix.ratios.items() if np.isfinite(values(table)).any()]
    panels = {name: matrix.estimates(name) for name in taken or matrix.ratios}
    return figures.matrices(
        path,
        panels,
        matrix.rows,
        matrix.columns,
        "task measured (j)",
        "task forgotten (i)",
        "forget ratio",
        {name: matrix.blanks[name] for name in panels},
    )


def _trees(matrix: Matrix, path: Path) -> Path | None:
    """Draw which tasks go together; None where there are too few."""
    of_rows, of_columns = matrix.trees
    trees = {}
    if of_rows is not None:
        trees["tasks forgotten"] = of_rows, matrix.rows
    if of_columns is not None:
        trees["tasks measured"] = of_columns, matrix.columns
    return figures.trees(path, trees, "root mean square difference of ratios") if trees else None


def _told(parts: Shares | None) -> str:
    """Say in a sentence how the variance is shared out; nothing where it is not."""
    if parts is None:
        return ""
    evaluated, trained = (
        "{:.2f} [{:.2f}, {:.2f}]".format(*share.numbers)
        for share in (parts.evaluated, parts.trained)
    )
    return (
        f"Against {parts.baseline}, off the diagonal, the task evaluated explains {evaluated} of "
        f"the variance, the task trained on {trained}."
    )
