"""Rows, each of which holds how a model scores one example, and the numbers each gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

import numpy as np

PHASES = ("base", "learned", "forgotten")
"""States of the model that are measured: before any training, after learning, after forgetting."""

ARMS = (*PHASES, "never", "scrambled", "again")
"""Models that audits compare: those phases; one that was never taught the task; one that forgot it
without having learned it; one that learned it in another order of the examples.
"""

MOST_MASS = 1.01
"""Largest total probability of options that rounding in bfloat16 explains."""


@dataclass(frozen=True, slots=True)
class Row:
    """Scores that a model gives the options of one example."""

    trial: str
    phase: str
    """One of PHASES; in a look on the way, the stage: "learn" or "forget"; of an audit, in ARMS."""
    task: str
    split: str
    example: str
    truth: int
    """Index of the true option."""
    logprobs: tuple[float, ...]
    """Sum of the log-probabilities of each option's tokens after the prompt, in nats."""
    lengths: tuple[int, ...]
    """Divisors of the sums that make options comparable: 1, tokens or bytes (`Trial.normalise`)."""
    step: int | None = None
    """Optimiser steps into the stage; None in a phase."""
    similarity: float | None = None
    """TF-IDF cosine of a held-out example to the nearest one that forgetting trains on."""
    spread: float | None = None
    """Squared distance of the question's hidden state from the mean over its split.

    See forget.evaluation.probing.spread.
    """
    weights: tuple[float, ...] = ()
    """Weights of the options in their total probability; by default each counts once.

    An option that begins with another's tokens counts 0, for the other's probability holds its own.
    Where a suffix is scored after each option, every option counts the same share of 1.
    """
    drawn: int | None = None
    """Index of the option that forgetting trains on, of an example in `near` that of its source.

    None where nothing was drawn, or something else in each epoch.
    """

    probe: float | None = None
    """Share of the middle layers' probes that prefer the true option of a held-out question to the
    others, at the first position probed; None where none was asked.
    """
    template: str = ""
    """Template in which the example was asked; empty for the trial's own."""
    audit: str = ""
    """Label of the audit that asked (forget.audits.audit.Audit.label); empty in a trial."""
    dose: str = ""
    """Words for what was done to the model or the prompt before (forget.results.doses)."""
    value: float | None = None
    """Number that an audit of hidden states finds of the example beside its scores; the dose says
    which. In a look on the way, the weight that a method gives the trained example in its loss
    (forget.methods.objective.Objective.weights). None of all others.
    """

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1.0,) * len(self.logprobs))
        sizes = len(self.logprobs), len(self.lengths), len(self.weights)
        if len(set(sizes)) > 1 or not 0 <= self.truth < len(self.logprobs):
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: example {self.example} has truth "
                f"{self.truth}, {sizes[0]} log-probabilities, {sizes[1]} lengths and {sizes[2]} "
                "weights"
            )
        if self.drawn is not None and not 0 <= self.drawn < len(self.logprobs):
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: example {self.example} has no option "
                f"{self.drawn}, which was drawn for it"
            )
        if not all(math.isfinite(value) for value in self.logprobs):
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: example {self.example} has a "
                "log-probability that is not finite"
            )
        weighed = zip(self.weights, self.logprobs, strict=True)
        mass = sum(weight * math.exp(logprob) for weight, logprob in weighed)
        if mass > MOST_MASS:
            raise ValueError(
                f"{self.phase}/{self.task}/{self.split}: the options of example {self.example} "
                f"have a total probability of {mass:.4f}, above 1: they were not scored apart"
            )


@dataclass(frozen=True, slots=True)
class Judged:
    """Numbers that Rows give one by one, each an array with an entry for every Row."""

    correct: np.ndarray
    """1 where the truth scores highest, else 0; a tie shares the point among the best."""
    confidence: np.ndarray
    """Share of the true option in the probability of all options.

    With two options it is the paper's e^{l+} / (e^{l+} + e^{l-}).
    """
    loss: np.ndarray
    """-log of `confidence`, in nats."""
    mass: np.ndarray
    """Total probability of the options: near 0 the model says something else altogether."""
    entropy: np.ndarray
    """Entropy of the options' shares over its maximum, log options.

    0 is certain, 1 has no preference.
    """
    top: np.ndarray
    """Share of the option that scores highest."""
    agrees: np.ndarray
    """1 where the drawn option scores highest, as `correct` for the true one; nan without one."""
    nested: np.ndarray
    """1 where an option begins with another's tokens, which a plain sum never scores lower."""
    nats: np.ndarray
    """Minus the log-probability of the true option."""
    length: np.ndarray
    """Divisor of the true option's log-probability (`Row.lengths`)."""


