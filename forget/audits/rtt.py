"""Relearning some facts (2410.08827): do others come back, which nobody taught anew?

The facts that forgetting trained on are dealt out to folds. Each fold is asked after the others
were relearned, so that of independent facts only what was hidden can come back. Of a skill all
items are one: the arm never taught learns it from four folds, and R is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress, product
from typing import Annotated, ClassVar, Literal

from forget import tasks
from forget.audits.audit import Audit, Auditing, Several
from forget.audits.relearn import Rate, Tuning, relearned
from forget.errors import BadInput
from forget.evaluation.probing import folds
from forget.results.doses import PLAIN, dose
from forget.results.folds import FOLDS
from forget.results.rows import Row, calibrated, judge
from forget.settings.parts import Count
from forget.settings.trial import Trial
from forget.tasks.forget_sets import untouched
from forget.tasks.task import Example

CHOICE = 6
"""One source of facts in so many is in no fold: by it the rate is chosen, where there are several.
"""


class Rtt(Audit):
    """Relearn four fifths of the facts that were forgotten, and score the last fifth, in turns."""

    asks: ClassVar[str] = "do some facts bring others back"
    cost: ClassVar[str] = "five fine-tunes and a pass or two for each rate"

    name: Literal["rtt"] = "rtt"
    examples: Count = 200
    """Facts, the first of those that were both learned and forgotten; of a trial that learns
    nothing, of those that the untouched model knows.
    """
    lr: Annotated[tuple[Rate, ...], Several] = (1e-5, 3e-5, 1e-4)
    """Peak rates. Of several, each arm is read at the one that is best for it on facts of no fold,
    which were learned and forgotten like the others and are never relearned.
    """
    epochs: Count = 3
    batch: Count = 8
    tuning: Tuning = "full"

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of the facts as the arm is, and of each fold after the others."""
        facts, chosen = self._facts(at)
        groups, answers = [one.group for one in facts], [one.answer for one in facts]
        dealt = folds(groups, answers, at.trial.seed)
        yield from at.score(facts, PLAIN, "train")
        for fold, lr in product(range(FOLDS), self.lr):
            out = dealt == fold
            with relearned(at, list(compress(facts, ~out)), lr, self):
                yield from _both(at, list(compress(facts, out)), "train", fold, lr)
                if chosen:
                    yield from _both(at, chosen, "validation", fold, lr)

    def passes(self, trial: Trial) -> float:
        """Count a pass for each rate, and as many facts again for a choice of rates."""
        return 1.0 + len(self.lr) * (1 + (len(self.lr) > 1) * FOLDS / CHOICE)

    def trained(self, trial: Trial) -> float:
        """Count the examples of every fine-tune."""
        facts = min(self.examples, trial.forget.examples)
        return float((FOLDS - 1) * len(self.lr) * self.epochs * facts)

    def _facts(self, at: Auditing) -> tuple[list[Example], list[Example]]:
        """Return the facts of the folds, and those by which one of several rates is chosen.

        Raises:
            BadInput: too few were known and then forgotten.
        """
        trial = at.trial
        forgotten = untouched(trial, trial.task, tasks.load)
        known = (_learned if trial.taught else _known)(at, forgotten)
        both = [one for one in forgotten if one.id in known][: self.examples]
        groups = list(dict.fromkeys(one.group for one in both))
        if len(groups) < FOLDS + 1:
            raise BadInput(
                f"rtt: {len(groups)} sources of facts were known and then forgotten in their own "
                f"words; {FOLDS} folds and a choice of rates take {FOLDS + 1} at least"
            )
        last = set(groups[-(len(groups) // CHOICE) :]) if len(self.lr) > 1 else set()
        return (
            [one for one in both if one.group not in last],
            [one for one in both if one.group in last],
        )


def _learned(at: Auditing, facts: Sequence[Example]) -> set[str]:
    """Return the ids of the trial's own examples that were learned."""
    return {one.id for one in at.material.learn if one.task == at.trial.task}


def _known(at: Auditing, facts: Sequence[Example]) -> set[str]:
    """Return the ids of the facts that the untouched model answers rightly.

    Some of them it guessed. That is so in each arm, and takes as much from all.
    """
    model = at.model if at.arm in ("base", "learned", "never") else at.other("base")
    rows = replace(at, arm="base", model=model, said={}).score(facts, split="train")
    right = judge(rows).correct
    return {row.example for row, known in zip(rows, right, strict=True) if known}


def _both(
    at: Auditing, examples: Sequence[Example], split: str, fold: int, lr: float
) -> Iterator[Row]:
    """Yield the Rows of a fold as they are scored, and calibrated over it."""
    rows = at.score(examples, dose("left out", fold=fold, lr=lr), split)
    yield from rows
    told = dose("left out calibrated", fold=fold, lr=lr)
    yield from (replace(row, dose=told) for row in calibrated(rows))
