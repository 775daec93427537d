"""Numbers from Rows. Every metric is a pure function of Rows, so a new one never needs a model.

Symbols of Zhang, Choshen, Andreas (2024): a_ft, accuracy after learning; a_fg, accuracy after
forgetting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forget.results import rows as rows_
from forget.results.rows import Row, _some, chance, judge
from forget.settings.identity import digest

DEFINED_ABOVE_CHANCE = 0.05
"""A forget ratio is missing where learning brought the task less than this above chance."""

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval over items; `value` is None where the measure is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Items it rests on."""

    @property
    def numbers(self) -> tuple[float, float, float]:
        """(value, low, high) of a measure that is defined; without an interval, the value thrice.

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
    """The one spelling of a metric's name, e.g. forgotten/arc_easy/test/accuracy."""
    return "/".join((phase, task, split, measure))


def accuracy(rows: Sequence[Row]) -> Estimate:
    """Share of examples whose true option scores highest.

    Raises:
        ValueError: no rows. An empty set has no accuracy.
    """
    return mean(judge(_some(rows)).correct)


def confidence(rows: Sequence[Row]) -> Estimate:
    """Mean confidence in the true option."""
    return mean(judge(_some(rows)).confidence)


def option_mass(rows: Sequence[Row]) -> Estimate:
    """Mean total probability of the options: tells 'at chance' from 'broken model'."""
    return mean(judge(_some(rows)).mass)


def entropy(rows: Sequence[Row]) -> Estimate:
    """Mean entropy of the options' shares over its maximum: near 1 the model has no preference among them."""
    return mean(judge(_some(rows)).entropy)


def variability(rows: Sequence[Row]) -> Estimate:
    """Trace of the covariance of the questions' hidden states (the paper: last token, fifth-to-last layer).

    Raises:
        ValueError: fewer than two rows, or rows without a spread.
    """
    spread = [row.spread for row in _some(rows) if row.spread is not None]
    if len(spread) < max(2, len(rows)):
        raise ValueError("variability needs the spread of two examples at least")
    return mean(np.array(spread) * (len(spread) / (len(spread) - 1)))


