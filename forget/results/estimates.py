"""Numbers with their intervals, and the names that metrics go by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

RESAMPLES = 1000
"""Resamples of a bootstrap."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval over items, by Wilson's formula or by bootstrap.

    `value` is None where the measure is undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Items that the number rests on."""

    @property
    def numbers(self) -> tuple[float, float, float]:
        """(value, low, high) of a defined number; without an interval, the value thrice.

        Raises:
            ValueError: it is missing.
        """
        if self.value is None:
            raise ValueError("a missing measure has no numbers")
        return (
            self.value,
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )

    def __str__(self) -> str:
        return "missing" if self.value is None else "{:.3f} [{:.3f}, {:.3f}]".format(*self.numbers)


def metric_name(phase: str, task: str, split: str, measure: str) -> str:
    """Spell the name of a metric, e.g. forgotten/arc_easy/test/accuracy."""
    return "/".join((phase, task, split, measure))


def probe_name(phase: str, task: str, position: str, control: bool = False) -> str:
    """Spell the name of a probe's accuracy, e.g. learned/arc_easy/test/probe_accuracy_last.

    Args:
        position: where in the answer the hidden state was read.
        control: the probe was fit on shuffled labels; its measure is, e.g., probe_control_last.
    """
    measure = f"probe_{'control' if control else 'accuracy'}_{position}"
    return metric_name(phase, task, "test", measure)


def name_parts(name: str) -> tuple[str, str, str, str]:
    """Take a metric's name apart: (phase, task, split, measure). A task's name may hold slashes."""
    phase, rest = name.split("/", 1)
    task, split, measure = rest.rsplit("/", 2)
    return phase, task, split, measure


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Compute a mean with its percentile-bootstrap interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    sample = _sample(values)
    interval = bootstrap((sample,), np.mean)
    return Estimate(float(sample.mean()), *interval, len(sample))


def share(values: Sequence[float] | np.ndarray) -> Estimate:
    """Compute the mean of zeros and ones with its Wilson interval.

    A bootstrap of items that are all right, or nearly all, has no width, or too little; Wilson's
    interval (1927) holds the truth as often as it should for shares near 0 and 1 as well. A tie
    among options, which counts as a part of 1, makes it a little too wide.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    sample = _sample(values)
    value = float(sample.mean())
    return Estimate(value, *wilson(value, len(sample)), len(sample))


def _sample(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the values as an array, and raise ValueError where they have no mean."""
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        raise ValueError("an empty set has no mean")
    if not np.isfinite(sample).all():
        raise ValueError("a value that is not finite has no place in a mean")
    return sample


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return the bounds of Wilson's 95 % interval of a share (Wilson 1927).

    Args:
        value: the share, 0 to 1.
        n: items that it is of.
    """
    z = float(norm.ppf(0.975))
    middle = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + (z / (2 * n)) ** 2)
    # Rounding must not put the share outside of its interval.
    return min(value, max(0.0, middle - reach)), max(value, min(1.0, middle + reach))


def bootstrap(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]
) -> tuple[float, float]:
    """Return the bounds of the percentile interval.

    Items are drawn together from all samples; a resample without a statistic is left out.
    """
    n = len(samples[0])
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanquantile(
        statistic(*(sample[draws] for sample in samples), axis=-1), (0.025, 0.975)
    )
    return float(low), float(high)
