"""Tables and figures of the audits that look at hidden states, for the section on audits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from forget.analyses.codes import Code, codes
from forget.analyses.drift import Drift, drifts
from forget.analyses.patching import TAU, Patching, patching
from forget.analyses.study import Cell
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import Series
from forget.report.layout import ARM_COLOURS, arm_line, place
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

OF_PATCHING = (
    "In patching, the learned model answers with the states of another one after a layer. What the "
    "truth then loses with the states of the model never taught is what the layer holds of the "
    "skill; the erasure is the share of it that it loses with the forgotten model's. UDS is the "
    f"mean over the layers that hold more than {TAU:g} nats, weighed by what they hold: 1 where "
    "what was learned is gone from the states, 0 where all of it is there."
)

OF_CODES = (
    "Codes are the bits that it takes to tell which answers are right, given the states of a layer "
    "and what a probe learned from the questions before. The compression is labels over bits: "
    "about 1 where the states tell nothing."
)


def text(cells: Sequence[Cell]) -> str:
    """Say how to read what there is of the cells."""
    there = ((OF_DRIFT, drifts), (OF_PATCHING, patching), (OF_CODES, codes))
    return " ".join(words for words, found in there if any(map(found, cells)))


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return a table for each audit of hidden states that the cells have."""
    rows: list[dict[str, Datum]] = []
    for cell in cells:
        rows += [_drift(cell, one) for one in drifts(cell)]
    found = [Table("drift", rows)] if rows else []
    whole: list[dict[str, Datum]] = []
    by_layer: list[dict[str, Datum]] = []
    for cell in cells:
        if one := patching(cell):
            whole.append(_patching(cell, one))
            by_layer += _patched(cell, one)
    if whole:
        found += [Table("patching", whole), Table("patched_layers", by_layer)]
    coded: list[dict[str, Datum]] = []
    for cell in cells:
        coded += [_code(cell, one) for one in codes(cell)]
    if coded:
        found.append(Table("codes", coded))
    return found


def pictures(cells: Sequence[Cell], folder: Path) -> list[Picture]:
    """Draw each audit of hidden states by layer and arm, a panel for each cell."""
    alike: dict[str, list[Series]] = {}
    lost: dict[str, list[Series]] = {}
    coded: dict[str, list[Series]] = {}
    for cell in cells:
        title = f"{cell.task} {cell.setting} {rate_name(cell.rate)}"
        layers = {one.layer: one.alike for one in drifts(cell) if one.task == "own"}
        if layers:
            alike[title] = by_arm(layers)
        if one := patching(cell):
            lost[title] = by_arm(one.lost)
        if compressed := {one.layer: one.compression for one in codes(cell)}:
            coded[title] = by_arm(compressed, learned=True)
    found = []
    for name, panels, axis in (
        ("drift", alike, "CKA with the learned"),
        ("patching", lost, "nats lost of the truth"),
        ("codes", coded, "labels over bits"),
    ):
        if panels:
            path = folder / f"{name}.png"
            shown = dict(list(panels.items())[:SHOWN])
            figures.curves(path, shown, "layer", axis, whole=True)
            found.append(Picture(path, name))
    return found


def by_arm(layers: Mapping[int, Mapping[str, Estimate]], learned: bool = False) -> list[Series]:
    """Return a line over layers for each arm, but for the learned one where it is the measure."""
    lines = []
    for arm in ARM_COLOURS:
        there = {layer: numbers[arm] for layer, numbers in layers.items() if arm in numbers}
        if there and (learned or arm != "learned"):
            values, at = list(there.values()), list(there)
            lines.append(arm_line(arm, values, at))
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
        **({"CKA, learned again": one.alike["again"]} if "again" in one.alike else {}),
    }


def _patching(cell: Cell, one: Patching) -> dict[str, Datum]:
    held = [layer for layer, erased in one.erasure.items() if erased.value is not None]
    return {
        **place(cell),
        "UDS": one.score,
        "layers that hold the skill": ", ".join(map(str, held)),
    }


def _patched(cell: Cell, one: Patching) -> list[dict[str, Datum]]:
    rows: list[dict[str, Datum]] = []
    for layer, lost in one.lost.items():
        rows.append(
            {
                **place(cell),
                "layer": layer,
                "nats lost, never taught": lost["never"],
                "nats lost, forgotten": lost["forgotten"],
                "erasure": one.erasure[layer],
            }
        )
    return rows


def _code(cell: Cell, one: Code) -> dict[str, Datum]:
    return {
        **place(cell),
        "layer": one.layer,
        "bits a question, forgotten": one.bits.get("forgotten"),
        "compression, forgotten": one.compression.get("forgotten"),
        "compression, learned": one.compression.get("learned"),
        "compression, never taught": one.compression.get("never"),
    }
