"""Neutral text: does the model still read what has nothing to do with what it forgot?

It reads forget.tasks.prose, which differs a little from one Python to another, so the digest of the
text goes with what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from forget.audits.audit import Audit, Auditing
from forget.models.batches import reach
from forget.results.doses import PLAIN
from forget.results.rows import Row
from forget.settings.identity import digest
from forget.settings.parts import Count
from forget.tasks.prose import prose

SPLIT = "text"
"""Split of the Rows: each has one option, so that no accuracy is of them."""


class Text(Audit):
    """Score neutral text, chunk by chunk."""

    asks: ClassVar[str] = "does it still read other text"
    cost: ClassVar[str] = "a pass over about 36,000 tokens"

    name: Literal["text"] = "text"
    examples: Count = 200
    """Chunks at most; of most tokenizers the text has about 140."""
    tokens: Count = 256
    """Tokens of a chunk, of which the first is only read."""

    @property
    def reads(self) -> str:
        """Digest of the text."""
        return digest(prose())

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield a Row for each chunk: log-probability of its tokens, divided by their bytes."""
        tokenizer = at.model.tokenizer
        ids = tokenizer(prose(), add_special_tokens=False, verbose=False)["input_ids"]
        length = min(self.tokens, reach(at.model.network))
        starts = range(0, len(ids) - length + 1, length)[: self.examples]
        for number, start in enumerate(starts):
            chunk = ids[start : start + length]
            # A tokenizer may drop the blank before a text: off both it is none of the difference.
            texts = tokenizer.batch_decode([chunk, chunk[:1]], clean_up_tokenization_spaces=False)
            whole, first = (len(text.encode()) for text in texts)
            yield Row(
                trial="",
                phase=at.arm,
                task=at.trial.task,
                split=SPLIT,
                example=f"{number:03}",
                truth=0,
                logprobs=(-nats(at, chunk),),
                lengths=(whole - first,),
                audit=self.label,
                dose=PLAIN,
            )


@torch.no_grad()
def nats(at: Auditing, ids: list[int]) -> float:
    """Compute minus the log-probability of all tokens but the first."""
    given = torch.tensor([ids], device=at.model.device)
    with at.model.autocast(at.bf16):
        logits = at.model.network(input_ids=given, use_cache=False).logits[0, :-1]
    return float(functional.cross_entropy(logits.float(), given[0, 1:], reduction="sum"))
