"""Looks at a model while it is trained, and the dose at which they end its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forget.results import dose
from forget.results.rows import Row
from forget.settings.parts import Until

Look = Callable[[int], Sequence[Row]]
"""Steps done -> Rows. All processes of the trial call it together and get the same."""


@dataclass(frozen=True)
class Watching:
    """Looks at the model at evenly spaced points of the training, and on the way to a dose."""

    points: int
    """Evenly spaced points at which both kinds of examples are scored."""
    held_out: Look
    trained: Look
    until: Until | None = None
    """Dose at which the training ends, for which trained examples are scored at further steps."""
    last: int | None = None
    """Step after which the training ends, at whichever dose it is; one at which the dose is asked.
    """

    def look(self, step: int, steps: int) -> list[Row]:
        """Score what is due after so many steps of so many; at most steps nothing.

        The ends of the stage are left to whoever looks before and after it, but for a dose.
        """
        at_point = step in self._points(steps)
        rows = list(self.held_out(step)) if at_point else []
        if at_point or self._asks(step, steps):
            rows += self.trained(step)
        return rows

    def due(self, step: int, steps: int) -> bool:
        """Tell whether there is anything to score after so many steps of so many."""
        return step in self._points(steps) or self._asks(step, steps)

    def ended(self, rows: Sequence[Row]) -> bool:
        """Tell whether the last look of those that gave these Rows is at the dose, or the end."""
        if self.last is not None:
            return any(row.step == self.last for row in rows)
        return self.until is not None and dose.reached(self.until, rows)

    def _points(self, steps: int) -> set[int]:
        points = {round(steps * k / (self.points + 1)) for k in range(1, self.points + 1)}
        return points - {0, steps}

    def _asks(self, step: int, steps: int) -> bool:
        """Tell whether the dose is asked for: at the start, every few steps and at the end."""
        return self.until is not None and (step % self.until.every == 0 or step == steps)
