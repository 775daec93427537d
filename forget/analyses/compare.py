"""Comparison of two studies, A and B: the difference B - A of every number of matching cells.

Cells match on what varies within the studies. What the studies have no value in common of, e.g. the
model of one and of the other, is what is compared. Items that both were scored on are resampled
together, and so are as many seeds, so that a difference is paired as far as the studies are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product

import numpy as np

from forget.analyses.probes import skill
from forget.analyses.resampling import Draws, cohens_h, estimate, holm, p_value
from forget.analyses.study import Cell, Study, resamples_items
from forget.analyses.words import SPLIT_WORDS, flattened, rate_name
from forget.errors import BadInput
from forget.results import measures
from forget.results.estimates import Estimate
from forget.results.measures import Measure
from forget.results.rows import PHASES

MEAN = "mean over tasks"
OTHERS = "mean over other tasks"
DIGITS = 12
"""Decimals of a difference.

Below lies the rounding of sums, which would make equal accuracies of a resample unequal.
"""


@dataclass(frozen=True)
class Line:
    """One number of two cells that match."""

    at: str
    """The settings that tell the pair from other pairs of the task; empty for the only pair."""
    task: str
    """The task forgotten, or MEAN."""
    measured: str
    """The task measured, or MEAN, or OTHERS."""
    elsewhere: bool
    """True where the task measured is another than the one forgotten."""
    phase: str
    split: str
    measure: str
    a: Estimate | None
    """The number of A; None where it was not taken. An Estimate may be missing, another thing."""
    b: Estimate | None
    difference: Estimate | None
    """B - A."""
    paired: bool
    """True where both were scored on the same items, seed by seed."""
    seeds: tuple[int, int]
    """Number of trials of A and of B."""
    p: float | None
    """p of no difference (bootstrap over items and seeds)."""
    adjusted: float | None
    """p after Holm's correction for the tasks of the measure.

    The mean over tasks is one number alone, and needs none.
    """
    effect: float | None
    """Cohen's h of an accuracy, from A to B: 0.2 is small, 0.8 large."""
    degrees: float = field(default=math.inf, repr=False, compare=False)
    """Degrees of freedom that the p takes."""
    draws: tuple[Draws, Draws] | None = field(default=None, repr=False, compare=False)
    """The draws of A and of B, where the difference is defined."""

    @property
    def headline(self) -> bool:
        """True for a headline measure of the task forgotten, after forgetting."""
        known = {measure.name for measure in measures.every_measure() if measure.headline}
        return self.phase == "forgotten" and not self.elsewhere and self.measure in known


@dataclass(frozen=True)
class Unmatched:
    """A cell without a partner."""

    study: str
    """The study that has it: "A" or "B"."""
    task: str
    at: str


@dataclass(frozen=True)
class Comparison:
    """Every difference between two studies."""

    settings: dict[str, tuple[str, str]]
    """Values of A and of B by setting, where they have none in common; and seeds that differ."""
    lines: list[Line]
    means: list[Line]
    """Means of the lines over the tasks that have both numbers.

    Items and seeds are resampled, the tasks are taken as they are.
    """
    unmatched: list[Unmatched]


def compare(a: Study, b: Study) -> Comparison:
    """Match the cells of two studies and compare every number of those that match.

    Raises:
        BadInput: no cell of A has a partner in B.
    """
    values = _values(a, b)
    apart, matched = [], []
    for name, (ours, theirs) in values.items():
        if not {*ours} & {*theirs}:
            apart.append(name)
        elif len({*ours, *theirs}) > 1:
            matched.append(name)
    # Of several values that A has of what differs from B as a whole, each pair is told by its own.
    several = [name for name in apart if max(map(len, values[name])) > 1]

    lines: list[Line] = []
    unmatched: list[Unmatched] = []
    for partners in _partners(a, b, matched):
        shared = _named(matched, partners.ours + partners.theirs)
        for one, other in product(partners.ours, partners.theirs):
            lines += _lines(", ".join(shared + _told_apart(several, one, other)), one, other)
        if not (partners.ours and partners.theirs):
            for study, cells in (("A", partners.ours), ("B", partners.theirs)):
                for cell in cells:
                    at = ", ".join(shared + _named(several, [cell]))
                    unmatched.append(Unmatched(study, cell.task, at))
    if not lines:
        raise BadInput(
            f"the two studies have no cell in common: A has {_listed(a)}, B has {_listed(b)}"
        )

    settings = {name: (_all(name, values[name][0]), _all(name, values[name][1])) for name in apart}
    settings |= {name: (ours, theirs) for name, ours, theirs in _besides(a, b) if ours != theirs}
    groups: dict[tuple[object, ...], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.at, line.phase, line.split, line.measure, line.elsewhere].append(line)
    adjusted = [_adjusted(group) for group in groups.values()]
    means = [_mean(group) for group in groups.values()]
    return Comparison(
        settings, [*chain.from_iterable(adjusted)], [mean for mean in means if mean], unmatched
    )


