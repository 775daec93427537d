"""Linear probes of hidden states by layer, and the spread of a task's questions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch

from forget.evaluation import logistic
from forget.results.folds import FOLDS

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""L2 penalties tried, strongest first; the paper leaves the path open."""

ASKED_ALONE = -1
"""Fold of a question that no probe is fit on."""


@dataclass(frozen=True)
class Questions:
    """The (question, answer) pairs of questions, to tell right from wrong."""

    states: np.ndarray
    """[pairs, layers, width], those of a question side by side"""
    right: np.ndarray
    """[pairs], true where the answer is the true option."""
    starts: np.ndarray
    """[questions], the index of each question's first pair"""
    folds: np.ndarray
    """[questions], 0 to 4, or ASKED_ALONE"""

    @property
    def options(self) -> np.ndarray:
        """[questions], the pairs of each."""
        return np.diff([*self.starts, len(self.right)])

    def dealt(self, seed: int, by_fold: bool = False) -> np.ndarray:
        """Return labels dealt out anew, for a control (Hewitt and Liang 2019).

        Half of the right pairs and half of the wrong ones are called right. A plain permutation
        would by chance keep some of the truth, which a clean layer gives back in full.

        Args:
            seed: seed of the deal.
            by_fold: deal out within each fold, so that those that a probe is fit on are halved.
        """
        draw = np.random.default_rng(seed)
        labels = np.empty_like(self.right)
        fold = np.repeat(self.folds, self.options) if by_fold else np.zeros(len(labels))
        for one, kind in product(np.unique(fold), (False, True)):
            (places,) = np.where((self.right == kind) & (fold == one))
            labels[places] = draw.permutation(np.arange(len(places)) % 2 == 0)
        return labels


@dataclass(frozen=True)
class Probed:
    """A layer's probe on the questions that are asked: each of a fit that has not seen it."""

    preferred: np.ndarray
    """[asked], 1 where the true option's margin is the largest; equals share the point."""
    correct: np.ndarray
    """[asked], share of the question's pairs that are rightly called right or wrong."""
    l2: float
    """The penalty that most folds chose; of equals the strongest."""
    margins: np.ndarray
    """[pairs asked], above 0 where a pair is called right."""


def pairs(
    states: torch.Tensor, answers: Sequence[int], options: Sequence[int], folds: np.ndarray
) -> Questions:
    """Return the (question, answer) pairs of examples.

    Args:
        states: [options of all examples, layers, width].
        answers: index of each example's true option.
        options: how many options each example has.
        folds: [examples], as `folds` deals them out, or ASKED_ALONE.
    """
    right: list[bool] = []
    for answer, count in zip(answers, options, strict=True):
        right += [option == answer for option in range(count)]
    starts = np.concatenate([[0], np.cumsum(options)[:-1]]).astype(int)
    return Questions(states.numpy(), np.array(right), starts, folds)


def folds(groups: Sequence[str], truths: Sequence[Hashable], seed: int) -> np.ndarray:
    """Deal questions out to folds of about equal size.

    A fold has every truth about as often as the others. Else, where nothing can be read, a probe
    would learn of the other folds' labels which one its own fold has less often, and be wrong more
    often than a guess.

    Args:
        groups: by question; questions of one group share their source, and so their fold.
        truths: by question, its true answer.
        seed: seed of the order in which groups of a size are dealt out.
    """
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    order = random.Random(f"{seed}/folds").sample(list(members.values()), len(members))
    dealt = np.empty(len(groups), dtype=int)
    sizes, held = [0] * FOLDS, [Counter[Hashable]() for _ in range(FOLDS)]

    def crowding(fold: int, truth: Counter[Hashable]) -> tuple[int, int]:
        return sum(held[fold][one] * count for one, count in truth.items()), sizes[fold]

    for places in sorted(order, key=len, reverse=True):
        truth = Counter(truths[place] for place in places)
        fold = min(range(FOLDS), key=partial(crowding, truth=truth))
        dealt[places] = fold
        sizes[fold] += len(places)
        held[fold].update(truth)
    return dealt


def probe_labelings(
    questions: Questions, labelings: Sequence[np.ndarray]
) -> list[list[Probed | None]]:
    """Probe each layer's standardised states by logistic regressions, for each labeling of pairs.

    Questions in folds are cross-fit: those of a fold are asked of a fit on the others. Its L2
    penalty is the one that best tells which option of a question is true where each of the other
    folds in turn is asked of a fit on the rest, so that no answer of the fold bears on it. If there
    are questions that are ASKED_ALONE, only these are asked, of a fit on all folds.

    Args:
        questions: the pairs and their folds.
        labelings: labels [pairs] to fit on. What is asked is the truth in any case.

    Returns:
        The probes by labeling and layer; None where no regression has converged.

    Raises:
        FloatingPointError: states that are not finite.
    """
    wanted = torch.from_numpy(np.stack(labelings))

    def probe_layer(layer: int) -> list[Probed | None]:
        return _probe_layer(torch.from_numpy(questions.states[:, layer]), questions, wanted)

    # A layer a thread: a fit's vectors are too short to be shared. Of two busy cores, threads that
    # wait for each other at every product made the probes ten times slower. The order of the sums,
    # too, is then the same for any number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            layers = list(pool.map(probe_layer, range(questions.states.shape[1])))
    finally:
        torch.set_num_threads(threads)
    return [list(probes) for probes in zip(*layers, strict=True)]


