"""End states: what became of a task, by rule, where an accuracy at chance can mean five things.

docs/method.md has the rule of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from forget.analyses.arms import draws_all
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, kept
from forget.analyses.words import SPLIT_WORDS
from forget.results.estimates import Estimate

Word = Literal[
    "forgotten",
    "memorised",
    "one answer",
    "reversed",
    "silent",
    "kept",
    "partly forgotten",
    "undecided",
    "not learned",
]

MEANING: dict[Word, str] = {
    "forgotten": "the answers tell nothing of the truth, and most of the skill is surely gone",
    "memorised": "the drawn label is given, so that accuracy is at chance as the draw is",
    "one answer": "one answer is given whatever the question",
    "reversed": "the rule is kept with its sign turned",
    "silent": "the options lost nearly all their probability, so that accuracy means nothing",
    "kept": "less than half of the skill is gone",
    "partly forgotten": "some of the skill is surely gone, some is left",
    "undecided": "too few examples to tell",
    "not learned": "no skill to lose",
}
"""End states in the order in which they are told."""

DELTA = 0.1
"""Agreement surely above that of a guess by more than this is memory of the labels drawn."""

ONE_ANSWER = 0.9
"""Share of the answer given most above which one answer is given."""

COLLAPSE = 0.1
"""Option mass below this share of its value after learning is a silent model's.

It then says something else altogether.
"""


@dataclass(frozen=True)
class State:
    """The end state of a task, and the numbers that tell it."""

    cell: Cell
    task: str
    """The task measured."""
    split: str
    word: Word
    accuracy: Estimate
    agreement: Estimate | None
    """Agreement with the draw; None where nothing was drawn, or it was not recorded."""
    draw_right: Estimate | None
    """Accuracy where the draw was the truth."""
    draw_wrong: Estimate | None
    discrimination: Estimate | None
    """AUC of the margin against the truth; None of more than two options."""
    most_given: Estimate | None
    mass: tuple[Estimate, Estimate] | None
    """Option mass before and after forgetting."""
    ratio: Estimate | None
    """Forget ratio by accuracy, (a_ft - a_fg) / (a_ft - chance)."""
    by_share: Estimate | None
    by_auc: Estimate | None


def states(cell: Cell) -> Iterator[State]:
    """Yield the end state of each task and split that the cell was measured on, its own first."""
    places = [(cell.task, split) for split in SPLIT_WORDS]
    for task, split in [*places, *((task, "test") for task in cell.trial.tasks[1:])]:
        found = state(cell, split, task)
        if found:
            yield found


@kept
def state(cell: Cell, split: str, task: str) -> State | None:
    """Tell the end state of a task; None where it was not measured after forgetting."""

    def after(measure: str) -> Estimate | None:
        found = cell.get("forgotten", split, measure, task)
        return None if found is None or found.value is None else found

    accuracy = after("accuracy")
    if accuracy is None:
        return None
    drawn = draws_all(cell.trial)
    before, now = mass(cell, split, task)
    lost = cell.lost(split, task)
    found = State(
        cell,
        task,
        split,
        "undecided",
        accuracy,
        after("agreement") if drawn else None,
        after("accuracy_draw_right") if drawn else None,
        after("accuracy_draw_wrong") if drawn else None,
        after("discrimination"),
        after("most_given"),
        (before, now) if before and now else None,
        None if lost is None else estimate(lost, accuracy.n),
        after("forget_ratio_share"),
        after("forget_ratio_auc"),
    )
    return replace(found, word=_word(found, cell.chance(split, task) or 0.5, lost))


def _word(found: State, chance: float, lost: Draws | None) -> Word:
    """Apply the rules in their order."""
    if silent(found.cell, found.split, found.task):
        return "silent"
    if memorised(found.agreement, chance):
        return "memorised"
    if lost is None or not np.isfinite(lost[0]):
        return "not learned"
    area, given = found.discrimination, found.most_given
    if area and area.numbers[2] < 0.5:
        return "reversed"
    if given and given.numbers[1] > ONE_ANSWER:
        return "one answer"
    _, low, high = estimate(lost, 0).numbers
    tells_nothing = _holds(area, 0.5) if area else _holds(found.accuracy, chance)
    if tells_nothing and low > 0.5:
        return "forgotten"
    if high < 0.5:
        return "kept"
    return "partly forgotten" if low > 0 else "undecided"


def memorised(agreement: Estimate | None, chance: float) -> bool:
    """Tell whether the labels drawn are surely given more often than by a guess and DELTA."""
    return agreement is not None and agreement.numbers[1] > chance + DELTA


def silent(cell: Cell, split: str, task: str) -> bool:
    """Tell whether the options lost nearly all their probability."""
    before, now = mass(cell, split, task)
    return bool(before and now and now.numbers[0] < COLLAPSE * before.numbers[0])


def mass(cell: Cell, split: str, task: str) -> tuple[Estimate | None, Estimate | None]:
    """Return the option mass before and after forgetting; before is base for an untaught model."""
    before = cell.get("learned", split, "option_mass", task)
    return (
        before or cell.get("base", split, "option_mass", task),
        cell.get("forgotten", split, "option_mass", task),
    )


def _holds(number: Estimate, value: float) -> bool:
    """Tell whether the interval holds a value."""
    _, low, high = number.numbers
    return low <= value <= high


def counted(found: Sequence[State]) -> dict[Word, list[State]]:
    """Sort states by their words, in the order of MEANING; words without any are left out."""
    sorted_: dict[Word, list[State]] = {}
    for word in MEANING:
        some = [one for one in found if one.word == word]
        if some:
            sorted_[word] = some
    return sorted_
