"""Membership: do the scores tell the examples that were trained on from others?

The area under the curve is ½ where nothing was memorised, 1 where everything was; below ½ the model
was driven off its examples, which tells of them as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from forget.audits.audit import Audit, Auditing
from forget.results.rows import Row
from forget.settings.trial import Trial


class Mia(Audit):
    """Score examples that forgetting trained on, beside held-out ones."""

    asks: ClassVar[str] = "do scores tell what was trained on"
    cost: ClassVar[str] = "two passes"

    name: Literal["mia"] = "mia"

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of members, in the split "train", and of others."""
        most = min(self.examples, at.trial.forget.examples, at.trial.learn.examples)
        yield from at.plain()
        yield from at.score(at.load("train", most), split="train")

    def passes(self, trial: Trial) -> float:
        """Count one pass for members and one for others."""
        return 2.0
