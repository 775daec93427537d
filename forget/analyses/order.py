"""Order of learning against order of forgetting.

The paper finds a weak anticorrelation: learned early, forgotten late. Two things make one without
any order. Where labels are fixed, a model that leans to one answer is right early on the examples
of that answer, and wrong early on those of another that comes to win. And an example that is known
by a wide margin was learned early, and takes long to be forgotten. So moments are ranked among the
examples with the same true option, and what goes with the margin after learning is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from forget.analyses.correlation import (
    FEWEST_EXAMPLES,
    Correlation,
    Paired,
    by_replicate,
    corrected,
    mean,
    over_examples,
)
from forget.analyses.replicates import Pool, pool
from forget.analyses.resampling import item_counts
from forget.analyses.study import Cell, degrees, kept, replicate
from forget.results.outcome import Outcome

THRESHOLD = 0.6
"""Confidence whose first crossing is the moment of learning or forgetting.

From Zhang, Choshen, Andreas (2024).
"""

DIGITS = 9
"""Decimals of what is left of a rank, so that what is equal but for a rounding error has one rank.
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
    """Partial rank correlation of the two moments, within the true option and given the margin.

    It is over the examples that are known when forgetting begins, and that the untouched model did
    not know. Negative: learned early, forgotten late.
    """
    plain: Correlation
    """Rank correlation of the two moments as they are, with the examples known from the start."""
    known_before: int
    """Examples that the untouched model knows: nothing tells when these were learned."""
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
    """Order of one trial; the fields are those of Order."""

    pairs: Paired
    plain: Paired
    known_before: int
    looks: tuple[int, int]
    never_learned: int
    slipped: int
    never_forgotten: int


def orders(cells: Sequence[Cell]) -> list[Order]:
    """Order the examples of each cell of a condition that was watched in both stages.

    The p are Holm-adjusted over the cells.
    """
    watched = {cell.task: seeds for cell in cells if (seeds := _seeds(cell))}
    pairs, alone = {}, {}
    for task, seeds in watched.items():
        pairs[task] = [seed.pairs for seed in seeds]
        alone[task] = [seed.plain for seed in seeds]
    spread, plain = _spread(pairs), _spread(alone)
    found = []
    for cell in cells:
        if cell.task in watched:
            found.append(_order(cell, watched[cell.task], spread, plain))
    adjusted = corrected([one.correlation for one in found])
    return [
        replace(one, correlation=correlation)
        for one, correlation in zip(found, adjusted, strict=True)
    ]


def over_tasks(orders: Sequence[Order]) -> Correlation | None:
    """Average the correlations over the tasks; None where no task has one."""
    free = degrees([one.cell for one in orders])
    return mean("mean", [one.correlation for one in orders], free)


def _spread(pairs: dict[str, list[Paired]]) -> Pool | None:
    """Pool the spread of a correlation over trials, over the tasks."""
    return pool([found for task, seeds in pairs.items() if (found := by_replicate(task, seeds))])


def _order(cell: Cell, seeds: Sequence[_Seed], spread: Pool | None, plain: Pool | None) -> Order:
    pairs = [seed.pairs for seed in seeds]
    correlation = over_examples(cell.task, pairs, cell.task, spread)
    return Order(
        cell,
        (min(seed.looks[0] for seed in seeds), min(seed.looks[1] for seed in seeds)),
        correlation,
        over_examples(cell.task, [seed.plain for seed in seeds], cell.task, plain),
        sum(seed.known_before for seed in seeds),
        sum(seed.never_learned for seed in seeds),
        sum(seed.slipped for seed in seeds),
        sum(seed.never_forgotten for seed in seeds),
        "" if correlation.spearman.value is not None else _why(pairs),
    )


def _why(seeds: Sequence[Paired]) -> str:
    """Give the reason for which a correlation is missing."""
    enough = [seed for seed in seeds if len(seed.x) >= FEWEST_EXAMPLES]
    if not enough:
        return (
            f"fewer than {FEWEST_EXAMPLES} examples were learned and known when forgetting begins"
        )
    if all(np.ptp(seed.x) == 0 for seed in enough):
        return "all were learned by the same look"
    return "all were forgotten by the same look, or none"


@kept
def _seeds(cell: Cell) -> list[_Seed]:
    """Order the examples of each trial of a cell that was watched in both stages."""
    return [seed for outcome in cell.outcomes if (seed := _seed(cell, outcome))]


def _seed(cell: Cell, outcome: Outcome) -> _Seed | None:
    """Order the examples of one trial; None where it was not watched in both stages."""
    frame = cell.study.frames[outcome.id]
    own = frame[(frame["split"] == "test") & (frame["task"] == cell.task)]
    # A look before the first step is the phase itself.
    looks = own[own["step"] > 0]
    if not {"learn", "forget"} <= set(looks["phase"]):
        return None
    # Each look becomes a column. The ends have no step; "learned" bounds both stages.
    seen = looks.pivot(index="example", columns=["phase", "step"], values="confidence").sort_index(
        axis=1
    )
    settled = own[own["step"].isna()]
    ends = settled.pivot(index="example", columns="phase", values="confidence")
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
    truth = settled.drop_duplicates("example").set_index("example")["truth"][examples].to_numpy()
    known, gone = learning[whole] >= THRESHOLD, forgetting[whole] < THRESHOLD
    held = known[:, -1]
    fresh = held & ~known[:, 0]
    # The index of the look: its rank is that of its step.
    learned_at = known.argmax(1).astype(float)
    forgotten_at = np.where(gone.any(1), gone.argmax(1), gone.shape[1]).astype(float)
    margin = learned[whole, 0]
    n, name = len(examples), replicate(outcome.trial)
    counts = item_counts(n, [cell.task, "watched", tuple(examples)])
    x, y, z = (_ranks(of[fresh], truth[fresh]) for of in (learned_at, forgotten_at, margin))
    return _Seed(
        Paired(examples[fresh], _given(x, z), _given(y, z), counts[:, fresh], n, name),
        Paired(examples[held], learned_at[held], forgotten_at[held], counts[:, held], n, name),
        int((held & known[:, 0]).sum()),
        (learning.shape[1], forgetting.shape[1]),
        int((~known.any(1)).sum()),
        int((known.any(1) & ~held).sum()),
        int((~gone[held].any(1)).sum()),
    )


def _ranks(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rank values among the examples of the same true option, as shares about 0."""
    ranks = np.zeros(len(values))
    for option in np.unique(truth):
        some = truth == option
        ranks[some] = (rankdata(values[some]) - 0.5) / some.sum() - 0.5
    return ranks


def _given(ranks: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Take off what goes with the margin's ranks, by least squares."""
    scale = float(margin @ margin)
    if scale == 0:
        return ranks
    left: np.ndarray = (ranks - margin * (float(ranks @ margin) / scale)).round(DIGITS)
    return left
