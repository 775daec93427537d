"""Settings of a sweep: a trial, the axes laid over it, its resources and its search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from forget.errors import nearest, shown, validated
from forget.settings.claims import CLAIMS
from forget.settings.parts import Count, Name, Names, Part
from forget.settings.tables import merged, nested
from forget.settings.trial import Trial

TRIALS = 100_000
"""Most trials that a sweep may have; planning 10,000 takes seconds."""


class Resources(Part):
    """Machinery of each trial and limits of the sweep; none of it changes a number."""

    cpus: float = Field(1, ge=0.001, le=10**6)
    """CPU cores of each process of a trial."""
    gpus: Literal["auto"] | float = "auto"
    """GPUs of each process of a trial; 0 hides them. "auto" is one where there are GPUs; on this
    machine a part of one, where several trials fit one (forget.planning.gpus).
    """
    workers: Count = 1
    """Processes of each trial."""
    shard: bool = False
    """Share each model out over a trial's processes, for one that does not fit a single GPU;
    otherwise each holds it whole.
    """
    concurrent: Count | None = None
    """Most trials at once; by default as many as fit the machine."""
    retries: int = Field(2, ge=0, le=10**9)
    """Number of times that a failed trial starts again from its last checkpoint."""
    checkpoint_minutes: float = Field(5, ge=0)
    """Minutes of training between checkpoints."""
    keep: bool = True
    """Keep each forgotten model in the store once it is registered, so that another tracking server
    can be given it, or the same one after a loss. Beside a local database it is on disk once.
    """

    @field_validator("gpus", mode="before")
    @classmethod
    def _counted(cls, gpus: object) -> object:
        if gpus == "auto":
            return gpus
        # True is an int for Python.
        if isinstance(gpus, bool) or not isinstance(gpus, int | float) or not 0 <= gpus <= 10**6:
            raise ValueError(f'should be "auto" or a number from 0 on, not {shown(gpus)}')
        return gpus

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpus == "auto" or self.gpus == int(self.gpus):
            return self
        if self.gpus > 1:
            raise ValueError(f"gpus = {self.gpus:g} is no whole number: only one GPU is divided")
        if self.workers > 1:
            raise ValueError(
                f"gpus = {self.gpus:g} with workers = {self.workers}: several processes of a trial "
                "take whole GPUs, so gpus = 1; a part of one is for workers = 1"
            )
        return self

    @model_validator(mode="after")
    def _shardable(self) -> Resources:
        if self.shard and self.workers == 1:
            raise ValueError(
                "shard = true shares a model out over several processes: workers must be at least 2"
            )
        return self


class Range(Part):
    """Bounds of a continuous setting that Optuna searches, evenly or by its logarithm."""

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
    """Turn {"forget": {"lr": [1, 2]}} into {"forget.lr": [1, 2]}; a Range stays whole.

    TOML makes the former of the bare key forget.lr.
    """
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
    """Search by Optuna within each cell: most forgetting on the task, least on the others.

    A cell is one combination of the axes.
    """

    trials: Count = 8
    """Trials of each cell."""
    settings: Annotated[dict[str, Range], BeforeValidator(dotted)]
    """Ranges by dotted field of the trial, e.g. "forget.lr"."""

    def covers(self, values: Mapping[str, float]) -> bool:
        """Tell whether each searched setting has a value within its bounds."""
        return all(
            bounds.low <= values[key] <= bounds.high for key, bounds in self.settings.items()
        )


def _as_tables(value: Any) -> Any:
    found = value if isinstance(value, list | tuple) else [value]
    tables = [{"name": one} if isinstance(one, str) else one for one in found]
    for table in tables:
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ValueError(
                f'an audit is a name, or a table with one as {{ name = "relearn" }}, '
                f"not {shown(table)}"
            )
    return tables


class Sweep(Part):
    """A study: `base` with every combination of `axes` laid over it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """The MLflow experiment."""
    description: str = ""
    store: Name | None = None
    """Folder or URL of the store that trials share (forget.storage.store); a relative one lies in
    the spec's folder. By default $FORGET_STORE, or .forget in the working directory.
    """
    base: dict[str, Any] = Field(default_factory=dict)
    """Fields of every trial."""
    axes: Annotated[dict[str, list[Any]], BeforeValidator(dotted)] = Field(default_factory=dict)
    """Values by dotted field of the trial."""
    primary: Names = ()
    """Claims that the study was made for, by short name (forget.settings.claims.CLAIMS). They stand
    first on the page, corrected for their own number alone; the others are exploratory. What is
    declared after the numbers are known is not primary, whatever stands here.
    """
    audits: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_as_tables)] = ()
    """Audits of each trial that forgets, run after the trials: names of `forget audits`, or tables
    with a name and what differs from the audit's defaults. They change no trial.
    """
    never: Names = ()
    """Tasks of which the audits' arm that was never taught learns the first that is not the trial's
    own, so that it knows the format; by default it is the untouched model.
    """
    scrambled: bool = False
    """Audit an arm that forgets without having learned as well: the damage without the skill."""
    again: bool = False
    """Audit an arm that learned the same examples in another order as well: what the noise of
    training does alone.
    """
    resources: Resources = Resources()
    search: Search | None = None

    @property
    def more_arms(self) -> tuple[str, ...]:
        """The arms that audits look at beside the four that they always do."""
        return ("scrambled",) * self.scrambled + ("again",) * self.again

    @field_validator("primary")
    @classmethod
    def _claims(cls, primary: tuple[str, ...]) -> tuple[str, ...]:
        for name in primary:
            if name not in CLAIMS:
                raise ValueError(f"{shown(name)} is no claim{nearest(name, CLAIMS)}")
        if len(set(primary)) < len(primary):
            raise ValueError("names a claim twice")
        return primary

    @model_validator(mode="after")
    def _expands(self) -> Sweep:
        # Checked table by table and value by value, so that a mistake is named by its place in the
        # spec: `base` alone first, with a task and a model that axes may give.
        base = merged({"task": "", "model": ""}, nested(self.base))
        validated(Trial, base, within="base")
        count = math.prod(map(len, self.axes.values())) * (self.search.trials if self.search else 1)
        if count > TRIALS:
            raise ValueError(
                f"the axes and the search make {count:,} trials, "
                f"where a sweep has {TRIALS:,} at most"
            )
        for axis, values in self.axes.items():
            if not values:
                raise ValueError(f"axes.{axis} has no values")
            for value in values:
                validated(Trial, merged(base, nested({axis: value})), within="axes")
        trials = self.trials()
        if len(set(trials)) < len(trials):
            raise ValueError("two combinations of the axes are the same trial")
        if self.search:
            self._searchable(self.search, trials)
        return self

    def _searchable(self, search: Search, trials: Sequence[Trial]) -> None:
        """Refuse a search of what is no continuous setting, changes nothing or is an axis."""
        if not all(trial.taught for trial in trials):
            raise ValueError(
                'search weighs the share of a learned skill that is lost, which arm = "untaught" '
                "has none of; take it out of one of the two"
            )
        fields = trials[0].model_dump()
        varied: set[str] = set()
        for axis, values in self.axes.items():
            for value in values:
                varied |= dotted({axis: value}).keys()
        for key, bounds in search.settings.items():
            if key in varied:
                raise ValueError(
                    f"search.settings.{key} is an axis as well, whose values the search would pass "
                    "over; take it out of one of the two"
                )
            # A value between the bounds tells a continuous setting from a whole number.
            between = bounds.low + 0.382 * (bounds.high - bounds.low)
            for value in (bounds.low, bounds.high, between):
                searched = merged(fields, nested({key: value}))
                validated(Trial, searched, within="search.settings")
            # Of a trial's settings, tuning alone decides which of the others count.
            for tuning, trial in {trial.tuning: trial for trial in trials}.items():
                ends = [overlay(trial, {key: end}) for end in (bounds.low, bounds.high)]
                if len({trial.id("") for trial in ends}) == 1:
                    raise ValueError(
                        f'search.settings.{key} changes nothing in a trial with tuning = "{tuning}"'
                    )

    def trials(self) -> tuple[Trial, ...]:
        """Return a trial of every combination, the first axis outermost."""
        return tuple(map(self._trial, itertools.product(*self.axes.values())))

    def first(self) -> Trial:
        """Return the first of the trials, without the others."""
        return self._trial([values[0] for values in self.axes.values()])

    def _trial(self, values: Sequence[Any]) -> Trial:
        """Return the trial that has a value of each axis."""
        cell = nested(dict(zip(self.axes, values, strict=True)))
        return validated(Trial, merged(nested(self.base), cell), within="base")


def overlay(trial: Trial, fields: Mapping[str, Any]) -> Trial:
    """Return the trial with the given (dotted) fields changed."""
    return validated(Trial, merged(trial.model_dump(), nested(fields)))
