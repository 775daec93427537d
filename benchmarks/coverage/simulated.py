"""Studies drawn from known truths: accuracies with noise of items and of trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd

from forget.analyses import Study
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
    probes: float | None = None
    """Accuracy of probes after forgetting, LEARNED before; None for no probes."""


def study(truth: Truth, seeds: int, draw: np.random.Generator) -> Study:
    """Draw a study: every task forgotten, with so many seeds, and ITEMS of a split."""
    tasks = tuple(dict.fromkeys(task for task, _ in truth.after))
    arms: list[tuple[Arm, Mapping[tuple[str, str], float]]] = [("random", truth.after)]
    if truth.true_arm is not None:
        arms.append(("true", truth.true_arm))
    outcomes, frames = [], {}
    for task, seed in product(tasks, range(seeds)):
        learned: list[pd.DataFrame] | None = None
        for arm, after in arms:
            others = tuple(other for one, other in truth.after if one == task and other != task)
            trial = Trial(task=task, model="simulated", evaluate_on=others, seed=seed, arm=arm)
            id = trial.id("")
            # Both arms set out from the same learned model.
            if learned is None:
                learned = list(_rows(truth, trial, "learned", after, draw))
            frame = pd.concat([*learned, *_rows(truth, trial, "forgotten", after, draw)])
            frames[id] = frame.reset_index(drop=True)
            outcomes.append(_outcome(trial, id))
    return Study(outcomes, frames)


def _outcome(trial: Trial, id: str) -> Outcome:
    fields = {"learned_id": trial.learned_id(""), "data": "", "parameters": 1, "seconds": 0.0}
    return Outcome.model_validate({"trial": trial, "id": id, **fields})


def _rows(
    truth: Truth,
    trial: Trial,
    phase: str,
    after: Mapping[tuple[str, str], float],
    draw: np.random.Generator,
) -> list[pd.DataFrame]:
    """Draw the Rows of a phase on every split and task."""
    splits: list[tuple[str, str, float]] = []
    for task in trial.tasks:
        splits.append((task, "test", after[trial.task, task]))
    if truth.trained is not None:
        splits.append((trial.task, "train", truth.trained if trial.arm == "random" else LEARNED))
    if truth.similar is not None:
        splits.append((trial.task, "similar", truth.similar))
    found = []
    for task, split, forgotten in splits:
        mean = truth.learned.get(task, LEARNED) if phase == "learned" else forgotten
        found.append(_split(truth, trial, phase, task, split, mean, draw))
    return found


def _split(
    truth: Truth,
    trial: Trial,
    phase: str,
    task: str,
    split: str,
    mean: float,
    draw: np.random.Generator,
) -> pd.DataFrame:
    accuracy = np.clip(mean + truth.spread * draw.standard_normal(), 0, 1)
    right = (draw.random(ITEMS) < accuracy).astype(float)
    share = truth.confidence.get(task, 0.8)
    columns: dict[str, object] = {
        "phase": phase,
        "task": task,
        "split": split,
        "step": np.nan,
        # Items that differ by seed, as the trials draw them.
        "example": [f"{trial.seed}/{number}" for number in range(ITEMS)],
        "truth": np.arange(ITEMS) % 2,
        "options": 2,
        "correct": right,
        "confidence": np.where(right > 0, share, 1 - share),
        "mass": 0.5,
        "entropy": 0.7,
        "agrees": np.nan,
        "spread": draw.gamma(20.0, 1.0, ITEMS) if split == "test" else np.nan,
        "similarity": np.nan,
        "drawn": np.nan,
        "probe": np.nan,
    }
    if split == "train":
        columns["drawn"] = draw.integers(0, 2, ITEMS).astype(float)
        columns["agrees"] = (draw.random(ITEMS) < truth.agreement).astype(float)
    if truth.probes is not None and split == "test" and task == trial.task:
        read = LEARNED if phase == "learned" else truth.probes
        columns["probe"] = (draw.random(ITEMS) < read).astype(float)
    return pd.DataFrame(columns)


def everywhere(tasks: str, accuracy: Callable[[str, str], float]) -> dict[tuple[str, str], float]:
    """Return accuracies for every pair of tasks, named by letters."""
    return {(one, other): accuracy(one, other) for one, other in product(tasks, tasks)}


def alone(tasks: str, accuracy: float) -> dict[tuple[str, str], float]:
    """Return accuracies for tasks that are measured on themselves alone."""
    return {(task, task): accuracy for task in tasks}
