"""What can still be read off the hidden states: linear probes by layer, and the spread of a task's questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""L2 penalties tried, strongest first; the paper leaves the path open."""


@dataclass(frozen=True)
class Pairs:
    """(question, answer) pairs to tell right from wrong."""

    states: np.ndarray
    """[pairs, layers, width]"""
    right: np.ndarray
    """[pairs] whether the answer is the true option."""


@dataclass(frozen=True)
class Probed:
    """A layer's probe on the test pairs."""

    correct: tuple[float, ...]
    """By pair, 1 where the probe is right."""
    l2: float
    """The penalty chosen on the validation pairs."""


def pairs(states: torch.Tensor, answers: Sequence[int], options: Sequence[int]) -> Pairs:
    """Pairs of all options ([options of all examples, layers, width]) of examples with the given true options."""
    right = [option == answer for answer, count in zip(answers, options, strict=True) for option in range(count)]
    return Pairs(states.numpy(), np.array(right))


def probe(train: Pairs, validation: Pairs, test: Pairs) -> list[Probed]:
    """Logistic regression on each layer's standardised states; of several L2 penalties the one best on validation is kept.

    Raises:
        ValueError: a set without both right and wrong pairs.
    """
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if len(np.unique(part.right)) != 2:
            raise ValueError(f"the probe's {name} pairs hold no right or no wrong answers")
    # The solver's vectors are too short for threads: on two busy cores, three layers took 17 s with them and 0.3 s without.
    with threadpool_limits(1, user_api="blas"):
        return [
            _probe_layer(*(Pairs(part.states[:, layer], part.right) for part in (train, validation, test)))
            for layer in range(train.states.shape[1])
        ]


def _probe_layer(train: Pairs, validation: Pairs, test: Pairs) -> Probed:
    scaler = StandardScaler().fit(train.states)
    features = [scaler.transform(part.states) for part in (train, validation, test)]
    # The loss is mean logistic loss + l2/2 |w|^2, while scikit-learn's C multiplies a sum. A fit starts from the last one.
    classifier = LogisticRegression(warm_start=True, max_iter=1000)
    best, best_accuracy = None, -1.0
    for l2 in STRENGTHS:
        classifier.set_params(C=1 / (l2 * len(train.right))).fit(features[0], train.right)
        accuracy = classifier.score(features[1], validation.right)
        if accuracy > best_accuracy:
            correct = classifier.predict(features[2]) == test.right
            best, best_accuracy = Probed(tuple(correct.astype(float).tolist()), l2), accuracy
    assert best is not None
    return best


def variability(states: torch.Tensor) -> float:
    """Trace of the covariance of the questions' states [examples, width] (the paper: last token, fifth-to-last layer).

    Raises:
        ValueError: fewer than two examples.
    """
    if len(states) < 2:
        raise ValueError("variability needs two examples at least")
    return states.var(0).sum().item()
