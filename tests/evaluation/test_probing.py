"""Probes find what is there and nothing else; penalties are chosen without what is asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from forget.evaluation import logistic
from forget.evaluation.probing import (
    ASKED_ALONE,
    STRENGTHS,
    Probed,
    Questions,
    cka,
    folds,
    middle,
    pairs,
    probe_labelings,
    spread,
)
from forget.results.folds import FOLDS
from forget.results.metrics import variability
from forget.results.rows import Row

WIDTH = 20


def planted(n: int, strengths: tuple[float, ...], name: str, options: int = 2) -> Questions:
    """Return noise by layer, plus the answer along one direction with the given strength.

    Columns differ in size by 10,000. Questions are in five folds in turn.
    """
    draw = np.random.default_rng(list(name.encode()))
    truths = draw.integers(0, options, n)
    right = (np.arange(options) == truths[:, None]).ravel()
    direction = np.random.default_rng(0).standard_normal(WIDTH) / np.sqrt(WIDTH)
    scale = 10.0 ** np.linspace(-2, 2, WIDTH)
    states = draw.standard_normal((n * options, len(strengths), WIDTH))
    for layer, strength in enumerate(strengths):
        states[:, layer] += strength * np.where(right, 1, -1)[:, None] * direction
    return Questions(
        (states * scale + 5 * scale).astype(np.float32),
        right,
        np.arange(n) * options,
        np.arange(n) % FOLDS,
    )


def probe(questions: Questions) -> list[Probed]:
    """Probe the true labels alone; no layer may be missing."""
    (found,) = probe_labelings(questions, [questions.right])
    assert all(found)
    return [one for one in found if one]


def accuracy(found: Probed) -> float:
    return float(found.preferred.mean())


def asked_alone(fit_on: Questions, asked: Questions) -> Questions:
    """Return both sets, of which probes are fit on the first."""
    return Questions(
        np.concatenate([fit_on.states, asked.states]),
        np.concatenate([fit_on.right, asked.right]),
        np.concatenate([fit_on.starts, len(fit_on.right) + asked.starts]),
        np.concatenate([fit_on.folds, np.full(len(asked.starts), ASKED_ALONE)]),
    )


def exact(
    questions: Questions, layer: int, l2: float, fold: np.ndarray, out: set[int]
) -> np.ndarray:
    """Return scikit-learn's margins of all pairs, of a fit on the folds that are not left out."""
    rows = ~np.isin(fold, [*out, ASKED_ALONE])
    scaler = StandardScaler().fit(questions.states[fold != ASKED_ALONE, layer].astype(float))
    x = scaler.transform(questions.states[:, layer].astype(float))
    model = LogisticRegression(
        C=1 / (l2 * rows.sum()), max_iter=1000, tol=1e-9, solver="newton-cholesky"
    )
    return model.fit(x[rows], questions.right[rows]).decision_function(x)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(("n", "options"), [(20, 2), (100, 2), (60, 4)])
def test_probes_are_those_of_nested_scikit_learn_pipelines(
    n: int, options: int, alone: bool
) -> None:
    """Each fold is asked of a fit on the others, at the penalty that these choose in turn."""
    strengths = (0.0, 0.5, 1.0, 2.0)
    questions = planted(n, strengths, "one", options)
    if alone:
        questions = asked_alone(questions, planted(n, strengths, "two", options))
    truth = questions.right.reshape(-1, options).argmax(1)
    fold = np.repeat(questions.folds, options)

    def preferred(margins: np.ndarray) -> np.ndarray:
        return margins.reshape(-1, options).argmax(1) == truth

    for layer, found in enumerate(probe(questions)):
        ours = []
        for one in [ASKED_ALONE] if alone else range(FOLDS):
            scores = []
            for l2 in STRENGTHS:
                hits = 0
                for other in set(range(FOLDS)) - {one}:
                    margins = exact(questions, layer, l2, fold, {one, other})
                    hits += preferred(margins)[questions.folds == other].sum()
                scores.append(hits)
            # Of equals the strongest penalty, which is the first.
            chosen = STRENGTHS[int(np.argmax(scores))]
            margins = exact(questions, layer, chosen, fold, {one})
            asked = questions.folds == one
            correct = ((margins > 0) == questions.right).reshape(-1, options).mean(1)
            ours.append((np.where(asked)[0], preferred(margins)[asked], correct[asked]))
        place = np.concatenate([part[0] for part in ours])
        order = np.argsort(place)
        np.testing.assert_array_equal(
            found.preferred, np.concatenate([part[1] for part in ours])[order]
        )
        np.testing.assert_allclose(found.correct, np.concatenate([part[2] for part in ours])[order])


