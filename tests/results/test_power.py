"""The smallest effects that a study can decide, against simulated studies of that size."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from forget.results.power import POWER, SPREAD, Size, of_accuracy, of_correlation, told


def test_an_effect_of_the_size_said_is_found_in_four_studies_of_five() -> None:
    size = Size(tasks=8, replicates=2, items=160)
    effect = of_accuracy(size)
    draw = np.random.default_rng(0)
    studies = 4000
    error = math.sqrt(0.25 / size.items + SPREAD**2)
    values = effect + error * draw.standard_normal((studies, size.tasks, size.replicates))
    spread = values.var(axis=2, ddof=1).mean(axis=1)
    reach = student.ppf(0.975, size.degrees) * np.sqrt(spread / size.replicates)
    found = (values[:, 0].mean(axis=1) - reach > 0).mean()
    assert found == pytest.approx(POWER, abs=0.03)


def test_more_of_anything_decides_less() -> None:
    base = Size(8, 2, 160)
    for more in (Size(8, 3, 160), Size(8, 2, 800)):
        assert of_accuracy(more) < of_accuracy(base)
    assert of_accuracy(base, tasks=8) == pytest.approx(of_accuracy(base) / math.sqrt(8))
    assert of_correlation(21) < of_correlation(8) < of_correlation(4) == 1


def test_the_words_say_what_cannot_be_decided() -> None:
    small = told(Size(tasks=2, replicates=1, items=150))
    assert sum("never" in line for line in small) == 2
    assert all("in this run alone" in line for line in small if "never" not in line)
    large = told(Size(tasks=21, replicates=3, items=800))
    assert not any("never" in line or "in this run" in line for line in large)
