"""The Rows of all trials, resampled once for every analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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

    place: Place
    columns: np.ndarray
    """[columns, items]"""
    chance: float
    prior: float


def resampled(frames: Mapping[str, pd.DataFrame]) -> dict[Place, Sample]:
    """Resample each set of items once, for everything that was scored on it.

    Args:
        frames: Rows by trial.
    """
    sets: dict[tuple[str, str, tuple[str, ...]], list[_Scored]] = defaultdict(list)
    for id, frame in frames.items():
        for examples, scored in _scored(id, frame):
            _, _, task, split = scored.place
            sets[task, split, examples].append(scored)
    found: dict[Place, Sample] = {}
    for (task, split, examples), every in sets.items():
        unique, copies = unique_columns(every)
        n = len(examples)
        means = np.stack([one.columns for one in unique])
        means = means @ item_weights(n, [task, split, examples]).T
        for one, places, drawn in zip(unique, copies, means, strict=True):
            taken = {}
            for measure, draws in zip(columns(), drawn, strict=True):
                if np.isfinite(draws[0]):
                    taken[measure] = draws
            if "variability" in taken:
                taken["variability"] = taken["variability"] * (n / max(1, n - 1))
            found |= dict.fromkeys(places, Sample(examples, one.chance, one.prior, taken))
    return found


def _scored(id: str, frame: pd.DataFrame) -> list[tuple[tuple[str, ...], _Scored]]:
    """List, by their sorted examples, the sets of items that a trial's models were scored on."""
    settled = frame[frame["step"].isna()]
    names = settled["example"].to_numpy(dtype=object)
    numbers = settled[list(columns().values())].to_numpy(dtype=float).T
    options, truth = settled["options"].to_numpy(), settled["truth"].to_numpy()
    groups = settled.groupby(["phase", "task", "split"], sort=False).indices
    found = []
    for (phase, task, split), rows in groups.items():
        ordered = rows[np.argsort(names[rows])]
        chance = float(np.mean(1 / options[rows]))
        prior = float(np.bincount(truth[rows]).max() / len(rows))
        scored = _Scored((id, phase, task, split), numbers[:, ordered], chance, prior)
        found.append((tuple(names[ordered]), scored))
    return found


def unique_columns(scored: Sequence[_Scored]) -> tuple[list[_Scored], list[list[Place]]]:
    """Find what differs in its numbers, and the places of each.

    Trials that share a model have identical Rows of it: these are resampled once.
    """
    first: dict[tuple[bytes, float, float], _Scored] = {}
    places: dict[tuple[bytes, float, float], list[Place]] = defaultdict(list)
    for one in scored:
        # Bytes, since a comparison of numbers would find a NaN unequal to itself.
        key = one.columns.tobytes(), one.chance, one.prior
        first.setdefault(key, one)
        places[key].append(one.place)
    return list(first.values()), list(places.values())
