"""Readings of linear probes before and after forgetting, beside what the answers lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import Cell, kept
from forget.results.estimates import Estimate
from forget.settings.parts import Position


@dataclass(frozen=True)
class Reading:
    """Probes at the layer that reads best after learning.

    The best of many layers is flattered by chance before forgetting, not after: what is lost errs
    on the high side.
    """

    cell: Cell
    position: Position
    layer: int
    base: Estimate | None
    """Accuracy on held-out (question, answer) pairs; chance is 0.5."""
    learned: Estimate
    forgotten: Estimate
    control: Estimate | None
    """Accuracy after learning of the probe that was fit on shuffled labels."""
    lost: Draws | None
    """The probe's forget ratio, (learned - forgotten) / (learned - 0.5).

    None where the probe read nothing after learning.
    """

    @property
    def lost_share(self) -> Estimate | None:
        return None if self.lost is None else estimate(self.lost, self.learned.n)


@kept
def readings(cell: Cell) -> list[Reading]:
    """Return a reading for each position that the trial probes."""
    return [found for position in cell.trial.probe.positions if (found := _reading(cell, position))]


def best_layer(cell: Cell, position: Position | None = None) -> int | None:
    """Return the layer that reads best after learning; None where nothing was probed."""
    learned = cell.probe_draws("learned", position)
    return max(learned, key=lambda layer: float(learned[layer][0]), default=None)


def _reading(cell: Cell, position: Position) -> Reading | None:
    layer = best_layer(cell, position)
    before, after = (cell.probe_draws(phase, position) for phase in ("learned", "forgotten"))
    if layer is None or layer not in after:
        return None
    base, learned, forgotten = (
        cell.probes(phase, position).get(layer) for phase in ("base", "learned", "forgotten")
    )
    assert learned
    assert forgotten
    control = cell.probes("learned", position, control=True).get(layer)
    skill = before[layer] - 0.5
    lost = None
    if learned.numbers[1] > 0.5:
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = np.where(skill > 0, (before[layer] - after[layer]) / skill, np.nan)
    return Reading(cell, position, layer, base, learned, forgotten, control, lost)
