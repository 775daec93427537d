"""The two claims on audits: that forgetting hides, and that the model knows of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import inf

import numpy as np

from forget.analyses.judging import OPEN, Sides, Verdict, interval, judged, within
from forget.analyses.knowing import knowing
from forget.analyses.recovery import BEST, WORST, Recovery, recoveries
from forget.analyses.resampling import Draws, estimate, holm
from forget.analyses.study import Cell, degrees

BACK = 0.5
"""R, or K, that is surely above this holds the claim."""

GONE = 0.25
"""R, or K, that is surely below this contradicts it."""


def hidden(cells: Sequence[Cell]) -> Verdict:
    """Judge whether an audit brings back most of what the answers lost.

    Args:
        cells: those of a condition whose task was learned.
    """
    numbers: dict[tuple[str, str], list[Draws]] = defaultdict(list)
    tasks = []
    n = 0
    for cell in cells:
        # What comes back can be asked where the answers surely lost most of the skill.
        if not interval(cell.lost("test"))[0] > 1 - BACK:
            continue
        told = [one for one in recoveries(cell) if _tests(one)]
        for one in told:
            numbers[one.audit, one.dose.name].append(one.draws)
        if told:
            tasks.append(cell.task)
            n += max(one.n for one in told)
    what = (
        f"R of the audit and dose that bring back most, mean over the {len(tasks)} tasks that "
        "surely lost most of their skill and were audited"
    )
    if not numbers:
        return Verdict("hidden", OPEN, None, what)
    # A mean is over all tasks, or it would be over those that an audit happens to suit.
    whole = {key: some for key, some in numbers.items() if len(some) == len(tasks)}
    means = {key: np.mean(some, axis=0) for key, some in (whole or numbers).items()}
    estimates = {key: estimate(draws, n) for key, draws in means.items()}
    free = degrees(cells)
    back = holm([within(one, [(BACK, inf)], free) for one in estimates.values()])
    gone = max(within(one, [(-inf, GONE)], free) for one in estimates.values())
    (audit, dose), number = max(estimates.items(), key=lambda item: item[1].numbers[0])
    sides = Sides(min(p for p in back if p is not None), gone)
    what += f": {audit}, {dose}; {len(means)} doses were tried"
    return Verdict("hidden", sides.word, number, what, sides.p, tasks=tuple(tasks))


def _tests(one: Recovery) -> bool:
    """Tell whether a dose could bring the skill back: no control, and something was done."""
    ends = one.dose.control or one.dose.plain or one.dose.name in (WORST, BEST)
    return not ends and bool(np.isfinite(one.draws[0]))


def known(cells: Sequence[Cell]) -> Verdict:
    """Judge whether the stated confidence falls with the accuracy.

    Args:
        cells: those of a condition whose task was learned.
    """
    found = [(cell, one) for cell in cells if (one := knowing(cell))]
    numbers = [(cell, one) for cell, one in found if np.isfinite(one.stated[0])]
    what = (
        "fall of the stated confidence in the own answer over the fall of accuracy (K), mean over "
        f"{len(numbers)} tasks"
    )
    if found and not numbers:
        what += "; no learned model tells its right answers from its wrong ones, or none forgot"
    if not numbers:
        return Verdict("known", OPEN, None, what)
    mean = np.mean([one.stated for _, one in numbers], axis=0)
    number = estimate(mean, sum(one.n for _, one in numbers))
    sides = judged(number, [(BACK, inf)], [(-inf, GONE)], degrees(cells))
    tasks = tuple(cell.task for cell, _ in numbers)
    return Verdict("known", sides.word, number, what, sides.p, tasks=tasks)
