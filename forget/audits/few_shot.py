"""Few shots: does a prompt with solved examples bring the skill back?

Shots with labels drawn at random show the format alone: what they bring as well is no skill.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from forget.audits.audit import Audit, Auditing, Counts, Several
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.trial import Trial
from forget.tasks.task import Example

log = logging.getLogger(__name__)

Shots = Literal["true", "random", "wrong"]


class FewShot(Audit):
    """Put solved examples of the validation split before each question."""

    asks: ClassVar[str] = "do solved examples in the prompt bring it back"
    cost: ClassVar[str] = "about 1 + k passes for each k and kind of shots"

    name: Literal["few_shot"] = "few_shot"
    k: Counts = (4,)
    """Shots; fewer are the last of more, beside the same question."""
    shots: Annotated[tuple[Shots, ...], Several] = ("true", "random")
    """Labels of the shots: the truth, one drawn at random, or a wrong one."""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows without shots, then for each kind and number of shots."""
        yield from at.plain()
        chosen = [_chosen(at, example, max(self.k)) for example in at.test]
        for kind in self.shots:
            for k in self.k:
                asked = []
                left = 0
                for example, shots in zip(at.test, chosen, strict=True):
                    texts = [_solved(at, shot, kind) for shot in shots[-k:]]
                    prompted = _within(at, example, texts)
                    left += prompted == example
                    asked.append(prompted)
                if left:
                    log.warning("few_shot: %d questions have no room for a shot", left)
                yield from at.score(asked, dose(kind, k=k))

    def passes(self, trial: Trial) -> float:
        """Count 1 + k passes for each number of shots."""
        return 1.0 + len(self.shots) * sum(1 + k for k in self.k)


def _chosen(at: Auditing, example: Example, most: int) -> list[Example]:
    """Draw the shots of a question, as many of each true option as of any other.

    The last one may be of any option, so that no prompt tells by its end what is the answer.
    """
    draw = at.draw("shots", example)
    by_answer: dict[int, list[Example]] = defaultdict(list)
    for shot in at.held_out:
        if shot.id != example.id and shot.group != example.group:
            by_answer[shot.answer].append(shot)
    for shots in by_answer.values():
        draw.shuffle(shots)
    found: list[Example] = []
    while len(found) < most and any(by_answer.values()):
        turn = [answer for answer, shots in sorted(by_answer.items()) if shots]
        for answer in draw.sample(turn, len(turn)):
            found.append(by_answer[answer].pop())
    return found[:most]


def _solved(at: Auditing, shot: Example, kind: Shots) -> str:
    """Write a shot with its label."""
    draw = at.draw("labels of shots", shot)
    return shot.prompt + shot.options[_label(shot, kind, draw)] + shot.suffix


def _label(shot: Example, kind: Shots, draw: random.Random) -> int:
    if kind == "true":
        return shot.answer
    options = range(len(shot.options))
    if kind == "random":
        return draw.choice(options)
    return draw.choice([option for option in options if option != shot.answer])


def _within(at: Auditing, example: Example, texts: Sequence[str]) -> Example:
    """Put the shots before a question, without the first ones where the model reads no more."""
    for start in range(len(texts)):
        prompt = "\n\n".join([*texts[start:], example.prompt])
        asked = replace(example, prompt=prompt)
        if at.room(asked) >= 0:
            return asked
    return example