def _probe_layer(
    states: torch.Tensor, questions: Questions, labels: torch.Tensor
) -> list[Probed | None]:
    """Probe a layer for each labeling.

    Args:
        states: [pairs, width].
        questions: their folds and truth.
        labels: [labelings, pairs].
    """
    if not states.isfinite().all():
        raise FloatingPointError("the probe's states are not finite")
    options = questions.options
    fold = torch.from_numpy(np.repeat(questions.folds, options))
    lent = fold != ASKED_ALONE
    features = standardised(states.float(), lent)
    present = sorted(set(questions.folds.tolist()) - {ASKED_ALONE})
    asked_folds = [ASKED_ALONE] if ASKED_ALONE in questions.folds else present
    # A fit leaves out what it is asked, and one fold more where a penalty is chosen by that fold.
    both = {frozenset(some) for some in product(asked_folds, present)}
    left_out = sorted(both | {frozenset([one]) for one in asked_folds}, key=sorted)
    rows = torch.stack([lent & ~torch.isin(fold, torch.tensor(list(out))) for out in left_out])
    # Margins [labelings, sets left out, penalties, pairs].
    shape = len(labels), len(left_out), len(STRENGTHS)
    fits = logistic.fit(
        features,
        labels[:, None, None].expand(*shape, -1).flatten(0, 2),
        rows[None, :, None].expand(*shape, -1).flatten(0, 2),
        torch.tensor(STRENGTHS).expand(shape).flatten(),
    )
    converged = fits.converged.numpy().reshape(shape)
    # What has not converged may not even be finite; it is not used.
    margins = fits.margins(features).numpy().reshape(*shape, -1)
    margins[~converged] = 0
    set_of = {out: place for place, out in enumerate(left_out)}
    return [
        _cross_fit(questions, margins[one], converged[one], set_of, present, asked_folds)
        for one in range(len(labels))
    ]


def _cross_fit(
    questions: Questions,
    margins: np.ndarray,
    converged: np.ndarray,
    set_of: dict[frozenset[int], int],
    present: Sequence[int],
    asked_folds: Sequence[int],
) -> Probed | None:
    """Ask each fold of the fit that has not seen it, at the penalty that the others choose.

    Args:
        questions: the truth.
        margins: [sets left out, penalties, pairs].
        converged: [sets left out, penalties].
        set_of: the index of each set of folds that a fit leaves out.
        present: the folds that probes are fit on.
        asked_folds: the folds that are asked.
    """
    preferred, correct = _judged(questions, margins)
    found = np.full((2, len(questions.folds)), np.nan)
    options = questions.options
    taken = np.full(len(questions.right), np.nan)
    chosen: list[int] = []
    for fold in asked_folds:
        scores, usable = np.zeros(len(STRENGTHS)), converged[set_of[frozenset([fold])]].copy()
        for other in present:
            inner = set_of[frozenset({fold, other})]
            if other != fold:
                scores += preferred[inner][:, questions.folds == other].sum(1)
                usable &= converged[inner]
        if not usable.any():
            return None
        # Of equals the first penalty is kept, which is the strongest.
        best = int(np.where(usable, scores, -1).argmax())
        asked, fitted = questions.folds == fold, set_of[frozenset([fold])]
        found[0, asked], found[1, asked] = (
            part[fitted, best, asked] for part in (preferred, correct)
        )
        own = np.repeat(asked, options)
        taken[own] = margins[fitted, best, own]
        chosen.append(best)
    asked = np.isin(questions.folds, asked_folds)
    l2 = STRENGTHS[_commonest(chosen)]
    return Probed(found[0, asked], found[1, asked], l2, taken[np.repeat(asked, options)])


def _commonest(places: Sequence[int]) -> int:
    """Return the place that comes most often; of equals the first."""
    count = Counter(places)
    return min(count, key=lambda place: (-count[place], place))


def _judged(questions: Questions, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each question is answered by pair preference, and by its pairs one by one.

    Args:
        questions: the truth.
        margins: [..., pairs].

    Returns:
        Two arrays [..., questions] of 0 to 1, as `Probed` has them.
    """
    starts = questions.starts
    options = questions.options
    best = margins == np.repeat(np.maximum.reduceat(margins, starts, -1), options, -1)
    winners = np.add.reduceat(best.astype(float), starts, -1)
    preferred = best[..., questions.right] / winners
    judged = ((margins > 0) == questions.right).astype(float)
    return preferred, np.add.reduceat(judged, starts, -1) / options


def standardised(states: torch.Tensor, lent: torch.Tensor) -> torch.Tensor:
    """Return states [pairs, width] less the mean, over the deviation, of the lent ones.

    They are of all folds: labels have no part in them.
    """
    fit_on = states[lent]
    mean = fit_on.mean(0)
    deviation = torch.linalg.vector_norm(fit_on - mean, dim=0) / len(fit_on) ** 0.5
    if not deviation.isfinite().all():
        raise FloatingPointError("the probe's states are not finite")
    # As scikit-learn's scaler: a feature that never varies stays as it is.
    deviation[fit_on.amax(0) == fit_on.amin(0)] = 1
    return (states - mean) / deviation


def middle(layers: Sequence[int], blocks: int) -> list[int]:
    """Return those of the layers that lie in the middle half of a model of so many blocks.

    Where none does, it is the one that lies nearest to the middle; of two the later, for the first
    may be the embedding. A choice by depth treats the phases alike, where the layer that reads best
    after learning would flatter the time before.
    """
    inside = [layer for layer in layers if blocks / 4 <= layer <= 3 * blocks / 4]
    return inside or [min(layers, key=lambda layer: (abs(layer - blocks / 2), -layer))]


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
