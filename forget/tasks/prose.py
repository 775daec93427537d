"""Neutral text: prose that no task is about.

It is the reference of the Python language, which every Python has with it, and differs a little
from one Python to another: whatever is kept of it goes by its digest.
"""

from __future__ import annotations

import random
import re
from functools import cache

from forget.tasks.task import Example

WORDS = 12
"""Words of the shortest paragraph that counts as prose."""

CHUNK = 64
"""Words of a chunk, about 100 tokens."""


@cache
def prose() -> str:
    """Return the paragraphs of the reference that are sentences, each once."""
    from pydoc_data import topics  # Half a megabyte, which most trials do without.

    found: dict[str, None] = {}
    for topic in sorted(topics.topics):
        for paragraph in re.split(r"\n\s*\n", topics.topics[topic]):
            words = paragraph.split()
            if len(words) >= WORDS and words[-1].endswith(".") and paragraph.isascii():
                found[" ".join(words)] = None
    return "\n".join(found)


def chunks(n: int) -> tuple[Example, ...]:
    """Return at most n chunks of the text, all of whose tokens but its first word's are scored.

    They come in an order of their own, so that a few are from all over the text. There are about
    400.
    """
    words = prose().split()
    starts = range(0, len(words) - CHUNK + 1, CHUNK)
    order = random.Random("prose").sample(starts, len(starts))
    found = []
    for start in order[:n]:
        rest = " ".join(words[start + 1 : start + CHUNK])
        found.append(Example(f"text-{start:05}", words[start], (f" {rest}",), 0))
    return tuple(found)