def judge(rows: Sequence[Row]) -> Judged:
    """Compute every number that the Rows give one by one."""
    return judge_columns(
        np.array(list(chain.from_iterable(row.logprobs for row in rows))),
        np.array(list(chain.from_iterable(row.lengths for row in rows))),
        np.array([len(row.logprobs) for row in rows]),
        np.array([row.truth for row in rows]),
        np.array(list(chain.from_iterable(row.weights for row in rows))),
        np.array([-1 if row.drawn is None else row.drawn for row in rows], dtype=int),
    )


def judge_columns(
    logprobs: np.ndarray,
    lengths: np.ndarray,
    options: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    drawn: np.ndarray,
) -> Judged:
    """Compute the numbers of Rows that are given as columns.

    Args:
        logprobs: by option, one row's options after the other's.
        lengths: likewise.
        options: by row, how many options it has.
        truth: by row, the index of the true option among them.
        weights: by option, its weight in the total probability (`Row.weights`).
        drawn: by row, the index of the option that forgetting trains on; -1 for none.
    """
    if not len(options):
        return Judged(*(np.empty(0) for _ in fields(Judged)))
    starts = np.concatenate([[0], np.cumsum(options)[:-1]]).astype(int)
    true = starts + truth
    scores = logprobs / lengths
    # The highest score is taken out before the exponential, which would else underflow.
    top = np.repeat(np.maximum.reduceat(scores, starts), options)
    shares = np.exp(scores - top)
    whole = np.add.reduceat(shares, starts)
    shares /= np.repeat(whole, options)
    best = scores == top
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(shares > 0, -shares * np.log(shares), 0.0)
    winners = np.add.reduceat(best.astype(float), starts)
    return Judged(
        correct=best[true] / winners,
        confidence=shares[true],
        loss=np.log(whole) - (scores - top)[true],
        mass=np.minimum(np.add.reduceat(weights * np.exp(logprobs), starts), 1.0),
        entropy=np.add.reduceat(surprise, starts) / np.log(np.maximum(options, 2)),
        top=np.maximum.reduceat(shares, starts),
        agrees=np.where(drawn < 0, np.nan, best[starts + np.maximum(drawn, 0)] / winners),
        nested=(np.minimum.reduceat(weights, starts) == 0).astype(float),
        nats=-logprobs[true],
        length=lengths[true],
    )


def select(rows: Iterable[Row], **fields: str | None) -> list[Row]:
    """Return the Rows with the given values, e.g. `select(rows, phase="learned", split="test")`."""

    def matches(row: Row) -> bool:
        return all(getattr(row, name) == value for name, value in fields.items())

    return [row for row in rows if matches(row)]


def calibrated(rows: Iterable[Row]) -> list[Row]:
    """Return the Rows with each option's score less its mean over those of its place.

    What favours an answer whatever is asked is taken out, as 2410.08827 does with letters. Scores
    become logarithms of shares, so the mass is 1. Rows are compared with those of as many options.
    """
    by_count: dict[int, list[Row]] = {}
    for row in rows:
        by_count.setdefault(len(row.logprobs), []).append(row)
    found = []
    for some_ in by_count.values():
        scores = np.array([row.logprobs for row in some_]) / [row.lengths for row in some_]
        scores -= scores.mean(axis=0)
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        for row, own in zip(some_, scores.tolist(), strict=True):
            ones = (1,) * len(own)
            found.append(replace(row, logprobs=tuple(own), lengths=ones, weights=()))
    return found


def as_asked(rows: Iterable[Row]) -> list[Row]:
    """Return the Rows in the trial's own template, which every measure is of."""
    return select(rows, template="")


def chance(rows: Sequence[Row]) -> float:
    """Return the accuracy of a guess: the mean of 1 / options."""
    return float(np.mean([1 / len(row.logprobs) for row in some(rows)]))


def some(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows, and raise where there are none."""
    if not rows:
        raise ValueError("no rows: an empty set has no accuracy")
    return rows
