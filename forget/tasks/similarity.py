"""Similarity of two sets of examples, from their text alone, known before forgetting."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forget.results.outcome import Likeness
from forget.tasks.draws import Material
from forget.tasks.task import Example

LENGTHS = (1, 2, 5, 10)
"""Upper bounds, in words, of the classes of length."""

LABEL = 0.1
"""Share of a task's examples above which an option that they have is a label, such as yes or no: a
format of its own.
"""


def nearest_similarity(examples: Sequence[Example], trained: Sequence[Example]) -> list[float]:
    """Return the TF-IDF cosine of each example to the nearest trained one.

    It is 1 where they share every word, 0 where they share none. Words and pairs of words of prompt
    and options count; the wording that all prompts share weighs next to nothing.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = _tf_idf((_text(example) for example in (*examples, *trained)), ngram_range=(1, 2))
    similar = cosine_similarity(vectors[: len(examples)], vectors[len(examples) :]).max(axis=1)
    return similar.clip(0, 1).tolist()


def wording(tasks: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """Return the cosine of each task's mean TF-IDF vector to the first task's.

    It is 1 for prompts in the same words in equal shares.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    prompts: list[str] = []
    for examples in tasks.values():
        prompts += [example.prompt for example in examples]
    vectors = _tf_idf(prompts)
    means, at = [], 0
    for examples in tasks.values():
        means.append(vectors[at : at + len(examples)].mean(axis=0).A1)
        at += len(examples)
    return dict(zip(tasks, cosine_similarity(means[:1], means)[0].clip(0, 1).tolist(), strict=True))


def answers(a: Sequence[Example], b: Sequence[Example]) -> float:
    """Return the overlap of two tasks' answer formats, as histograms intersect.

    It is the share of options that fall to the same format.
    """
    first, second = _formats(a), _formats(b)
    # Exact, so that the order in which a set hands out its members changes no digit.
    return math.fsum(min(first[kind], second[kind]) for kind in first.keys() & second.keys())


def _formats(examples: Sequence[Example]) -> dict[str, float]:
    """Return the share of each format among the options.

    A label is a format of its own; other texts go by length, capital, digits and full stop.
    """
    options: list[str] = []
    holders: Counter[str] = Counter()
    for example in examples:
        options += [(option + example.suffix).strip() for option in example.options]
        # An example counts once for a text that several of its options have.
        holders.update({option.strip() for option in example.options})
    kinds: Counter[str] = Counter()
    for option in options:
        is_label = holders[option] > LABEL * len(examples)
        kinds[f"label {option}" if is_label else _shape(option)] += 1
    return {kind: count / len(options) for kind, count in kinds.items()}


def _shape(option: str) -> str:
    length = bisect_left(LENGTHS, len(option.split()))
    digits = any(letter.isdigit() for letter in option)
    return f"{length}/{option[:1].isupper()}/{digits}/{option.endswith('.')}"


def _tf_idf(texts: Iterable[str], **settings: Any) -> Any:
    """Return a sparse matrix [texts, words]."""
    # scikit-learn takes half a second to import, and what plans or drives trials looks at no text.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=r"\w+", **settings).fit_transform(texts)


def _text(example: Example) -> str:
    return " ".join((example.prompt, *example.options, example.suffix))


def similarities(material: Material) -> dict[tuple[str, str, str], float]:
    """Measure how near each held-out example is to those that forgetting trains on.

    Returns:
        The TF-IDF cosine to the nearest one, by task, split and example.
    """
    parts = {(task, "test"): examples for task, examples in material.test.items()}
    own = next(iter(material.test))
    for split, examples in material.like.items():
        if examples:
            parts[own, split] = examples
    found = {}
    for (task, split), examples in parts.items():
        nearest = nearest_similarity(examples, material.forget)
        for example, similar in zip(examples, nearest, strict=True):
            found[task, split, example.id] = similar
    return found


def likenesses(material: Material, states: Mapping[str, float]) -> tuple[Likeness, ...]:
    """Measure how like the trial's own task each other one is.

    Args:
        material: the examples of the trial.
        states: linear CKA by task, where it was taken.
    """
    own, *others = material.test
    cosines = wording(material.test)
    return tuple(
        Likeness(
            task=task,
            answers=answers(material.test[own], material.test[task]),
            wording=cosines[task],
            states=states.get(task),
        )
        for task in others
    )
