"""Fit linear probes on all layers: ours against scikit-learn, one fit a layer and penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.compare import Comparison
from forget.evaluation.probing import STRENGTHS, Pairs, probe_labelings

Accuracies = list[float]
"""Accuracies on the test pairs, by layer."""

PAIRS, LAYERS, WIDTH = 1600, 31, 576
"""400 questions with four options, and the hidden states of a model with 30 blocks (SmolLM2-135M's
shape).
"""
RANK = 64
"""Directions in which most of the variance lies."""


def comparisons(quick: bool) -> list[Comparison[Accuracies]]:
    """Return the rows: probes of all layers, or quick of four."""
    layers = 4 if quick else LAYERS
    train, validation, test = (planted(layers, part) for part in range(3))
    shape = f"{layers} layers, {PAIRS} pairs, width {WIDTH}, {len(STRENGTHS)} penalties"

    def ours() -> Accuracies:
        return [
            float(np.mean(found.correct))
            for found in probe_labelings([(train, validation)], test)[0]
        ]

    return [
        Comparison(
            work=f"linear probes: {shape}",
            against="scikit-learn's StandardScaler and LogisticRegression",
            ours=ours,
            theirs=partial(fresh, train, validation, test),
            check=equal,
            target=10.0,
        ),
        Comparison(
            work=f"linear probes: {shape}",
            against="the same with a warm start and one thread",
            ours=ours,
            theirs=partial(warm, train, validation, test),
            check=equal,
            target=1.5,
        ),
    ]


def planted(layers: int, part: int) -> Pairs:
    """Make up hidden states of low rank and noise, with columns of many sizes.

    The answer lies along one direction, the stronger the later the layer.
    """
    shape = np.random.default_rng(0)
    draw = np.random.default_rng([1, part])
    right = np.arange(PAIRS) % 4 == 0
    states = np.empty((PAIRS, layers, WIDTH), np.float32)
    for layer in range(layers):
        directions = shape.standard_normal((RANK, WIDTH)) / np.sqrt(np.arange(1, RANK + 1))[:, None]
        answer, size, centre = shape.standard_normal((3, WIDTH))
        made = draw.standard_normal((PAIRS, RANK)) @ directions
        made = made + 0.3 * draw.standard_normal((PAIRS, WIDTH))
        made += (0.01 + 0.05 * layer / (layers - 1)) * np.where(right, 1, -1)[:, None] * answer
        states[:, layer] = (made + 3 * centre) * np.exp(size)
    return Pairs(states, right)


def fresh(train: Pairs, validation: Pairs, test: Pairs) -> Accuracies:
    """Fit as one writes it first: every fit from nothing, threads as they come."""

    def classifiers(n: int) -> Iterator[LogisticRegression]:
        return (LogisticRegression(C=1 / (l2 * n), max_iter=1000) for l2 in STRENGTHS)

    return _by_layer(classifiers, train, validation, test)


def warm(train: Pairs, validation: Pairs, test: Pairs) -> Accuracies:
    """Fit as one does after a look at the time: every fit from the last one, and no threads."""

    def classifiers(n: int) -> Iterator[LogisticRegression]:
        classifier = LogisticRegression(warm_start=True, max_iter=1000)
        return (classifier.set_params(C=1 / (l2 * n)) for l2 in STRENGTHS)

    with threadpool_limits(1):
        return _by_layer(classifiers, train, validation, test)


def _by_layer(
    classifiers: Callable[[int], Iterator[LogisticRegression]],
    train: Pairs,
    validation: Pairs,
    test: Pairs,
) -> Accuracies:
    accuracies = []
    for layer in range(train.states.shape[1]):
        scaler = StandardScaler().fit(train.states[:, layer])
        features = [scaler.transform(part.states[:, layer]) for part in (train, validation, test)]
        best = accuracy = -1.0
        for classifier in classifiers(len(train.right)):
            classifier.fit(features[0], train.right)
            chosen_by = classifier.score(features[1], validation.right)
            if chosen_by > best:
                best, accuracy = chosen_by, classifier.score(features[2], test.right)
        accuracies.append(accuracy)
    return accuracies


def equal(ours: Accuracies, theirs: Accuracies) -> str:
    """Check that accuracies are equal but for scikit-learn's earlier stop.

    It stops at a gradient of 1e-4, where ours is below 1e-5.
    """
    furthest = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    assert furthest <= 0.002, f"accuracies differ by {furthest}"
    return (
        f"accuracies of all {len(ours)} layers equal within {furthest:.4f} "
        f"({round(furthest * PAIRS)} of {PAIRS} test pairs)"
    )
