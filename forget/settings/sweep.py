"""Settings of a sweep: a trial, the axes laid over it, what it takes and what is searched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from forget.errors import validated
from forget.settings.parts import Count, Name, Part
from forget.settings.tables import merged, nested
from forget.settings.trial import Trial

TRIALS = 100_000
"""Of one sweep, at most: to plan 10,000 takes seconds."""


class Resources(Part):
    """What a trial takes and what the sweep may spend; none of it changes a number."""

    cpus: float = Field(1, ge=0.001, le=10**6)
    """CPU cores a process of a trial."""
    gpus: float = Field(0, ge=0, le=10**6)
    """GPUs a process of a trial."""
    workers: Count = 1
    """Processes a trial."""
    shard: bool = False
    """Share each model out over a trial's processes, for one that does not fit a single GPU; otherwise
    each holds it whole.
    """
    concurrent: Count | None = None
    """Trials at once at most; by default as many as fit the machine."""
    retries: int = Field(2, ge=0, le=10**9)
    """How often a failed trial starts again from its last checkpoint."""
    checkpoint_minutes: float = Field(5, ge=0)
    """Minutes of training between checkpoints."""

    @model_validator(mode="after")
    def _shardable(self) -> Resources:
        if self.shard and self.workers == 1:
            raise ValueError(
                "shard = true shares a model out over several processes: workers must be at least 2"
            )
        return self


class Range(Part):
    """A continuous setting that Optuna searches."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} is not above 0, as a logarithmic range needs")
        return self


def dotted(tree: Any) -> Any:
    """{"forget": {"lr": [1, 2]}} -> {"forget.lr": [1, 2]}: what TOML makes of the bare key forget.lr. A Range stays whole."""
    if not isinstance(tree, Mapping):
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and not value.keys() & Range.model_fields.keys():
            flat |= {f"{key}.{rest}": inner for rest, inner in dotted(value).items()}
        else:
            flat[key] = value
    return flat


class Search(Part):
    """Optuna within each cell of the axes: most forgetting on the task, least on the others."""

    trials: Count = 8
    """Trials a cell."""
    settings: Annotated[dict[str, Range], BeforeValidator(dotted)]
    """Range by dotted field of the trial, e.g. "forget.lr"."""


class Sweep(Part):
    """A study: `base` with every combination of `axes` laid over it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """The MLflow experiment."""
    description: str = ""
    store: Name | None = None
    """Folder or URL of what trials share (forget.storage.store); by default $FORGET_STORE, or .forget
    in the working directory.
    """
    base: dict[str, Any] = {}
    axes: Annotated[dict[str, list[Any]], BeforeValidator(dotted)] = {}
    resources: Resources = Resources()
    search: Search | None = None

    @model_validator(mode="after")
    def _expands(self) -> Sweep:
        # Table by table and value by value: a mistake is named by its place in the spec.
        base = merged({"task": "", "model": ""}, nested(self.base))
        validated(Trial, base, within="base")
        count = math.prod(map(len, self.axes.values())) * (self.search.trials if self.search else 1)
        if count > TRIALS:
            raise ValueError(
                f"the axes and the search make {count:,} trials, where a sweep has {TRIALS:,} at most"
            )
        for axis, values in self.axes.items():
            if not values:
                raise ValueError(f"axes.{axis} has no values")
            for value in values:
                validated(Trial, merged(base, nested({axis: value})), within="axes")
        trials = self.trials()
        if len(set(trials)) < len(trials):
            raise ValueError("two combinations of the axes are the same trial")
        for key, bounds in (self.search.settings if self.search else {}).items():
            # The one between tells a continuous setting from a whole number.
            for value in (bounds.low, bounds.high, bounds.low + 0.382 * (bounds.high - bounds.low)):
                validated(
                    Trial,
                    merged(trials[0].model_dump(), nested({key: value})),
                    within="search.settings",
                )
        return self

    def trials(self) -> tuple[Trial, ...]:
        """Every combination, the first axis outermost."""
        base = nested(self.base)
        combinations = itertools.product(*self.axes.values())
        return tuple(
            validated(
                Trial,
                merged(base, nested(dict(zip(self.axes, values, strict=True)))),
                within="base",
            )
            for values in combinations
        )


def overlay(trial: Trial, fields: Mapping[str, Any]) -> Trial:
    """The trial with the given (dotted) fields changed."""
    return validated(Trial, merged(trial.model_dump(), nested(fields)))
