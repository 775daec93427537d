"""The paper's claims, put to the numbers of one condition.

Each holds here, is contradicted here, or cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from math import inf

import numpy as np

from forget.analyses import arms, generalisation, order, predictors, probes
from forget.analyses.correlation import Correlation
from forget.analyses.dose import DOSE, matched
from forget.analyses.judging import (
    OPEN,
    SIGNIFICANT,
    Range,
    Sides,
    Verdict,
    corrected,
    interval,
    judged,
    sort,
    within,
)
from forget.analyses.matrix import Matrix, cross, shares
from forget.analyses.replicates import NO_DEGREES
from forget.analyses.resampling import Draws, estimate, holm, p_value
from forget.analyses.states import DELTA, counted, state
from forget.analyses.study import Cell, Condition, Study, degrees
from forget.analyses.treatments import of_paper
from forget.results.estimates import Estimate

NEAR_RANDOM = 0.1
"""An accuracy surely within this of chance is near random."""

STRONG = math.sqrt(0.5)
"""A predictor is ruled out where it surely explains less than half of the variance of ranks."""

SLIGHT = math.sqrt(0.1)
"""One of single examples, where it surely explains less than a tenth."""

WEAK = 0.1
"""A negative correlation is contradicted where its whole interval lies above -WEAK."""

FEWEST_PROBED = 3
"""Tasks on which probes are compared with answers, at least."""

POSITIVE: tuple[Range, ...] = ((0, inf),)
NEGATIVE: tuple[Range, ...] = ((-inf, 0),)


@dataclass(frozen=True)
class Asked:
    """Cells of a condition that claims are put to, and what was read of them."""

    cells: Sequence[Cell]
    matrix: Matrix | None = None
    """None where no task was measured after forgetting another one."""

    @cached_property
    def mastered(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.mastered]

    @cached_property
    def predictors(self) -> dict[str, Correlation]:
        """Correlations across the mastered tasks, by predictor."""
        return {one.name: one for one in predictors.across_tasks(self.mastered)}


@lru_cache(maxsize=1)
def verdicts(study: Study, primary: tuple[str, ...] = ()) -> dict[Condition, list[Verdict]]:
    """Put every claim to the numbers of each condition that is no control.

    Args:
        study: finished trials.
        primary: claims that were declared before (forget.settings.sweep.Sweep.primary), which are
            corrected for their own number alone.
    """
    found: dict[Condition, list[Verdict]] = {}
    replicated = {}
    for condition, one in asked(study).items():
        found[condition] = [rule(one) for rule in RULES.values()]
        replicated[condition] = degrees(one.cells) is not NO_DEGREES
    return corrected(found, primary, replicated)


def asked(study: Study) -> dict[Condition, Asked]:
    """Return what claims are put to, by condition.

    Controls are left out, and so is what forgets by another method or another set than the paper.
    """
    crossed = {matrix.condition: matrix for matrix in cross(study)}
    found = {}
    for condition, cells in study.conditions.items():
        trial = cells[0].trial
        if trial.arm not in arms.CONTROLS and of_paper(trial):
            found[condition] = Asked(cells, crossed.get(condition))
    return found


def _trained(asked: Asked) -> Verdict:
    """Judge whether trained examples went to near random, and not by memory of their labels."""
    cells = asked.cells
    learned = [cell for cell in cells if _defined(cell.lost("train"))]
    what = "accuracy less chance on trained examples, mean over tasks"
    gaps = [cell.draws("forgotten", "train", "forget_gap") for cell in learned]
    gap = arms.mean([draws for draws in gaps if draws is not None])
    if gap is None:
        return Verdict("trained", OPEN, None, what)
    free = degrees(cells)
    number = estimate(gap, _count(learned, "train"))
    near = within(number, [(-NEAR_RANDOM, NEAR_RANDOM)], free)
    far = within(number, [(-inf, -NEAR_RANDOM), (NEAR_RANDOM, inf)], free)
    sides = Sides(near, far)
    if all(arms.draws_all(cell.trial) for cell in cells):
        agreements = [_above_chance(cell) for cell in learned]
        known = arms.mean([draws for draws in agreements if draws is not None])
        if known is None:
            what += "; the labels drawn were not recorded, so memory of them cannot be ruled out"
            sides = Sides(1.0, far)
        else:
            agreement = estimate(known + 0.5, number.n)
            what += "; agreement with the draw {:.2f} [{:.2f}, {:.2f}]".format(*agreement.numbers)
            memory = estimate(known, number.n)
            sides = Sides(
                max(near, within(memory, [(-inf, DELTA)], free)),
                # Either contradicts: the smaller p of two counts twice.
                min(1.0, 2 * min(far, within(memory, [(DELTA, inf)], free))),
            )
    words = [one for cell in cells if (one := state(cell, "train", cell.task))]
    parts = [f"{len(some)} {word}" for word, some in counted(words).items()]
    what += f"; of {len(words)} tasks {', '.join(parts)}" if parts else ""
    return Verdict("trained", sides.word, number, what, sides.p, tasks=_names(learned))


def _above_chance(cell: Cell) -> Draws | None:
    """Return the agreement with the draw on trained examples, less that of a guess."""
    agreement, chance = cell.draws("forgotten", "train", "agreement"), cell.chance("train")
    return None if agreement is None or chance is None else agreement - chance


def _some(asked: Asked) -> Verdict:
    cells = asked.mastered
    # Whether forgetting generalises can be asked where it took something of the trained examples.
    taken: list[tuple[Cell, Draws]] = []
    for cell in cells:
        excess = generalisation.excess(cell)
        if interval(cell.lost("train"))[0] > 0 and excess is not None and np.isfinite(excess[0]):
            taken.append((cell, excess))
    at_dose = [cell for cell, _ in taken if matched(cell)]
    if len(at_dose) > 1:
        # Of tasks read at a matched dose and others, the former can be compared.
        taken = [(cell, excess) for cell, excess in taken if matched(cell)]
    found = sort([excess for _, excess in taken], 0.0, degrees(cells))
    reached = [taken[place][0] for place in found.above]
    spared = [taken[place][0] for place in found.below]
    what = (
        f"of {len(taken)} tasks, {len(reached)} reached{_named(reached)}, "
        f"{len(spared)} spared{_named(spared)}, {len(found.open)} undecided"
    )
    number = None
    if taken:
        mean = np.mean([excess for _, excess in taken], axis=0)
        number = estimate(mean, _count([cell for cell, _ in taken], "test"))
        what += (
            "; the number is the share lost held out less half of that lost on trained examples, "
            "mean over tasks"
        )
    if len(at_dose) > 1:
        what += f", read where {DOSE:g} of the skill on trained examples is lost"
    elif taken:
        what += ", at the end of forgetting: no two tasks were looked at up to a matched dose"
    what += f"; {arms.told(cells)}"
    names = _names([cell for cell, _ in taken])
    return Verdict("some", found.sides.word, number, what, _tested(taken, found.sides), tasks=names)


def _near(asked: Asked) -> Verdict:
    cells = asked.cells
    what = "share of the skill lost on examples of the same template as trained ones, other facts"
    some = [cell for cell in cells if _defined(arms.lost(cell, "similar"))]
    lost = arms.pooled_lost(some, "similar")
    if lost is None:
        return Verdict("near", OPEN, None, "no task has examples that are similar to trained ones")
    number = estimate(lost, _count(some, "similar"))
    sides = judged(number, [(-inf, 0.5)], [(0.5, inf)], degrees(cells))
    what += f"; {arms.told(some)}"
    return Verdict("near", sides.word, number, what, sides.p, tasks=_names(some))


def _elsewhere(asked: Asked) -> Verdict:
    matrix, cells = asked.matrix, asked.cells
    ratios = matrix.pairs(matrix.judged)[2] if matrix else np.empty((0, 1))
    found = sort(list(ratios), 0.5, degrees(cells))
    number = estimate(ratios.mean(axis=0), len(ratios)) if len(ratios) else None
    what = (
        f"of {len(ratios)} pairs of tasks, most of the other's skill went in {len(found.above)}, "
        f"stayed in {len(found.below)}, undecided {len(found.open)}; the number is the mean share "
        f"lost"
    )
    if matrix:
        blanks = matrix.counted_blanks(matrix.judged)
        if blanks:
            what += f"; left out: {', '.join(f'{n} {word}' for word, n in blanks.items())}"
    what += f"; {arms.told(cells)}"
    p = _tested(ratios, found.sides)
    return Verdict("elsewhere", found.sides.word, number, what, p, tasks=_names(cells))


def _own(asked: Asked) -> Verdict:
    """Judge whether FR[i, i] < max_j FR[j, i] for some task i."""
    matrix, cells = asked.matrix, asked.cells
    differences: dict[str, list[Draws]] = {}
    for column, own, others in matrix.by_column(matrix.judged) if matrix else ():
        if own is not None and others:
            differences[column] = [other - own for other in others]
    every = list(chain.from_iterable(differences.values()))
    adjusted = iter(holm([p_value(draws, 0, degrees(cells)) for draws in every]))
    better: list[str] = []
    best: list[str] = []
    undecided: list[str] = []
    up, down = [1.0], [0.0]
    for column, some in differences.items():
        signed = [(float(draws[0]), _number(next(adjusted))) for draws in some]
        more = min((p for value, p in signed if value > 0), default=1.0)
        # Its own take most where each other's surely take less.
        less = max(p if value < 0 else 1.0 for value, p in signed)
        up.append(more)
        down.append(less)
        if more < SIGNIFICANT:
            better.append(column)
        elif less < SIGNIFICANT:
            best.append(column)
        else:
            undecided.append(column)
    sides = Sides(min(up), max(down) if len(differences) > 1 else 1.0)
    what = (
        f"of {len(differences)} tasks, another's labels took more of {len(better)}"
        f"{_listed(better)}, its own of {len(best)}{_listed(best)}, undecided {len(undecided)}; "
        "the number is the greatest share that another's took less its own's, mean over tasks"
    )
    if not differences:
        return Verdict("own", OPEN, None, what)
    largest = [max(some, key=lambda draws: float(draws[0])) for some in differences.values()]
    number = estimate(np.mean(largest, axis=0), len(largest))
    return Verdict("own", sides.word, number, what, sides.p, tasks=tuple(differences))


def _insensitive(asked: Asked) -> Verdict:
    matrix, cells = asked.matrix, asked.cells
    parts = shares(matrix, matrix.judged) if matrix else None
    if parts is None:
        what = (
            "fewer than three tasks forgotten or measured that had skill to lose, or no variance "
            "among them"
        )
        return Verdict("insensitive", OPEN, None, what)
    what = (
        f"share of the variance that goes with the task evaluated less that with the task trained "
        f"on ({parts.evaluated.numbers[0]:.2f} and {parts.trained.numbers[0]:.2f}, {parts.rows} by "
        f"{parts.columns} tasks); {arms.told(cells)}"
    )
    sides = judged(parts.lead, POSITIVE, NEGATIVE, degrees(cells))
    return Verdict("insensitive", sides.word, parts.lead, what, sides.p, tasks=_names(cells))


def _difficulty(asked: Asked) -> Verdict:
    rho, p, what = _predictor(asked, "accuracy")
    if p is None:
        return Verdict("difficulty", OPEN, None, what)
    low, high = rho.numbers[1:]
    predicts = max(within(rho, [*NEGATIVE, *POSITIVE]), p)
    # A correlation that surely is there predicts, however weak it may be.
    holds = within(rho, [(-STRONG, STRONG)]) if predicts >= SIGNIFICANT else 1.0
    sides = Sides(holds, predicts)
    what += f"; a correlation beyond {max(abs(low), abs(high)):.2f} is excluded"
    return Verdict("difficulty", sides.word, rho, what, sides.p, tasks=_names(asked.mastered))


def _low(claim: str, asked: Asked) -> Verdict:
    """Judge whether a low value of a predictor goes with more forgetting across tasks."""
    rho, p, what = _predictor(asked, claim)
    if p is None:
        return Verdict(claim, OPEN, None, what)
    sides = Sides(max(within(rho, NEGATIVE), p), within(rho, [(-WEAK, inf)]))
    # Beside ours stands that of the paper's abstract.
    for name, one in asked.predictors.items():
        if name.startswith(f"{claim}, ") and one.spearman.value is not None:
            what += f"; {name}: rho {one.spearman.value:.2f}"
    return Verdict(claim, sides.word, rho, what, sides.p, tasks=_names(asked.mastered))


def _predictor(asked: Asked, name: str) -> tuple[Estimate, float | None, str]:
    """Return a correlation across tasks, its p (None where it is missing), and words for it."""
    found = asked.predictors[name]
    rho, p = found.spearman, found.p_spearman
    what = f"Spearman's rho with the share lost held out over {rho.n} tasks"
    if p is not None:
        what += f", permutation p {p:.2g}; {arms.told(asked.mastered)}"
    return rho, p, what


def _examples(asked: Asked) -> Verdict:
    """Judge whether confidence or variability tells which examples of a task are forgotten."""
    cells = asked.mastered
    found = []
    for one in predictors.within_tasks(cells) if cells else ():
        if one.name in ("confidence", "variability") and one.mean:
            found.append((one.name, one.mean.spearman))
    what = "Spearman's rho with being forgotten over the examples of a task, mean over tasks"
    if not found:
        return Verdict("examples", OPEN, None, what)
    free = degrees(cells)
    none = max(within(rho, [(-SLIGHT, SLIGHT)], free) for _, rho in found)
    some = min(within(rho, [(-inf, -SLIGHT), (SLIGHT, inf)], free) for _, rho in found)
    sides = Sides(none, min(1.0, len(found) * some))
    name, number = max(found, key=lambda one: abs(one[1].numbers[0]))
    what += f"; the greater of {len(found)}: {name}; {arms.told(cells)}"
    return Verdict("examples", sides.word, number, what, sides.p, tasks=_names(cells))


def _order(asked: Asked) -> Verdict:
    cells = asked.mastered
    found = order.over_tasks(order.orders(cells))
    rho = found.spearman if found else None
    what = (
        "partial rank correlation of the steps at which examples are learned and forgotten, within "
        "the true option and given the margin, mean over tasks"
    )
    if rho is None or rho.value is None:
        return Verdict("order", OPEN, None, what)
    sides = judged(rho, NEGATIVE, [(-WEAK, inf)], degrees(cells))
    return Verdict("order", sides.word, rho, what, sides.p, tasks=_names(cells))


def _probes(asked: Asked) -> Verdict:
    """Judge whether the answers lost more than the probes, where they lost anything surely."""
    spared: list[Draws] = []
    read, n = [], 0
    for cell in asked.mastered:
        if interval(arms.lost(cell, "test"))[0] <= 0:
            continue
        # The claim is about the first position probed.
        difference = arms.net(cell, probes.spared)
        if _defined(difference):
            assert difference is not None
            spared.append(difference)
            read.append(cell)
            n += probes.readings(cell)[0].learned.n
    what = (
        "share of their skill that the answers lost held out less that which the probes lost, mean "
        f"over the {len(read)} tasks whose answers surely lost some ({FEWEST_PROBED} at least); "
        f"{arms.told(read)}"
    )
    if not read:
        return Verdict("probes", OPEN, None, what)
    number = estimate(np.mean(spared, axis=0), n)
    sides = judged(number, POSITIVE, NEGATIVE, degrees(asked.cells))
    if len(read) < FEWEST_PROBED:
        return Verdict("probes", OPEN, number, what, None, tasks=_names(read))
    return Verdict("probes", sides.word, number, what, sides.p, tasks=_names(read))


RULES: dict[str, Callable[[Asked], Verdict]] = {
    "trained": _trained,
    "some": _some,
    "near": _near,
    "elsewhere": _elsewhere,
    "own": _own,
    "insensitive": _insensitive,
    "difficulty": _difficulty,
    "confidence": partial(_low, "confidence"),
    "variability": partial(_low, "variability"),
    "examples": _examples,
    "order": _order,
    "probes": _probes,
}
"""Rules by claim (docs/method.md), in the order of forget.settings.claims.CLAIMS."""


def _tested(numbers: Sequence[object] | np.ndarray, sides: Sides) -> float | None:
    """Return the p of a claim that sorts numbers; None where there are none."""
    return sides.p if len(numbers) else None


def _number(p: float | None) -> float:
    """Return a p, and 1 for one that is missing."""
    return 1.0 if p is None or math.isnan(p) else p


def _defined(draws: Draws | None) -> bool:
    return draws is not None and bool(np.isfinite(draws[0]))


def _count(cells: Sequence[Cell], split: str) -> int:
    return sum(cell.n("forgotten", split) for cell in cells)


def _names(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.task for cell in cells)


def _named(cells: Sequence[Cell]) -> str:
    return _listed([cell.task for cell in cells])


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
