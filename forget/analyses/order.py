"""Order of learning against order of forgetting.

The paper finds a weak anticorrelation: learned early, forgotten late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from forget.analyses.correlation import (
    FEWEST_EXAMPLES,
    Correlation,
    Paired,
    corrected,
    mean,
    over_examples,
)
from forget.analyses.resampling import item_weights
from forget.analyses.study import Cell, kept

THRESHOLD = 0.6
"""Confidence whose first crossing is the moment of learning or forgetting.

From Zhang, Choshen, Andreas (2024).
"""


@dataclass(frozen=True)
class Order:
    """Moments at which a cell's examples come and go."""

    cell: Cell
    looks: tuple[int, int]
    """Looks at learning and at forgetting, both ends counted, of the seed with fewest.

    They say how finely the moments are told apart.
    """
    correlation: Correlation
    """Correlation of the two moments over the examples that are known when forgetting begins.

    Negative: learned early, forgotten late.
    """
    never_learned: int
    """Examples of all seeds whose confidence stays below the threshold in every look at learning.

    They are left out.
    """
    slipped: int
    """Examples that crossed it but are below it again when forgetting begins: left out."""
    never_forgotten: int
    """Examples that stay above it to the end: tied as the last."""
    why: str
    """The reason for which the correlation is missing; else empty."""


@dataclass(frozen=True)
class _Seed:
    """Order of one seed; the fields are those of Order."""

    pairs: Paired
    looks: tuple[int, int]
    never_learned: int
    slipped: int
    never_forgotten: int


def orders(cells: Sequence[Cell]) -> list[Order]:
    """Order the examples of each cell of a condition that was watched in both stages.

    The p are Holm-adjusted over the cells.
    """
    found = [one for cell in cells if (one := _order(cell))]
    adjusted = corrected([one.correlation for one in found])
    return [
        replace(one, correlation=correlation)
        for one, correlation in zip(found, adjusted, strict=True)
    ]


def over_tasks(orders: Sequence[Order]) -> Correlation | None:
    """Average the correlations over the tasks; None where no task has one."""
    return mean("mean", [one.correlation for one in orders])


@kept
def _order(cell: Cell) -> Order | None:
    seeds = [seed for place in range(len(cell.outcomes)) if (seed := _seed(cell, place))]
    if not seeds:
        return None
    correlation = over_examples(cell.task, [seed.pairs for seed in seeds])
    return Order(
        cell,
        (min(seed.looks[0] for seed in seeds), min(seed.looks[1] for seed in seeds)),
        correlation,
        sum(seed.never_learned for seed in seeds),
        sum(seed.slipped for seed in seeds),
        sum(seed.never_forgotten for seed in seeds),
        "" if correlation.spearman.value is not None else _why([seed.pairs for seed in seeds]),
    )


def _why(seeds: Sequence[Paired]) -> str:
    """Give the reason for which a correlation is missing."""
    enough = [seed for seed in seeds if len(seed.x) >= FEWEST_EXAMPLES]
    if not enough:
        return f"fewer than {FEWEST_EXAMPLES} examples known when forgetting begins"
    if all(np.ptp(seed.x) == 0 for seed in enough):
        return "all were learned by the same look"
    return "all were forgotten by the same look, or none"


def _seed(cell: Cell, place: int) -> _Seed | None:
    """Order the examples of one seed; None where its trial was not watched in both stages."""
    frame = cell.study.frames[cell.outcomes[place].id]
    own = frame[(frame["split"] == "test") & (frame["task"] == cell.task)]
    looks = own[own["step"].notna()]
    if not {"learn", "forget"} <= set(looks["phase"]):
        return None
    # Each look becomes a column. The ends have no step; "learned" bounds both stages.
    seen = looks.pivot(index="example", columns=["phase", "step"], values="confidence").sort_index(
        axis=1
    )
    ends = own[own["step"].isna()].pivot(index="example", columns="phase", values="confidence")
    if not {"base", "learned", "forgotten"} <= set(ends.columns):
        return None
    ends = ends.reindex(seen.index)
    base, learned, forgotten = (
        ends[[phase]].to_numpy() for phase in ("base", "learned", "forgotten")
    )
    learning = np.hstack([base, seen["learn"].to_numpy(), learned])
    forgetting = np.hstack([learned, seen["forget"].to_numpy(), forgotten])
    whole = np.isfinite(learning).all(1) & np.isfinite(forgetting).all(1)
    examples = seen.index.to_numpy(dtype=object)[whole]
    known, gone = learning[whole] >= THRESHOLD, forgetting[whole] < THRESHOLD
    held = known[:, -1]
    # The index of the look: its rank is that of its step.
    learned_at = known.argmax(1)[held]
    forgotten_at = np.where(gone.any(1), gone.argmax(1), gone.shape[1])[held]
    weights = item_weights(len(examples), [cell.task, "watched", tuple(examples)])[:, held]
    return _Seed(
        Paired(examples[held], learned_at.astype(float), forgotten_at.astype(float), weights),
        (learning.shape[1], forgetting.shape[1]),
        int((~known.any(1)).sum()),
        int((known.any(1) & ~held).sum()),
        int((~gone[held].any(1)).sum()),
    )
