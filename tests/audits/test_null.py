"""Null studies: an audit that finds nothing new says so in 95 of 100 studies."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import items, recovery

STUDIES = 200


@pytest.fixture(scope="module")
def missed() -> dict[str, float]:
    return recovery.missed(STUDIES, lambda: None)


@pytest.mark.parametrize("truth", recovery.TRUTHS)
def test_few_intervals_of_r_leave_out_the_truth(truth: str, missed: dict[str, float]) -> None:
    """5 % of them may, within two deviations of a binomial number of so many: 8.1 %."""
    assert missed[truth] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_studies_of_single_items_have_the_columns_that_studies_ask_for() -> None:
    study = items.study(items.probed(0.5, 0.1), 1, np.random.default_rng(0))
    assert len(study.cells) == len(items.TASKS)
    assert not study.audited
