"""Made texts: they keep what they promise to keep, and nothing of the rest."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import get_args

import pytest
from scipy.stats import chi2

from forget import tasks
from forget.settings.forget_set import Synthetic
from forget.tasks import synthetic
from forget.tasks.synthetic import Corpus, made
from forget.tasks.task import Record

KINDS = get_args(Synthetic)
TASKS = ("world", "sentiment", "entailment", "reading")


def words(record: Record) -> list[str]:
    return f"{record.passage} {record.question}".split()


def characters(records: list[Record]) -> float:
    return mean(len(" ".join(words(record))) for record in records)


def texts(task: str, kind: Synthetic, n: int = 60, seed: int = 0) -> tuple[list[Record], ...]:
    train = tasks.records(task, "train")
    return train[:n], made(train[:n], train, kind, task, seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_a_made_text_stands_in_the_place_of_the_items_own(task: str, kind: Synthetic) -> None:
    before, after = texts(task, kind)
    for one, other in zip(before, after, strict=True):
        assert replace(other, passage=one.passage, question=one.question, group=one.group) == one
    changed = [words(one) != words(other) for one, other in zip(before, after, strict=True)]
    assert mean(changed) > 0.9
    if kind == "options_only":
        assert not any(map(words, after))
        return
    assert characters(after) == pytest.approx(characters(before), rel=0.1)
    for one, other in zip(before, after, strict=True):
        if kind != "constant":
            assert abs(len(words(one)) - len(words(other))) <= 2 * (kind == "paired")


@pytest.mark.parametrize("task", TASKS)
def test_a_text_depends_on_seed_kind_and_item_alone(task: str) -> None:
    found = {}
    for kind in ("shuffled", "bigram", "unigram", "paired", "windowed"):
        _, some = texts(task, kind)
        _, fewer = texts(task, kind, n=20)
        _, other = texts(task, kind, seed=1)
        assert fewer == some[:20]
        assert mean(one != two for one, two in zip(some, other, strict=True)) > 0.9
        for record in some:
            found[kind, record.id] = words(record)
    assert len(set(map(tuple, found.values()))) > 0.95 * len(found)


@pytest.mark.parametrize("task", TASKS)
def test_shuffled_keeps_each_items_words(task: str) -> None:
    for one, other in zip(*texts(task, "shuffled"), strict=True):
        assert Counter(one.passage.split()) == Counter(other.passage.split())
        assert Counter(one.question.split()) == Counter(other.question.split())


def test_a_chain_walks_along_pairs_of_the_train_split_and_starts_as_its_texts_do() -> None:
    train = [one.question.split() for one in tasks.records("world", "train")]
    pairs, starts = set(), {text[0] for text in train}
    for text in train:
        pairs |= set(pairwise(text))
    ends = {text[-1] for text in train} - {first for first, _ in pairs}
    for record in texts("world", "bigram")[1]:
        text = record.question.split()
        assert text[0] in starts
        for one, following in pairwise(text):
            assert (one, following) in pairs or (one in ends and following in starts)


def test_words_come_by_their_frequency() -> None:
    corpus = Corpus([["a"] * 5 + ["b"] * 3, ["c", "b"]], "s")
    counts = Counter(draw_words(corpus, "unigram", 100_000))
    expected = {"a": 50_000, "b": 40_000, "c": 10_000}
    assert counts.total() == 100_000
    for word, count in expected.items():
        assert counts[word] == pytest.approx(count, rel=0.03)
        assert abs(counts[word] - count) < 1_000
    gap = sum((counts[word] - count) ** 2 / count for word, count in expected.items())
    assert chi2.sf(gap, 2) > 0.01


def draw_words(corpus: Corpus, kind: Synthetic, n: int) -> list[str]:
    return synthetic.MAKERS[kind](corpus, ["x"] * n, random.Random("words"))


def test_pairs_are_nested_and_each_is_closed_once() -> None:
    corpus = Corpus([text.split() for text in ("a b c d a b", "e f a")], "s")
    for n in range(1, 30):
        text = draw_words(corpus, "paired", n)
        assert abs(len(text) - n) <= 1
        # Each word closes the last that is open, if it is its partner and none is to be opened.
        assert nested(corpus, text)
        assert not nested(corpus, text[:-1])


def nested(corpus: Corpus, text: list[str]) -> bool:
    """Tell whether a text can be read as pairs of partners within each other."""
    if not text:
        return True
    for end in range(1, len(text), 2):
        closes = corpus.partner(text[0]) == text[end]
        if closes and nested(corpus, text[1:end]) and nested(corpus, text[end + 1 :]):
            return True
    return False


def test_partners_are_neighbours_in_frequency() -> None:
    corpus = Corpus([["a", "a", "a", "b", "b", "c"]], "s")
    assert [corpus.partner(word) for word in "abc"] == ["b", "a", "c"]


def test_windows_are_blocks_of_neighbours_in_frequency() -> None:
    _, records = texts("sentiment", "windowed")
    train = [one.passage.split() for one in tasks.records("sentiment", "train")]
    corpus = Corpus(train, "s")
    for record in records:
        text = record.passage.split()
        for begin in range(0, len(text), synthetic.WINDOW):
            block = text[begin : begin + synthetic.WINDOW]
            assert len({corpus.rank[word] // synthetic.WINDOW for word in block}) == 1
            assert len(set(block)) == len(block)


def test_one_text_is_the_same_for_all() -> None:
    _, records = texts("sentiment", "constant")
    assert len({record.passage for record in records}) == 1


def test_texts_of_another_task_stand_behind_the_own_options() -> None:
    own, others = tasks.records("entailment", "train", 30), tasks.records("reading", "train", 20)
    for place, record in enumerate(synthetic.behind(own, others)):
        other = others[place % 20]
        assert (record.passage, record.question) == (other.passage, other.question)
        assert (record.id, record.choices) == (own[place].id, own[place].choices)
    world = tasks.records("world", "train", 5)
    for record, other in zip(synthetic.behind(world, others), others, strict=False):
        assert (record.passage, record.question) == ("", f"{other.passage}\n{other.question}")


def test_the_longest_run_that_is_shared_is_counted_in_words() -> None:
    texts = [["the", "cat", "sat", "on", "a", "mat"], ["a", "dog"]]
    assert synthetic.longest_shared(["we", "saw", "that", "sat", "on", "a", "dog"], texts) == 3
    assert synthetic.longest_shared(["nothing", "here"], texts) == 0
