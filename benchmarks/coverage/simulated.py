"""Studies drawn from known truths: accuracies with noise of items and of trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np

from forget.analyses import Study
from forget.analyses.resampling import Draws
from forget.analyses.samples import Place, Sample
from forget.results.estimates import RESAMPLES
from forget.results.files import frame
from forget.results.outcome import Outcome
from forget.settings.trial import Arm, Trial

ITEMS = 160
"""Examples of a split."""

LEARNED = 0.9
"""True accuracy of a learned model, where a guess is right in half of the cases."""


@dataclass(frozen=True)
class Truth:
    """True accuracies after forgetting, and the noise of trainings."""

    after: Mapping[tuple[str, str], float]
    """By (task forgotten, task measured), on held-out examples."""
    trained: float | None = 0.5
    """Accuracy on trained examples; None leaves them out."""
    similar: float | None = None
    """Accuracy on similar examples; None leaves them out."""
    agreement: float = 0.5
    """Share of the trained examples that are given the drawn label."""
    true_arm: Mapping[tuple[str, str], float] | None = None
    """Accuracies by the arm with true labels; None where it is not run."""
    spread: float = 0.0
    """Standard deviation of an accuracy over trainings."""
    learned: Mapping[str, float] = field(default_factory=dict)
    """True accuracy after learning, by task, where it is not LEARNED."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """Mean confidence after learning, by task, where it is not 0.8."""


def study(truth: Truth, seeds: int, draw: np.random.Generator) -> Study:
    """Draw a study: every task forgotten, with so many seeds, and ITEMS of a split.

    The items are other ones in each seed, as trials draw them. Of zeros and ones a bootstrap of the
    items is a binomial number, so no Row is made.
    """
    tasks = tuple(dict.fromkeys(task for task, _ in truth.after))
    arms: list[tuple[Arm, Mapping[tuple[str, str], float]]] = [("random", truth.after)]
    if truth.true_arm is not None:
        arms.append(("true", truth.true_arm))
    outcomes: list[Outcome] = []
    samples: dict[Place, Sample] = {}
    for task, seed in product(tasks, range(seeds)):
        others = tuple(other for one, other in truth.after if one == task and other != task)
        learned: dict[tuple[str, str], Sample] = {}
        for arm, after in arms:
            outcome = outcome_of(task, others, seed, arm)
            outcomes.append(outcome)
            for (measured, split), mean in _means(truth, outcome.trial, after).items():
                place = measured, split
                # Both arms set out from the same learned model.
                if place not in learned:
                    before = truth.learned.get(measured, LEARNED)
                    learned[place] = _sample(truth, seed, measured, split, before, draw)
                now = _sample(truth, seed, measured, split, mean, draw)
                samples[outcome.id, "learned", measured, split] = learned[place]
                samples[outcome.id, "forgotten", measured, split] = now
    return Study(outcomes, dict.fromkeys((one.id for one in outcomes), NOT_LOOKED_AT), samples)


NOT_LOOKED_AT = frame([])
"""Rows of a trial that was not looked at on the way."""


@lru_cache(maxsize=1000)
def outcome_of(task: str, others: tuple[str, ...], seed: int, arm: Arm) -> Outcome:
    """Return an outcome without numbers, which are drawn."""
    trial = Trial(task=task, model="simulated", evaluate_on=others, seed=seed, arm=arm)
    return Outcome(
        trial=trial,
        id=trial.id(""),
        learned_id=trial.learned_id(""),
        data="",
        parameters=1,
        seconds=0.0,
    )


def _means(
    truth: Truth, trial: Trial, after: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """Return the true accuracies after forgetting by task measured and split."""
    means = {(task, "test"): after[trial.task, task] for task in trial.tasks}
    if truth.trained is not None:
        means[trial.task, "train"] = truth.trained if trial.arm == "random" else LEARNED
    if truth.similar is not None:
        means[trial.task, "similar"] = truth.similar
    return means


def _sample(
    truth: Truth, seed: int, task: str, split: str, mean: float, draw: np.random.Generator
) -> Sample:
    """Draw what a model's answers to the items of a split give, with their resamples."""
    accuracy = float(np.clip(mean + truth.spread * draw.standard_normal(), 0, 1))
    means = {"accuracy": _share(accuracy, draw), "option_mass": np.full(1 + RESAMPLES, 0.5)}
    means["confidence"] = _normal(truth.confidence.get(task, 0.8), 0.01, draw)
    means["variability"] = _normal(float(draw.normal(20, 2)), 0.4, draw)
    if split == "train":
        means["agreement"] = _share(truth.agreement, draw)
    examples = tuple(f"{seed}/{number}" for number in range(ITEMS))
    return Sample(examples, 0.5, 0.5, means)


def _share(p: float, draw: np.random.Generator) -> Draws:
    """Draw a share of the items, and its bootstrap."""
    found = draw.binomial(ITEMS, p) / ITEMS
    resampled = draw.binomial(ITEMS, found, RESAMPLES) / ITEMS
    return np.concatenate([[found], resampled])


def _normal(mean: float, error: float, draw: np.random.Generator) -> Draws:
    found = mean + error * draw.standard_normal()
    return np.concatenate([[found], found + error * draw.standard_normal(RESAMPLES)])


def everywhere(tasks: str, accuracy: Callable[[str, str], float]) -> dict[tuple[str, str], float]:
    """Return accuracies for every pair of tasks, named by letters."""
    return {(one, other): accuracy(one, other) for one, other in product(tasks, tasks)}


def alone(tasks: str, accuracy: float) -> dict[tuple[str, str], float]:
    """Return accuracies for tasks that are measured on themselves alone."""
    return {(task, task): accuracy for task in tasks}
