"""Numbers from Rows. Every metric is a pure function of Rows, so a new one never needs a model.

Symbols of Zhang, Choshen, Andreas (2024): a_ft, accuracy after learning; a_fg, accuracy after
forgetting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from forget.results.rows import PHASES, Row, chance, judge, some
from forget.settings.identity import digest

DEFINED_ABOVE_CHANCE = 0.05
"""A forget ratio is missing where learning brought the task less than this above chance."""

RESAMPLES = 1000
"""Resamples of a bootstrap."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval over items.

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


def accuracy(rows: Sequence[Row]) -> Estimate:
    """Compute the share of examples whose true option scores highest.

    Raises:
        ValueError: no rows. An empty set has no accuracy.
    """
    return mean(judge(some(rows)).correct)


def confidence(rows: Sequence[Row]) -> Estimate:
    """Compute the mean confidence in the true option."""
    return mean(judge(some(rows)).confidence)


def option_mass(rows: Sequence[Row]) -> Estimate:
    """Compute the mean total probability of the options: it tells 'at chance' from 'broken'."""
    return mean(judge(some(rows)).mass)


def entropy(rows: Sequence[Row]) -> Estimate:
    """Compute the mean entropy of the options' shares over its maximum.

    Near 1 the model has no preference among the options.
    """
    return mean(judge(some(rows)).entropy)


def variability(rows: Sequence[Row]) -> Estimate:
    """Compute the trace of the covariance of the questions' hidden states.

    The paper takes the last token at the fifth-to-last layer.

    Raises:
        ValueError: fewer than two rows, or rows without a spread.
    """
    spread = [row.spread for row in some(rows) if row.spread is not None]
    if len(spread) < max(2, len(rows)):
        raise ValueError("variability needs the spread of two examples at least")
    return mean(np.array(spread) * (len(spread) / (len(spread) - 1)))


def agreement(rows: Sequence[Row]) -> Estimate | None:
    """Compute the share of examples whose drawn option scores highest.

    Near 1 the labels that were drawn are memorised, whatever the accuracy; None without labels.
    """
    agrees = judge([row for row in rows if row.drawn is not None]).agrees
    return mean(agrees) if len(agrees) else None


def accuracy_by_draw(rows: Sequence[Row], right: bool) -> Estimate | None:
    """Compute the accuracy on examples whose drawn label is the truth, or on the others.

    A model that forgot has no more skill on the one than on the other; one that memorised the
    labels is right where the draw was. None where there is no such example.
    """
    part = [row for row in rows if row.drawn is not None and (row.drawn == row.truth) == right]
    return accuracy(part) if part else None


def discrimination(rows: Sequence[Row]) -> Estimate | None:
    """Compute the area under the ROC curve of the margin between two options against the truth.

    It is the probability that the second option leads by more in an example in which it is true
    than in one in which it is not: 0.5 where the model tells nothing, below where it has the rule
    reversed, and, unlike the accuracy, the same however much one answer is preferred to the other.
    None unless all rows have two options, each the truth of some.
    """
    if any(len(row.logprobs) != 2 for row in rows):
        return None
    margins, second = _margins(rows)
    if not 0 < second.sum() < len(second):
        return None
    items = np.arange(len(rows))
    low, high = np.nanquantile(_areas(margins, second, _resamples(len(rows))), (0.025, 0.975))
    (value,) = _areas(margins, second, items[None])
    return Estimate(float(value), float(low), float(high), len(rows))


def most_given(rows: Sequence[Row]) -> Estimate:
    """Compute the share of the answer that is given most often, by its place among the options.

    Where the options are the same in each example, 1 is one answer whatever the question.
    """
    options = max(len(row.logprobs) for row in some(rows))
    given = np.zeros((len(rows), options))
    for number, row in enumerate(rows):
        scores = np.array(row.logprobs) / np.array(row.lengths)
        best = scores == scores.max()
        given[number, : len(best)] = best / best.sum()

    def most(draws: np.ndarray) -> np.ndarray:
        shares: np.ndarray = given[draws].mean(axis=1).max(axis=-1)
        return shares

    low, high = np.quantile(most(_resamples(len(rows))), (0.025, 0.975))
    (value,) = most(np.arange(len(rows))[None])
    return Estimate(float(value), float(low), float(high), len(rows))


