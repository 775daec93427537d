"""Means over folds: their intervals cover what fits and questions add."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from forget.results.folds import mean_over_folds, widening


def test_of_single_items_it_is_wilsons_interval() -> None:
    for hits in (0, 1, 30, 59, 60):
        values = np.array([1.0] * hits + [0.0] * (60 - hits))
        found = mean_over_folds(values, [str(n) for n in range(60)], 1)
        low, high = proportion_confint(hits, 60, method="wilson")
        assert found.value == hits / 60
        # The sample's variance has n - 1 below the line.
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)
        assert found.n == 60


def test_items_of_one_group_count_as_one() -> None:
    values = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0] * 3, 8)
    groups = np.repeat(np.arange(30), 8).astype(str)
    found = mean_over_folds(values, groups.tolist(), 1)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(21, 30, method="wilson"), abs=0.01
    )


def test_fits_that_share_items_widen() -> None:
    assert widening(5, 1, 4) == 2.25
    assert widening(1, 300, 100) == 4
    values, groups = np.tile([1.0, 0.0, 1.0], 100), [str(n) for n in range(300)]
    narrow, wide = (mean_over_folds(values, groups, factor) for factor in (1, 4))
    assert wide.high - wide.low == pytest.approx(2 * (narrow.high - narrow.low), rel=0.02)


def test_the_interval_covers_the_mean_of_questions_and_fits() -> None:
    """Folds of 60 questions, each with an error of its own as large as its questions' noise."""
    draw, held = np.random.default_rng(0), 0
    groups = [str(n) for n in range(300)]
    for _ in range(400):
        chance = np.repeat(0.75 + 0.056 * draw.standard_normal(5), 60).clip(0, 1)
        values = (draw.random(300) < chance).astype(float)
        found = mean_over_folds(values, groups, widening(5, 1, 4))
        assert found.low is not None
        assert found.high is not None
        held += found.low < 0.75 < found.high
    assert 0.92 < held / 400 < 0.99
