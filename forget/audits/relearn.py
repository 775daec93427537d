"""Relearning: how few examples bring the skill back?

An arm that was never taught learns from the same examples, so that what is recovered is told from
what is taught anew (after 2409.18025 and 2506.00688).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from forget.audits.audit import Audit, Auditing, Counts, Several
from forget.errors import BadInput
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial
from forget.tasks.task import Example

Source = Literal["forget", "held_out", "unrelated"]
Rate = Annotated[float, Field(gt=0, lt=1)]
Tuning = Literal["full", "lora"]


class Steps(Protocol):
    """Settings of a fine-tune beside its rate."""

    @property
    def epochs(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def tuning(self) -> Tuning: ...


@contextmanager
def relearned(at: Auditing, examples: Sequence[Example], lr: float, by: Steps) -> Iterator[None]:
    """Train the arm's model on true labels; its weights are as before afterwards."""
    with at.fresh() as model:
        at.train(model, examples, lr=lr, epochs=by.epochs, batch=by.batch, tuning=by.tuning)
        yield


class Relearn(Audit):
    """Fine-tune each arm on a few examples with true labels, and score held-out ones."""

    asks: ClassVar[str] = "how few examples bring it back"
    cost: ClassVar[str] = "a fine-tune and a pass for each source, n and rate"

    name: Literal["relearn"] = "relearn"
    n: Counts = (8, 40)
    """Examples; a smaller number is a part of a larger one."""
    sources: Annotated[tuple[Source, ...], Several] = ("forget", "unrelated")
    """forget: those that forgetting trained on; held_out: others of the task, which no stage has
    seen; unrelated: those of the first other task that the trial is measured on, the control that
    teaches the format alone; left out where there is none.
    """
    lr: Annotated[tuple[Rate, ...], Several] = (1e-4,)
    """Peak rates. Of several, each arm is read at the one that is best for it on 100 held-out
    examples that none is trained on (forget.results.doses).
    """
    epochs: Count = 3
    batch: Count = 8
    tuning: Tuning = "full"
    """Weights that are trained. Low-rank adapters begin at zero, and hardly move in a few steps."""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of the arm as it is, n = 0, and after each relearning."""
        chosen = self._for_choice(at)
        for source in self.sources:
            if not (examples := self._examples(at, source)):
                continue
            yield from at.plain(dose(source, n=0))
            for n, lr in product(self.n, self.lr):
                told = dose(source, n=n, lr=lr)
                with relearned(at, examples[:n], lr, self):
                    yield from at.score(at.test, told)
                    if chosen:
                        yield from at.score(chosen, told, "validation")

    def passes(self, trial: Trial) -> float:
        """Count a pass for each source, n and rate, and another for a choice of rates."""
        one = 1.0 + (len(self.lr) > 1) / 2
        return 1 + len(self.sources) * one * len(self.n) * len(self.lr)

    def trained(self, trial: Trial) -> float:
        """Count the examples of every fine-tune."""
        return float(len(self.sources) * len(self.lr) * self.epochs * sum(self.n))

    def _for_choice(self, at: Auditing) -> tuple[Example, ...]:
        """Return the examples on which one of several rates is chosen, the last of those held out.

        Raises:
            BadInput: relearning from what is held out would train on them.
        """
        if len(self.lr) == 1:
            return ()
        examples = at.held_out[-100:]
        if "held_out" in self.sources and len(at.held_out) < max(self.n) + len(examples):
            raise BadInput(
                f"relearn: n = {max(self.n)} of the {len(at.held_out)} examples held out leaves "
                "too few to choose a rate by: give one lr, or a smaller n"
            )
        return examples

    def _examples(self, at: Auditing, source: Source) -> tuple[Example, ...]:
        most = max(self.n)
        if source == "held_out":
            return at.held_out[:most]
        if source == "unrelated":
            others = at.trial.tasks[1:]
            return at.load("train", most, others[0]) if others else ()
        # As they are in the task: in the arm "shuffled_inputs" forgetting had others' prompts.
        return at.load("train", min(most, at.trial.forget.examples))
