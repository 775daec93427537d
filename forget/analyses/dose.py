"""Dose and response: what else is lost when so much of the trained examples' skill is.

The rate of forgetting and the number of its steps are the researcher's choice, and everything
depends on them. Read at a matched dose, i.e. where the same share of the skill on trained examples
is lost, they are none. The looks on the way give the path of each trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.arms import control
from forget.analyses.replicates import Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, estimate, item_weights
from forget.analyses.study import Cell, kept, replicate
from forget.results.estimates import Estimate
from forget.results.metrics import DEFINED_ABOVE_CHANCE
from forget.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

DOSE = 0.9
"""Share of the skill on trained examples at which claims are read.

That skill is the discrimination of those whose drawn label was right (forget.results.dose.lost).
"""

DIGITS = 12
"""Decimals of a share that are kept; below lies the rounding of its complement."""


@dataclass(frozen=True)
class Path:
    """Shares of the skill lost along the steps of a forget stage, the start without loss first."""

    steps: tuple[float, ...]
    lost: np.ndarray
    """[steps, 1 + RESAMPLES]"""
    n: int
    """Items that were looked at."""

    def at(self, step: float) -> Draws:
        """Interpolate between two looks; beyond the last one it is the last's."""
        last = len(self.steps) - 1
        after = min(int(np.searchsorted(self.steps, step)), last)
        before = max(0, after - 1)
        width = self.steps[after] - self.steps[before]
        share = min(1.0, (step - self.steps[before]) / width) if width else 0.0
        between: Draws = (1 - share) * self.lost[before] + share * self.lost[after]
        return between


@kept
def paths(cell: Cell, split: str) -> dict[tuple[int, int], Path]:
    """Return the path of each replicate on a split of its own task; none where none was looked at.

    Each look is compared with the learned model on the items of the looks alone.
    """
    found = {}
    for outcome in cell.outcomes:
        path = _path(cell, outcome, split)
        if path:
            found[replicate(outcome.trial)] = path
    return found


def _path(cell: Cell, outcome: Outcome, split: str) -> Path | None:
    frame = cell.study.frames[outcome.id]
    own = frame[(frame["task"] == cell.task) & (frame["split"] == split)]
    looks = own[(own["phase"] == "forget") & (own["step"] > 0)]
    ends = own[own["step"].isna() & own["example"].isin(looks["example"])]
    if looks.empty or not {"learned", "forgotten"} <= set(ends["phase"]):
        return None
    steps = sorted(looks["step"].unique().tolist())
    models = [ends[ends["phase"] == "learned"]]
    models += [looks[looks["step"] == step] for step in steps]
    models.append(ends[ends["phase"] == "forgotten"])
    shared = set.intersection(*(set(rows["example"]) for rows in models))
    models = [rows[rows["example"].isin(shared)].sort_values("example") for rows in models]
    if split == "train":
        models = _drawn_right(models)
    if len(models[0]) < 2:
        return None
    examples = tuple(models[0]["example"])
    weights = item_weights(len(examples), [cell.task, "dose", split, examples])
    skills = [_skill(rows, split, weights) for rows in models]
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = [
            np.where(skills[0] > 0, (skills[0] - skill) / skills[0], np.nan) for skill in skills
        ]
    if not skills[0][0] >= DEFINED_ABOVE_CHANCE:
        return None
    # A stage ends where its dose was reached; otherwise as far after the last look as looks are
    # apart.
    found = outcome.dose.step if outcome.dose else steps[-1] + steps[0]
    return Path((0.0, *steps, float(max(found, steps[-1]))), np.stack(lost), len(examples))


def _drawn_right(models: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Keep the trained examples whose drawn label is the truth; all where no draws are recorded.

    On the others training teaches something else, so that what a model gives there is no sign of
    what it has forgotten (forget.results.dose.lost).
    """
    right = (models[0]["drawn"] == models[0]["truth"]).to_numpy()
    return [rows[right] for rows in models] if right.any() else list(models)


def _skill(rows: pd.DataFrame, split: str, weights: np.ndarray) -> Draws:
    """Return what is above chance: of trained examples the discrimination, of others the accuracy.

    The discrimination of trained examples does not fall where one answer is always given.
    """
    if split == "train" and (rows["options"] == 2).all() and rows["truth"].nunique() == 2:
        confidence, second = rows["confidence"].to_numpy(), rows["truth"].to_numpy() == 1
        # Equal shares are equal, whichever option they are of.
        shares = np.where(second, confidence, 1 - confidence).round(DIGITS)
        return areas(shares, second, weights) - 0.5
    accuracy: Draws = weights @ rows["correct"].to_numpy()
    return accuracy - float(np.mean(1 / rows["options"]))


def areas(scores: np.ndarray, true: np.ndarray, weights: np.ndarray) -> Draws:
    """Compute the area under the ROC curve in each resample (Hanley and McNeil 1982).

    Args:
        scores: [n]
        true: [n], what the scores are to tell.
        weights: [1 + RESAMPLES, n]
    """
    of_true, of_false = np.where(true, weights, 0), np.where(true, 0, weights)
    _, place = np.unique(scores, return_inverse=True)
    at = np.zeros((len(weights), place.max() + 1))
    for item, where in enumerate(place):
        at[:, where] += of_false[:, item]
    below = np.cumsum(at, axis=1) - at / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Draws = (of_true * below[:, place]).sum(axis=1) / (
            of_true.sum(axis=1) * of_false.sum(axis=1)
        )
    return found


@dataclass(frozen=True)
class Matched:
    """Loss on held-out examples where DOSE of the skill on trained examples is lost."""

    step: float
    """Step at which it is, by interpolation, mean over the replicates."""
    held_out: Draws
    """Share of the skill lost on held-out examples, less what true labels took by that step."""
    n: int

    @property
    def number(self) -> Estimate:
        return estimate(self.held_out, self.n)


@kept
def matched(cell: Cell) -> Matched | None:
    """Read the held-out loss at DOSE; None where some replicate never reached it."""
    own = _by_replicate(cell)
    if own is None:
        return None
    peers = [found for peer in cell.study.peers(cell) if (found := _by_replicate(peer))]
    spread = pool([found.only(own.names) for found in peers])
    steps = [step for step in map(reached, paths(cell, "train").values()) if step is not None]
    n = sum(path.n for path in paths(cell, "test").values())
    return Matched(float(np.mean(steps)), over_replicates(own, spread), n)


@kept
def _by_replicate(cell: Cell) -> Replicated | None:
    trained, held_out = paths(cell, "train"), paths(cell, "test")
    other = control(cell)
    further = paths(other, "test") if other else {}
    names, taken = [], []
    for name in sorted(trained):
        step = reached(trained[name])
        if step is None or name not in held_out:
            return None
        number = held_out[name].at(step)
        if other is not None:
            if name not in further:
                return None
            number = number - further[name].at(step)
        names.append(name)
        taken.append(number)
    if len(names) < len(cell.outcomes):
        return None
    return Replicated(cell.task, tuple(names), tuple(taken))


def reached(path: Path) -> float | None:
    """Return the step at which DOSE is first lost, by interpolation; None where it never is."""
    values = path.lost[:, 0]
    over = np.flatnonzero(values >= DOSE)
    if not len(over) or not np.isfinite(values[: over[0] + 1]).all():
        return None
    after = int(over[0])
    before = after - 1
    share = (DOSE - values[before]) / (values[after] - values[before])
    return float(path.steps[before] + share * (path.steps[after] - path.steps[before]))
