"""Ensembles whose disagreement is known, and losses made of it."""

from pathlib import Path

import numpy as np
import pytest
from studies import LOSES, study, sweep_of

from forget.analyses.correlation import spearman
from forget.analyses.ensemble import SINGLE, associations, ensembles, partial, uncertainty
from forget.analyses.resampling import item_weights
from forget.report import ensemble as report

SHARES = np.array([[0.9, 0.8, 0.95], [0.6, 0.3, 0.9], [0.5, 0.5, 0.5], [0.99, 0.01, 0.5]])


def test_uncertainty_is_that_of_the_formulas() -> None:
    found = uncertainty(SHARES)
    assert found.variance == pytest.approx([0.005833, 0.09, 0, 0.2401], abs=5e-6)
    assert found.information == pytest.approx([0.018897, 0.136692, 0, 0.424764], abs=5e-6)
    assert found.total == pytest.approx([0.360231, 0.673012, 0.693147, 0.693147], abs=5e-6)
    # A member that is certain has no entropy, and no NaN.
    assert uncertainty(np.array([[1.0, 1.0], [0.0, 1.0]])).total == pytest.approx([0, np.log(2)])


def test_what_the_confidence_explains_is_taken_off() -> None:
    variance, lost = [0.0058, 0.09, 0, 0.2401, 0.05], [0.1, 0.4, 0, 0.9, 0.5]
    confidence, one = [0.9, 0.7, 0.85, 0.6, 0.95], np.ones((1, 5))
    x, y, given = map(np.array, (variance, lost, confidence))
    assert spearman(x, y, one) == pytest.approx([0.9], abs=5e-6)
    # The correlation of what least squares leave of the ranks of both.
    assert partial(x, y, given, one) == pytest.approx([0.943456], abs=5e-6)
    # Here the ranks of the confidence are those of the variance, reversed: of it nothing is left.
    reversed_ = np.array([0.9, 0.7, 0.95, 0.6, 0.85])
    assert np.isnan(partial(x, y, reversed_, one)).all()


def members(rng: np.random.Generator, n: int = 800, count: int = 5) -> tuple[np.ndarray, ...]:
    """Make members that disagree by an amount of each item's own.

    Returns:
        The mean share, the amount, and the shares [items, members].
    """
    middle, amount = rng.uniform(0.55, 0.95, n), rng.uniform(0.001, 0.04, n)
    shares = middle[:, None] + amount[:, None] * np.resize([1, -1], count)
    return middle, amount, shares


def test_a_loss_made_of_disagreement_is_predicted_and_one_of_confidence_is_not() -> None:
    rng = np.random.default_rng(0)
    middle, amount, shares = members(rng)
    weights = item_weights(len(middle), "members")[:201]
    less_sure = -middle + rng.normal(0, 0.03, len(middle))
    by_amount, by_middle = (np.repeat(part[:, None], 5, axis=1) for part in (amount, less_sure))
    variance, *_, control = associations(shares, by_amount, weights)
    assert variance.partial is not None
    assert variance.plain[0] == pytest.approx(1)
    assert variance.partial[0] > 0.99
    assert (control.predictor, control.partial) == (SINGLE, None)
    assert abs(control.plain[0]) < 0.1
    variance, *_, control = associations(shares, by_middle, weights)
    assert variance.partial is not None
    assert abs(variance.partial[0]) < 0.1
    assert control.plain[0] < -0.9


def test_luck_of_a_member_is_no_prediction_of_its_loss() -> None:
    """Items that a member has right by luck, and loses again, are disagreed on by the others too.

    With a member's own share among the ensemble the variance would predict its loss.
    """
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.3, 0.7, (800, 4))
    lost = (shares > 0.5).astype(float)
    weights = item_weights(800, "luck")[:201]
    variance = associations(shares, lost, weights)[0]
    assert abs(variance.plain[0]) < 0.1


def test_members_that_learned_apart_are_an_ensemble(tmp_path: Path) -> None:
    skills = dict.fromkeys("a", LOSES)
    three = study(sweep_of("a", member=[0, 1, 2]), skills, near=False)
    section = report.section(three, tmp_path)
    assert section
    (table,) = section.tables
    assert [row["predictor"] for row in table.rows] == [
        "variance",
        "mutual information",
        SINGLE,
    ]
    assert {row["members"] for row in table.rows} == {3}
    assert section.pictures[0].path.stat().st_size > 10_000
    two = study(sweep_of("a", member=[0, 1]), skills, near=False)
    assert ensembles(two.cells[0]) == []
    assert report.section(two, tmp_path) is None
