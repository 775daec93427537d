"""Numbers from Rows. Every metric is a pure function of Rows, so a new one never needs a model.

Symbols of Zhang, Choshen, Andreas (2024): a_ft, accuracy after learning; a_fg, accuracy after
forgetting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import norm, rankdata

from forget.results.estimates import RESAMPLES, Estimate, bootstrap, mean, share
from forget.results.rows import Row, chance, judge, some

DEFINED_ABOVE_CHANCE = 0.05
"""A forget ratio is missing where learning brought the task less than this above chance."""


def accuracy(rows: Sequence[Row]) -> Estimate:
    """Compute the share of examples whose true option scores highest.

    Raises:
        ValueError: no rows. An empty set has no accuracy.
    """
    return share(judge(some(rows)).correct)


def confidence(rows: Sequence[Row]) -> Estimate:
    """Compute the mean confidence in the true option."""
    return mean(judge(some(rows)).confidence)


def loss(rows: Sequence[Row]) -> Estimate:
    """Compute the mean of -log of the confidence, in nats: log options without a preference."""
    return mean(judge(some(rows)).loss)


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
    return share(agrees) if len(agrees) else None


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
    """Compute the expected calibration error of the chosen option's share, its bias taken off.

    The bins are of equal width (Guo et al. 2017, eq. 3). The gap between share and accuracy in a
    bin is never below 0, so that noise alone gives a calibrated model an error; what the noise adds
    at the gaps found is subtracted (Kumar, Liang and Ma 2019, section 5), and an error below 0 is
    0. The interval is the normal one, with the resamples' deviation.
    """
    judged = judge(some(rows))
    shares, correct = judged.top, judged.correct
    bin_of = np.minimum((shares * bins).astype(int), bins - 1)

    def error(items: np.ndarray) -> float:
        counts = np.bincount(bin_of[items], minlength=bins)
        there = counts > 0
        n = counts[there]
        right = np.bincount(bin_of[items], correct[items], minlength=bins)[there] / n
        gaps = right - np.bincount(bin_of[items], shares[items], minlength=bins)[there] / n
        # A share of 0 or 1 of few items is no sign that there is no noise.
        smoothed = (right * n + 1) / (n + 2)
        noise = np.sqrt(smoothed * (1 - smoothed) / n)
        return float((n * (2 * np.abs(gaps) - _folded(gaps, noise))).sum() / len(items))

    items = np.arange(len(shares))
    deviation = np.std([error(draw) for draw in _resamples(len(items))])
    value, reach = error(items), norm.ppf(0.975) * float(deviation)
    bounds = max(0.0, value - reach), max(0.0, value + reach)
    return Estimate(max(0.0, value), *bounds, len(items))


def _folded(means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return the mean absolute values of normal numbers (the folded normal distribution)."""
    at = means / deviations
    folded: np.ndarray = 2 * deviations * norm.pdf(at) + means * (1 - 2 * norm.cdf(-at))
    return folded


def forget_gap(forgotten: Sequence[Row]) -> Estimate:
    """Compute a_fg - chance; 0 is forgotten."""
    guess = chance(forgotten)
    value, low, high = accuracy(forgotten).numbers
    return Estimate(value - guess, low - guess, high - guess, len(forgotten))


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

    interval = bootstrap((before, paired), statistic)
    return Estimate(float((a_ft - a_fg) / scale(a_ft)), *interval, len(before))
