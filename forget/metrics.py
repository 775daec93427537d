"""Numbers from Rows. Every metric is a pure function of Rows, so a new one never needs a model.

Symbols of Zhang, Choshen, Andreas (2024): a_ft, accuracy after learning; a_fg, accuracy after forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forget.settings import BadInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
    """One of PHASES; or, on the way, the stage: "learn", "forget"."""
    task: str
    split: str
    example: str
    truth: int
    """Index of the true option."""
    logprobs: tuple[float, ...]
    """Sum of the log-probabilities of each option's tokens after the prompt, in nats."""
    lengths: tuple[int, ...]
    """What each sum is divided by to compare options: 1, tokens or bytes (`Trial.normalise`)."""
    step: int | None = None
    """Optimiser steps into the stage; None in a phase."""
    similarity: float | None = None
    """TF-IDF cosine of a held-out example to the nearest one that forgetting trains on."""
    spread: float | None = None
    """Squared distance of the question's hidden state from the mean over its split (forget.probing.spread)."""

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
        return float(judge([self]).correct[0])

    @property
    def confidence(self) -> float:
        return float(judge([self]).confidence[0])

    @property
    def mass(self) -> float:
        return float(judge([self]).mass[0])

    @property
    def entropy(self) -> float:
        return float(judge([self]).entropy[0])


@dataclass(frozen=True, slots=True)
class Judged:
    """What Rows say, an array with a number for each."""

    correct: np.ndarray
    """1 where the truth scores highest, 0 where it does not; a tie shares the point among the best."""
    confidence: np.ndarray
    """Share of the true option in the probability of all: e^{l+} / (e^{l+} + e^{l-}) with two options (the paper)."""
    mass: np.ndarray
    """Total probability of the options: near 0 the model says something else altogether."""
    entropy: np.ndarray
    """Entropy of the options' shares over its maximum, log options: 0 is certain, 1 has no preference."""
    top: np.ndarray
    """Share of the option that scores highest."""


def judge(rows: Sequence[Row]) -> Judged:
    """Every number that a Row by itself gives."""
    return _judge(
        np.array([value for row in rows for value in row.logprobs]),
        np.array([length for row in rows for length in row.lengths]),
        np.array([len(row.logprobs) for row in rows]),
        np.array([row.truth for row in rows]),
    )


def _judge(logprobs: np.ndarray, lengths: np.ndarray, options: np.ndarray, truth: np.ndarray) -> Judged:
    """`options` and `truth` by row; log-probabilities and lengths by option, one row's after the other's."""
    if not len(options):
        return Judged(*(np.empty(0) for _ in fields(Judged)))
    starts = np.concatenate([[0], np.cumsum(options)[:-1]]).astype(int)
    true = starts + truth
    scores = logprobs / lengths
    top = np.repeat(np.maximum.reduceat(scores, starts), options)
    shares = np.exp(scores - top)
    shares /= np.repeat(np.add.reduceat(shares, starts), options)
    best = scores == top
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(shares > 0, -shares * np.log(shares), 0.0)
    return Judged(
        correct=best[true] / np.add.reduceat(best.astype(float), starts),
        confidence=shares[true],
        mass=np.add.reduceat(np.exp(logprobs), starts),
        entropy=np.add.reduceat(surprise, starts) / np.log(np.maximum(options, 2)),
        top=np.maximum.reduceat(shares, starts),
    )


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


def select(rows: Iterable[Row], **fields: str | None) -> list[Row]:
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


def _ratio(learned: Sequence[Row], forgotten: Sequence[Row], scale: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    after = dict(zip((row.example for row in _some(forgotten)), judge(forgotten).correct, strict=True))
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


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]) -> tuple[float, float]:
    """Bounds of the percentile interval; items are drawn together from all samples, resamples without a statistic left out."""
    n = len(samples[0])
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanquantile(statistic(*(sample[draws] for sample in samples), axis=-1), (0.025, 0.975))
    return float(low), float(high)


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    if not rows:
        raise ValueError("no rows: an empty set has no accuracy")
    return rows


def measures(rows: Sequence[Row], flipped: bool = False) -> dict[str, Estimate]:
    """Every number of a trial by metric name, for each phase, task and split there are Rows of."""
    found: dict[str, Estimate] = {}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.step is None:
            groups.setdefault((row.phase, row.task, row.split), []).append(row)
    for (phase, task, split), group in groups.items():
        found |= {metric_name(phase, task, split, name): measure(group) for name, measure in MEASURES.items()}
        if len(group) > 1 and all(row.spread is not None for row in group):
            found[metric_name(phase, task, split, "variability")] = variability(group)
        learned = groups.get(("learned", task, split))
        if phase == "forgotten" and learned:
            found[metric_name(phase, task, split, "forget_gap")] = forget_gap(group)
            name, ratio = ("flipped_forget_ratio", flipped_forget_ratio) if flipped else ("forget_ratio", forget_ratio)
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


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Rows as one parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)})
    pq.write_table(table, path, write_page_checksum=True)


def read_rows(path: Path) -> list[Row]:
    """Rows as `write_rows` left them, to the bit.

    Raises:
        BadInput: the file is damaged.
    """
    with _whole(path) as table:
        records = table.to_pylist()
        return [Row(**{**r, "logprobs": tuple(r["logprobs"]), "lengths": tuple(r["lengths"])}) for r in records]


def read_frame(path: Path) -> pd.DataFrame:
    """The Rows of a file as columns: what a Row is of, `options`, and what `judge` says of it. For a million of them.

    Raises:
        BadInput: the file is damaged.
    """
    with _whole(path) as table:
        logprobs, lengths = (table[name].combine_chunks() for name in ("logprobs", "lengths"))
        options = np.diff(logprobs.offsets.to_numpy())
        judged = _judge(logprobs.flatten().to_numpy(), lengths.flatten().to_numpy(), options, table["truth"].to_numpy())
        return _framed(table.drop_columns(["logprobs", "lengths"]).to_pandas(), options, judged)


@contextmanager
def _whole(path: Path) -> Iterator[pa.Table]:
    """The table of a file of Rows; that its columns are not those of Rows shows in the block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.read_table(path, page_checksum_verification=True)
    # Arrow's errors are OSErrors, ValueErrors and KeyErrors; a column of other things than numbers is a TypeError.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(
            f"{path}: not a file of Rows, or damaged ({reason}); remove its folder, and it is computed again"
        ) from error


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """`read_frame` of Rows at hand."""
    import pandas as pd

    names = [f.name for f in fields(Row) if f.name not in ("logprobs", "lengths")]
    columns = pd.DataFrame({name: [getattr(row, name) for row in rows] for name in names})
    return _framed(columns, np.array([len(row.logprobs) for row in rows]), judge(rows))


def _framed(columns: pd.DataFrame, options: np.ndarray, judged: Judged) -> pd.DataFrame:
    numbers = {name: columns[name].astype(float) for name in ("step", "similarity", "spread")}
    return columns.assign(**numbers, options=options, **{f.name: getattr(judged, f.name) for f in fields(Judged)})
