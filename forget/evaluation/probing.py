"""Linear probes of hidden states by layer, and the spread of a task's questions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from forget.evaluation import logistic

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""L2 penalties tried, strongest first; the paper leaves the path open."""


@dataclass(frozen=True)
class Pairs:
    """(question, answer) pairs to tell right from wrong."""

    states: np.ndarray
    """[pairs, layers, width]"""
    right: np.ndarray
    """[pairs], true where the answer is the true option."""

    def shuffled(self, seed: int) -> Pairs:
        """Return the states with labels drawn anew, for a control (Hewitt and Liang 2019).

        Half of the right pairs and half of the wrong ones are called right. A plain permutation
        would by chance keep some of the truth, which a clean layer gives back in full.
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
    """1 where the probe is right, by pair."""
    l2: float
    """The penalty chosen on the validation pairs."""


def pairs(states: torch.Tensor, answers: Sequence[int], options: Sequence[int]) -> Pairs:
    """Return the (question, answer) pairs of examples.

    Args:
        states: [options of all examples, layers, width].
        answers: index of each example's true option.
        options: how many options each example has.
    """
    right: list[bool] = []
    for answer, count in zip(answers, options, strict=True):
        right += [option == answer for option in range(count)]
    return Pairs(states.numpy(), np.array(right))


def probe_labelings(labelings: Sequence[tuple[Pairs, Pairs]], test: Pairs) -> list[list[Probed]]:
    """Fit a logistic regression on each layer's standardised states, for each labeling of them.

    Of several L2 penalties the one that is best on the validation pairs is kept.

    Args:
        labelings: training and validation pairs; the states of all are the same, and prepared once.
        test: what the probes are asked.

    Returns:
        The probes by labeling and layer.

    Raises:
        ValueError: a set without both right and wrong pairs.
        FloatingPointError: states that are not finite.
        NotConverged: a regression without a minimum in sight (forget.evaluation.logistic).
    """
    for fit_on, choose_on in labelings:
        for name, part in (("train", fit_on), ("validation", choose_on), ("test", test)):
            if len(np.unique(part.right)) != 2:
                raise ValueError(f"the probe's {name} pairs hold no right or no wrong answers")
    train, validation = labelings[0]
    for fit_on, choose_on in labelings:
        if fit_on.states is not train.states or choose_on.states is not validation.states:
            raise ValueError("labelings of other states")
    states = [torch.from_numpy(part.states) for part in (train, validation, test)]
    fit_right = torch.from_numpy(np.stack([fit_on.right for fit_on, _ in labelings]))
    choose_right = torch.from_numpy(np.stack([choose_on.right for _, choose_on in labelings]))
    test_right = torch.from_numpy(test.right)

    def probe_layer(layer: int) -> list[Probed]:
        return _probe_layer(
            [part[:, layer].float() for part in states], fit_right, choose_right, test_right
        )

    # A layer a thread: a fit's vectors are too short to be shared. Of two busy cores, threads that
    # wait for each other at every product made the probes ten times slower. The order of the sums,
    # too, is then the same for any number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            layers = list(pool.map(probe_layer, range(train.states.shape[1])))
    finally:
        torch.set_num_threads(threads)
    return [list(probes) for probes in zip(*layers, strict=True)]


def _probe_layer(
    states: Sequence[torch.Tensor],
    fit_right: torch.Tensor,
    choose_right: torch.Tensor,
    test_right: torch.Tensor,
) -> list[Probed]:
    """Fit a layer's probe for each labeling.

    Args:
        states: [pairs, width] of the training, validation and test set.
        fit_right: training labels [labelings, pairs].
        choose_right: validation labels [labelings, pairs].
        test_right: the truth [pairs].
    """
    fit_on, choose_on, test_on = states
    mean = fit_on.mean(0)
    features = fit_on - mean
    deviation = torch.linalg.vector_norm(features, dim=0) / len(features) ** 0.5
    if not deviation.isfinite().all():
        raise FloatingPointError("the probe's states are not finite")
    # As scikit-learn's scaler: a feature that never varies stays as it is.
    deviation[fit_on.amax(0) == fit_on.amin(0)] = 1
    weights, intercepts = logistic.fit(features.div_(deviation), fit_right, STRENGTHS)
    chosen, found = (
        _predictions(part - mean, weights / deviation, intercepts) for part in (choose_on, test_on)
    )
    # Of equals the first penalty is kept, which is the strongest.
    choices = (chosen == choose_right[:, None]).sum(2).argmax(1).tolist()
    correct = (found == test_right).float()
    return [
        Probed(tuple(correct[labeling, choice].tolist()), STRENGTHS[choice])
        for labeling, choice in enumerate(choices)
    ]


def _predictions(
    states: torch.Tensor, weights: torch.Tensor, intercepts: torch.Tensor
) -> torch.Tensor:
    """Return which answers are called right, [labelings, penalties, pairs]."""
    margins = weights @ states.T + intercepts[..., None]
    if not margins.isfinite().all():
        raise FloatingPointError("the probe's states are not finite")
    return margins > 0


def spread(states: torch.Tensor) -> list[float]:
    """Return the squared distance of each state [examples, width] from their mean.

    Their sum over n - 1 is the trace of the covariance.
    """
    return (states - states.mean(0)).square().sum(1).tolist()


def cka(x: torch.Tensor, y: torch.Tensor) -> float | None:
    """Return the linear CKA of two sets of questions' states, [n, width] and [m, width].

    It is between 0 and 1.

    None where the states of a set do not vary. It compares which directions of the hidden space the
    two sets spread over:
    with centred X and Y, |X Y'|^2 / (|X X'| |Y Y'|) in Frobenius norms (Kornblith et al. 2019, eq.
    3, the width taking the place of the examples, since two tasks share no example).
    """
    x, y = (states.double() - states.double().mean(0) for states in (x, y))
    whole = (x @ x.T).norm() * (y @ y.T).norm()
    return ((x @ y.T).square().sum() / whole).item() if whole else None
