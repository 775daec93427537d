"""The paper's claims, put to the numbers of one condition.

Each holds here, is contradicted here, or cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Literal

import numpy as np

from forget.analyses import generalisation, order, predictors, probes
from forget.analyses.matrix import Matrix, cross, shares
from forget.analyses.resampling import Draws, estimate, holm, p_value
from forget.analyses.study import Cell, Condition, Study, pooled
from forget.results.estimates import Estimate

Word = Literal["holds", "contradicted", "not enough data"]

HOLDS: Word = "holds"
CONTRADICTED: Word = "contradicted"
OPEN: Word = "not enough data"

STRONG = 0.5
"""A predictor is ruled out where the whole interval of its correlation lies within this of 0."""

WEAK = 0.1
"""A negative correlation is contradicted where its whole interval lies above -WEAK."""

SIGNIFICANT = 0.05

SIMILAR = 0.5
"""Similarity to a trained example from which on a held-out one counts as its near-duplicate."""

CLAIMS = {
    "trained": "The examples that forgetting trains on go to near random",
    "some": "Forgetting generalises to held-out examples in some tasks and not in others",
    "near": "Near-duplicates of trained examples are still answered",
    "elsewhere": "It reaches some other tasks and spares others",
    "insensitive": (
        "What is forgotten elsewhere depends on the task evaluated more than on the task trained on"
    ),
    "difficulty": "A task's difficulty does not predict how much of it is forgotten",
    "confidence": "Low confidence goes with more forgetting, weakly",
    "variability": "Low variability of the hidden states goes with more forgetting, weakly",
    "order": "What is learned early is forgotten late, weakly",
    "probes": "Linear probes still read what the answers have lost",
}
"""Claims by short name, in the order of the page (Zhang, Choshen, Andreas 2024).