def test_a_constant_feature_changes_nothing() -> None:
    questions = planted(100, (0.7,), "one")
    constant = np.full_like(questions.states[..., :1], 0.1)
    widened = replace(questions, states=np.concatenate([questions.states, constant], 2))
    (plain,), (found,) = probe(questions), probe(widened)
    np.testing.assert_array_equal(plain.preferred, found.preferred)


@pytest.mark.parametrize("pair", [3, 301])
def test_states_that_are_not_finite_are_refused(pair: int) -> None:
    questions = asked_alone(planted(100, (0.7,), "one"), planted(100, (0.7,), "two"))
    questions.states[pair, 0, 2] = np.inf
    with pytest.raises(FloatingPointError, match="states are not finite"):
        probe(questions)


def test_threads_change_nothing() -> None:
    questions = planted(100, (0.0, 0.3, 0.5, 0.7, 1.0), "one")
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append([tuple(one.preferred) for one in probe(questions)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_labelings_are_probed_as_if_each_were_alone() -> None:
    questions = planted(100, (0.3, 1.0), "one")
    dealt = questions.dealt(0)
    both = probe_labelings(questions, [questions.right, dealt])
    for together, labels in zip(both, (questions.right, dealt), strict=True):
        (alone,) = probe_labelings(questions, [labels])
        for one, other in zip(together, alone, strict=True):
            assert one
            assert other
            np.testing.assert_array_equal(one.preferred, other.preferred)
            assert one.l2 == other.l2


def test_a_signal_is_found_where_it_is_and_nowhere_else() -> None:
    first, second, third = map(accuracy, probe(planted(800, (0.0, 3.0, 0.0), "one")))
    # Along the direction the classes are 2 * 3 standard deviations apart.
    assert second > 0.98
    # Without a signal, 800 fair coins: four standard deviations are 0.07.
    assert abs(first - 0.5) < 0.07
    assert abs(third - 0.5) < 0.07


def test_a_guess_is_right_as_often_as_there_are_options() -> None:
    (found,) = probe(planted(600, (0.0,), "one", options=4))
    # 600 throws of a die of four: four standard deviations are 0.07. Pairs are best called wrong.
    assert abs(accuracy(found) - 0.25) < 0.07
    assert abs(found.correct.mean() - 0.75) < 0.02


def test_a_threshold_that_has_moved_is_no_loss_of_preference() -> None:
    """The option that is preferred is read, though all pairs may be called right."""
    fit_on, asked = planted(300, (3.0,), "one"), planted(300, (3.0,), "two")
    direction = asked.states[asked.right].mean(0) - asked.states[~asked.right].mean(0)
    moved = replace(asked, states=asked.states + 5 * direction)
    (still,), (found,) = probe(asked_alone(fit_on, asked)), probe(asked_alone(fit_on, moved))
    assert accuracy(found) == accuracy(still) > 0.98
    assert found.correct.mean() < 0.55 < 0.9 < still.correct.mean()


def test_no_answer_of_a_fold_bears_on_its_penalty() -> None:
    """Turn the truth of one fold: its own answers turn, and no margin of it changes."""
    questions = planted(60, (0.4, 0.6), "one")
    fold = np.repeat(questions.folds, 2)
    turned = replace(questions, right=np.where(fold == 2, ~questions.right, questions.right))
    # The labels that are fit on stay the same but for those of the fold that is asked.
    for before, after in zip(probe(questions), probe(turned), strict=True):
        place = questions.folds == 2
        np.testing.assert_array_equal(before.preferred[place], 1 - after.preferred[place])


def test_the_scale_of_the_states_does_not_matter() -> None:
    questions = planted(100, (0.7,), "one")
    scaled = replace(questions, states=questions.states * 1000 + 3)
    np.testing.assert_array_equal(probe(questions)[0].preferred, probe(scaled)[0].preferred)


def test_a_fit_that_does_not_converge_leaves_its_penalty_out_and_then_its_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = planted(60, (0.7,), "one")
    assert probe(questions)[0].l2 == 0.1
    monkeypatch.setattr(logistic, "LIMIT", 7)
    assert probe(questions)[0].l2 == 1
    monkeypatch.setattr(logistic, "LIMIT", 5)
    assert probe_labelings(questions, [questions.right]) == [[None]]


def test_pairs_know_which_option_is_the_true_one() -> None:
    states = torch.arange(5 * 2 * 3, dtype=torch.float32).reshape(5, 2, 3)
    made = pairs(states, answers=[1, 0], options=[3, 2], folds=np.array([0, 1]))
    assert made.right.tolist() == [False, True, False, True, False]
    assert made.starts.tolist() == [0, 3]
    assert np.array_equal(made.states, states.numpy())


def test_folds_keep_sources_together_and_labels_even() -> None:
    draw = np.random.default_rng(0)
    truths = draw.permutation(["yes"] * 150 + ["no"] * 150)
    groups = [f"source {number // 3}" for number in range(300)]
    dealt = folds(groups, truths.tolist(), seed=0)
    assert set(dealt) == set(range(FOLDS))
    for first in range(0, 300, 3):
        assert len(set(dealt[first : first + 3])) == 1
    for fold in range(FOLDS):
        assert 56 <= (dealt == fold).sum() <= 64
        assert abs((truths[dealt == fold] == "yes").mean() - 0.5) < 0.04
    assert not np.array_equal(dealt, folds(groups, truths.tolist(), seed=1))


def test_where_nothing_can_be_read_folds_leave_a_guess() -> None:
    """A prior that is learned of the other folds would say what the own fold has less often."""
    draw = np.random.default_rng(0)
    preferred = []
    for seed in range(30):
        truths = draw.integers(0, 2, 40)
        # The state is the option alone, as at the embedding of two labels.
        states = np.tile([[[1.0]], [[-1.0]]], (40, 1, 1)).astype(np.float32)
        states += 1e-3 * draw.standard_normal(states.shape).astype(np.float32)
        right = (np.arange(2) == truths[:, None]).ravel()
        dealt = folds([str(number) for number in range(40)], truths.tolist(), seed)
        (found,) = probe(Questions(states, right, np.arange(40) * 2, dealt))
        preferred.append(accuracy(found))
    # The commoner of two fair labels is true of 0.56 on average; plain folds gave 0.4 and less.
    assert 0.48 < np.mean(preferred) < 0.62


def test_the_middle_half_of_the_layers_is_chosen_by_depth_alone() -> None:
    assert middle(list(range(31)), 30) == list(range(8, 23))
    assert middle([0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30], 30) == [9, 12, 15, 18, 21]
    assert middle([0, 1, 2], 2) == [1]
    assert middle([1, 30], 30) == [1]
    assert middle([0, 30], 30) == [30]
    assert middle([0, 1], 1) == [1]


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
    whole = Questions(states, right, np.arange(0, 400, 2), np.arange(200) % FOLDS)
    dealt = whole.dealt(0)
    assert dealt[right].mean() == dealt[~right].mean() == 0.5
    ((clean,), (control,)) = probe_labelings(whole, [right, dealt])
    assert clean
    assert control
    assert accuracy(clean) == 1
    assert abs(accuracy(control) - 0.5) < 0.2
    assert not np.array_equal(whole.dealt(1), dealt)
