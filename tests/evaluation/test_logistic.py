"""Fits reach the minimum that scikit-learn's Newton solver finds in float64, for all shapes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from forget.evaluation import logistic
from forget.evaluation.logistic import TOLERANCE, NotConverged, fit

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


def tensors(features: np.ndarray, *labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(features), torch.from_numpy(np.stack(labels))


@pytest.mark.parametrize("name", SHAPES)
def test_fits_are_at_the_minimum(name: str) -> None:
    (features, right), (unseen, _) = draw(*SHAPES[name], seed=0), draw(*SHAPES[name], seed=1)
    weights, intercepts = fit(*tensors(features, right), PENALTIES)
    assert weights.shape == (1, len(PENALTIES), features.shape[1])
    x = features.astype(float)
    for place, l2 in enumerate(PENALTIES):
        w, b = weights[0, place].double().numpy(), intercepts[0, place].item()
        error = (1 / (1 + np.exp(-(x @ w + b))) - right) / len(x)
        # The fit's own gradient is below the tolerance; that of weights rounded to float32 is next
        # to it.
        assert max(np.abs(x.T @ error + l2 * w).max(), abs(error.sum())) < 1.1 * TOLERANCE
        exact = LogisticRegression(
            C=1 / (l2 * len(x)), solver="newton-cholesky", tol=1e-9, max_iter=1000
        ).fit(x, right)
        margins, theirs = unseen @ w + b, exact.decision_function(unseen.astype(float))
        clear = np.abs(theirs) > 0.01 * np.abs(theirs).max()
        assert clear.mean() > 0.9
        assert ((margins > 0) == (theirs > 0))[clear].all()


def test_labelings_do_not_disturb_each_other() -> None:
    features, right = draw(*SHAPES["tall"], seed=0)
    dealt = np.random.default_rng(0).permutation(right)
    together = fit(*tensors(features, right, dealt), PENALTIES)
    for place, labels in enumerate((right, dealt)):
        for both, alone in zip(together, fit(*tensors(features, labels), PENALTIES), strict=True):
            assert torch.equal(both[place], alone[0])


def test_a_fit_that_does_not_converge_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "LIMIT", 2)
    with pytest.raises(NotConverged, match=r"an l2 of 0\.001 has not converged after 2 steps"):
        fit(*tensors(*draw(*SHAPES["separable"], seed=0)), (1e-3,))


def test_few_pairs_some_of_which_hardly_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right and wrong answers to 48 questions, some hardly apart: a few losses rule."""
    monkeypatch.setattr(logistic, "LIMIT", 50)
    draw = np.random.default_rng(0)
    questions, apart = draw.standard_normal((48, 576)), 10 ** draw.uniform(-2, 0, (48, 1))
    features = np.concatenate(
        [questions + apart * draw.standard_normal((48, 576)) for _ in range(2)]
    )
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    weights, intercepts = fit(*tensors(features, np.arange(96) < 48), PENALTIES)
    margins = features @ weights[0, -1].numpy() + intercepts[0, -1].item()
    assert ((margins > 0) == (np.arange(96) < 48)).all()


def test_a_step_descends_where_newtons_would_not() -> None:
    """Far out, where losses are flat, Newton's step along a direction goes much too far."""
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    sign = 2 * target - 1
    nothing = torch.zeros((), dtype=torch.double)

    def loss(margins: torch.Tensor) -> float:
        return torch.nn.functional.softplus(-sign * margins).mean().item()

    margins, change = (
        sign * torch.tensor([9.0, 9.0, 9.0, -9.0]).double(),
        sign * torch.tensor([-1.0, -1.0, -1.0, 9.0]).double(),
    )
    length = logistic._length(margins, change, target, nothing, nothing)
    newton = -((margins.sigmoid() - target) @ change) / (
        margins.sigmoid() * (1 - margins.sigmoid()) @ change.square()
    )
    assert loss(margins + newton * change) > loss(margins)
    assert length > 0
    assert loss(margins + length * change) < loss(margins)
    assert logistic._length(margins, -change, target, nothing, nothing) == 0
