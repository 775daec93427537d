"""Numbers from Rows. Every metric is a pure function of Rows, so a new one never needs a model.

Symbols of Zhang, Choshen, Andreas (2024): a_ft, accuracy after learning; a_fg, accuracy after forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

PHASES = ("base", "learned", "forgotten")
"""Before any training, after learning, after forgetting."""

DEFINED_ABOVE_CHANCE = 0.05
"""A forget ratio is missing where learning brought the task less than this above chance."""

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """What a model says of one example."""

    trial: str
    phase: str
    task: str
    split: str
    example: str
    truth: int
    """Index of the true option."""
    logprobs: tuple[float, ...]
    """Sum of the log-probabilities of each option's tokens after the prompt, in nats."""
    lengths: tuple[int, ...]
    """What each sum is divided by to compare options: 1, tokens or bytes (`Trial.normalise`)."""

    def __post_init__(self) -> None:
        if not 0 <= self.truth < len(self.logprobs) == len(self.lengths):
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: example {self.example} has truth {self.truth}, "
                f"{len(self.logprobs)} log-probabilities and {len(self.lengths)} lengths"
            )
        if not all(math.isfinite(value) for value in self.logprobs):
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: example {self.example} has a log-probability that is not finite"
            )

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(value / length for value, length in zip(self.logprobs, self.lengths, strict=True))

    @property
    def correct(self) -> float:
        """1 where the truth scores highest, 0 where it does not; a tie shares the point among the best."""
        scores = self.scores
        top = max(scores)
        best = [i for i, score in enumerate(scores) if score == top]
        return (self.truth in best) / len(best)

    @property
    def confidence(self) -> float:
        """Share of the true option in the probability of all: e^{l+} / (e^{l+} + e^{l-}) with two options (the paper)."""
        scores = self.scores
        top = max(scores)
        shares = [math.exp(score - top) for score in scores]
        return shares[self.truth] / sum(shares)

    @property
    def mass(self) -> float:
        """Total probability of the options: near 0 the model says something else altogether."""
        return sum(math.exp(value) for value in self.logprobs)


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


def select(rows: Iterable[Row], **fields: str) -> list[Row]:
    """Rows whose fields have the given values, e.g. `select(rows, phase="learned", split="test")`."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


def chance(rows: Sequence[Row]) -> float:
    """Accuracy of a guess: the mean of 1 / options."""
    return float(np.mean([1 / len(row.logprobs) for row in _some(rows)]))


def accuracy(rows: Sequence[Row]) -> Estimate:
    """Share of examples whose true option scores highest.

    Raises:
        ValueError: no rows. An empty set has no accuracy.
    """
    return mean([row.correct for row in _some(rows)])


def confidence(rows: Sequence[Row]) -> Estimate:
    """Mean confidence in the true option."""
    return mean([row.confidence for row in _some(rows)])


def option_mass(rows: Sequence[Row]) -> Estimate:
    """Mean total probability of the options: tells 'at chance' from 'broken model'."""
    return mean([row.mass for row in _some(rows)])


def calibration_error(rows: Sequence[Row], bins: int = 10) -> Estimate:
    """Expected calibration error of the chosen option's share, in equal-width bins (Guo et al. 2017, eq. 3)."""
    shares = np.array([max(_softmax(row.scores)) for row in _some(rows)])
    correct = np.array([row.correct for row in rows])
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
    return mean([row.correct - guess for row in forgotten])


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


def mean(values: Sequence[float]) -> Estimate:
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


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over seeds, with the interval that spans those of all seeds: what it excludes, every seed excludes.

    Seeds where the measure is missing are left out; it is missing where they all are.
    """
    defined = [e.numbers for e in estimates if e.value is not None]
    if not defined:
        return Estimate(None, None, None, sum(e.n for e in estimates))
    values, lows, highs = zip(*defined, strict=True)
    return Estimate(sum(values) / len(values), min(lows), max(highs), sum(e.n for e in estimates if e.value is not None))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Spearman's rho over paired items; missing where either is constant, and below five items, whose interval says nothing.

    Raises:
        ValueError: lengths differ.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} values cannot be paired with {len(y)}")
    if len(x) < 5 or len(set(x)) == 1 or len(set(y)) == 1:
        return Estimate(None, None, None, len(x))

    def rho(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        x, y = rankdata(x, axis=axis), rankdata(y, axis=axis)
        x, y = x - x.mean(axis=axis, keepdims=True), y - y.mean(axis=axis, keepdims=True)
        # A resample of one item over and over has no correlation.
        with np.errstate(invalid="ignore"):
            return (x * y).sum(axis=axis) / np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))

    pair = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return Estimate(float(rho(*pair, axis=-1)), *_bootstrap(pair, rho), len(x))


def _ratio(learned: Sequence[Row], forgotten: Sequence[Row], scale: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    after = {row.example: row.correct for row in _some(forgotten)}
    paired_ids = {row.example for row in _some(learned)}
    # The lengths tell a set that names an example twice, e.g. one that mixes two tasks.
    if after.keys() != paired_ids or not len(paired_ids) == len(learned) == len(forgotten):
        raise ValueError("the rows before and after forgetting are not of the same examples")
    before = np.array([row.correct for row in learned])
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


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]) -> tuple[float, float]:
    """Bounds of the percentile interval; items are drawn together from all samples, resamples without a statistic left out."""
    n = len(samples[0])
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanquantile(statistic(*(sample[draws] for sample in samples), axis=-1), (0.025, 0.975))
    return float(low), float(high)


def _softmax(scores: Sequence[float]) -> np.ndarray:
    shares = np.exp(np.array(scores) - max(scores))
    return shares / shares.sum()


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    if not rows:
        raise ValueError("no rows: an empty set has no accuracy")
    return rows


def measures(rows: Sequence[Row], flipped: bool = False) -> dict[str, Estimate]:
    """Every number of a trial by metric name, for each phase, task and split there are Rows of."""
    found: dict[str, Estimate] = {}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.phase, row.task, row.split), []).append(row)
    plain = {"accuracy": accuracy, "confidence": confidence, "option_mass": option_mass, "calibration_error": calibration_error}
    for (phase, task, split), group in groups.items():
        found |= {metric_name(phase, task, split, name): measure(group) for name, measure in plain.items()}
        learned = groups.get(("learned", task, split))
        if phase == "forgotten" and learned:
            found[metric_name(phase, task, split, "forget_gap")] = forget_gap(group)
            name, ratio = ("flipped_forget_ratio", flipped_forget_ratio) if flipped else ("forget_ratio", forget_ratio)
            found[metric_name(phase, task, split, name)] = ratio(learned, group)
    return found


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Rows as one parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}), path)


def read_rows(path: Path) -> list[Row]:
    """Rows as `write_rows` left them, to the bit."""
    import pyarrow.parquet as pq

    records = pq.read_table(path).to_pylist()
    return [Row(**{**r, "logprobs": tuple(r["logprobs"]), "lengths": tuple(r["lengths"])}) for r in records]
