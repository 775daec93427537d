"""Probes find what is there and nothing else, and choose their penalty without the test."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from forget.evaluation import probing
from forget.evaluation.probing import STRENGTHS, Pairs, cka, pairs, probe_labelings, spread
from forget.results.metrics import variability
from forget.results.rows import Row

WIDTH = 20


def planted(n: int, strengths: tuple[float, ...], name: str) -> Pairs:
    """Return noise by layer, plus the answer along one direction with the given strength.

    Columns differ in size by 10,000.
    """
    draw = np.random.default_rng(list(name.encode()))
    right = np.arange(n) % 2 == 0
    direction = np.random.default_rng(0).standard_normal(WIDTH) / np.sqrt(WIDTH)
    scale = 10.0 ** np.linspace(-2, 2, WIDTH)
    states = draw.standard_normal((n, len(strengths), WIDTH))
    for layer, strength in enumerate(strengths):
        states[:, layer] += strength * np.where(right, 1, -1)[:, None] * direction
    return Pairs((states * scale + 5 * scale).astype(np.float32), right)


def three(strengths: tuple[float, ...], n: int = 300) -> tuple[Pairs, Pairs, Pairs]:
    return (
        planted(n, strengths, "train"),
        planted(n, strengths, "validation"),
        planted(n, strengths, "test"),
    )


def probe(train: Pairs, validation: Pairs, test: Pairs) -> list[probing.Probed]:
    """Probe one labeling."""
    (found,) = probe_labelings([(train, validation)], test)
    return found


def accuracy(found: probing.Probed) -> float:
    return float(np.mean(found.correct))


def layer(part: Pairs, number: int) -> np.ndarray:
    return part.states[:, number]


def test_probes_are_those_of_a_scikit_learn_pipeline() -> None:
    train, validation, test = three((0.0, 0.3, 0.5, 0.7, 1.0, 3.0), n=100)
    probes = probe(train, validation, test)
    assert len({found.l2 for found in probes}) > 2
    for number, found in enumerate(probes):
        fits = {
            l2: make_pipeline(
                StandardScaler(), LogisticRegression(C=1 / (l2 * 100), max_iter=1000, tol=1e-6)
            ).fit(layer(train, number), train.right)
            for l2 in STRENGTHS
        }
        # Of equals the strongest penalty, which is the first.
        chosen = max(
            fits, key=lambda l2: fits[l2].score(layer(validation, number), validation.right)
        )
        assert found.l2 == chosen
        assert found.correct == tuple(
            (fits[chosen].predict(layer(test, number)) == test.right).astype(float)
        )


@pytest.mark.parametrize("n", [12, 60, 1000])
def test_accuracies_are_those_of_the_exact_minimum(n: int) -> None:
    """Probes with fewer pairs than the width, more, and many.

    They are without skill, with some, and so that a plane parts the answers.
    """
    strengths = (0.0, 0.5, 1.0, 2.0, 6.0)
    train, validation, test = three(strengths, n)
    for number, found in enumerate(probe(train, validation, test)):
        fits = [
            make_pipeline(
                StandardScaler(),
                LogisticRegression(
                    C=1 / (l2 * n), max_iter=1000, tol=1e-9, solver="newton-cholesky"
                ),
            ).fit(layer(train, number).astype(float), train.right)
            for l2 in STRENGTHS
        ]
        exact = max(fits, key=lambda one: one.score(layer(validation, number), validation.right))
        assert abs(accuracy(found) - exact.score(layer(test, number), test.right)) < 0.002


def test_a_constant_feature_changes_nothing() -> None:
    parts = three((0.7,))

    def widened(part: Pairs, value: float) -> Pairs:
        return Pairs(
            np.concatenate([part.states, np.full_like(part.states[..., :1], value)], 2), part.right
        )

    (plain,) = probe(*parts)
    # Even if it is another constant where the probe is tried.
    train, validation, test = (
        widened(part, value) for part, value in zip(parts, (0.1, 0.1, 7.0), strict=True)
    )
    assert probe(train, validation, test) == [plain]


@pytest.mark.parametrize("position", range(3))
def test_states_that_are_not_finite_are_refused(position: int) -> None:
    parts = three((0.7,))
    parts[position].states[3, 0, 2] = np.inf
    with pytest.raises(FloatingPointError, match="states are not finite"):
        probe(*parts)


def test_threads_change_nothing() -> None:
    parts = three((0.0, 0.3, 0.5, 0.7, 1.0))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(probe(*parts))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_labelings_are_probed_as_if_each_were_alone() -> None:
    train, validation, test = three((0.3, 1.0))
    dealt = train.shuffled(0), validation.shuffled(0)
    assert probe_labelings([(train, validation), dealt], test) == [
        probe(train, validation, test),
        probe(*dealt, test),
    ]
    with pytest.raises(ValueError, match="labelings of other states"):
        probe_labelings([(train, validation), (test, validation)], test)


def test_the_penalty_is_that_of_the_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented loss, minimised without scikit-learn, has the probe's minimum.

    It is the mean logistic loss + l2/2 |w|^2 on standardised states.
    """
    train, validation, test = three((0.7,))
    features, unseen = (
        ((layer(part, 0) - layer(train, 0).mean(0)) / layer(train, 0).std(0))
        for part in (train, test)
    )
    sign = np.where(train.right, 1, -1)
    for l2 in STRENGTHS:
        monkeypatch.setattr(probing, "STRENGTHS", (l2,))

        def loss(w: np.ndarray, l2: float = l2) -> float:
            return float(
                np.logaddexp(0, -sign * (features @ w[:-1] + w[-1])).mean()
                + l2 / 2 * w[:-1] @ w[:-1]
            )

        best = minimize(loss, np.zeros(WIDTH + 1), method="BFGS").x
        margin = unseen @ best[:-1] + best[-1]
        correct = np.array(probe(train, validation, test)[0].correct, dtype=bool)
        clear = np.abs(margin) > 0.02 * np.abs(margin).max()
        assert clear.mean() > 0.9
        assert (correct == ((margin > 0) == test.right))[clear].all()