Values = tuple[str | None, ...]
"""Distinct values of a setting in one study; None for a cell without the setting."""


@dataclass(frozen=True)
class _Partners:
    """Cells of one task, equal in what varies within the studies."""

    ours: list[Cell] = field(default_factory=list)
    """Those of A."""
    theirs: list[Cell] = field(default_factory=list)
    """Those of B."""


def _settings(cell: Cell) -> dict[str, str]:
    return {name: value for name, value in flattened(cell.trial).items() if name != "seed"}


def _values(a: Study, b: Study) -> dict[str, tuple[Values, Values]]:
    """List the values of every setting in A and in B."""
    ours = [_settings(cell) for cell in a.cells]
    theirs = [_settings(cell) for cell in b.cells]
    found = {}
    for name in dict.fromkeys(chain.from_iterable([*ours, *theirs])):
        found[name] = (
            tuple(dict.fromkeys(fields.get(name) for fields in ours)),
            tuple(dict.fromkeys(fields.get(name) for fields in theirs)),
        )
    return found


def _partners(a: Study, b: Study, matched: Sequence[str]) -> list[_Partners]:
    """Group the cells of A and of B by their task and the values of the matched settings."""
    found: dict[tuple[str | None, ...], _Partners] = defaultdict(_Partners)
    for side, study in (("ours", a), ("theirs", b)):
        for cell in study.cells:
            fields = _settings(cell)
            # Seeds in order: where both have the same ones, they are resampled together.
            ordered = tuple(sorted(cell.outcomes, key=lambda outcome: outcome.trial.seed))
            partners = found[cell.task, *(fields.get(name) for name in matched)]
            getattr(partners, side).append(replace(cell, outcomes=ordered))
    return list(found.values())