def calibration_error(rows: Sequence[Row], bins: int = 10) -> Estimate:
    """Compute the expected calibration error of the chosen option's share.

    The bins are of equal width (Guo et al. 2017, eq. 3).
    """
    judged = judge(some(rows))
    shares, correct = judged.top, judged.correct
    bin_of = np.minimum((shares * bins).astype(int), bins - 1)

    def error(items: np.ndarray) -> float:
        gaps = np.bincount(bin_of[items], correct[items] - shares[items], minlength=bins)
        return float(np.abs(gaps).sum() / len(items))

    items = np.arange(len(shares))
    draws = _resamples(len(items))
    low, high = np.quantile([error(draw) for draw in draws], (0.025, 0.975))
    return Estimate(error(items), float(low), float(high), len(items))


def forget_gap(forgotten: Sequence[Row]) -> Estimate:
    """Compute a_fg - chance; 0 is forgotten."""
    guess = chance(forgotten)
    return mean(judge(forgotten).correct - guess)


def forget_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate:
    """Compute (a_ft - a_fg) / (a_ft - chance): 1 is forgotten, 0 untouched.

    Missing where a_ft < chance + 0.05.

    Raises:
        ValueError: the two sets are empty or not of the same examples.
    """
    guess = chance(learned)
    return _ratio(learned, forgotten, lambda a_ft: a_ft - guess)


def flipped_forget_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate:
    """Compute (a_ft - a_fg) / (2 a_ft - 1), the ratio of forgetting by flipped labels.

    It is 1 where every answer turned into its opposite.
    """
    return _ratio(learned, forgotten, lambda a_ft: 2 * a_ft - 1)


def share_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate:
    """Compute the forget ratio of the true option's share instead of its rank.

    (c_ft - c_fg) / (c_ft - chance), with c the mean confidence: it sees a preference that shrinks
    before an answer changes.
    """
    guess = chance(learned)
    return _ratio(learned, forgotten, lambda c_ft: c_ft - guess, of="confidence")


