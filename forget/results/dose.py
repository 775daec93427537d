"""The dose of forgetting: how much of a skill on trained examples a training has taken so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from forget.results.metrics import DEFINED_ABOVE_CHANCE
from forget.results.outcome import Dose
from forget.results.rows import Row
from forget.settings.parts import Until


def lost(before: Sequence[Row], now: Sequence[Row]) -> float | None:
    """Compute the share of the skill on trained examples that is lost, not memorised away.

    Random labels that are memorised bring accuracy, share of the truth and discrimination over all
    trained examples to chance, though nothing is forgotten: half of the labels are wrong, and the
    model gives those. But where the drawn label is the truth, training teaches the truth. What is
    lost there is no memory of labels. So the skill is that of the examples whose draw was right;
    where no labels are known to be drawn, of all.

    The skill is the discrimination d between the options, less its chance level 0.5, and not the
    accuracy, which falls to chance as well where one answer is always given. The share lost is
    (d_before - d_now) / (d_before - 0.5): 1 at chance, above where the rule is reversed.

    Args:
        before: Rows of trained examples before the first step.
        now: Rows of the same examples.

    Returns:
        None where there was no skill to lose: a discrimination of less than 0.55, or examples with
        but one true option.
    """
    had, has = discrimination(_drawn_right(before)), discrimination(_drawn_right(now))
    if had is None or has is None or had < 0.5 + DEFINED_ABOVE_CHANCE:
        return None
    return (had - has) / (had - 0.5)


def discrimination(rows: Sequence[Row]) -> float | None:
    """Compute how well the options' scores tell the true option, whatever answer is preferred.

    It is the area under the ROC curve of an option's lead over the best other one against its being
    true, by its place among the options, in the mean over the places (one against the rest); of two
    options it is that of their margin. 0.5 tells nothing, below the rule is reversed. None where no
    place is the truth of some examples and not of others.
    """
    areas = []
    for place in range(max((len(row.logprobs) for row in rows), default=0)):
        having = [row for row in rows if len(row.logprobs) > max(place, 1)]
        leads = np.array([_lead(row, place) for row in having])
        true = np.array([row.truth == place for row in having])
        if 0 < true.sum() < len(true):
            # Hanley and McNeil 1982; equal leads count half.
            above = rankdata(leads)[true].sum() - true.sum() * (true.sum() + 1) / 2
            areas.append(above / (true.sum() * (~true).sum()))
    return float(np.mean(areas)) if areas else None


def reached(until: Until, rows: Sequence[Row]) -> bool:
    """Tell whether the last look at trained examples found as much lost as was asked for.

    Looks between those that the dose asks for (`Until.every`) do not count, so that how a model is
    watched changes nothing.
    """
    looks = _looks(rows)
    if not looks or max(looks) % until.every:
        return False
    return _enough(until, lost(looks[min(looks)], looks[max(looks)]))


def end(until: Until, rows: Sequence[Row], steps: int) -> Dose:
    """Return where a forget stage with a dose to reach has ended.

    Args:
        until: the dose.
        rows: Rows that were watched, before the first step and after the last one among them.
        steps: steps that it had at most.
    """
    looks = _looks(rows)
    step = max(looks)
    share = lost(looks[min(looks)], looks[step])
    return Dose(step=step, steps=steps, lost=share, reached=_enough(until, share))


def _enough(until: Until, share: float | None) -> bool:
    return share is not None and share >= until.trained_lost


def _looks(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Return the Rows of trained examples by the step of the look."""
    looks: dict[int, list[Row]] = {}
    for row in rows:
        if row.split == "train" and row.step is not None:
            looks.setdefault(row.step, []).append(row)
    return looks


def _drawn_right(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the Rows whose drawn label is the truth; all where there are none."""
    return [row for row in rows if row.drawn == row.truth] or rows


def _lead(row: Row, place: int) -> float:
    """Return by how much the score of an option leads that of the best other one."""
    scores = np.array(row.logprobs) / np.array(row.lengths)
    return float(scores[place] - np.delete(scores, place).max())
