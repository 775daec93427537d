"""Fit linear probes on all layers: ours against scikit-learn, one fit a layer, fold and penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.compare import Comparison
from forget.evaluation.probing import ASKED_ALONE, STRENGTHS, Questions, probe_labelings
from forget.results.folds import FOLDS

Accuracies = list[float]
"""Accuracies on the questions that are asked, by layer."""

QUESTIONS, OPTIONS, LAYERS, WIDTH = 300, 2, 31, 576
"""Questions that probes are fit on and as many that are asked, their options, and the hidden states
of a model with 30 blocks (SmolLM2-135M's shape).
"""
RANK = 64
"""Directions in which most of the variance lies."""


def comparisons(quick: bool) -> list[Comparison[Accuracies]]:
    """Return the rows: probes of all layers, or quick of four."""
    layers = 4 if quick else LAYERS
    questions = planted(layers)
    shape = f"{layers} layers, {QUESTIONS * OPTIONS} pairs, width {WIDTH}, {FOLDS} folds"

    def ours() -> Accuracies:
        (by_layer,) = probe_labelings(questions, [questions.right])
        return [float(found.preferred.mean()) for found in by_layer if found]

    return [
        Comparison(
            work=f"linear probes: {shape}, {len(STRENGTHS)} penalties",
            against="scikit-learn's StandardScaler and LogisticRegression",
            ours=ours,
            theirs=partial(fresh, questions),
            check=equal,
            target=10.0,
        ),
        Comparison(
            work=f"linear probes: {shape}, {len(STRENGTHS)} penalties",
            against="the same with a warm start and one thread",
            ours=ours,
            theirs=partial(warm, questions),
            check=equal,
            target=1.5,
        ),
    ]


def planted(layers: int) -> Questions:
    """Make up hidden states of low rank and noise, with columns of many sizes.

    The answer lies along one direction, the stronger the later the layer.
    """
    shape, draw = np.random.default_rng(0), np.random.default_rng(1)
    pairs = 2 * QUESTIONS * OPTIONS
    right = np.arange(pairs) % OPTIONS == 0
    states = np.empty((pairs, layers, WIDTH), np.float32)
    for layer in range(layers):
        directions = shape.standard_normal((RANK, WIDTH)) / np.sqrt(np.arange(1, RANK + 1))[:, None]
        answer, size, centre = shape.standard_normal((3, WIDTH))
        made = draw.standard_normal((pairs, RANK)) @ directions
        made = made + 0.3 * draw.standard_normal((pairs, WIDTH))
        made += (0.01 + 0.05 * layer / (layers - 1)) * np.where(right, 1, -1)[:, None] * answer
        states[:, layer] = (made + 3 * centre) * np.exp(size)
    folds = np.concatenate([np.arange(QUESTIONS) % FOLDS, np.full(QUESTIONS, ASKED_ALONE)])
    return Questions(states, right, np.arange(0, pairs, OPTIONS), folds)


def fresh(questions: Questions) -> Accuracies:
    """Fit as one writes it first: every fit from nothing, threads as they come."""

    def classifiers(n: int) -> Iterator[LogisticRegression]:
        return (LogisticRegression(C=1 / (l2 * n), max_iter=1000) for l2 in STRENGTHS)

    return _by_layer(classifiers, questions)


def warm(questions: Questions) -> Accuracies:
    """Fit as one does after a look at the time: every fit from the last one, and no threads."""

    def classifiers(n: int) -> Iterator[LogisticRegression]:
        classifier = LogisticRegression(warm_start=True, max_iter=1000)
        return (classifier.set_params(C=1 / (l2 * n)) for l2 in STRENGTHS)

    with threadpool_limits(1):
        return _by_layer(classifiers, questions)


def _by_layer(
    classifiers: Callable[[int], Iterator[LogisticRegression]], questions: Questions
) -> Accuracies:
    fold = np.repeat(questions.folds, OPTIONS)
    accuracies = []
    for layer in range(questions.states.shape[1]):
        states = questions.states[:, layer]
        x = StandardScaler().fit(states[fold != ASKED_ALONE]).transform(states)
        hits = np.zeros(len(STRENGTHS))
        for out in range(FOLDS):
            rows = (fold != ASKED_ALONE) & (fold != out)
            for place, preferred in enumerate(_preferred(classifiers, questions, x, rows)):
                hits[place] += preferred[questions.folds == out].sum()
        rows = fold != ASKED_ALONE
        asked = list(_preferred(classifiers, questions, x, rows))[int(hits.argmax())]
        accuracies.append(float(asked[questions.folds == ASKED_ALONE].mean()))
    return accuracies


def _preferred(
    classifiers: Callable[[int], Iterator[LogisticRegression]],
    questions: Questions,
    x: np.ndarray,
    rows: np.ndarray,
) -> Iterator[np.ndarray]:
    """Yield by penalty of which questions the fit on these rows prefers the true option."""
    truth = questions.right.reshape(-1, OPTIONS).argmax(1)
    for classifier in classifiers(int(rows.sum())):
        margins = classifier.fit(x[rows], questions.right[rows]).decision_function(x)
        yield margins.reshape(-1, OPTIONS).argmax(1) == truth


def equal(ours: Accuracies, theirs: Accuracies) -> str:
    """Check that accuracies are equal but for scikit-learn's earlier stop.

    It stops at a gradient of 1e-4, where ours is below 1e-5: a question or two on the edge, and now
    and then another penalty of two that are equally good.
    """
    apart = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
    assert len(apart) == len(ours)
    assert max(apart) <= 0.02, f"accuracies differ by {max(apart)}"
    assert np.mean(apart) <= 0.004, f"accuracies differ by {np.mean(apart)} on average"
    return (
        f"accuracies of all {len(ours)} layers equal within {max(apart):.4f}, "
        f"{np.mean(apart):.4f} on average"
    )
