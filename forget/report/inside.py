"""Tables and figures of the audits that look at hidden states, for the section on audits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from forget.analyses.drift import Drift, drifts
from forget.analyses.study import Cell
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Series
from forget.report.layout import ARM_COLOURS, ARM_NAMES, place
from forget.report.section import Datum, Picture, Table
from forget.results.estimates import Estimate

SHOWN = 6
"""Panels of a figure; the tables have all."""

OF_DRIFT = (
    "Drift compares the states of each prompt's last token, layer by layer, with those of the "
    "learned model: CKA without bias is 1 where nothing moved but by rotation and scale. The "
    "erasure is how far the forgotten model's states went towards those of the model never taught: "
    "0 not at all, 1 as if never taught."
)


def text(cells: Sequence[Cell]) -> str:
    """Say how to read what there is of the cells."""
    return OF_DRIFT if any(drifts(cell) for cell in cells) else ""


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return a table for each audit of hidden states that the cells have."""
    rows: list[dict[str, Datum]] = []
    for cell in cells:
        rows += [_drift(cell, one) for one in drifts(cell)]
    return [Table("drift", rows)] if rows else []


def pictures(cells: Sequence[Cell], folder: Path) -> list[Picture]:
    """Draw each audit of hidden states by layer and arm, a panel for each cell."""
    panels: dict[str, list[Series]] = {}
    for cell in cells:
        layers = {one.layer: one.alike for one in drifts(cell) if one.task == "own"}
        if layers and len(panels) < SHOWN:
            panels[f"{cell.task} {cell.setting} {rate_name(cell.rate)}"] = by_arm(layers)
    if not panels:
        return []
    path = folder / "drift.png"
    figures.curves(path, panels, "layer", "CKA with the learned", whole=True)
    return [Picture(path, "drift")]


def by_arm(layers: Mapping[int, Mapping[str, Estimate]]) -> list[Series]:
    """Return a line over layers for each arm but the learned one."""
    lines = []
    for arm, colour in ARM_COLOURS.items():
        there = {layer: numbers[arm] for layer, numbers in layers.items() if arm in numbers}
        if there and arm != "learned":
            values, at = list(there.values()), list(there)
            lines.append(Series(ARM_NAMES.get(arm, arm), colour, values, at))
    return lines


def _drift(cell: Cell, one: Drift) -> dict[str, Datum]:
    return {
        **place(cell),
        "items of": "the task" if one.task == "own" else "another task",
        "layer": one.layer,
        "erasure": one.erasure,
        "CKA, forgotten": one.alike.get("forgotten"),
        "CKA, never taught": one.alike.get("never"),
        "distance, forgotten": one.distance.get("forgotten"),
        "distance, never taught": one.distance.get("never"),
        "cosine, forgotten": one.cosine.get("forgotten"),
        "cosine, never taught": one.cosine.get("never"),
    }
