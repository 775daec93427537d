"""False verdicts of each claim at the border of its rule, and right ones where it is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage.items import Items, following, ordered, probed
from benchmarks.coverage.items import study as of_items
from benchmarks.coverage.simulated import LEARNED, Truth, alone, everywhere, study
from forget.analyses import Study
from forget.analyses.claims import RULES, SLIGHT, asked
from forget.analyses.judging import CONTRADICTED, HOLDS, OPEN

SEEDS = 2
SPREAD = 0.05
SKILL = LEARNED - 0.5
EIGHT, FIVE = "abcdefgh", "abcde"


@dataclass(frozen=True)
class Case:
    """A truth that is put to a claim."""

    claim: str
    what: str
    truth: Callable[[np.random.Generator], Truth | Items]
    right: tuple[str, ...]
    """Verdicts that are not false there."""


def _kept(lost: float) -> float:
    return LEARNED - lost * SKILL


def _alike(draw: np.random.Generator) -> Truth:
    """Draw losses that nothing goes with; difficulty and confidence vary."""
    after, learned, confidence = {}, {}, {}
    for task in EIGHT:
        learned[task] = float(draw.uniform(0.75, 0.95))
        share = draw.uniform(0.1, 0.9)
        after[task, task] = learned[task] - share * (learned[task] - 0.5)
        confidence[task] = float(draw.uniform(0.6, 0.9))
    return Truth(after, spread=SPREAD, learned=learned, confidence=confidence)


def _following(draw: np.random.Generator) -> Truth:
    """Draw losses that confidence goes with."""
    after, confidence = {}, {}
    for place, task in enumerate(draw.permutation(list(EIGHT))):
        after[task, task] = _kept(0.9 - 0.1 * place)
        confidence[task] = 0.6 + 0.04 * place
    return Truth(after, spread=SPREAD, confidence=confidence)


def _crossed(rows: float, columns: float) -> Callable[[np.random.Generator], Truth]:
    """Return a truth whose pairs lose by effects of the row and of the column."""

    def made(draw: np.random.Generator) -> Truth:
        row = dict(zip(FIVE, rows * draw.standard_normal(5), strict=True))
        column = dict(zip(FIVE, columns * draw.standard_normal(5), strict=True))
        lost = everywhere(FIVE, lambda i, j: float(np.clip(0.4 + row[i] + column[j], -0.1, 1.1)))
        return Truth({pair: _kept(share) for pair, share in lost.items()}, spread=SPREAD)

    return made


def _pairs(lost: Callable[[str, str], float]) -> Callable[[np.random.Generator], Truth]:
    def made(draw: np.random.Generator) -> Truth:
        return Truth(everywhere(FIVE, lambda i, j: _kept(lost(i, j))), spread=SPREAD)

    return made


def _plain(after: float, **more: float) -> Callable[[np.random.Generator], Truth]:
    def made(draw: np.random.Generator) -> Truth:
        return Truth(alone(EIGHT, after), spread=SPREAD, **more)  # type: ignore[arg-type]

    return made


def _items(items: Items) -> Callable[[np.random.Generator], Items]:
    """Return a truth about single items, which is the same in all replicates."""
    return lambda draw: items


def _study(truth: Truth | Items, draw: np.random.Generator) -> Study:
    if isinstance(truth, Truth):
        return study(truth, SEEDS, draw)
    return of_items(truth, SEEDS, draw)


def _halved(draw: np.random.Generator) -> Truth:
    after = {(task, task): _kept(0.9 if task in "abcd" else 0.0) for task in EIGHT}
    return Truth(after, spread=SPREAD)


CASES = (
    Case("trained", "0.1 above chance", _plain(0.7, trained=0.6), (OPEN,)),
    Case("trained", "agreement 0.6", _plain(0.7, agreement=0.6), (OPEN,)),
    Case("trained", "at chance, agreement 0.5", _plain(0.7), (HOLDS,)),
    Case("trained", "memorised: agreement 0.85", _plain(0.7, agreement=0.85), (CONTRADICTED,)),
    Case("some", "every task half", _plain(_kept(0.5)), (OPEN,)),
    Case("some", "four tasks lose 0.9, four 0", _halved, (HOLDS,)),
    Case("near", "one half lost", _plain(0.7, similar=_kept(0.5)), (OPEN,)),
    Case("near", "0.2 lost", _plain(0.7, similar=_kept(0.2)), (HOLDS,)),
    Case("elsewhere", "every pair 0.4", _pairs(lambda i, j: 0.4), (OPEN, CONTRADICTED)),
    Case("elsewhere", "two tasks 0.95, three 0", _pairs(lambda i, j: 0.95 * (j < "c")), (HOLDS,)),
    Case("own", "every pair 0.5", _pairs(lambda i, j: 0.5), (OPEN,)),
    Case("own", "others 0.9, own 0.2", _pairs(lambda i, j: 0.2 if i == j else 0.9), (HOLDS,)),
    Case("insensitive", "rows and columns 0.2", _crossed(0.2, 0.2), (OPEN,)),
    Case("insensitive", "columns 0.35, rows 0.05", _crossed(0.05, 0.35), (HOLDS,)),
    Case("difficulty", "independent", _alike, (OPEN, HOLDS)),
    Case("confidence", "independent", _alike, (OPEN,)),
    Case("confidence", "follows", _following, (HOLDS,)),
    Case("variability", "independent", _alike, (OPEN,)),
    Case("examples", "confidence 0.32", _items(following(SLIGHT)), (OPEN,)),
    Case("examples", "independent", _items(following(0.0)), (HOLDS,)),
    Case("examples", "confidence -0.55", _items(following(-0.55)), (CONTRADICTED,)),
    Case("order", "independent", _items(ordered(0.0)), (OPEN, CONTRADICTED)),
    Case("order", "both go with the margin", _items(ordered(0.0, 0.7)), (OPEN, CONTRADICTED)),
    Case("order", "anticorrelated, -0.4", _items(ordered(-0.4)), (HOLDS,)),
    Case("probes", "both lose half", _items(probed(0.5, 0.5)), (OPEN,)),
    Case("probes", "answers lose 0.9, probes 0.3", _items(probed(0.9, 0.3)), (HOLDS,)),
    Case("probes", "answers lose 0.3, probes 0.9", _items(probed(0.3, 0.9)), (CONTRADICTED,)),
)


def told(case: Case, replicates: int, tick: Callable[[], None]) -> tuple[float, float]:
    """Return how often the claim is falsely decided, and how often rightly.

    It is judged alone, as a claim that a spec declares and no other; among others Holm's correction
    makes both rarer.
    """
    draw = np.random.default_rng(list(f"{case.claim}/{case.what}".encode()))
    false, right = 0, 0
    for _ in range(replicates):
        (one,) = asked(_study(case.truth(draw), draw)).values()
        word = RULES[case.claim](one).verdict
        false += word not in (*case.right, OPEN)
        right += word != OPEN and word in case.right
        tick()
    return false / replicates, right / replicates


OF_ITEMS = ("examples", "order", "probes")
"""Claims whose studies have single items. These take ten times as long, so half as many are drawn.
"""


def studies(case: Case, replicates: int) -> int:
    """Return how many studies are drawn for a line."""
    return max(2, replicates // 2) if case.claim in OF_ITEMS else replicates


def table(replicates: int, tick: Callable[[], None]) -> list[str]:
    """Return the lines of a table in Markdown.

    Args:
        replicates: studies of a line (see `studies`).
        tick: called after each.
    """
    lines = ["| claim | truth | falsely decided | rightly decided |", "|---" * 4 + "|"]
    for case in CASES:
        false, right = told(case, studies(case, replicates), tick)
        decides = "" if set(case.right) == {OPEN} else f"{right:.2f}"
        lines.append(f"| {case.claim} | {case.what} | {false:.2f} | {decides} |")
    return lines
