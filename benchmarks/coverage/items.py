"""Studies whose single items are drawn: for claims about examples, their order, and probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.coverage.simulated import ITEMS, LEARNED, outcome_of
from forget.analyses import Study
from forget.analyses.samples import columns

TASKS = "abcdefgh"

LOOKS = 4
"""Looks on the way through a stage, as by default."""

SPREAD = 0.05
"""Standard deviation over trainings of whatever a truth says of each."""

BELOW, ABOVE = 0.3, 0.8
"""Confidences on either side of that whose first crossing is the moment of learning."""


@dataclass(frozen=True)
class Seen:
    """Arrays that one look at a model gives of a trial's held-out items, all [ITEMS]."""

    phase: str
    confidence: np.ndarray
    step: int | None = None
    more: Mapping[str, np.ndarray] | None = None
    """Further fields of Rows."""


Items = Callable[[np.random.Generator], Iterator[Seen]]
"""Looks at one trial, by its draw."""


def study(items: Items, seeds: int, draw: np.random.Generator) -> Study:
    """Draw a study: every task forgotten alone, with so many seeds, each with items of its own."""
    outcomes, frames = [], {}
    for task, seed in product(TASKS, range(seeds)):
        outcome = outcome_of(task, (), seed, "random")
        outcomes.append(outcome)
        truth = draw.integers(0, 2, ITEMS)
        seen = [_columns(one, truth) for one in items(draw)]
        rows = pd.concat(seen, ignore_index=True)
        # Other seeds ask other items, as trials draw them.
        frames[outcome.id] = rows.assign(task=task, example=f"{seed}/" + rows["example"])
    return Study(outcomes, frames)


def _columns(seen: Seen, truth: np.ndarray) -> pd.DataFrame:
    """Return the columns of Rows (forget.results.files.frame) that analyses of items read."""
    found = {
        **dict.fromkeys((*columns().values(), "agrees", "similarity", "probe"), np.nan),
        **dict.fromkeys(("template", "audit"), ""),
        "phase": seen.phase,
        "split": "test",
        "example": [str(item) for item in range(ITEMS)],
        "truth": truth,
        "options": 2,
        "step": np.nan if seen.step is None else float(seen.step),
        "correct": (seen.confidence > 0.5).astype(float),
        "confidence": seen.confidence,
    }
    return pd.DataFrame(found | dict(seen.more or {}))


def following(rho: float) -> Items:
    """Return items of which half are forgotten, and confidence goes with it.

    An answer that was right is forgotten with the chance 0.5 + b u, where u in (-0.5, 0.5) is the
    rank of its confidence. The variance of u is 1/12 and that of being forgotten 1/4, so their
    correlation is b / sqrt(3).
    """

    def made(draw: np.random.Generator) -> Iterator[Seen]:
        right, sure = draw.random(ITEMS) < LEARNED, draw.random(ITEMS)
        slope = np.sqrt(3) * (rho + SPREAD * draw.standard_normal())
        turned = draw.random(ITEMS) < 0.5 + slope * (sure - 0.5)
        spread = draw.gamma(20, 2, ITEMS)
        yield Seen("learned", _confidence(right, sure), more={"spread": spread})
        yield Seen("forgotten", _confidence(right & ~turned, draw.random(ITEMS)))

    return made


def probed(answers: float, probes: float) -> Items:
    """Return items of which answers and probes lose such shares of their skill.

    A probe's share of the layers is 0 or 1 here. What its fits add to its noise is not drawn, for
    which the intervals leave room.
    """

    def made(draw: np.random.Generator) -> Iterator[Seen]:
        for phase, lost in (("learned", (0.0, 0.0)), ("forgotten", (answers, probes))):
            right, read = (_right(share, draw) for share in lost)
            probe = {"probe": read.astype(float)}
            yield Seen(phase, _confidence(right, draw.random(ITEMS)), more=probe)

    return made


def ordered(rho: float, margin: float = 0.0) -> Items:
    """Return items that come and go at moments that are correlated.

    Args:
        rho: correlation of the two moments beside what the margin does, before both are rounded to
            looks.
        margin: weight of the margin after learning, by which an example comes earlier and goes
            later.
    """

    def made(draw: np.random.Generator) -> Iterator[Seen]:
        mine = np.clip(rho + SPREAD * draw.standard_normal(), -1, 1)
        known, sure = draw.random(ITEMS) < LEARNED, draw.random(ITEMS)
        came, other = draw.standard_normal((2, ITEMS))
        went = mine * came + np.sqrt(1 - mine**2) * other
        wide = margin * np.sqrt(12) * (sure - 0.5)
        # From the second look at learning to the learned model itself; from the first look at
        # forgetting to the forgotten model, and never.
        at = _places(came - wide, LOOKS + 1)
        until = _places(went + wide, LOOKS + 2)
        yield Seen("base", np.full(ITEMS, BELOW))
        for look in range(LOOKS):
            yield Seen("learn", np.where(known & (at <= look), ABOVE, BELOW), look + 1)
        # Above 0.6 where it is known.
        yield Seen("learned", np.where(known, 0.61 + 0.38 * sure, BELOW))
        for look in range(LOOKS):
            yield Seen("forget", np.where(known & (until > look), ABOVE, BELOW), look + 1)
        yield Seen("forgotten", np.where(known & (until > LOOKS), ABOVE, BELOW))

    return made


def _places(moments: np.ndarray, count: int) -> np.ndarray:
    """Round moments to so many places, each as often as any other."""
    return np.argsort(np.argsort(moments)) * count // len(moments)


def _right(lost: float, draw: np.random.Generator) -> np.ndarray:
    """Draw which answers are right where such a share of the skill is lost."""
    share = LEARNED - (lost + SPREAD * draw.standard_normal()) * (LEARNED - 0.5)
    found: np.ndarray = draw.random(ITEMS) < share
    return found


def _confidence(right: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Return confidences on the side of 0.5 that an answer is on, as far from it as it is sure."""
    away = 0.01 + 0.48 * sure
    return np.where(right, 0.5 + away, 0.5 - away)