def calibration_error(rows: Sequence[Row], bins: int = 10) -> Estimate:
    """Expected calibration error of the chosen option's share, in equal-width bins (Guo et al. 2017, eq. 3)."""
    judged = judge(_some(rows))
    shares, correct = judged.top, judged.correct
    bin_of = np.minimum((shares * bins).astype(int), bins - 1)

    def error(items: np.ndarray) -> float:
        gaps = np.bincount(bin_of[items], correct[items] - shares[items], minlength=bins)
        return float(np.abs(gaps).sum() / len(items))

    items = np.arange(len(shares))
    draws = np.random.default_rng(0).integers(0, len(items), (RESAMPLES // 5, len(items)))
    low, high = np.quantile([error(draw) for draw in draws], (0.025, 0.975))
    return Estimate(error(items), float(low), float(high), len(items))


def forget_gap(forgotten: Sequence[Row]) -> Estimate:
    """a_fg - chance; 0 is forgotten."""
    guess = chance(forgotten)
    return mean(judge(forgotten).correct - guess)


def forget_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate:
    """(a_ft - a_fg) / (a_ft - chance): 1 is forgotten, 0 untouched; missing where a_ft < chance + 0.05.

    Raises:
        ValueError: the two sets are empty or not of the same examples.
    """
    guess = chance(learned)
    return _ratio(learned, forgotten, lambda a_ft: a_ft - guess)


def flipped_forget_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate:
    """(a_ft - a_fg) / (2 a_ft - 1), for forgetting by flipped labels: 1 where every answer turned into its opposite."""
    return _ratio(learned, forgotten, lambda a_ft: 2 * a_ft - 1)


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean with its percentile-bootstrap interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        raise ValueError("an empty set has no mean")
    if not np.isfinite(sample).all():
        raise ValueError("a value that is not finite has no place in a mean")
    interval = _bootstrap((sample,), np.mean)
    return Estimate(float(sample.mean()), *interval, len(sample))


def _ratio(
    learned: Sequence[Row], forgotten: Sequence[Row], scale: Callable[[np.ndarray], np.ndarray]
) -> Estimate:
    after = dict(
        zip((row.example for row in _some(forgotten)), judge(forgotten).correct, strict=True)
    )
    paired_ids = {row.example for row in _some(learned)}
    # The lengths tell a set that names an example twice, e.g. one that mixes two tasks.
    if after.keys() != paired_ids or not len(paired_ids) == len(learned) == len(forgotten):
        raise ValueError("the rows before and after forgetting are not of the same examples")
    before = judge(learned).correct
    paired = np.array([after[row.example] for row in learned])
    a_ft, a_fg = before.mean(), paired.mean()
    if a_ft < chance(learned) + DEFINED_ABOVE_CHANCE:
        return Estimate(None, None, None, len(before))

    def statistic(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        x, y = x.mean(axis=axis), y.mean(axis=axis)
        # A resample at or below chance has no ratio; it must not flip the sign of the interval.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(scale(x) > 0, (x - y) / scale(x), np.nan)

    interval = _bootstrap((before, paired), statistic)
    return Estimate(float((a_ft - a_fg) / scale(a_ft)), *interval, len(before))


def _bootstrap(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]
) -> tuple[float, float]:
    """Bounds of the percentile interval; items are drawn together from all samples, resamples without a statistic left out."""
    n = len(samples[0])
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanquantile(
        statistic(*(sample[draws] for sample in samples), axis=-1), (0.025, 0.975)
    )
    return float(low), float(high)


def measures(rows: Sequence[Row], flipped: bool = False) -> dict[str, Estimate]:
    """Every number of a trial by metric name, for each phase, task and split there are Rows of."""
    found: dict[str, Estimate] = {}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.step is None:
            groups.setdefault((row.phase, row.task, row.split), []).append(row)
    for (phase, task, split), group in groups.items():
        found |= {
            metric_name(phase, task, split, name): measure(group)
            for name, measure in MEASURES.items()
        }
        if len(group) > 1 and all(row.spread is not None for row in group):
            found[metric_name(phase, task, split, "variability")] = variability(group)
        learned = groups.get(("learned", task, split))
        if phase == "forgotten" and learned:
            found[metric_name(phase, task, split, "forget_gap")] = forget_gap(group)
            name, ratio = (
                ("flipped_forget_ratio", flipped_forget_ratio)
                if flipped
                else ("forget_ratio", forget_ratio)
            )
            found[metric_name(phase, task, split, name)] = ratio(learned, group)
    return found


MEASURES = {
    "accuracy": accuracy,
    "confidence": confidence,
    "option_mass": option_mass,
    "entropy": entropy,
    "calibration_error": calibration_error,
}
"""What is measured in each phase."""


def course(rows: Sequence[Row]) -> list[tuple[str, int, Estimate]]:
    """(metric name, step, estimate) of accuracy and confidence on the way, e.g. of forget/arc_easy/test/accuracy."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        if row.step is not None:
            groups.setdefault((row.phase, row.task, row.split, row.step), []).append(row)
    return [
        (metric_name(phase, task, split, name), step, MEASURES[name](group))
        for (phase, task, split, step), group in groups.items()
        for name in ("accuracy", "confidence")
    ]


@functools.cache
def code() -> str:
    """Return a digest of the source text that measures are computed by: this room and rows.py."""
    return digest(
        [Path(str(file)).read_text(encoding="utf-8") for file in (__file__, rows_.__file__)]
    )


def ratio_name(labels: str) -> str:
    """Return the measure that says how far a trial forgot, by the labels it forgot with."""
    return "flipped_forget_ratio" if labels == "flipped" else "forget_ratio"
