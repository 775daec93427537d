"""The section on forgetting with a known share of drawn labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from forget.analyses.noise import AFTER, BEFORE, LOSS, RUNNING, WEIGHT, Detectors, detectors
from forget.analyses.resampling import estimate
from forget.analyses.study import Study
from forget.analyses.words import rate_name
from forget.report import figures
from forget.report.figures import GREY, INK, VERMILION, Series
from forget.report.layout import SHOWN
from forget.report.section import Datum, Picture, Section, Table
from forget.results.estimates import Estimate

TEXT = (
    "Only a share of the labels was drawn, so it is known which are wrong. Can it be told from the "
    "losses of the trained examples on their labels? Each number is the area under the ROC curve "
    "against the label being wrong: 0.5 tells nothing, 1 tells all. The loss before forgetting is "
    "the control: it is what the learned model knows anyway; where the running mean or the loss "
    "after forgetting tell less, the wrong labels were memorised. Beside it is how far the "
    "accuracy fell on examples with wrong and with right labels: where it fell alike, forgetting "
    "reached the skill and not the labels."
)

WEIGHED = (
    " A method that weighs each example shows its weights, too: their means over the steps, and at "
    "each look how well a small weight tells a wrong label, beside the loss of the same examples "
    "at the same look. It has learned which labels are wrong only where it tells more than that."
)

LOOKS = ((BEFORE, GREY, True), (RUNNING, INK, False), (AFTER, VERMILION, False))
"""(detector, colour, hollow) of each series."""


def section(study: Study, folder: Path) -> Section | None:
    """Return None where the labels of all trained examples were drawn."""
    found = list(chain.from_iterable(map(detectors, study.cells)))
    if not found:
        return None
    shown = found[: 4 * SHOWN]
    names = list(map(_name, shown))
    series = []
    for detector, colour, hollow in LOOKS:
        values = [_detected(one, detector) for one in shown]
        series.append(Series(detector, colour, values, hollow=hollow))
    path = folder / "noise.png"
    panels = {"trained examples": series}
    axis = "area under the ROC curve"
    figures.dots(path, names, panels, axis, limits=(0, 1), lines={"tells nothing": 0.5})
    pictures = [Picture(path, "What tells that a label is wrong")]
    tables = [Table("noise", [_row(one) for one in found])]
    weighed = [one for one in found if one.weighed]
    if weighed:
        pictures.append(_weights(weighed[:SHOWN], folder / "weights.png"))
        tables.append(Table("weights", list(chain.from_iterable(map(_weight_rows, weighed)))))
    text = TEXT + WEIGHED * bool(weighed)
    return Section("noise", "Which labels were wrong", text, pictures, tables)


def _name(one: Detectors) -> str:
    return f"{one.cell.task}, {one.outcome.trial.noise:g} drawn, {rate_name(one.cell.rate)}"


def _weights(weighed: Sequence[Detectors], path: Path) -> Picture:
    """Draw the mean weights over the steps, a panel for each trial."""
    panels = {}
    for number, one in enumerate(weighed, 1):
        at = [look.step for look in one.weighed]
        right = [estimate(look.mean[False], look.n - look.wrong) for look in one.weighed]
        wrong = [estimate(look.mean[True], look.wrong) for look in one.weighed]
        panels[f"{number}: {_name(one)}"] = [
            Series("label right", GREY, right, at),
            Series("label wrong", VERMILION, wrong, at),
        ]
    figures.curves(path, panels, "optimiser step of forgetting", "mean weight", whole=True)
    return Picture(path, "Weights of the examples while they are forgotten")


def _weight_rows(one: Detectors) -> list[dict[str, Datum]]:
    rows: list[dict[str, Datum]] = []
    for look in one.weighed:
        rows.append(
            {
                **_setting(one),
                "method": str(one.outcome.trial.method),
                "step": look.step,
                "wrong labels": look.wrong,
                "examples": look.n,
                "weight where wrong": estimate(look.mean[True], look.wrong),
                "weight where right": estimate(look.mean[False], look.n - look.wrong),
                WEIGHT: estimate(look.found[WEIGHT], look.n),
                LOSS: estimate(look.found[LOSS], look.n),
            }
        )
    return rows


def _setting(one: Detectors) -> dict[str, Datum]:
    return {
        "setting": one.cell.setting,
        "rate": rate_name(one.cell.rate),
        "task": one.cell.task,
        "seed": one.outcome.trial.seed,
        "share drawn": one.outcome.trial.noise,
    }


def _detected(one: Detectors, detector: str) -> Estimate | None:
    return estimate(one.found[detector], one.n) if detector in one.found else None


def _row(one: Detectors) -> dict[str, Datum]:
    cell, lost = one.cell, one.cell.lost("test")
    row: dict[str, Datum] = {
        **_setting(one),
        "wrong labels": one.wrong,
        "examples": one.n,
    }
    for detector, _, _ in LOOKS:
        row[detector] = _detected(one, detector)
    return row | {
        "fall where wrong": estimate(one.lost[True], one.wrong),
        "fall where right": estimate(one.lost[False], one.n - one.wrong),
        "held-out skill lost": None
        if lost is None
        else estimate(lost, cell.n("forgotten", "test")),
    }
