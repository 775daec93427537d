"""Readings of linear probes before and after forgetting, beside what the answers lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from forget.analyses.replicates import Replicate, Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, estimate, item_weights
from forget.analyses.study import Cell, kept, replicate
from forget.results.estimates import Estimate
from forget.results.folds import FOLDS, widening
from forget.results.metrics import DEFINED_ABOVE_CHANCE
from forget.results.outcome import ProbeScore
from forget.settings.parts import Position


@dataclass(frozen=True)
class Reading:
    """Probes of the middle half of the layers, beside the answers to the same questions.

    The layers are the same in each phase, so that no choice among them flatters one. All numbers
    are of the first position probed, and of the questions that have Rows.
    """

    cell: Cell
    position: Position
    layers: tuple[int, ...]
    """The layers over which probes are averaged."""
    chance: float
    """Accuracy of a guess, of probes and answers alike."""
    base: Estimate | None
    """Share of questions of which a layer's probe prefers the true option, mean over the layers."""
    learned: Estimate
    forgotten: Estimate
    control: Estimate | None
    """Accuracy after learning of probes that were fit on shuffled labels."""
    pairs_learned: Estimate | None
    """Share of (question, answer) pairs that a probe rightly calls right or wrong; with two options
    half is a guess. A threshold that has moved counts as a loss here, but not in `learned`.
    """
    pairs_forgotten: Estimate | None
    lost: Draws | None
    """The probes' forget ratio, (learned - forgotten) / (learned - chance).

    None where the probes read nothing after learning.
    """
    lost_by_answers: Draws | None
    """The answers' forget ratio on the same questions, by the same resamples; None without skill.
    """

    @property
    def lost_share(self) -> Estimate | None:
        return None if self.lost is None else estimate(self.lost, self.learned.n)

    @property
    def spared(self) -> Draws | None:
        """The answers' loss less the probes': above 0, more is gone from what the model says."""
        if self.lost is None or self.lost_by_answers is None:
            return None
        return self.lost_by_answers - self.lost


@kept
def readings(cell: Cell) -> list[Reading]:
    """Return the reading of a cell whose trials have probed; none where one of them lacks it."""
    learned, forgotten = _accuracy(cell, "learned"), _accuracy(cell, "forgotten")
    if learned is None or forgotten is None or learned.examples != forgotten.examples:
        return []
    base, position = _accuracy(cell, "base"), cell.trial.probe.positions[0]
    n = sum(map(len, learned.examples))
    found = Reading(
        cell=cell,
        position=position,
        layers=tuple(dict.fromkeys(score.layer for score in _middle(cell, "learned"))),
        chance=learned.chance,
        base=None if base is None else estimate(base.probes, n),
        learned=estimate(learned.probes, n),
        forgotten=estimate(forgotten.probes, n),
        control=_mean([score.accuracy for score in _middle(cell, "learned", control=True)]),
        pairs_learned=_mean([score.pair_accuracy for score in _middle(cell, "learned")]),
        pairs_forgotten=_mean([score.pair_accuracy for score in _middle(cell, "forgotten")]),
        lost=_ratio(learned.probes, forgotten.probes, learned.chance),
        lost_by_answers=_ratio(learned.answers, forgotten.answers, learned.chance),
    )
    return [found]


def lost(cell: Cell) -> Draws | None:
    """Return the share of the probes' skill that is lost; None without a reading."""
    found = readings(cell)
    return found[0].lost if found else None


def spared(cell: Cell) -> Draws | None:
    """Return the share of the skill that the answers lost less that which the probes lost."""
    found = readings(cell)
    return found[0].spared if found else None


def skill(cell: Cell, phase: str) -> tuple[Draws, int] | None:
    """Return the probes' accuracy above chance in a phase, and the questions it rests on."""
    found = _accuracy(cell, phase)
    return None if found is None else (found.probes - found.chance, sum(map(len, found.examples)))


