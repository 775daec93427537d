"""Probes that are no linear ones: codes as published, networks that read what no line does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forget.analyses.codes import compression
from forget.evaluation.probing import ASKED_ALONE, pairs
from forget.evaluation.variants import bits, network_margins, online_code, preferences


def test_a_code_costs_what_was_not_foreseen() -> None:
    chances = np.array([0.5, 0.5, 0.8, 0.5, 0.9])
    found = bits(np.log(chances / (1 - chances)))
    assert found.sum() == pytest.approx(3.473931, abs=5e-7)
    assert compression(np.array(5.0), found.sum()) == pytest.approx(1.439292, abs=5e-7)


def shifted(shift: float, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return states of 400 questions of two pairs each, right ones apart from wrong by a shift."""
    draw = np.random.default_rng(seed)
    right = np.tile([True, False], 400)
    states = draw.standard_normal((800, 20))
    states[:, 0] += np.where(right, shift, -shift)
    return torch.from_numpy(states), right, np.arange(0, 800, 2)


def entropy(shift: float) -> float:
    """Return the bits that a label costs who knows how the pairs were made."""
    x = np.random.default_rng(0).standard_normal(200_000) + shift
    return float(np.mean(np.logaddexp(0, -2 * shift * x) / np.log(2)))


def test_what_is_planted_is_compressed() -> None:
    compressed = []
    for shift in (0.0, 0.5, 1.0, 2.0):
        costs = []
        for seed in range(3):
            code = online_code(*shifted(shift, seed), seed=seed)
            assert code is not None
            margins, cost = code
            assert (margins == 0).sum() == (cost == 1).sum() == 50
            costs.append(cost.sum())
        # Beside the first block, whoever has to learn the 21 numbers of a fit pays for them: about
        # half the logarithm of the labels each, 101 bits in all.
        learning = np.mean(costs) - 50 - 750 * entropy(shift)
        assert 20 < learning < 150
        compressed.append(float(compression(np.array(800.0), np.mean(costs))))
    assert compressed == sorted(compressed)
    assert 0.85 < compressed[0] < 1
    assert 4 < compressed[-1] < 6


def test_no_block_is_coded_by_its_own_labels() -> None:
    """Labels of the last block, turned round, change no chance that is given before them."""
    states, right, starts = shifted(1.0)
    order = np.random.default_rng(3).permutation(400)
    last = np.isin(np.repeat(np.arange(400), 2), order[200:])
    before, after = (
        online_code(states, labels, starts, seed=3)
        for labels in (right, np.where(last, ~right, right))
    )
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[0], after[0])
    assert after[1][last].sum() > 2 * before[1][last].sum()


def test_a_network_reads_what_no_line_divides_and_no_shuffled_label() -> None:
    draw = np.random.default_rng(1)
    # Right where two signs agree: each alone says nothing.
    states = draw.standard_normal((1200, 1, 6))
    agree = (states[:, 0, 0] > 0) == (states[:, 0, 1] > 0)
    right, wrong = states[agree][:500], states[~agree][:500]
    together = torch.from_numpy(np.stack([right, wrong], 1).reshape(1000, 1, 6))
    folds = np.array([ASKED_ALONE] * 100 + [place % 5 for place in range(400)])
    questions = pairs(together, [0] * 500, [2] * 500, folds)
    told = network_margins(questions, 0, questions.right, seed=0).reshape(100, 2)
    control = network_margins(questions, 0, questions.dealt(0), seed=0).reshape(100, 2)
    assert np.mean(told[:, 0] > told[:, 1]) > 0.9
    assert np.mean(control[:, 0] > control[:, 1]) == pytest.approx(0.5, abs=0.15)


def test_shares_of_options_go_with_their_margins() -> None:
    found = preferences(np.array([0.0, np.log(3), 2.0, 2.0, 2.0]), [2, 3])
    np.testing.assert_allclose(np.exp(found[0]), [0.25, 0.75])
    np.testing.assert_allclose(np.exp(found[1]), [1 / 3] * 3)
