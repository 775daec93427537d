"""Rows: what a model says of one example, and what each Row by itself tells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

PHASES = ("base", "learned", "forgotten")
"""Before any training, after learning, after forgetting."""


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
    """Squared distance of the question's hidden state from the mean over its split
    (forget.evaluation.probing.spread).
    """

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
        return tuple(
            value / length for value, length in zip(self.logprobs, self.lengths, strict=True)
        )

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
    """Share of the true option in the probability of all: e^{l+} / (e^{l+} + e^{l-}) with two options
    (the paper).
    """
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


def _judge(
    logprobs: np.ndarray, lengths: np.ndarray, options: np.ndarray, truth: np.ndarray
) -> Judged:
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


def select(rows: Iterable[Row], **fields: str | None) -> list[Row]:
    """Rows whose fields have the given values, e.g. `select(rows, phase="learned", split="test")`."""
    return [
        row for row in rows if all(getattr(row, name) == value for name, value in fields.items())
    ]


def chance(rows: Sequence[Row]) -> float:
    """Accuracy of a guess: the mean of 1 / options."""
    return float(np.mean([1 / len(row.logprobs) for row in _some(rows)]))


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    if not rows:
        raise ValueError("no rows: an empty set has no accuracy")
    return rows
