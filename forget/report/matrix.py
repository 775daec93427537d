"""What forgetting one task does to the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forget.analyses.matrix import BASELINES, Matrix, Shares, cross, shares, values
from forget.analyses.resampling import estimate
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.section import Entry, Picture, Section, Table
from forget.results.metrics import DEFINED_ABOVE_CHANCE

TEXT = (
    "Row i, column j: the forget ratio on held-out examples of task j after forgetting task i, against up to three baselines: "
    "the model that learned j (how much less it does of what it could learn), the same trial before forgetting (learned on i: "
    "what forgetting itself took), and the untouched model. Similar rows and similar columns stand side by side "
    "(average-linkage clustering, UPGMA, whose trees are drawn below). The task's own cells are framed. A dot: no trial to "
    f"compare with; missing: the baseline is less than {DEFINED_ABOVE_CHANCE} above chance. The table shares out the variance "
    "of the ratios off the diagonal (type II sums of squares of rows and columns, less what the sampling of items alone gives)."
)


def section(study: Study, folder: Path) -> Section | None:
    crossed = cross(study)
    if not crossed:
        return None
    pictures, parted, rows = [], list[dict[str, Entry]](), list[dict[str, Entry]]()
    for i, matrix in enumerate(crossed, 1):
        title = f"{matrix.setting}, rate {rate_name(matrix.rate)}"
        found = {baseline: shares(matrix, baseline) for baseline in BASELINES}
        pictures.append(
            Picture(
                _heat(matrix, folder / f"matrix-{i}.png"),
                title,
                _told(next(filter(None, found.values()), None)),
            )
        )
        trees = {
            name: (tree, labels)
            for name, tree, labels in zip(
                ("tasks forgotten", "tasks measured"),
                matrix.trees,
                (matrix.rows, matrix.columns),
                strict=True,
            )
            if tree is not None
        }
        if trees:
            path = figures.trees(
                folder / f"tree-{i}.png", trees, "root mean square difference of ratios"
            )
            pictures.append(Picture(path, f"{title}: which tasks go together"))
        head: dict[str, Entry] = {"setting": matrix.setting, "rate": rate_name(matrix.rate)}
        parted += [
            head
            | {"baseline": baseline, "tasks forgotten": part.rows, "tasks measured": part.columns}
            | {
                "task evaluated": part.evaluated,
                "task trained on": part.trained,
                "neither": part.rest,
                "lead": part.lead,
            }
            for baseline, part in found.items()
            if part
        ]
        rows += [
            head
            | {
                "baseline": baseline,
                "forgotten": i,
                "measured": j,
                "forget ratio": None if e is None else estimate(e, n),
            }
            for baseline, table in matrix.ratios.items()
            for i, line, counts in zip(matrix.rows, table, matrix.n, strict=True)
            for j, e, n in zip(matrix.columns, line, counts, strict=True)
        ]
    tables = [Table("shares", parted)] if parted else []
    return Section(
        "matrix", "From task to task", TEXT, pictures, [*tables, Table("cross_task", rows)]
    )


def _heat(matrix: Matrix, path: Path) -> Path:
    panels = {
        b: matrix.estimates(b)
        for b, table in matrix.ratios.items()
        if np.isfinite(values(table)).any()
    }
    panels = panels or {b: matrix.estimates(b) for b in matrix.ratios}
    return figures.matrices(
        path,
        panels,
        matrix.rows,
        matrix.columns,
        "task measured (j)",
        "task forgotten (i)",
        "forget ratio",
    )


def _told(parts: Shares | None) -> str:
    if parts is None:
        return ""
    evaluated, trained = (
        "{:.2f} [{:.2f}, {:.2f}]".format(*share.numbers)
        for share in (parts.evaluated, parts.trained)
    )
    return (
        f"Against {parts.baseline}, off the diagonal, the task evaluated explains {evaluated} of the variance, "
        f"the task trained on {trained}."
    )
