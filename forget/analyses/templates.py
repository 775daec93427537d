"""Templates: whether forgetting under one wording reaches the same items under another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from forget.analyses.replicates import Replicate, Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, item_weights
from forget.analyses.study import Cell, Study, forget_ratio, kept, replicate
from forget.analyses.treatments import besides
from forget.results.estimates import RESAMPLES
from forget.results.outcome import Outcome


def carry(lost: np.ndarray) -> Draws:
    """Divide what is lost under other templates by what is lost under that of forgetting.

    1 is a skill that is forgotten in every wording, 0 one that is forgotten in its own alone.

    Args:
        lost: [templates forgotten, templates measured, 1 + RESAMPLES]; the first measured ones are
            those forgotten, in the same order. NaN where there is no skill to lose.
    """
    own = np.eye(*lost.shape[:2]) == 1
    return _mean(lost[~own]) / _mean(lost[own])


def _mean(draws: np.ndarray) -> Draws:
    """Average over the first axis what has a value; NaN where nothing has."""
    defined = draws[np.isfinite(draws[:, 0])]
    mean: Draws = defined.mean(axis=0) if len(defined) else np.full(draws.shape[1], np.nan)
    return mean


@kept
def asked_under(cell: Cell) -> dict[str, np.ndarray]:
    """Read the held-out items under each template, the trial's own first.

    Returns:
        [2, 1 + RESAMPLES] by template: the accuracy of the learned model, and the share of its
        skill under that very template that is lost.
    """
    taken: dict[str, dict[Replicate, np.ndarray]] = defaultdict(dict)
    for outcome in cell.outcomes:
        for template, draws in _asked(cell, outcome).items():
            taken[template][replicate(outcome.trial)] = draws
    found = {}
    for template, by_name in taken.items():
        if len(by_name) == len(cell.outcomes):
            both = []
            for number in zip(*by_name.values(), strict=True):
                own = Replicated(cell.task, tuple(by_name), number)
                both.append(over_replicates(own, pool([own])))
            found[template] = np.stack(both)
    return found


def _asked(cell: Cell, outcome: Outcome) -> dict[str, np.ndarray]:
    frame = cell.study.asked[outcome.id]
    rows = frame[(frame["task"] == cell.task) & (frame["split"] == "test") & frame["step"].isna()]
    found = {}
    for template in sorted(rows["template"].unique()):
        asked = rows[rows["template"] == template].sort_values("example")
        before, after = (asked[asked["phase"] == phase] for phase in ("learned", "forgotten"))
        names = tuple(before["example"])
        if names and names == tuple(after["example"]):
            weights = item_weights(len(names), [cell.task, "test", names])
            a_ft, a_fg = (weights @ part["correct"].to_numpy() for part in (before, after))
            chance = float(np.mean(1 / before["options"]))
            both = np.stack([a_ft, forget_ratio(a_ft, a_fg, chance)])
            found[template or outcome.trial.template] = both
    return found


@dataclass(frozen=True)
class Carry:
    """Losses of one task by the template it was forgotten under and the one it is asked in."""

    model: str
    setting: str
    rate: float
    task: str
    forgotten: tuple[str, ...]
    """Templates that were forgotten under."""
    measured: tuple[str, ...]
    """Templates that items were asked in, those of `forgotten` first."""
    learned: np.ndarray
    """[forgotten, measured, 1 + RESAMPLES], accuracy of the learned model; NaN where it was not
    measured.
    """
    lost: np.ndarray
    """[forgotten, measured, 1 + RESAMPLES], share of that skill lost; NaN where there is none."""
    n: int

    @property
    def carry(self) -> Draws:
        """The part of the loss that other templates see (see `carry`)."""
        return carry(self.lost)

    @property
    def asymmetries(self) -> dict[tuple[str, str], Draws]:
        """By pair of templates, how much more the first carries to the second than back."""
        found = {}
        for (i, a), (j, b) in combinations(enumerate(self.forgotten), 2):
            found[a, b] = self.lost[i, j] - self.lost[j, i]
        return found


def carries(study: Study) -> list[Carry]:
    """Return the losses by template of each task that was asked in another template as well."""
    found: dict[tuple[str, str, float, str], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        if len(asked_under(cell)) > 1:
            setting = besides(cell, ["template"])
            found[cell.trial.model, setting, cell.rate, cell.task].append(cell)
    return [_carry(*key, cells) for key, cells in found.items()]


def _carry(model: str, setting: str, rate: float, task: str, cells: Sequence[Cell]) -> Carry:
    forgotten = tuple(cell.trial.template for cell in cells)
    names = dict.fromkeys(forgotten)
    for cell in cells:
        names |= dict.fromkeys(asked_under(cell))
    measured = tuple(names)
    numbers = np.full((2, len(cells), len(measured), 1 + RESAMPLES), np.nan)
    for row, cell in enumerate(cells):
        for template, both in asked_under(cell).items():
            numbers[:, row, measured.index(template)] = both
    n = cells[0].n("forgotten", "test")
    learned, lost = numbers
    return Carry(model, setting, rate, task, forgotten, measured, learned, lost, n)
