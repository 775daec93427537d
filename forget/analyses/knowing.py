"""Knowing: does a model's stated confidence fall with its accuracy?

K = (conf_l - conf_f) / (acc_l - acc_f), of the learned and the forgotten arm: 1 where it knows what
it forgot, 0 where it is as sure as before, below 0 where it is surer. The confidence is the share
of " True" when the model is asked about its own answer (audit "know").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.dose import areas
from forget.analyses.recovery import LEAST_SKILL, ROUNDING, averaged, labels
from forget.analyses.resampling import Draws, estimate, item_weights
from forget.analyses.study import Cell, kept
from forget.results.doses import PLAIN
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

AUDIT = "know"
"""Name of the audit whose Rows are read."""


@dataclass(frozen=True)
class Said:
    """Answers of an arm to each question, and its word on them."""

    right: np.ndarray
    """[items], 1 where the own answer is true; a tie shares."""
    own: np.ndarray
    """[items], stated confidence in the own answer, mean over wordings."""
    top: np.ndarray
    """[items], share of the own answer among the options."""
    truth: np.ndarray
    """[items], stated confidence in the true answer."""
    other: np.ndarray
    """[items], stated confidence in the best of the other answers."""
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    """Fit of an arm's stated confidence in its own answers to how often they are right."""

    right: Estimate
    """Share of right answers."""
    stated: Estimate
    """Mean confidence."""
    brier: Estimate
    """Brier score: 0 is perfect, 0.25 is what a constant ½ gets."""
    by_width: float
    """Calibration error over ten bins of equal width. Noise of the items adds to either error, so
    no interval of resamples goes with it.
    """
    by_mass: float
    """Calibration error over five bins of equally many items."""


@dataclass(frozen=True)
class Knowing:
    """Result of the audit in a cell."""

    label: str
    stated: Draws
    """K, of the stated confidence; missing where the learned arm cannot tell its right answers from
    its wrong ones, or too little was forgotten.
    """
    shown: Draws
    """K, of the largest share among the options, for which nothing is asked."""
    tells: dict[str, Estimate]
    """By arm, the area under the curve of the stated confidence for being right."""
    prefers: dict[str, Estimate]
    """By arm, the share of items with more confidence in the truth than in the other answer."""
    calibration: dict[str, Calibration]
    """By arm."""
    n: int


def knowing(cell: Cell) -> Knowing | None:
    """Return how a cell's models know what they forgot; None where they were not asked.

    Models that were not taught to tell come first, where they were asked as well.
    """
    return next(iter(known(cell)), None)


@kept
def known(cell: Cell) -> list[Knowing]:
    """Return what each audit of the kind found."""
    every = [label for label in labels(cell) if label.partition(",")[0] == AUDIT]
    return [found for label in every if (found := _known(cell, label))]


def _known(cell: Cell, label: str) -> Knowing | None:
    numbers: dict[tuple[str, str], Draws] = {}
    for arm in SHOWN:
        for name in MEANS:
            draws = averaged(cell, partial(_number, label=label, arm=arm, name=name))
            if draws is None:
                return None
            numbers[arm, name] = draws
    n = sum(len(said(_frame(cell, one, label), "learned").right) for one in cell.outcomes)
    tells = {arm: estimate(numbers[arm, "tells"], n) for arm in SHOWN}
    stated = _fall(numbers, "own")
    if not (tells["learned"].value is not None and tells["learned"].numbers[1] > 0.5):
        stated = np.full_like(stated, np.nan)
    return Knowing(
        label=label,
        stated=stated,
        shown=_fall(numbers, "top"),
        tells=tells,
        prefers={arm: estimate(numbers[arm, "prefers"], n) for arm in SHOWN},
        calibration={arm: _calibration(cell, label, arm, numbers, n) for arm in SHOWN},
        n=n,
    )


SHOWN = ("learned", "forgotten", "never")
"""Arms of which numbers are shown."""

