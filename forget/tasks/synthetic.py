"""Made texts in the place of an item's own: what is left of forgetting without their content.

A text has as many words as the one whose place it takes (one more or fewer where they come in
pairs), and is the same for the same seed, kind and item. After Chiang and Lee 2021, who pretrain on
such texts to find what structure of a text matters.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise

from forget.settings.forget_set import Synthetic
from forget.tasks.task import Record

WINDOW = 8
"""Words of a block of `windowed`."""

CONTENT = ("passage", "question")
"""Fields of a record that hold its content."""


@dataclass(frozen=True)
class Corpus:
    """Texts of one field of a task's train split, as lists of words."""

    texts: Sequence[Sequence[str]]
    seed: str
    """Decides the one text of `constant`."""

    @cached_property
    def words(self) -> list[str]:
        """Every word, as often as it is there."""
        return list(chain.from_iterable(self.texts))

    @cached_property
    def ranked(self) -> list[str]:
        """Word types, the most frequent first."""
        counts = Counter(self.words)
        return sorted(counts, key=lambda word: (-counts[word], word))

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Place of each word type among `ranked`."""
        return {word: place for place, word in enumerate(self.ranked)}

    @cached_property
    def starts(self) -> list[str]:
        """First words of the texts."""
        return [text[0] for text in self.texts]

    @cached_property
    def successors(self) -> Mapping[str, list[str]]:
        """Words that follow a word, each as often as it does."""
        found: dict[str, list[str]] = {}
        for word, following in chain.from_iterable(map(pairwise, self.texts)):
            found.setdefault(word, []).append(following)
        return found

    @cached_property
    def one(self) -> list[str]:
        """One text of drawn words: of twenty the nearest to the average length in characters."""
        draw, n = random.Random(self.seed), len(self.texts)
        characters = (sum(map(len, self.words)) + len(self.words)) / n
        size = round(len(self.words) / n)
        drawn = [draw.choices(self.words, k=size) for _ in range(20)]
        return min(drawn, key=lambda words: abs(sum(map(len, words)) + size - characters))

    def partner(self, word: str) -> str:
        """Return the word type that is paired with another: its neighbour in frequency."""
        place = self.rank[word]
        return self.ranked[min(place ^ 1, len(self.ranked) - 1)]


def shuffled(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Permute the text's own words."""
    return draw.sample(words, len(words))


def bigram(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Walk along pairs of words that stand in the corpus, and start anew where none goes on."""
    made: list[str] = []
    while len(made) < len(words):
        following = corpus.successors.get(made[-1]) if made else None
        made.append(draw.choice(following or corpus.starts))
    return made


def unigram(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Draw each word by its frequency in the corpus."""
    return draw.choices(corpus.words, k=len(words))


def paired(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Open a word and close it with its partner, pairs within pairs: an explicit dependency."""
    pairs = max(1, (len(words) + draw.randrange(2)) // 2)
    made: list[str] = []
    opened: list[str] = []
    while pairs or opened:
        if pairs and (not opened or draw.randrange(2)):
            opened.append(draw.choice(corpus.words))
            made.append(opened[-1])
            pairs -= 1
        else:
            made.append(corpus.partner(opened.pop()))
    return made


def windowed(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Shuffle blocks of words that are neighbours in frequency: an implicit dependency."""
    made: list[str] = []
    while len(made) < len(words):
        first = corpus.rank[draw.choice(corpus.words)] // WINDOW * WINDOW
        block = corpus.ranked[first : first + WINDOW]
        made += draw.sample(block, len(block))
    return made[: len(words)]


def constant(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Return the corpus's one text, of drawn words, about as long as its texts are on average."""
    return corpus.one


def options_only(corpus: Corpus, words: Sequence[str], draw: random.Random) -> list[str]:
    """Return no word at all."""
    return []


MAKERS: dict[Synthetic, Callable[[Corpus, Sequence[str], random.Random], list[str]]] = {
    "shuffled": shuffled,
    "bigram": bigram,
    "unigram": unigram,
    "paired": paired,
    "windowed": windowed,
    "constant": constant,
    "options_only": options_only,
}
"""Makers of texts by kind: (corpus, words of the text whose place it takes, draw) -> words."""


def made(
    records: Sequence[Record], train: Sequence[Record], kind: Synthetic, task: str, seed: int
) -> list[Record]:
    """Put a made text in the place of each record's own; all else stays.

    Args:
        records: items of the task.
        train: items whose texts give words and pairs of words.
        kind: kind of text.
        task: name of the task.
        seed: decides the texts, with kind and id.
    """
    found = list(records)
    for field in CONTENT:
        texts = [getattr(record, field).split() for record in train]
        corpus = Corpus([text for text in texts if text], f"{seed}/{kind}/{task}/{field}")
        for place, record in enumerate(found):
            if words := getattr(record, field).split():
                draw = random.Random(f"{seed}/{kind}/{task}/{record.id}/{field}")
                text = " ".join(MAKERS[kind](corpus, words, draw))
                found[place] = _with_content(record, {field: text})
    return found


def behind(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Give each record the text of another task's, in their order; all else stays.

    Args:
        records: items, whose options and answers stay.
        others: items of another task; where they are fewer they are taken again.
    """
    found = []
    for place, record in enumerate(records):
        other = others[place % len(others)]
        texts = [text for text in (other.passage, other.question) if text]
        if record.passage and record.question and len(texts) == 2:
            content = dict(zip(CONTENT, texts, strict=True))
        else:
            content = dict.fromkeys(CONTENT, "")
            content["passage" if record.passage else "question"] = "\n".join(texts)
        found.append(_with_content(record, content))
    return found


def longest_shared(text: Sequence[str], texts: Sequence[Sequence[str]]) -> int:
    """Return the length in words of the longest run that a text shares with one of others.

    A chain over the pairs of words of few texts gives whole pieces of them back.
    """
    longest = 0
    for other in texts:
        # The common run that ends at each pair of places, row by row.
        before = [0] * (len(other) + 1)
        for word in text:
            row = [0]
            for place, theirs in enumerate(other):
                row.append(before[place] + 1 if word == theirs else 0)
            longest = max(longest, *row)
            before = row
    return longest


def _with_content(record: Record, content: Mapping[str, str]) -> Record:
    """Change a record's content, and nothing by which probes and splits know its source."""
    return replace(
        record,
        group=record.group or record.passage or record.question,
        passage=content.get("passage", record.passage),
        question=content.get("question", record.question),
    )
