"""CKA without bias: published vectors, what it must not see, and the part that each item has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forget.evaluation.alignment import by_item, cka

X = torch.tensor([[1.0, 0], [0, 1], [2, 1], [-1, 2], [0, -2]])
Y = torch.tensor([[1.0, 1, 0], [0, 2, 1], [3, 1, 0], [-2, 1, 1], [0, -1, -2]])


def normal(n: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_cka_of_the_published_vectors() -> None:
    assert cka(X, Y, biased=True) == pytest.approx(0.825383, abs=5e-6)
    assert cka(X, Y) == pytest.approx(0.431229, abs=5e-6)


def test_independent_states_are_unlike_however_wide() -> None:
    x, y = normal(150, 576, 1), normal(150, 576, 2)
    assert cka(x, y, biased=True) == pytest.approx(0.794, abs=0.01)
    assert cka(x, y) == pytest.approx(0, abs=0.02)


def test_rotation_and_scale_move_nothing() -> None:
    x = normal(40, 12, 3)
    rotation, _ = torch.linalg.qr(normal(12, 12, 4))
    for moved in (x, x @ rotation, 3.5 * x, x @ rotation * 0.2 + 7):
        assert cka(x, moved) == pytest.approx(1, abs=1e-6)
        parts = by_item(x, moved)
        assert parts is not None
        np.testing.assert_allclose(parts, 1, atol=1e-4)


def test_the_parts_of_items_are_what_each_adds() -> None:
    x, y = normal(30, 8, 5), normal(30, 8, 5) + normal(30, 8, 6)
    parts = by_item(x, y)
    whole = cka(x, y)
    assert parts is not None
    assert whole is not None
    assert float(parts.mean()) == pytest.approx(whole, abs=1e-12)
    without = []
    for item in range(30):
        rest = [place for place in range(30) if place != item]
        found = cka(x[rest], y[rest])
        assert found is not None
        without.append(found)
    expected = whole + 29 * (np.mean(without) - np.array(without))
    np.testing.assert_allclose(parts, expected, atol=1e-9)


def test_the_parts_have_the_variance_of_the_whole() -> None:
    """Over samples of the same two models' items, CKA spreads as its parts say it does."""
    found, told = [], []
    for seed in range(200):
        x = normal(60, 4, seed)
        y = x + 0.8 * normal(60, 4, 1000 + seed)
        parts = by_item(x, y)
        assert parts is not None
        found.append(float(parts.mean()))
        told.append(float(parts.var() / 60))
    assert np.mean(told) == pytest.approx(np.var(found), rel=0.25)


@pytest.mark.parametrize(("x", "y"), [(torch.ones(9, 3), normal(9, 3, 1)), (X[:4], Y[:4])])
def test_what_does_not_vary_or_is_too_little_has_no_parts(x: torch.Tensor, y: torch.Tensor) -> None:
    assert by_item(x, y) is None
