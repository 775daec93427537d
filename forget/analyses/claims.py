"""The paper's claims, put to the numbers of one setting and rate: each holds here, is contradicted here, or cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from forget.analyses import generalisation, matrix, order, predictors, probes
from forget.analyses.matrix import Matrix
from forget.analyses.resampling import Draws, estimate, holm, p_value
from forget.analyses.study import Cell, Study, pooled
from forget.results.metrics import Estimate

Word = Literal["holds", "contradicted", "not enough data"]

HOLDS: Word = "holds"
CONTRADICTED: Word = "contradicted"
OPEN: Word = "not enough data"

STRONG = 0.5
"""A correlation is ruled out as a predictor where its whole interval lies between -STRONG and
STRONG.
"""

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
    "insensitive": "What is forgotten elsewhere depends on the task evaluated more than on the task trained on",
    "difficulty": "A task's difficulty does not predict how much of it is forgotten",
    "confidence": "Low confidence goes with more forgetting, weakly",
    "variability": "Low variability of the hidden states goes with more forgetting, weakly",
    "order": "What is learned early is forgotten late, weakly",
    "probes": "Linear probes still read what the answers have lost",
}
"""By short name, in the order of the page (Zhang, Choshen, Andreas 2024; see docs/method.md for the
rule of each).
"""


@dataclass(frozen=True)
class Verdict:
    """A claim under one setting and rate."""

    claim: str
    """A key of CLAIMS."""
    verdict: Word
    number: Estimate | None
    """What decides; None where there is nothing to compute it of."""
    what: str
    """What the number is, and of how much."""


@lru_cache(maxsize=1)
def verdicts(study: Study) -> dict[tuple[str, float], list[Verdict]]:
    """Every claim by setting and rate."""
    crossed = {(found.setting, found.rate): found for found in matrix.cross(study)}
    binned = generalisation.bins(study)
    found = {}
    for condition, cells in study.conditions.items():
        mastered = [cell for cell in cells if cell.mastered]
        found[condition] = [
            _trained(cells),
            _some(mastered),
            _near(
                [
                    b.cell
                    for cell in cells
                    for b in binned[(*condition, cell.task)]
                    if b.low >= SIMILAR
                ]
            ),
            *_crossed(crossed.get(condition)),
            *_predicted(mastered),
            _order(mastered),
            _probes(mastered),
        ]
    return found


def _trained(cells: Sequence[Cell]) -> Verdict:
    lost = pooled(cells, "train")
    what = "share of the skill lost on trained examples, all tasks together (1: at chance)"
    return _by_sign("trained", lost, 0.5, _count(cells, "train"), what)


def _near(cells: Sequence[Cell]) -> Verdict:
    lost = pooled(cells, "test")
    what = f"share of the skill lost on examples of similarity {SIMILAR} or more to a trained one"
    return _by_sign(
        "near", None if lost is None else -lost, -0.5, _count(cells, "test"), what, shown=lost
    )


def _some(cells: Sequence[Cell]) -> Verdict:
    # Whether forgetting generalises can be asked where it took something of the trained examples.
    asked = [cell for cell in cells if _interval(cell.lost("train"))[0] > 0]
    excess = [
        (cell, found)
        for cell in asked
        if (found := generalisation.excess(cell)) is not None and np.isfinite(found[0])
    ]
    signs = _signs([found for _, found in excess], 0.0)
    reached, spared = (
        [cell for (cell, _), sign in zip(excess, signs, strict=True) if sign == wanted]
        for wanted in (1, -1)
    )
    undecided = signs.count(0)
    what = (
        f"of {len(excess)} tasks, {len(reached)} reached{_named(reached)}, {len(spared)} spared{_named(spared)}, "
        f"{undecided} undecided"
    )
    number = None
    most, least = pooled(reached, "test"), pooled(spared, "test")
    if most is not None and least is not None:
        number = estimate(most - least, _count(reached + spared, "test"))
        what += "; the number is the share of the skill lost held out, on those reached less on those spared"
    elif excess:
        number = estimate(
            np.mean([found for _, found in excess], axis=0),
            _count([cell for cell, _ in excess], "test"),
        )
        what += "; the number is the share lost held out less half of that lost on trained examples, mean over tasks"
    return Verdict("some", _both(len(reached), len(spared), undecided), number, what)


def _crossed(found: Matrix | None) -> Iterator[Verdict]:
    baseline = "learned on i"
    ratios = found.pairs(baseline)[2] if found else np.empty((0, 1))
    signs = _signs(list(ratios), 0.5)
    went, stayed = signs.count(1), signs.count(-1)
    undecided = len(signs) - went - stayed
    what = f"of {len(signs)} pairs of tasks, most of the other's skill went in {went}, stayed in {stayed}, undecided {undecided}"
    number = estimate(ratios.mean(axis=0), len(ratios)) if len(ratios) else None
    yield Verdict(
        "elsewhere",
        _both(went, stayed, undecided),
        number,
        f"{what}; the number is the mean share lost",
    )
    parts = matrix.shares(found, baseline) if found else None
    if parts is None:
        yield Verdict(
            "insensitive",
            OPEN,
            None,
            "fewer than three tasks forgotten or measured that had skill to lose, or no variance among them",
        )
        return
    low, high = parts.lead.numbers[1:]
    verdict = HOLDS if low > 0 else CONTRADICTED if high < 0 else OPEN
    yield Verdict(
        "insensitive",
        verdict,
        parts.lead,
        f"share of the variance that goes with the task evaluated less that with the task trained on "
        f"({parts.evaluated.numbers[0]:.2f} and {parts.trained.numbers[0]:.2f}, {parts.rows} by {parts.columns} tasks)",
    )


def _predicted(cells: Sequence[Cell]) -> Iterator[Verdict]:
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
        _, low, high = rho.numbers
        sure = p < SIGNIFICANT
        what += f", permutation p {p:.2g}"
        if claim == "difficulty":
            apart = sure and (low > 0 or high < 0)
            verdict = CONTRADICTED if apart else HOLDS if low > -STRONG and high < STRONG else OPEN
        else:
            verdict = HOLDS if sure and high < 0 else CONTRADICTED if low > -WEAK else OPEN
        yield Verdict(claim, verdict, rho, what)


def _order(cells: Sequence[Cell]) -> Verdict:
    found = order.over_tasks(order.orders(cells))
    rho = found.spearman if found else None
    what = "Spearman's rho between the steps at which examples are learned and forgotten, mean over tasks"
    if rho is None or rho.value is None:
        return Verdict("order", OPEN, None, what)
    _, low, high = rho.numbers
    return Verdict("order", HOLDS if high < 0 else CONTRADICTED if low > -WEAK else OPEN, rho, what)


def _probes(cells: Sequence[Cell]) -> Verdict:
    gone = [cell for cell in cells if _interval(cell.lost("test"))[0] > 0.5]
    read = [reading for cell in gone for reading in probes.readings(cell)[:1]]
    lost = [reading.lost for reading in read if reading.lost is not None]
    what = f"share of the probes' skill lost on the {len(lost)} tasks whose answers lost most of theirs held out (best layer)"
    number: Draws | None = np.mean(lost, axis=0) if lost else None
    n = sum(reading.learned.n for reading in read if reading.lost is not None)
    return _by_sign("probes", None if number is None else -number, -0.5, n, what, shown=number)


def _by_sign(
    claim: str, draws: Draws | None, null: float, n: int, what: str, shown: Draws | None = None
) -> Verdict:
    """Holds where the whole interval lies above `null`, contradicted where below."""
    if draws is None or not np.isfinite(draws[0]):
        return Verdict(claim, OPEN, None, what)
    low, high = _interval(draws)
    verdict = HOLDS if low > null else CONTRADICTED if high < null else OPEN
    return Verdict(claim, verdict, estimate(draws if shown is None else shown, n), what)


def _signs(numbers: Sequence[Draws | None], null: float) -> list[int]:
    """1 above `null`, -1 below, 0 undecided, by Holm-adjusted p."""
    found = [number for number in numbers if number is not None]
    adjusted = holm([p_value(number, null) for number in found])
    return [
        0 if p is None or p >= SIGNIFICANT else 1 if number[0] > null else -1
        for number, p in zip(found, adjusted, strict=True)
    ]


def _both(some: int, others: int, undecided: int) -> Word:
    """Holds where there are some of both; contradicted where several are all of one kind."""
    if some and others:
        return HOLDS
    return CONTRADICTED if some + others > 1 and not undecided else OPEN


def _interval(draws: Draws | None) -> tuple[float, float]:
    if draws is None or not np.isfinite(draws[0]):
        return np.nan, np.nan
    low, high = np.nanquantile(draws[1:], (0.025, 0.975))
    return float(low), float(high)


def _count(cells: Sequence[Cell], split: str) -> int:
    return sum(cell.n("forgotten", split) for cell in cells)


def _named(cells: Sequence[Cell]) -> str:
    return f" ({', '.join(cell.task for cell in cells)})" if cells else ""
