"""Knowing: does the model say of its own answers that they are wrong (after 2307.11316)?

It is asked about an answer, as it is and in the other order of the words, since models favour one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from forget.audits.audit import Audit, Auditing
from forget.results.rows import Row
from forget.settings.trial import Trial
from forget.tasks.task import Example

QUESTIONS = {
    "true first": "\nIs the answer above True or False? Answer:",
    "false first": "\nIs the answer above False or True? Answer:",
}
"""Wordings by dose."""

VERDICTS = (" True", " False")


class Know(Audit):
    """Ask if an answer is true: the model's own, the true one, and the best of the others."""

    asks: ClassVar[str] = "does it know that it forgot"
    cost: ClassVar[str] = "about 5 passes"

    name: Literal["know"] = "know"

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of the answers, and of the verdicts on "own", "truth" and "other"."""
        plain = at.score(at.test)
        yield from plain
        for wording, question in QUESTIONS.items():
            asked: dict[str, list[Example]] = {"own": [], "truth": [], "other": []}
            for example, row in zip(at.test, plain, strict=True):
                own, other = _best(row), _best(row, besides=row.truth)
                for about, option in (("own", own), ("truth", row.truth), ("other", other)):
                    asked[about].append(_about(example, option, question))
            for about, examples in asked.items():
                yield from at.score(examples, f"{about}/{wording}")

    def passes(self, trial: Trial) -> float:
        """Count a pass of longer prompts for each wording and answer asked about."""
        return 1.0 + 2 * 3


def _best(row: Row, besides: int | None = None) -> int:
    """Return the option that scores highest, the first of equals, but for one."""
    scores = zip(row.logprobs, row.lengths, strict=True)
    ranked = {place: sum_ / length for place, (sum_, length) in enumerate(scores)}
    if besides is not None:
        del ranked[besides]
    return max(ranked, key=lambda place: (ranked[place], -place))


def _about(example: Example, option: int, question: str) -> Example:
    """Ask if an option is the answer."""
    said = example.prompt + example.options[option] + example.suffix
    return replace(
        example,
        prompt=said + question,
        options=VERDICTS,
        answer=0 if option == example.answer else 1,
        suffix="",
    )