def _named(names: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    """Write settings with their values, which are those of the first of the cells."""
    fields = _settings(cells[0])
    return [f"{name} {_shown(name, fields.get(name))}" for name in names]


def _told_apart(several: Sequence[str], one: Cell, other: Cell) -> list[str]:
    """Name the values that tell a pair of cells from other pairs."""
    ours, theirs = _settings(one), _settings(other)
    found = []
    for name in several:
        here, there = _shown(name, ours.get(name)), _shown(name, theirs.get(name))
        found.append(f"{name} {here} against {there}")
    return found


def _besides(a: Study, b: Study) -> Iterator[tuple[str, str, str]]:
    """Yield (name, value of A, value of B) of what tells trials apart beside their settings."""
    yield "seed", _seeds(a), _seeds(b)
    yield "protocol", _protocol(a), _protocol(b)


def _seeds(study: Study) -> str:
    taken = {outcome.trial.seed for outcome in study.outcomes}
    return ", ".join(map(str, sorted(taken)))


def _protocol(study: Study) -> str:
    # An identity that is not what the settings give today was given by other code, whose numbers
    # may differ.
    current = all(o.trial.id(o.data) == o.id for o in study.outcomes)
    return "this version's" if current else "another version's"


@dataclass(frozen=True)
class _Place:
    """A number of a cell: the task measured, phase, split and measure."""

    task: str
    phase: str
    split: str
    measure: str


def _lines(at: str, a: Cell, b: Cell) -> Iterator[Line]:
    """Compare every number of two cells that match."""
    for place in _places(a, b):
        sides = []
        for cell in (a, b):
            draws = cell.draws(place.phase, place.split, place.measure, place.task)
            sides.append((draws, cell.n(place.phase, place.split, place.task)))
        if resamples_items(place.measure):
            items = [_items(cell, place) for cell in (a, b)]
            paired = items[0] == items[1]
        else:
            paired = _models(a, place.phase) == _models(b, place.phase)
        yield from _line(at, a, b, place, sides, paired)
    for phase in ("learned", "forgotten"):
        # Which questions a probe was tested on is not kept: two probes are of the same ones for
        # sure where they are the same.
        paired = _models(a, phase) == _models(b, phase)
        place = _Place(a.task, phase, "test", "probe_skill")
        yield from _line(at, a, b, place, [_skill(a, phase), _skill(b, phase)], paired)


def _places(a: Cell, b: Cell) -> Iterator[_Place]:
    """Yield the numbers that two cells are compared by, in the order of measures.MEASURES."""

    def both(measure: Measure) -> str:
        # The plain ratio is defined for flipped labels, too; of two different ratios there is no
        # difference.
        ours, theirs = measure.under(a.flipped), measure.under(b.flipped)
        return ours.name if ours is theirs else measure.name

    for phase in PHASES:
        for measure in measures.MEASURES:
            if phase in measure.compared:
                for split in SPLIT_WORDS:
                    yield _Place(a.task, phase, split, both(measure))
    for task in dict.fromkeys((*a.trial.tasks, *b.trial.tasks)):
        if task != a.task:
            yield _Place(task, "forgotten", "test", both(measures.FORGET_RATIO))


def _items(cell: Cell, place: _Place) -> list[tuple[str, ...]]:
    return [sample.examples for sample in cell.samples(place.phase, place.split, place.task)]


def _models(cell: Cell, phase: str) -> list[str]:
    return [o.id if phase == "forgotten" else o.learned_id for o in cell.outcomes]


def _skill(cell: Cell, phase: str) -> tuple[Draws | None, int]:
    """Return the probes' accuracy above chance and the questions it rests on."""
    return skill(cell, phase) or (None, 0)


def _line(
    at: str,
    a: Cell,
    b: Cell,
    place: _Place,
    sides: Sequence[tuple[Draws | None, int]],
    paired: bool,
) -> Iterator[Line]:
    """Yield the line of a number that was taken in either study.

    Args:
        at: see `Line`.
        a: the cell of A.
        b: the cell of B.
        place: the number.
        sides: its draws and items, of A and of B.
        paired: see `Line`.
    """
    (ours, n), (theirs, m) = sides
    if ours is None and theirs is None:
        return
    difference, p, effect, both = None, None, None, None
    if ours is not None and theirs is not None:
        draws = _difference(ours, theirs)
        difference = estimate(draws, n if paired else n + m)
        if difference.value is not None:
            both = ours, theirs
            p = p_value(draws, 0, min(a.degrees, b.degrees))
            effect = cohens_h(ours[0], theirs[0]) if place.measure == "accuracy" else None
    yield Line(
        at=at,
        task=a.task,
        measured=place.task,
        elsewhere=place.task != a.task,
        phase=place.phase,
        split=place.split,
        measure=place.measure,
        a=None if ours is None else estimate(ours, n),
        b=None if theirs is None else estimate(theirs, m),
        difference=difference,
        paired=paired,
        seeds=(len(a.outcomes), len(b.outcomes)),
        p=p,
        adjusted=None,
        effect=effect,
        degrees=min(a.degrees, b.degrees),
        draws=both,
    )


def _difference(a: Draws, b: Draws) -> Draws:
    """Subtract A from B, without what rounding alone makes of it."""
    return np.round(b - a, DIGITS)


def _mean(group: Sequence[Line]) -> Line | None:
    """Average the lines of one measure that have a difference; None for fewer than two."""
    ours, theirs, counts, seeds = [], [], [], []
    for line in group:
        if line.draws and line.a and line.b and line.difference:
            ours.append(line.draws[0])
            theirs.append(line.draws[1])
            counts.append((line.a.n, line.b.n, line.difference.n))
            seeds.append(line.seeds)
    if len(ours) < 2:
        return None
    a, b = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    of_a, of_b, of_both = np.sum(counts, axis=0).tolist()
    trials_a, trials_b = np.sum(seeds, axis=0).tolist()
    difference = _difference(a, b)
    p = p_value(difference, 0, min(line.degrees for line in group if line.draws))
    return replace(
        group[0],
        task=MEAN,
        measured=OTHERS if group[0].elsewhere else MEAN,
        a=estimate(a, of_a),
        b=estimate(b, of_b),
        difference=estimate(difference, of_both),
        paired=all(line.paired for line in group if line.draws),
        seeds=(trials_a, trials_b),
        p=p,
        adjusted=p,
        effect=None,
        draws=(a, b),
    )


def _adjusted(group: Sequence[Line]) -> list[Line]:
    """Correct the p of lines for their number."""
    adjusted = holm([line.p for line in group])
    return [replace(line, adjusted=p) for line, p in zip(group, adjusted, strict=True)]


def _shown(key: str, value: str | None) -> str:
    if value is None:
        return "none"
    return rate_name(float(value)) if key.rpartition(".")[2] == "lr" else value


def _all(key: str, values: Sequence[str | None]) -> str:
    return ", ".join(_shown(key, value) for value in values)


def _listed(study: Study) -> str:
    """Name the study's cells in a few words, e.g. "science (tiny) at rate 1e-4"."""
    cells = [f"{cell.task} ({cell.setting}) at rate {rate_name(cell.rate)}" for cell in study.cells]
    return ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
