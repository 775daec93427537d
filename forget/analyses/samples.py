"""The Rows of all trials, resampled once for every analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.resampling import Draws, item_weights
from forget.results import measures

if TYPE_CHECKING:
    import pandas as pd


def columns() -> dict[str, str]:
    """Return, by measure, the column of Rows whose mean it is."""
    return {measure.name: measure.column for measure in measures.MEASURES if measure.column}


@dataclass(frozen=True)
class Sample:
    """Items that a model was scored on."""

    examples: tuple[str, ...]
    chance: float
    """Accuracy of a guess."""
    prior: float
    """Accuracy of always giving the option that is true most often.

    On a task without fixed labels it is little more than chance.
    """
    means: dict[str, Draws]
    """Means by measure."""


Place = tuple[str, str, str, str]
"""(trial, phase, task, split)"""


@dataclass(frozen=True)
class _Scored:
    """Numbers that one model gives a set of items."""

    numbers: bytes
    """Bytes of `columns`: a comparison of numbers would find a NaN unequal to itself."""
    chance: float
    prior: float

    @property
    def columns(self) -> np.ndarray:
        """Array [columns, items]."""
        return np.frombuffer(self.numbers).reshape(len(columns()), -1)


def resampled(frames: Mapping[str, pd.DataFrame]) -> dict[Place, Sample]:
    """Resample each set of items once, for everything that was scored on it.

    Args:
        frames: Rows by trial.
    """
    # Trials that share a model have identical Rows of it: these are resampled once.
    sets: dict[tuple[str, str, tuple[str, ...]], dict[_Scored, list[Place]]] = {}
    for id, frame in frames.items():
        for (phase, task, split), examples, scored in _scored(frame):
            places = sets.setdefault((task, split, examples), {}).setdefault(scored, [])
            places.append((id, phase, task, split))
    found: dict[Place, Sample] = {}
    while sets:
        (task, split, examples), every = sets.popitem()
        n = len(examples)
        weights = item_weights(n, [task, split, examples]).T
        for one, places in every.items():
            taken = {}
            for measure, draws in zip(columns(), one.columns @ weights, strict=True):
                if np.isfinite(draws[0]):
                    taken[measure] = draws
            if "variability" in taken:
                taken["variability"] = taken["variability"] * (n / max(1, n - 1))
            found |= dict.fromkeys(places, Sample(examples, one.chance, one.prior, taken))
    return found


def _scored(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], tuple[str, ...], _Scored]]:
    """Yield phase, task and split, sorted examples and numbers of all that a trial scored."""
    settled = frame[frame["step"].isna()]
    names = settled["example"].to_numpy(dtype=object)
    numbers = settled[list(columns().values())].to_numpy(dtype=float).T
    options, truth = settled["options"].to_numpy(), settled["truth"].to_numpy()
    groups = settled.groupby(["phase", "task", "split"], sort=False).indices
    for part, rows in groups.items():
        ordered = rows[np.argsort(names[rows])]
        chance = float(np.mean(1 / options[rows]))
        prior = float(np.bincount(truth[rows]).max() / len(rows))
        yield part, tuple(names[ordered]), _Scored(numbers[:, ordered].tobytes(), chance, prior)