def guess(cells: Sequence[Cell]) -> float:
    """Return the mean accuracy of a guess over all probes of the cells; 0.5 without any."""
    outcomes = chain.from_iterable(cell.outcomes for cell in cells)
    scores = chain.from_iterable(outcome.probes for outcome in outcomes)
    chances = [score.chance for score in scores]
    return float(np.mean(chances)) if chances else 0.5


@dataclass(frozen=True)
class _Accuracy:
    """Accuracies of probes and answers on the questions that were probed, over replicates."""

    examples: tuple[tuple[str, ...], ...]
    """Questions by replicate."""
    probes: Draws
    answers: Draws
    chance: float


@dataclass(frozen=True)
class _Asked:
    """Accuracies on the questions that were probed, replicate by replicate."""

    examples: tuple[tuple[str, ...], ...]
    probes: Replicated
    answers: Replicated
    chance: float


@kept
def _accuracy(cell: Cell, phase: str) -> _Accuracy | None:
    """Return the accuracies in a phase; None where a replicate lacks them."""
    own = _asked(cell, phase)
    if own is None:
        return None
    peers = [found for peer in cell.study.peers(cell) if (found := _asked(peer, phase))]
    names = own.probes.names
    probes = over_replicates(own.probes, pool([one.probes.only(names) for one in peers]))
    answers = over_replicates(own.answers, pool([one.answers.only(names) for one in peers]))
    return _Accuracy(own.examples, probes, answers, own.chance)


@kept
def _asked(cell: Cell, phase: str) -> _Asked | None:
    asked, chances = [], []
    names: list[Replicate] = []
    probes: list[Draws] = []
    answers: list[Draws] = []
    for outcome in sorted(cell.outcomes, key=lambda outcome: replicate(outcome.trial)):
        frame = cell.study.frames[outcome.id]
        wanted = (frame["phase"] == phase) & (frame["task"] == cell.task) & frame["step"].isna()
        frame = frame[wanted & (frame["split"] == "test") & frame["probe"].notna()]
        if frame.empty:
            return None
        frame = frame.sort_values("example")
        examples = tuple(frame["example"])
        weights = item_weights(len(examples), [cell.task, "test", examples])
        asked.append(examples)
        names.append(replicate(outcome.trial))
        probes.append(_wider(weights @ frame["probe"].to_numpy(), cell, len(examples)))
        answers.append(weights @ frame["correct"].to_numpy())
        chances.append(float((1 / frame["options"]).mean()))
    return _Asked(
        tuple(asked),
        Replicated(cell.task, tuple(names), tuple(probes)),
        Replicated(cell.task, tuple(names), tuple(answers)),
        float(np.mean(chances)),
    )


def _wider(draws: Draws, cell: Cell, asked: int) -> Draws:
    """Widen resamples of questions alone by what the fits add, which share questions."""
    trial = cell.trial
    if trial.probe.fit_on == "trained":
        factor = widening(1, asked, min(trial.probe.examples, trial.forget.examples))
    else:
        factor = widening(FOLDS, 1, FOLDS - 1)
    return draws[:1] + np.sqrt(factor) * (draws - draws[:1])


def _ratio(before: Draws, after: Draws, chance: float) -> Draws | None:
    """Return the share of the skill that is lost; None where there is surely none before."""
    if before[0] < chance + DEFINED_ABOVE_CHANCE or not np.nanquantile(before[1:], 0.025) > chance:
        return None
    # A resample at or below chance has no ratio; it must not flip the sign of the interval.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > chance, (before - after) / (before - chance), np.nan)


def _middle(cell: Cell, phase: str, control: bool = False) -> list[ProbeScore]:
    """Return the scores of the middle layers at the first position probed, of all seeds."""
    wanted = phase, cell.task, cell.trial.probe.positions[0], control, True
    found = []
    for outcome in cell.outcomes:
        for score in outcome.probes:
            place = score.phase, score.task, score.position, score.control, score.middle
            if place == wanted:
                found.append(score)
    return found


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Return the mean of estimates of the same questions, as if their errors were one."""
    known = [one for one in estimates if one is not None]
    if not known:
        return None
    value, low, high = np.mean([one.numbers for one in known], axis=0).tolist()
    return Estimate(value, low, high, max(one.n for one in known))
