"""Disagreement of an ensemble as a predictor, item by item, of what forgetting takes.

Members that learned apart disagree where learning was a matter of luck. Whether that tells what is
forgotten has two traps: an item that members are unsure of is one that each is less confident of,
so the correlation is given the mean confidence; and an item that a member got right by luck is
both disagreed on and lost again, so a member's loss is predicted by the other members alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses.correlation import spearman
from forget.analyses.resampling import Draws, item_weights
from forget.analyses.study import Cell
from forget.results.outcome import Outcome

FEWEST = 3
"""Members of one seed that are needed: two at least predict the loss of the third."""

SINGLE = "confidence of one other member"
"""The predictor that is the control of the others: it needs no ensemble."""


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty of an ensemble about each item, in nats where it is an entropy."""

    variance: np.ndarray
    """[items], of the members' shares of the true option."""
    total: np.ndarray
    """[items], entropy of the mean share."""
    information: np.ndarray
    """[items], mutual information: that entropy less the mean of the members' own."""


def uncertainty(shares: np.ndarray) -> Uncertainty:
    """Compute how unsure an ensemble is (Gleave and Irving 2022; Houlsby et al. 2011).

    Args:
        shares: [items, members], of the true option, at least two members.
    """
    total = _entropy(shares.mean(axis=1))
    within = _entropy(shares).mean(axis=1)
    return Uncertainty(shares.var(axis=1, ddof=1), total, total - within)


def _entropy(share: np.ndarray) -> np.ndarray:
    """Compute the entropy of a choice between two, of which one has a share, in nats."""
    inside = np.clip(share, 1e-300, 1)
    outside = np.clip(1 - share, 1e-300, 1)
    found: np.ndarray = -share * np.log(inside) - (1 - share) * np.log(outside)
    return found


def partial(x: np.ndarray, y: np.ndarray, given: np.ndarray, weights: np.ndarray) -> Draws:
    """Correlate the ranks of x and y after what the ranks of a third number explain of both.

    Args:
        x: [n]
        y: [n]
        given: [n]
        weights: [1 + RESAMPLES, n]
    """
    both, first, second = (spearman(*pair, weights) for pair in ((x, y), (x, given), (y, given)))
    rest = (1 - first**2) * (1 - second**2)
    # What is left of ranks that the third explains altogether is a rounding error.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rest > 1e-12, (both - first * second) / np.sqrt(rest), np.nan)


@dataclass(frozen=True)
class Association:
    """Correlation of one predictor with what is lost, mean over the members whose loss it is."""

    predictor: str
    plain: Draws
    """Spearman's."""
    partial: Draws | None
    """Partial correlation given the mean confidence; None of the control, which is one itself."""


def associations(learned: np.ndarray, lost: np.ndarray, weights: np.ndarray) -> list[Association]:
    """Correlate each member's loss with the uncertainty of the others.

    Args:
        learned: [items, members], share of the true option after learning.
        lost: [items, members], what forgetting took of each item.
        weights: [1 + RESAMPLES, items]
    """
    plain: dict[str, list[Draws]] = defaultdict(list)
    given: dict[str, list[Draws]] = defaultdict(list)
    members = learned.shape[1]
    for member in range(members):
        others = np.delete(learned, member, axis=1)
        found, confidence = uncertainty(others), others.mean(axis=1)
        own = lost[:, member]
        for name, values in (
            ("variance", found.variance),
            ("mutual information", found.information),
        ):
            plain[name].append(spearman(values, own, weights))
            given[name].append(partial(values, own, confidence, weights))
        single = learned[:, (member + 1) % members]
        plain[SINGLE].append(spearman(single, own, weights))
    return [
        Association(name, _mean(draws), _mean(given[name]) if name in given else None)
        for name, draws in plain.items()
    ]


def _mean(draws: Sequence[Draws]) -> Draws:
    mean: Draws = np.mean(draws, axis=0)
    return mean


@dataclass(frozen=True)
class Ensemble:
    """Members of one cell and seed."""

    cell: Cell
    seed: int
    members: int
    items: int
    found: list[Association]


def ensembles(cell: Cell) -> list[Ensemble]:
    """Return the ensembles of a cell, one for each seed with members enough."""
    by_seed: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in cell.outcomes:
        by_seed[outcome.trial.seed].append(outcome)
    found = []
    for seed, outcomes in by_seed.items():
        # Of members that share a learned model there is nothing to disagree on.
        apart = {outcome.learned_id: outcome for outcome in outcomes if outcome.learned_id}
        if len(apart) >= FEWEST:
            one = _ensemble(cell, seed, list(apart.values()))
            found += [one] if one else []
    return found


def _ensemble(cell: Cell, seed: int, outcomes: Sequence[Outcome]) -> Ensemble | None:
    """Read the members' Rows of held-out items; None where they were not asked the same."""
    columns = []
    names: tuple[str, ...] = ()
    for outcome in outcomes:
        frame = cell.study.frames[outcome.id]
        rows = frame[(frame["task"] == cell.task) & (frame["split"] == "test")]
        rows = rows[rows["step"].isna()].sort_values("example")
        before, after = (rows[rows["phase"] == phase] for phase in ("learned", "forgotten"))
        if before.empty or before["example"].tolist() != after["example"].tolist():
            return None
        if names and names != tuple(before["example"]):
            return None
        names = tuple(before["example"])
        lost = before["correct"].to_numpy() - after["correct"].to_numpy()
        columns.append((before["confidence"].to_numpy(), lost))
    learned, lost = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    weights = item_weights(len(names), [cell.task, "test", names])
    return Ensemble(cell, seed, len(outcomes), len(names), associations(learned, lost, weights))