def test_a_signal_is_found_where_it_is_and_nowhere_else() -> None:
    train, validation, test = three((0.0, 3.0, 0.0), n=800)
    first, second, third = map(accuracy, probe(train, validation, test))
    # Along the direction the classes are 2 * 3 standard deviations apart: a perfect probe is right
    # in 99.9 % of pairs.
    assert second > 0.98
    # Without a signal, 800 fair coins: four standard deviations are 0.07.
    assert abs(first - 0.5) < 0.07
    assert abs(third - 0.5) < 0.07


def test_shuffled_labels_are_at_chance() -> None:
    train, validation, test = three((3.0, 3.0, 3.0, 3.0), n=800)
    draw = np.random.default_rng(0)
    shuffled = [
        Pairs(part.states, draw.permutation(part.right)) for part in (train, validation, test)
    ]
    for found in probe(*shuffled):
        # 800 fair coins: four standard deviations are 0.07.
        assert abs(accuracy(found) - 0.5) < 0.07


def test_the_penalty_is_chosen_by_validation_alone() -> None:
    train, validation, test = three((0.4, 0.6), n=60)
    found = probe(train, validation, test)
    wrong = Pairs(test.states, ~test.right)
    for seen, turned in zip(found, probe(train, validation, wrong), strict=True):
        assert turned.l2 == seen.l2
        assert turned.correct == tuple(1 - right for right in seen.correct)


def test_the_scale_of_the_states_does_not_matter() -> None:
    parts = three((0.7,))
    scaled = [Pairs(part.states * 1000 + 3, part.right) for part in parts]
    assert probe(*parts)[0].correct == probe(*scaled)[0].correct  # type: ignore[arg-type]


@pytest.mark.parametrize(("position", "name"), list(enumerate(("train", "validation", "test"))))
def test_pairs_of_one_kind_are_refused(position: int, name: str) -> None:
    parts = list(three((1.0,), n=10))
    parts[position] = Pairs(parts[position].states, np.ones(10, dtype=bool))
    with pytest.raises(
        ValueError, match=f"the probe's {name} pairs hold no right or no wrong answers"
    ):
        probe(*parts)


def test_pairs_know_which_option_is_the_true_one() -> None:
    states = torch.arange(5 * 2 * 3, dtype=torch.float32).reshape(5, 2, 3)
    made = pairs(states, answers=[1, 0], options=[3, 2])
    assert made.right.tolist() == [False, True, False, True, False]
    assert np.array_equal(made.states, states.numpy())


def test_spread_sums_to_the_trace_of_the_covariance() -> None:
    states = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 8)
    trace = np.trace(np.cov(states.numpy(), rowvar=False))
    assert sum(spread(states)) / 49 == pytest.approx(trace, rel=1e-6)
    rows = [
        Row("t", "base", "a", "test", str(i), 0, (-1.0, -2.0), (1, 1), spread=s)
        for i, s in enumerate(spread(states))
    ]
    assert variability(rows).value == pytest.approx(trace, rel=1e-6)
    with pytest.raises(ValueError, match="variability needs the spread of two examples at least"):
        variability(rows[:1])


def test_cka_tells_by_which_directions_states_spread_over() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=draw)
    assert cka(x, x) == pytest.approx(1)
    # Neither a shift, nor a scale, nor an order of the examples changes anything.
    assert cka(x, 3 * x.flip(0) + 5) == pytest.approx(1)
    first, last = x.clone(), x.clone()
    first[:, 4:] = 0
    last[:, :4] = 0
    assert cka(first, last) == pytest.approx(0, abs=1e-12)
    assert cka(first, x) == pytest.approx(0.5**0.5, abs=0.05)
    # Questions that all end in the same token have the same embedding there.
    assert cka(torch.ones(400, 8), x) is None


def test_a_control_learns_nothing_of_a_clean_layer() -> None:
    draw = np.random.default_rng(0)
    right = np.arange(400) % 2 == 0
    states = (draw.normal(size=(400, 1, 5)) + 8 * right[:, None, None]).astype(np.float32)
    whole = Pairs(states, right)
    dealt = whole.shuffled(0)
    assert dealt.states is whole.states
    assert dealt.right[right].mean() == dealt.right[~right].mean() == 0.5
    assert np.mean(probe(whole, whole, whole)[0].correct) == 1
    (control,) = probe(dealt, dealt, whole)
    assert abs(np.mean(control.correct) - 0.5) < 0.15
    assert not np.array_equal(whole.shuffled(1).right, dealt.right)