MEANS = ("right", "own", "top", "tells", "prefers", "brier")
"""Names of the numbers of an arm that `_number` gives."""


def _calibration(
    cell: Cell, label: str, arm: str, numbers: dict[tuple[str, str], Draws], n: int
) -> Calibration:
    by_width, by_mass = [], []
    for outcome in cell.outcomes:
        told = said(_frame(cell, outcome, label), arm)
        by_width.append(calibration_error(told.own, told.right))
        by_mass.append(calibration_error_by_mass(told.own, told.right))
    return Calibration(
        right=estimate(numbers[arm, "right"], n),
        stated=estimate(numbers[arm, "own"], n),
        brier=estimate(numbers[arm, "brier"], n),
        by_width=float(np.mean(by_width)),
        by_mass=float(np.mean(by_mass)),
    )


def _fall(numbers: dict[tuple[str, str], Draws], name: str) -> Draws:
    """Compute K of one confidence."""
    lost = numbers["learned", "right"] - numbers["forgotten", "right"]
    fell = numbers["learned", name] - numbers["forgotten", name]
    return ratio(fell, lost)


def ratio(fell: Draws, lost: Draws) -> Draws:
    """Compute K; missing where less than LEAST_SKILL of the accuracy was lost."""
    if not lost[0] >= LEAST_SKILL - ROUNDING:
        return np.full_like(lost, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lost > ROUNDING, fell / lost, np.nan)


def _number(cell: Cell, outcome: Outcome, label: str, arm: str, name: str) -> Draws:
    told = said(_frame(cell, outcome, label), arm)
    weights = item_weights(len(told.right), [cell.task, "test", told.examples])
    if name == "tells":
        return areas(told.own, told.right > 0.5, weights)
    if name == "prefers":
        prefers = (told.truth > told.other) + 0.5 * (told.truth == told.other)
        return np.asarray(weights @ prefers)
    if name == "brier":
        return np.asarray(weights @ squares(told.own, told.right))
    values: np.ndarray = getattr(told, name)
    return np.asarray(weights @ values)


def _frame(cell: Cell, outcome: Outcome, label: str) -> pd.DataFrame:
    frame = cell.study.audited[outcome.id]
    return frame[(frame["audit"] == label) & (frame["split"] == "test")]


def said(frame: pd.DataFrame, arm: str) -> Said:
    """Read the Rows of the audit of one arm, item by item.

    Args:
        frame: of the audit, test split.
        arm: one of ARMS.
    """
    own = frame[frame["phase"] == arm]
    plain = own[own["dose"] == PLAIN].sort_values("example")
    about = own["dose"].str.partition("/")[0]

    def confidence(of: str) -> np.ndarray:
        asked = own[about == of]
        # The first verdict is "True": its share is that of the truth where the answer is true.
        true = np.where(asked["truth"] == 0, asked["confidence"], 1 - asked["confidence"])
        means = asked.assign(true=true).groupby("example")["true"].mean()
        return means.loc[plain["example"]].to_numpy()

    return Said(
        right=plain["correct"].to_numpy(float),
        own=confidence("own"),
        top=plain["top"].to_numpy(float),
        truth=confidence("truth"),
        other=confidence("other"),
        examples=tuple(plain["example"]),
    )


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Average |right - confidence| over bins of equal width, each weighed by its items (ECE)."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.abs(np.bincount(places, right - confidence, minlength=bins))
    return float(gaps.sum() / len(confidence))


def calibration_error_by_mass(confidence: np.ndarray, right: np.ndarray, bins: int = 5) -> float:
    """Average |right - confidence| over bins of equally many items, by their confidence."""
    order = np.argsort(confidence, kind="stable")
    gaps = [abs(float((right - confidence)[some].sum())) for some in np.array_split(order, bins)]
    return sum(gaps) / len(confidence)


def squares(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return each item's squared distance of the confidence from being right.

    Their mean is the Brier score (Brier 1950).
    """
    return (confidence - right) ** 2
