"""How like two sets of examples are, by their texts alone: what might tell beforehand where forgetting reaches."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forget.results.outcome import Likeness
from forget.tasks import similarity
from forget.tasks.draws import Material
from forget.tasks.task import Example

LENGTHS = (1, 2, 5, 10)
"""Upper bounds, in words, of the classes of length."""

LABEL = 0.1
"""An option that this share of a task's examples has is a label, such as yes or no, and a format of
its own.
"""


def nearest(examples: Sequence[Example], trained: Sequence[Example]) -> list[float]:
    """TF-IDF cosine of each example to the nearest trained one: 1 shares every word with it, 0 none.

    Words and pairs of words of prompt and options count; the wording that all prompts share weighs
    next to nothing.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = _tf_idf((_text(example) for example in (*examples, *trained)), ngram_range=(1, 2))
    similar = cosine_similarity(vectors[: len(examples)], vectors[len(examples) :]).max(axis=1)
    return similar.clip(0, 1).tolist()


def wording(tasks: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """Cosine of each task's mean TF-IDF vector to the first task's: 1 for prompts in the same words in equal shares."""
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = _tf_idf(example.prompt for examples in tasks.values() for example in examples)
    means, at = [], 0
    for examples in tasks.values():
        means.append(vectors[at : at + len(examples)].mean(axis=0).A1)
        at += len(examples)
    return dict(zip(tasks, cosine_similarity(means[:1], means)[0].clip(0, 1).tolist(), strict=True))


def answers(a: Sequence[Example], b: Sequence[Example]) -> float:
    """Overlap of two tasks' answer formats: the share of options that fall to the same format, as histograms intersect."""
    first, second = _formats(a), _formats(b)
    # Exact, so that the order in which a set hands out its members changes no digit.
    return math.fsum(min(first[kind], second[kind]) for kind in first.keys() & second.keys())


def _formats(examples: Sequence[Example]) -> dict[str, float]:
    """Share of each format among the options: a label is its own, other texts go by length, capital, digits and full stop."""
    options = [
        (option + example.suffix).strip() for example in examples for option in example.options
    ]
    holders = Counter(
        option for example in examples for option in {o.strip() for o in example.options}
    )
    kinds: Counter[str] = Counter()
    for option in options:
        length = bisect_left(LENGTHS, len(option.split()))
        shape = f"{length}/{option[:1].isupper()}/{any(c.isdigit() for c in option)}/{option.endswith('.')}"
        kinds[f"label {option}" if holders[option] > LABEL * len(examples) else shape] += 1
    return {kind: count / len(options) for kind, count in kinds.items()}


def _tf_idf(texts: Iterable[str], **settings: Any) -> Any:
    """A sparse matrix [texts, words]."""
    # scikit-learn takes half a second to import, and what plans or drives trials looks at no text.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=r"\w+", **settings).fit_transform(texts)


def _text(example: Example) -> str:
    return " ".join((example.prompt, *example.options, example.suffix))


def similarities(material: Material) -> dict[tuple[str, str, str], float]:
    """By task, split and example, the TF-IDF cosine of what is held out to the nearest example that forgetting trains on."""
    parts = {(task, "test"): examples for task, examples in material.test.items()}
    if material.near:
        parts[next(iter(material.test)), "near"] = material.near
    return {
        (*place, example.id): similar
        for place, examples in parts.items()
        for example, similar in zip(
            examples, similarity.nearest(examples, material.forget), strict=True
        )
    }


def likenesses(material: Material, states: Mapping[str, float]) -> tuple[Likeness, ...]:
    """How like the trial's own task each other one is. `states`: linear CKA by task, where it was taken."""
    own, *others = material.test
    wording = similarity.wording(material.test)
    return tuple(
        Likeness(
            task=task,
            answers=similarity.answers(material.test[own], material.test[task]),
            wording=wording[task],
            states=states.get(task),
        )
        for task in others
    )