def discrimination_ratio(learned: Sequence[Row], forgotten: Sequence[Row]) -> Estimate | None:
    """Compute the forget ratio of discrimination, (d_ft - d_fg) / (d_ft - 0.5).

    1 where the model tells nothing any more, above where it has the rule reversed. None where the
    model's discrimination is not defined.
    """
    before, after = discrimination(learned), discrimination(forgotten)
    if before is None or after is None:
        return None
    assert before.value is not None
    assert after.value is not None
    if before.value < 0.5 + DEFINED_ABOVE_CHANCE:
        return Estimate(None, None, None, len(learned))
    place = {row.example: number for number, row in enumerate(forgotten)}
    paired = [forgotten[place[row.example]] for row in learned]
    draws = _resamples(len(learned))
    was, now = _areas(*_margins(learned), draws), _areas(*_margins(paired), draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(was > 0.5, (was - now) / (was - 0.5), np.nan)
    low, high = np.nanquantile(ratios, (0.025, 0.975))
    value = (before.value - after.value) / (before.value - 0.5)
    return Estimate(value, float(low), float(high), len(learned))


def _margins(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the second option leads, and whether it is true, of rows with two."""
    scores = np.array([row.logprobs for row in rows]) / np.array([row.lengths for row in rows])
    return scores[:, 1] - scores[:, 0], np.array([row.truth == 1 for row in rows])


def _areas(margins: np.ndarray, second: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of each draw of items [draws, items], nan without one.

    By ranks (Hanley and McNeil 1982); equal margins count half.
    """
    taken, true = margins[draws], second[draws]
    ranks = rankdata(taken, axis=1)
    n_true = true.sum(axis=1)
    n_false = true.shape[1] - n_true
    with np.errstate(divide="ignore", invalid="ignore"):
        areas: np.ndarray = ((ranks * true).sum(axis=1) - n_true * (n_true + 1) / 2) / (
            n_true * n_false
        )
    return areas


def _resamples(n: int) -> np.ndarray:
    """Draw items of measures whose resamples cost more than those of a mean: a fifth as many."""
    return np.random.default_rng(0).integers(0, n, (RESAMPLES // 5, n))


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Compute a mean with its percentile-bootstrap interval.

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
    learned: Sequence[Row],
    forgotten: Sequence[Row],
    scale: Callable[[np.ndarray], np.ndarray],
    of: str = "correct",
) -> Estimate:
    """Compute (a_ft - a_fg) / scale(a_ft), the examples of the two sets drawn together.

    Args:
        learned: Rows after learning.
        forgotten: Rows after forgetting, of the same examples.
        scale: what the fall is divided by.
        of: the field of Judged whose mean is a.
    """
    names = (row.example for row in some(forgotten))
    after = dict(zip(names, getattr(judge(forgotten), of), strict=True))
    paired_ids = {row.example for row in some(learned)}
    # The lengths tell a set that names an example twice, e.g. one that mixes two tasks.
    if after.keys() != paired_ids or not len(paired_ids) == len(learned) == len(forgotten):
        raise ValueError("the rows before and after forgetting are not of the same examples")
    before = getattr(judge(learned), of)
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
    """Return the bounds of the percentile interval.

    Items are drawn together from all samples; a resample without a statistic is left out.
    """
    n = len(samples[0])
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanquantile(
        statistic(*(sample[draws] for sample in samples), axis=-1), (0.025, 0.975)
    )
    return float(low), float(high)


@dataclass(frozen=True)
class Measure:
    """A number that trials are measured by, and where it is shown."""

    name: str
    """Last part of its metric names."""
    title: str
    """Words of its name in tables and figures."""
    of: Callable[..., Estimate | None]
    """Function of the Rows of one phase, task and split; None where they lack what it needs.

    With `change`, a function of the Rows after learning and of those after forgetting.
    """
    change: bool = False
    """True for a measure of the step from the learned to the forgotten model."""
    flipped: Measure | None = None
    """The measure that stands in its place where the model forgets by flipped labels."""
    column: str = ""
    """Column of Rows (forget.results.files.frame) whose mean it is.

    Analyses resample the items of such a measure, so that they can compare models item by item. Of
    a measure without a column they take the trial's own estimate.
    """
    watched: bool = False
    """True for a measure that is taken at every look on the way as well."""
    headline: bool = False
    """True for a number that a study is known by."""
    compared: tuple[str, ...] = ("forgotten",)
    """Phases in which two studies are compared by it."""
    page: tuple[str, ...] = ("learned", "forgotten")
    """Phases in which the report's table of cells shows it."""
    digits: str = "z.2f"
    """Format of its numbers there."""

    def under(self, flipped: bool) -> Measure:
        """Return the measure that fits forgetting by flipped labels, or by others."""
        return self.flipped if flipped and self.flipped else self


def _variability(rows: Sequence[Row]) -> Estimate | None:
    taken = len(rows) > 1 and all(row.spread is not None for row in rows)
    return variability(rows) if taken else None


FORGET_RATIO = Measure(
    "forget_ratio",
    "forget ratio",
    forget_ratio,
    change=True,
    flipped=Measure(
        "flipped_forget_ratio",
        "flipped forget ratio",
        flipped_forget_ratio,
        change=True,
        headline=True,
    ),
    headline=True,
    page=("forgotten",),
)

MEASURES: tuple[Measure, ...] = (
    Measure(
        "accuracy",
        "accuracy",
        accuracy,
        column="correct",
        watched=True,
        headline=True,
        compared=("learned", "forgotten"),
        page=PHASES,
    ),
    Measure(
        "forget_gap",
        "forget gap",
        lambda learned, forgotten: forget_gap(forgotten),
        change=True,
        page=(),
    ),
    FORGET_RATIO,
    Measure("agreement", "agreement with the draw", agreement, page=("forgotten",)),
    Measure(
        "accuracy_draw_right",
        "accuracy where the draw was right",
        partial(accuracy_by_draw, right=True),
        page=("forgotten",),
    ),
    Measure(
        "accuracy_draw_wrong",
        "accuracy where the draw was wrong",
        partial(accuracy_by_draw, right=False),
        page=("forgotten",),
    ),
    Measure("discrimination", "discrimination (AUC)", discrimination),
    Measure("most_given", "share of the answer given most", most_given, page=()),
    Measure("forget_ratio_share", "forget ratio by share", share_ratio, change=True, page=()),
    Measure(
        "forget_ratio_auc",
        "forget ratio by AUC",
        discrimination_ratio,
        change=True,
        page=(),
    ),
    Measure("confidence", "confidence", confidence, column="confidence", watched=True),
    Measure("option_mass", "option mass", option_mass, column="mass", digits=".2g"),
    Measure("entropy", "entropy", entropy, column="entropy"),
    Measure("calibration_error", "calibration error", calibration_error, compared=(), page=()),
    Measure("variability", "variability", _variability, column="spread", compared=(), page=()),
)
"""Every measure. MLflow, the report's tables and page, and comparisons show what stands here."""


def ratio_name(labels: str) -> str:
    """Return the name of the forget ratio that fits the labels a model forgets with."""
    return FORGET_RATIO.under(labels == "flipped").name


def every_measure() -> Iterator[Measure]:
    """Yield each of MEASURES, followed by the one that stands in its place for flipped labels."""
    for measure in MEASURES:
        yield measure
        if measure.flipped:
            yield measure.flipped


def named(name: str) -> Measure:
    """Return the measure of that name.

    Raises:
        KeyError: there is none.
    """
    for measure in every_measure():
        if measure.name == name:
            return measure
    raise KeyError(name)


def measures(rows: Sequence[Row], flipped: bool = False) -> dict[str, Estimate]:
    """Compute every number of a trial, for each phase, task and split there are Rows of.

    Args:
        rows: of any phases; looks on the way are left out.
        flipped: the trial forgets by flipped labels, which have a forget ratio of their own.

    Returns:
        Estimates by metric name.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.step is None:
            groups.setdefault((row.phase, row.task, row.split), []).append(row)
    fitting = [measure.under(flipped) for measure in MEASURES]
    found: dict[str, Estimate] = {}
    for (phase, task, split), group in groups.items():
        learned = groups.get(("learned", task, split)) if phase == "forgotten" else None
        taken = [(one.name, one.of(group)) for one in fitting if not one.change]
        if learned:
            taken += [(one.name, one.of(learned, group)) for one in fitting if one.change]
        for name, estimate in taken:
            if estimate is not None:
                found[metric_name(phase, task, split, name)] = estimate
    return found


def course(rows: Sequence[Row]) -> list[tuple[str, int, Estimate]]:
    """Compute the watched measures at every look on the way.

    Returns:
        (metric name, step, estimate), the name e.g. forget/arc_easy/test/accuracy.
    """
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        if row.step is not None:
            groups.setdefault((row.phase, row.task, row.split, row.step), []).append(row)
    watched = [measure for measure in MEASURES if measure.watched]
    found = []
    for (phase, task, split, step), group in groups.items():
        for measure in watched:
            estimate = measure.of(group)
            if estimate is not None:
                found.append((metric_name(phase, task, split, measure.name), step, estimate))
    return found


@lru_cache(maxsize=1)
def code() -> str:
    """Return a digest of the source text that numbers are computed by.

    Numbers that were kept together with another digest are to be computed anew.
    """
    sources = (Path(__file__), Path(__file__).with_name("rows.py"))
    return digest([path.read_text(encoding="utf-8") for path in sources])
