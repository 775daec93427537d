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

    def shuffled(self, seed: int) -> Pairs:
        """The same states with labels drawn anew: half of the right pairs and half of the wrong ones are called right.

        A plain permutation would by chance keep some of the truth, which a clean layer gives back in full.
        """
        draw = np.random.default_rng(seed)
        labels = np.empty_like(self.right)
        for kind in (False, True):
            (places,) = np.where(self.right == kind)
            labels[places] = draw.permutation(np.arange(len(places)) % 2 == 0)
        return Pairs(self.states, labels)


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


def spread(states: torch.Tensor) -> list[float]:
    """Squared distance of each state [examples, width] from their mean: summed, over n - 1, the trace of the covariance."""
    return (states - states.mean(0)).square().sum(1).tolist()


def cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Linear CKA of the states of two sets of questions, [n, width] and [m, width], between 0 and 1.

    It compares which directions of the hidden space the two sets spread over: with centred X and Y,
    |X Y'|^2 / (|X X'| |Y Y'|) in Frobenius norms (Kornblith et al. 2019, eq. 3, the width taking the place of the examples,
    since two tasks share no example).
    """
    x, y = (states.double() - states.double().mean(0) for states in (x, y))
    cross = (x @ y.T).square().sum()
    return (cross / ((x @ x.T).norm() * (y @ y.T).norm())).item()
