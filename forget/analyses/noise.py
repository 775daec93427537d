"""Detectors of wrong labels: what tells that the label an example was trained on is not the truth.

Where a share of the labels is drawn and the others are true, it is known which are wrong, so that
any number of a trained example can be put to the test by its area under the ROC curve. The loss
under plain cross-entropy is the control: a learned detector is news only where it beats that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.dose import DIGITS, areas
from forget.analyses.resampling import Draws, item_weights
from forget.analyses.study import Cell
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

DECAY = 0.9
"""Weight of the past in the running mean of the losses."""

BEFORE, RUNNING, AFTER = "loss before", "running mean of the losses", "loss after"

WEIGHT, LOSS = "small weight", "loss"
"""Detectors at one look, on the examples that a method has given a weight."""


def detection(
    signals: Mapping[str, np.ndarray], wrong: np.ndarray, key: object
) -> dict[str, Draws]:
    """Compute the area under the ROC curve of each signal against an example's label being wrong.

    Args:
        signals: [examples] by name, higher where the label looks wrong.
        wrong: [examples], True where the label is not the truth.
        key: of the resamples (forget.analyses.resampling.item_weights).

    Returns:
        By name; NaN where no label is wrong, or all are.
    """
    weights = item_weights(len(wrong), key)
    return {name: areas(values, wrong, weights) for name, values in signals.items()}


def running_mean(losses: np.ndarray) -> np.ndarray:
    """Average losses with weights that fall by DECAY from the last look back.

    Args:
        losses: [looks, examples]
    """
    weights = DECAY ** np.arange(len(losses))[::-1]
    mean: np.ndarray = weights @ losses / weights.sum()
    return mean


@dataclass(frozen=True)
class Weighed:
    """Weights in its loss that a method gave the trained examples of one look."""

    step: int
    wrong: int
    """Examples whose label is wrong."""
    n: int
    mean: dict[bool, Draws]
    """Mean weight by whether the label is wrong."""
    found: dict[str, Draws]
    """Area under the ROC curve of WEIGHT and of LOSS."""


@dataclass(frozen=True)
class Detectors:
    """Detectors of the wrong labels of one trial."""

    cell: Cell
    outcome: Outcome
    wrong: int
    """Examples whose label is wrong."""
    n: int
    found: dict[str, Draws]
    """Area under the ROC curve by detector."""
    lost: dict[bool, Draws]
    """Fall of the accuracy by whether the label is wrong."""
    weighed: tuple[Weighed, ...]
    """The looks at which the method had weights of the examples; most methods have none."""


def detectors(cell: Cell) -> list[Detectors]:
    """Return the detectors of each trial of which only a share of the labels was drawn."""
    found = (_detectors(cell, outcome) for outcome in cell.outcomes if outcome.trial.noise < 1)
    return [one for one in found if one]


def _detectors(cell: Cell, outcome: Outcome) -> Detectors | None:
    """Read the trained examples of two options; None where their labels are not known."""
    frame = cell.study.frames[outcome.id]
    rows = frame[(frame["task"] == cell.task) & (frame["split"] == "train")]
    rows = rows[rows["phase"].isin(("learned", "forgotten", "forget"))].sort_values("example")
    looks = rows[(rows["phase"] == "forget") & (rows["step"] > 0)]
    settled = rows[rows["step"].isna()]
    before, after = (settled[settled["phase"] == phase] for phase in ("learned", "forgotten"))
    if before.empty or len(before) != len(after) or before["drawn"].isna().any():
        return None
    if not (before["options"] == 2).all():
        return None
    wrong = (before["drawn"] != before["truth"]).to_numpy()
    names = tuple(before["example"])
    signals = {BEFORE: _loss(before, wrong), AFTER: _loss(after, wrong)}
    key = [cell.task, "train", names]
    found = detection(signals, wrong, key)
    found |= _watched(looks, before, cell.task)
    weights = item_weights(len(names), key)
    fell = before["correct"].to_numpy() - after["correct"].to_numpy()
    lost = _by_side(fell, wrong, weights)
    weighed = tuple(_weighed(looks, before, cell.task))
    return Detectors(cell, outcome, int(wrong.sum()), len(names), found, lost, weighed)


def _by_side(values: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> dict[bool, Draws]:
    """Average values [examples] over those with a wrong label and over the others."""
    means = {}
    for side in (False, True):
        part = weights * (wrong == side)
        with np.errstate(invalid="ignore"):
            means[side] = part @ values / part.sum(axis=1)
    return means


def _weighed(looks: pd.DataFrame, settled: pd.DataFrame, task: str) -> Iterator[Weighed]:
    """Yield the weights of each look at which there were some."""
    is_wrong = (settled["drawn"] != settled["truth"]).set_axis(settled["example"])
    for step, rows in looks[looks["value"].notna()].groupby("step"):
        rows = rows[rows["example"].isin(is_wrong.index)]
        wrong, values = is_wrong[rows["example"]].to_numpy(), rows["value"].to_numpy()
        key = [task, "looks", tuple(rows["example"])]
        means = _by_side(values, wrong, item_weights(len(rows), key))
        signals = {WEIGHT: -values.round(DIGITS), LOSS: _loss(rows, wrong)}
        found = detection(signals, wrong, key)
        yield Weighed(int(step), int(wrong.sum()), len(rows), means, found)


def _watched(looks: pd.DataFrame, settled: pd.DataFrame, task: str) -> dict[str, Draws]:
    """Detect by the running mean over the looks, on the examples that were looked at."""
    by_step = [rows for _, rows in looks.groupby("step")]
    if not by_step:
        return {}
    names = tuple(by_step[0]["example"])
    own = settled[settled["example"].isin(names)]
    if any(tuple(rows["example"]) != names for rows in by_step) or len(own) != len(names):
        return {}
    wrong = (own["drawn"] != own["truth"]).to_numpy()
    losses = np.stack([_loss(rows, wrong) for rows in by_step])
    return detection({RUNNING: running_mean(losses)}, wrong, [task, "looks", names])


def _loss(rows: pd.DataFrame, wrong: np.ndarray) -> np.ndarray:
    """Return -log of the share of the label that was trained on, of two options, in nats."""
    truth = rows["confidence"].to_numpy()
    shares = np.where(wrong, 1 - truth, truth).clip(np.finfo(float).tiny)
    # Equal shares are equal, whichever option they are of.
    found: np.ndarray = -np.log(shares).round(DIGITS)
    return found
