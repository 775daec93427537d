"""Probes of other kinds than linear ones: small networks, and codes of labels by states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from forget.evaluation import logistic
from forget.evaluation.probing import ASKED_ALONE, Questions, standardised

HIDDEN = 64
"""Units of a network's one hidden layer."""

DECAYS = (10.0, 1.0, 0.1, 0.01)
"""Weight decays tried, strongest first."""

STEPS, RATE = 200, 1e-3
"""Steps of AdamW over all pairs at once, and their size."""

BLOCKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the questions at which the blocks of a code end (Voita and Titov 2020)."""


def network_margins(questions: Questions, layer: int, labels: np.ndarray, seed: int) -> np.ndarray:
    """Fit networks of one hidden layer that tell right from wrong; return margins [pairs asked].

    They are fit on all folds but the first, on which the weight decay is chosen; of equals the
    strongest. What is asked are the questions that are ASKED_ALONE.

    Args:
        questions: pairs and folds, some of them ASKED_ALONE.
        layer: index into the layers of the states.
        labels: [pairs] to fit on and to choose by.
        seed: seed of the first weights.
    """
    fold = np.repeat(questions.folds, questions.options)
    lent = torch.from_numpy(fold != ASKED_ALONE)
    features = standardised(torch.from_numpy(questions.states[:, layer]).float(), lent)
    fit_on = torch.from_numpy((fold != ASKED_ALONE) & (fold != 0))
    target = torch.from_numpy(labels).float()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        networks = []
        for _ in DECAYS:
            torch.manual_seed(seed)
            first, last = nn.Linear(features.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
            networks.append(nn.Sequential(first, nn.ReLU(), last))
        groups = []
        for network, decay in zip(networks, DECAYS, strict=True):
            groups.append({"params": list(network.parameters()), "weight_decay": decay})
        optimiser = torch.optim.AdamW(groups, lr=RATE)
        for _ in range(STEPS):
            optimiser.zero_grad()
            for network in networks:
                said = network(features[fit_on])[:, 0]
                functional.binary_cross_entropy_with_logits(said, target[fit_on]).backward()
            optimiser.step()
    with torch.no_grad():
        margins = np.stack([network(features)[:, 0].numpy() for network in networks])
    chosen_by = fold == 0
    right = ((margins > 0) == labels)[:, chosen_by].mean(1)
    return np.asarray(margins[int(right.argmax())][fold == ASKED_ALONE])


def online_code(
    states: torch.Tensor, right: np.ndarray, starts: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Code the labels of pairs one block after the other, each by a fit on those before.

    The pairs of a question are in one block. In the first a label costs one bit; later ones are
    coded by a logistic regression on standardised states, whose penalty is that of scikit-learn's
    C = 1.

    Args:
        states: [pairs, width].
        right: [pairs], the labels.
        starts: [questions], the index of each question's first pair.
        seed: seed of the order of the questions.

    Returns:
        Margins [pairs], 0 in the first block, and bits [pairs]; None where a fit did not converge.
    """
    options = np.diff([*starts, len(right)])
    order = np.random.default_rng(seed).permutation(len(starts))
    ends = [max(1, round(share * len(starts))) for share in BLOCKS]
    rank = np.empty(len(starts), dtype=int)
    rank[order] = np.arange(len(starts))
    rank = np.repeat(rank, options)
    margins = np.zeros(len(right))
    for before, end in pairwise(ends):
        known, coded = torch.from_numpy(rank < before), (rank >= before) & (rank < end)
        features = standardised(states.float(), known)
        count = int(known.sum())
        fits = logistic.fit(
            features[known],
            torch.from_numpy(right)[known][None],
            torch.ones(1, count, dtype=torch.bool),
            torch.tensor([1 / count]),
        )
        if not fits.converged.all():
            return None
        margins[coded] = fits.margins(features)[0].numpy()[coded]
    return margins, bits(np.where(right, margins, -margins))


def bits(margins: np.ndarray) -> np.ndarray:
    """Return what labels cost in bits, from the log-odds that each was given."""
    return np.asarray(np.logaddexp(0, -margins) / np.log(2))


def preferences(margins: np.ndarray, options: Sequence[int]) -> list[tuple[float, ...]]:
    """Return, by question, the logarithms of shares that go with its options' margins."""
    found = []
    for part in np.split(margins, np.cumsum(options)[:-1]):
        found.append(tuple((part - np.logaddexp.reduce(part)).tolist()))
    return found
