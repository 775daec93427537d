"""Generation: does the model write the answer that it no longer prefers among options (2510.07626)?

Greedy text up to a line's end is matched with the options. An answer that names none counts as a
guess, and shows in the mass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch

from forget.audits.audit import Audit, Auditing
from forget.models import batches
from forget.models.batches import Encoded
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial
from forget.tasks.task import Example

SURE, WEAK = 0.98, 0.75
"""Share that a Row gives the option that was written: alone, or among words of other options."""

SILENT = math.exp(-20)
"""Mass that a Row has where no option was written."""


class Generate(Audit):
    """Let the model write freely, and match what it wrote with the options."""

    asks: ClassVar[str] = "does it write what it no longer prefers"
    cost: ClassVar[str] = "about a pass for each token written"

    name: Literal["generate"] = "generate"
    more: Count = 8
    """Tokens that may be written beyond the longest option."""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of the option scores, and of what was written."""
        plain = at.plain()
        yield from plain
        encoded = batches.encode(at.test, at.model.tokenizer, batches.reach(at.model.network))
        for example, one in zip(at.test, encoded, strict=True):
            text = written(at, one, max(map(len, one.options)) + self.more)
            yield Row(
                trial="",
                phase=at.arm,
                task=at.trial.task,
                split="test",
                example=example.id,
                truth=example.answer,
                logprobs=_votes(example, text),
                lengths=(1,) * len(example.options),
                audit=self.label,
                dose="written",
            )

    def passes(self, trial: Trial) -> float:
        """Count a pass for each token."""
        return 2.0 + self.more


def written(at: Auditing, asked: Encoded, most: int) -> str:
    """Return what the model writes after a prompt, the likeliest token each time.

    It ends with a line, with the text, and where the model reads no more.
    """
    network, tokenizer = at.model.network, at.model.tokenizer
    # Where a prompt ends with a blank, that goes with the options.
    ids = list(asked.prompt)
    made: list[int] = []
    room = batches.reach(network) - len(ids)
    with torch.no_grad(), at.model.autocast(at.bf16):
        for _ in range(min(most, room)):
            given = torch.tensor([ids + made], device=at.model.device)
            logits = network(input_ids=given, use_cache=False).logits[0, -1]
            token = int(logits.argmax())
            made.append(token)
            text = str(tokenizer.decode(made))
            if token == tokenizer.eos_token_id or "\n" in text.lstrip():
                break
    return str(tokenizer.decode(made, skip_special_tokens=True)).lstrip().partition("\n")[0]


def matched(text: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """Return the option that a text gives, and whether it is sure: no other one is in it.

    An option counts at the start of the text, up to the end of a word, the longest of several; else
    the first that is anywhere in it, unsurely.
    """
    said = text.casefold().strip()
    places: dict[int, tuple[int, int]] = {}
    for number, option in enumerate(options):
        word = re.escape(option.casefold().strip())
        if found := re.search(rf"(?<!\w){word}(?!\w)", said):
            places[number] = found.start(), -len(word)
    if not places:
        return None, False
    first = min(places, key=lambda number: places[number])
    start = places[first][0]
    alone = all(place == start for place, _ in places.values())
    return first, start == 0 and alone


def _votes(example: Example, text: str) -> tuple[float, ...]:
    """Return logarithms of shares: the option that was written has nearly all."""
    count = len(example.options)
    chosen, sure = matched(text, example.options)
    if chosen is None:
        return (math.log(SILENT / count),) * count
    share = SURE if sure else WEAK
    rest = (1 - share) / max(1, count - 1)
    return tuple(math.log(share if number == chosen else rest) for number in range(count))