docs/method.md has the rule of each.
"""

Range = tuple[float, float]
"""Everything between two bounds."""

NOWHERE: Range = (inf, -inf)


@dataclass(frozen=True)
class Verdict:
    """A claim under one condition."""

    claim: str
    """A key of CLAIMS."""
    verdict: Word
    number: Estimate | None
    """The number that decides; None where there is nothing to compute it from."""
    what: str
    """Words that say which number it is, and over how much."""


@lru_cache(maxsize=1)
def verdicts(study: Study) -> dict[Condition, list[Verdict]]:
    """Put every claim to the numbers of each condition."""
    crossed = {matrix.condition: matrix for matrix in cross(study)}
    binned = generalisation.bins(study)
    found = {}
    for condition, cells in study.conditions.items():
        mastered = [cell for cell in cells if cell.mastered]
        near = []
        for cell in cells:
            near += [one.cell for one in binned[condition, cell.task] if one.low >= SIMILAR]
        found[condition] = [
            _trained(cells),
            _some(mastered),
            _near(near),
            *_crossed(crossed.get(condition)),
            *_predicted(mastered),
            _order(mastered),
            _probes(mastered),
        ]
    return found


def verdict(interval: Range, holds: Range, contradicted: Range) -> Word:
    """Say that a claim holds where its whole interval lies in a range, or is contradicted.

    Args:
        interval: low and high of the number that decides; NaN leaves the claim open.
        holds: the range in which the claim holds.
        contradicted: the range in which it is contradicted; where both hold the interval, the claim
            holds.
    """
    low, high = interval
    if holds[0] < low and high < holds[1]:
        return HOLDS
    if contradicted[0] < low and high < contradicted[1]:
        return CONTRADICTED
    return OPEN


def _trained(cells: Sequence[Cell]) -> Verdict:
    lost = pooled(cells, "train")
    what = "share of the skill lost on trained examples, all tasks together (1: at chance)"
    return _by_range("trained", lost, (0.5, inf), (-inf, 0.5), _count(cells, "train"), what)


def _near(cells: Sequence[Cell]) -> Verdict:
    lost = pooled(cells, "test")
    what = f"share of the skill lost on examples of similarity {SIMILAR} or more to a trained one"
    return _by_range("near", lost, (-inf, 0.5), (0.5, inf), _count(cells, "test"), what)


def _some(cells: Sequence[Cell]) -> Verdict:
    # Whether forgetting generalises can be asked where it took something of the trained examples.
    asked: list[tuple[Cell, Draws]] = []
    for cell in cells:
        excess = generalisation.excess(cell)
        if _interval(cell.lost("train"))[0] > 0 and excess is not None and np.isfinite(excess[0]):
            asked.append((cell, excess))
    signs = _signs([excess for _, excess in asked], 0.0)
    by_sign: dict[int, list[Cell]] = {1: [], -1: [], 0: []}
    for (cell, _), sign in zip(asked, signs, strict=True):
        by_sign[sign].append(cell)
    reached, spared, undecided = by_sign[1], by_sign[-1], len(by_sign[0])
    what = (
        f"of {len(asked)} tasks, {len(reached)} reached{_named(reached)}, "
        f"{len(spared)} spared{_named(spared)}, {undecided} undecided"
    )
    number = None
    most, least = pooled(reached, "test"), pooled(spared, "test")
    if most is not None and least is not None:
        number = estimate(most - least, _count(reached + spared, "test"))
        what += (
            "; the number is the share of the skill lost held out, on those reached less on those "
            "spared"
        )
    elif asked:
        mean = np.mean([excess for _, excess in asked], axis=0)
        number = estimate(mean, _count([cell for cell, _ in asked], "test"))
        what += (
            "; the number is the share lost held out less half of that lost on trained examples, "
            "mean over tasks"
        )
    return Verdict("some", _both(len(reached), len(spared), undecided), number, what)


def _crossed(matrix: Matrix | None) -> Iterator[Verdict]:
    """Judge the two claims on other tasks."""
    baseline = "learned on i"
    ratios = matrix.pairs(baseline)[2] if matrix else np.empty((0, 1))
    signs = _signs(list(ratios), 0.5)
    went, stayed = signs.count(1), signs.count(-1)
    undecided = len(signs) - went - stayed
    number = estimate(ratios.mean(axis=0), len(ratios)) if len(ratios) else None
    what = (
        f"of {len(signs)} pairs of tasks, most of the other's skill went in {went}, stayed in "
        f"{stayed}, undecided {undecided}; the number is the mean share lost"
    )
    yield Verdict("elsewhere", _both(went, stayed, undecided), number, what)

    parts = shares(matrix, baseline) if matrix else None
    if parts is None:
        what = (
            "fewer than three tasks forgotten or measured that had skill to lose, or no variance "
            "among them"
        )
        yield Verdict("insensitive", OPEN, None, what)
        return
    what = (
        f"share of the variance that goes with the task evaluated less that with the task trained "
        f"on ({parts.evaluated.numbers[0]:.2f} and {parts.trained.numbers[0]:.2f}, {parts.rows} by "
        f"{parts.columns} tasks)"
    )
    word = verdict(parts.lead.numbers[1:], holds=(0, inf), contradicted=(-inf, 0))
    yield Verdict("insensitive", word, parts.lead, what)


def _predicted(cells: Sequence[Cell]) -> Iterator[Verdict]:
    """Judge the three claims on what predicts forgetting across tasks."""
    found = {one.name: one for one in predictors.across_tasks(cells)}
    for claim, measure in (
        ("difficulty", "accuracy"),
        ("confidence", "confidence"),
        ("variability", "variability"),
    ):
        rho, p = found[measure].spearman, found[measure].p_spearman
        what = f"Spearman's rho with the held-out forget ratio over {rho.n} tasks"
        if rho.value is None or p is None:
            yield Verdict(claim, OPEN, None, what)
            continue
        interval = rho.numbers[1:]
        low, high = interval
        sure = p < SIGNIFICANT
        if claim != "difficulty":
            holds = (-inf, 0.0) if sure else NOWHERE
            word = verdict(interval, holds=holds, contradicted=(-WEAK, inf))
        elif sure and (low > 0 or high < 0):
            word = CONTRADICTED
        else:
            word = verdict(interval, holds=(-STRONG, STRONG), contradicted=NOWHERE)
        yield Verdict(claim, word, rho, f"{what}, permutation p {p:.2g}")


def _order(cells: Sequence[Cell]) -> Verdict:
    found = order.over_tasks(order.orders(cells))
    rho = found.spearman if found else None
    what = (
        "Spearman's rho between the steps at which examples are learned and forgotten, mean over "
        "tasks"
    )
    if rho is None or rho.value is None:
        return Verdict("order", OPEN, None, what)
    word = verdict(rho.numbers[1:], holds=(-inf, 0), contradicted=(-WEAK, inf))
    return Verdict("order", word, rho, what)


def _probes(cells: Sequence[Cell]) -> Verdict:
    lost: list[Draws] = []
    n = 0
    for cell in cells:
        # The claim is about tasks whose answers are gone, and about the first position probed.
        if _interval(cell.lost("test"))[0] > 0.5:
            for reading in probes.readings(cell)[:1]:
                if reading.lost is not None:
                    lost.append(reading.lost)
                    n += reading.learned.n
    what = (
        f"share of the probes' skill lost on the {len(lost)} tasks whose answers lost most of "
        "theirs held out (best layer)"
    )
    mean: Draws | None = np.mean(lost, axis=0) if lost else None
    return _by_range("probes", mean, (-inf, 0.5), (0.5, inf), n, what)


def _by_range(
    claim: str, draws: Draws | None, holds: Range, contradicted: Range, n: int, what: str
) -> Verdict:
    """Judge a claim by the interval of its own number; a missing number leaves it open.

    Args:
        claim: a key of CLAIMS.
        draws: the number.
        holds: see `verdict`.
        contradicted: see `verdict`.
        n: items that the number rests on.
        what: see `Verdict`.
    """
    if draws is None or not np.isfinite(draws[0]):
        return Verdict(claim, OPEN, None, what)
    word = verdict(_interval(draws), holds=holds, contradicted=contradicted)
    return Verdict(claim, word, estimate(draws, n), what)


def _signs(numbers: Sequence[Draws], null: float) -> list[int]:
    """Sort numbers by Holm-adjusted p: 1 above `null`, -1 below, 0 undecided."""
    adjusted = holm([p_value(number, null) for number in numbers])
    signs = []
    for number, p in zip(numbers, adjusted, strict=True):
        if p is None or p >= SIGNIFICANT:
            signs.append(0)
        else:
            signs.append(1 if number[0] > null else -1)
    return signs


def _both(some: int, others: int, undecided: int) -> Word:
    """Say that a claim holds where there are some of both; several of one kind contradict it."""
    if some and others:
        return HOLDS
    return CONTRADICTED if some + others > 1 and not undecided else OPEN


def _interval(draws: Draws | None) -> Range:
    """Return the 95 % interval; NaN where there is no number."""
    if draws is None or not np.isfinite(draws[0]):
        return np.nan, np.nan
    low, high = np.nanquantile(draws[1:], (0.025, 0.975))
    return float(low), float(high)


def _count(cells: Sequence[Cell], split: str) -> int:
    return sum(cell.n("forgotten", split) for cell in cells)


def _named(cells: Sequence[Cell]) -> str:
    return f" ({', '.join(cell.task for cell in cells)})" if cells else ""
