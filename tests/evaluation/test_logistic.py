"""Fits reach the minimum that scikit-learn's Newton solver finds in float64, for all shapes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from forget.evaluation import logistic
from forget.evaluation.logistic import TOLERANCE, Fits

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3)
SHAPES = {
    "tall": (400, 40, 0.3),
    "square": (150, 150, 0.3),
    "wide": (100, 300, 0.3),
    "separable": (300, 30, 4.0),
    "separable and wide": (60, 200, 4.0),
    "blocks of X'X": (500, 260, 0.2),
}


def draw(n: int, width: int, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw standardised features [n, width] and labels.

    A few directions hold most of the features' variance; a third of the labels are true.
    """
    shape, noise = np.random.default_rng(0), np.random.default_rng([1, seed])
    right = np.arange(n) % 3 == 0
    features = noise.standard_normal((n, 8)) @ shape.standard_normal(
        (8, width)
    ) + 0.3 * noise.standard_normal((n, width))
    features += strength * np.where(right, 1, -1)[:, None] * shape.standard_normal(width)
    return ((features - features.mean(0)) / features.std(0)).astype(np.float32), right


def fit(features: np.ndarray, *labels: np.ndarray, rows: np.ndarray | None = None) -> Fits:
    """Fit every labeling at every penalty, in this order, on the same rows, or on all."""
    n = len(features)
    chosen = np.ones(n, dtype=bool) if rows is None else rows
    wanted = torch.from_numpy(np.stack(labels).repeat(len(PENALTIES), 0))
    return logistic.fit(
        torch.from_numpy(features),
        wanted,
        torch.from_numpy(chosen).expand(len(wanted), -1),
        torch.tensor(PENALTIES).repeat(len(labels)),
    )


@pytest.mark.parametrize("left_out", [0, 5])
@pytest.mark.parametrize("name", SHAPES)
def test_fits_are_at_the_minimum(name: str, left_out: int) -> None:
    """A fit is that of its own rows: every so many are left out, or none."""
    (features, right), (unseen, _) = draw(*SHAPES[name], seed=0), draw(*SHAPES[name], seed=1)
    rows = np.ones(len(right), dtype=bool)
    if left_out:
        rows[::left_out] = False
    found = fit(features, right, rows=rows)
    assert found.weights.shape == (len(PENALTIES), features.shape[1])
    assert found.converged.all()
    x, true = features[rows].astype(float), right[rows]
    for place, l2 in enumerate(PENALTIES):
        w, b = found.weights[place].double().numpy(), found.intercepts[place].item()
        error = (1 / (1 + np.exp(-(x @ w + b))) - true) / len(x)
        # Every entry of the fit's own gradient is below the tolerance, in a rotated basis: so is
        # its norm over the root of the width, in any. Rounding to float32 adds a little.
        gradient = np.append(x.T @ error + l2 * w, error.sum())
        assert np.linalg.norm(gradient) < 1.1 * TOLERANCE * len(gradient) ** 0.5
        exact = LogisticRegression(
            C=1 / (l2 * len(x)), solver="newton-cholesky", tol=1e-9, max_iter=1000
        ).fit(x, true)
        margins, theirs = unseen @ w + b, exact.decision_function(unseen.astype(float))
        clear = np.abs(theirs) > 0.01 * np.abs(theirs).max()
        assert clear.mean() > 0.9
        assert ((margins > 0) == (theirs > 0))[clear].all()
        ours = found.margins(torch.from_numpy(unseen))[place].numpy()
        np.testing.assert_allclose(ours, margins, rtol=1e-4, atol=1e-4)


def test_fits_do_not_disturb_each_other() -> None:
    features, right = draw(*SHAPES["tall"], seed=0)
    dealt = np.random.default_rng(0).permutation(right)
    together, n = fit(features, right, dealt), len(PENALTIES)
    for place, labels in enumerate((right, dealt)):
        alone = fit(features, labels)
        part = slice(place * n, place * n + n)
        # Products of other shapes add up in another order.
        torch.testing.assert_close(together.weights[part], alone.weights, rtol=0, atol=1e-4)
        torch.testing.assert_close(together.intercepts[part], alone.intercepts, rtol=0, atol=1e-4)


def test_a_fit_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "LIMIT", 8)
    features, right = draw(*SHAPES["separable"], seed=0)
    # The strongest penalty is done in a few steps, weaker ones are not.
    assert fit(features, right).converged.tolist() == [True, False, False, False]


def test_features_that_do_not_vary_are_fit() -> None:
    """Two rows that come again and again, as a last token of two labels has at the embedding."""
    pattern = np.random.default_rng(0).standard_normal(576).astype(np.float32)
    features = np.tile(np.stack([pattern, -pattern]), (48, 1))
    found = fit(features, np.arange(96) % 2 == 0)
    assert found.converged.all()
    assert (
        (found.margins(torch.from_numpy(features)) > 0).numpy() == (np.arange(96) % 2 == 0)
    ).all()


def test_few_pairs_some_of_which_hardly_differ() -> None:
    """Right and wrong answers to 48 questions, some hardly apart: a few losses rule."""
    draw = np.random.default_rng(0)
    questions, apart = draw.standard_normal((48, 576)), 10 ** draw.uniform(-2, 0, (48, 1))
    features = np.concatenate(
        [questions + apart * draw.standard_normal((48, 576)) for _ in range(2)]
    )
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    right = np.arange(96) < 48
    found = fit(features, right)
    assert found.converged.all()
    assert ((found.margins(torch.from_numpy(features))[-1].numpy() > 0) == right).all()


def test_a_step_descends_where_newtons_would_not() -> None:
    """Far out, where losses are flat, Newton's step along a direction goes much too far."""
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    sign = 2 * target - 1
    nothing = torch.zeros(1, 1, dtype=torch.double)
    share = torch.full((1, 4), 0.25, dtype=torch.double)

    def loss(margins: torch.Tensor) -> float:
        return torch.nn.functional.softplus(-sign * margins).mean().item()

    margins, change = (
        sign * torch.tensor([9.0, 9.0, 9.0, -9.0]).double(),
        sign * torch.tensor([-1.0, -1.0, -1.0, 9.0]).double(),
    )
    length = logistic._length(margins[None], change[None], target[None], share, nothing, nothing)
    newton = -((margins.sigmoid() - target) @ change) / (
        margins.sigmoid() * (1 - margins.sigmoid()) @ change.square()
    )
    assert loss(margins + newton * change) > loss(margins)
    assert length > 0
    assert loss(margins + length * change) < loss(margins)
    assert (
        logistic._length(margins[None], -change[None], target[None], share, nothing, nothing) == 0
    )
