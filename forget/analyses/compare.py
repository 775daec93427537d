"""Two studies, A and B: the cells that match, and the difference B - A of every number.

Cells match on what varies within the studies. What the studies have no value in common of, e.g. the
model of one and of the other, is what is compared. Items that both were scored on are resampled
together, and so are as many seeds, so that a difference is paired as far as the studies are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from forget.analyses.probes import best_layer
from forget.analyses.resampling import Draws, cohens_h, estimate, holm, p_value
from forget.analyses.study import Cell, Study
from forget.analyses.words import NAMES, flattened, rate_name
from forget.errors import BadInput
from forget.results.metrics import Estimate

MEAN = "mean over tasks"
OTHERS = "mean over other tasks"
RATIOS = ("forget_ratio", "flipped_forget_ratio")
DIGITS = 12
"""Decimals of a difference. Below lies the rounding of sums, which would make equal accuracies of a
resample unequal.
"""

PROBE_CHANCE = 0.5
"""Of the (question, answer) pairs that a probe tells apart, half are right."""


@dataclass(frozen=True)
class Line:
    """One number of two cells that match."""

    at: str
    """The settings that tell the pair from other pairs of the task; empty where there is one alone."""
    task: str
    """The task forgotten, or MEAN."""
    measured: str
    """The task measured, or MEAN, or OTHERS."""
    elsewhere: bool
    """Whether the task measured is another than the one forgotten."""
    phase: str
    split: str
    measure: str
    a: Estimate | None
    """None where it was not taken; an Estimate may be missing, which is another thing."""
    b: Estimate | None
    difference: Estimate | None
    """B - A."""
    paired: bool
    """Whether both were scored on the same items, seed by seed."""
    seeds: tuple[int, int]
    """Trials of A and of B that the number is of."""
    p: float | None
    """Of no difference (bootstrap over items and seeds)."""
    adjusted: float | None
    """p after Holm's correction for the tasks of the measure; the mean over tasks is one alone."""
    effect: float | None
    """Cohen's h of an accuracy, from A to B: 0.2 is small, 0.8 large."""
    draws: tuple[Draws, Draws] | None = field(default=None, repr=False, compare=False)
    """Of A and of B, where the difference is defined."""

    @property
    def headline(self) -> bool:
        """Whether it is one of the numbers that a study is known by: accuracy and forget ratio after forgetting the task."""
        return (
            self.phase == "forgotten"
            and not self.elsewhere
            and self.measure in ("accuracy", *RATIOS)
        )


@dataclass(frozen=True)
class Unmatched:
    """A cell without a partner."""

    study: str
    """The one that has it: "A" or "B"."""
    task: str
    at: str


@dataclass(frozen=True)
class Comparison:
    settings: dict[str, tuple[str, str]]
    """What is compared: the values of A and of B by setting, where they have none in common; and the
    seeds, if they differ.
    """
    lines: list[Line]
    means: list[Line]
    """The same over the tasks that have both numbers. Items and seeds are resampled, the tasks are
    taken as they are.
    """
    unmatched: list[Unmatched]


def compare(a: Study, b: Study) -> Comparison:
    """
    Raises:
        BadInput: no cell of A has a partner in B.
    """
    flat = tuple([_settings(cell) for cell in study.cells] for study in (a, b))
    keys = dict.fromkeys(key for fields in (*flat[0], *flat[1]) for key in fields)
    values = {
        key: tuple(tuple(dict.fromkeys(fields.get(key) for fields in study)) for study in flat)
        for key in keys
    }
    apart = [key for key, (here, there) in values.items() if not set(here) & set(there)]
    matched = [
        key for key, both in values.items() if key not in apart and len({*both[0], *both[1]}) > 1
    ]

    found: dict[tuple[str | None, ...], tuple[list[Cell], list[Cell]]] = defaultdict(
        lambda: ([], [])
    )
    for side, study in enumerate((a, b)):
        for cell, fields in zip(study.cells, flat[side], strict=True):
            # Seeds in order: where both have the same ones, they are resampled together.
            ordered = tuple(sorted(cell.outcomes, key=lambda outcome: outcome.trial.seed))
            found[cell.task, *(fields.get(key) for key in matched)][side].append(
                replace(cell, outcomes=ordered)
            )

    lines: list[Line] = []
    unmatched: list[Unmatched] = []
    # One of several values that A has of what differs from B as a whole is told by its pair of
    # values.
    several = [key for key in apart if max(map(len, values[key])) > 1]
    for (task, *at), (ours, theirs) in found.items():
        shared = [f"{key} {_shown(key, value)}" for key, value in zip(matched, at, strict=True)]
        for one, other in product(ours, theirs):
            pair = _settings(one), _settings(other)
            own = [
                f"{key} {_against(key, *([fields.get(key)] for fields in pair))}" for key in several
            ]
            lines += _lines(", ".join(shared + own), one, other)
        if not (ours and theirs):
            for name, cells in (("A", ours), ("B", theirs)):
                for cell in cells:
                    own = [f"{key} {_shown(key, _settings(cell).get(key))}" for key in several]
                    unmatched.append(Unmatched(name, str(task), ", ".join(shared + own)))
    if not lines:
        raise BadInput(
            f"the two studies have no cell in common: A has {_listed(a)}, B has {_listed(b)}"
        )

    groups: dict[tuple[object, ...], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.at, line.phase, line.split, line.measure, line.elsewhere].append(line)
    means = [mean for group in groups.values() if (mean := _mean(group))]
    settings = {key: (_all(key, values[key][0]), _all(key, values[key][1])) for key in apart}
    settings |= {name: (here, there) for name, here, there in _besides(a, b) if here != there}
    return Comparison(
        settings, [line for group in groups.values() for line in _adjusted(group)], means, unmatched
    )


def _settings(cell: Cell) -> dict[str, str]:
    return {key: value for key, value in flattened(cell.trial).items() if key != "seed"}


def _besides(a: Study, b: Study) -> Iterator[tuple[str, str, str]]:
    """(name, value of A, value of B) of what tells trials apart beside their settings."""
    here, there = (
        ", ".join(map(str, sorted({outcome.trial.seed for outcome in study.outcomes})))
        for study in (a, b)
    )
    yield "seed", here, there
    # An identity that is not what the settings give today was given by other code, whose numbers
    # may differ.
    current = [all(o.trial.id(o.data) == o.id for o in study.outcomes) for study in (a, b)]
    here, there = ("this version's" if one else "another version's" for one in current)
    yield "protocol", here, there


def _lines(at: str, a: Cell, b: Cell) -> Iterator[Line]:
    # The plain ratio is defined for flipped labels, too; of two different ratios there is no
    # difference.
    ratio = a.ratio if a.ratio == b.ratio else RATIOS[0]
    after = ("accuracy", "forget_gap", ratio, "confidence", "option_mass", "entropy")
    others = [task for task in dict.fromkeys((*a.trial.tasks, *b.trial.tasks)) if task != a.task]
    places = [(a.task, "learned", split, "accuracy") for split in NAMES]
    places += [(a.task, "forgotten", split, measure) for measure in after for split in NAMES]
    places += [(task, "forgotten", "test", ratio) for task in others]
    for task, phase, split, measure in places:
        drawn = [cell.draws(phase, split, measure, task) for cell in (a, b)]
        counts = [cell.n(phase, split, task) for cell in (a, b)]
        items = [
            [sample.examples for sample in cell.samples(phase, split, task)] for cell in (a, b)
        ]
        yield from _line(
            at, a, b, (task, phase, split, measure), drawn, counts, items[0] == items[1]
        )
    for phase in ("learned", "forgotten"):
        models = [
            [o.id if phase == "forgotten" else o.learned_id for o in cell.outcomes]
            for cell in (a, b)
        ]
        # Which questions a probe was tested on is not kept: two probes are of the same ones for
        # sure where they are the same.
        same = models[0] == models[1]
        skills = [_skill(cell, phase) for cell in (a, b)]
        counts = [n for _, n in skills]
        yield from _line(
            at,
            a,
            b,
            (a.task, phase, "test", "probe_skill"),
            [draws for draws, _ in skills],
            counts,
            same,
        )


def _skill(cell: Cell, phase: str) -> tuple[Draws | None, int]:
    """Probe accuracy above chance at the layer that reads best after learning, and the questions it rests on."""
    layer, found = best_layer(cell), cell.probe_draws(phase)
    return (
        (None, 0)
        if layer is None or layer not in found
        else (found[layer] - PROBE_CHANCE, cell.probes(phase)[layer].n)
    )


def _line(
    at: str,
    a: Cell,
    b: Cell,
    place: tuple[str, str, str, str],
    drawn: Sequence[Draws | None],
    counts: Sequence[int],
    paired: bool,
) -> Iterator[Line]:
    """The line of a number that was taken in either study."""
    task, phase, split, measure = place
    if all(draws is None for draws in drawn):
        return
    one, other = (
        None if draws is None else estimate(draws, n)
        for draws, n in zip(drawn, counts, strict=True)
    )
    difference, p, effect, both = None, None, None, None
    if drawn[0] is not None and drawn[1] is not None:
        both = drawn[0], drawn[1]
        draws = _difference(*both)
        difference = estimate(draws, counts[0] if paired else sum(counts))
        if difference.value is not None:
            p = p_value(draws)
            effect = cohens_h(both[0][0], both[1][0]) if measure == "accuracy" else None
    yield Line(
        at=at, task=a.task, measured=task, elsewhere=task != a.task, phase=phase, split=split, measure=measure,
        a=one, b=other, difference=difference, paired=paired, seeds=(len(a.outcomes), len(b.outcomes)),
        p=p, adjusted=None, effect=effect, draws=None if p is None else both,
    )  # fmt: skip


def _difference(a: Draws, b: Draws) -> Draws:
    return np.round(b - a, DIGITS)


def _mean(group: Sequence[Line]) -> Line | None:
    """Over the lines of one measure that have a difference; None for fewer than two."""
    taken = [(line, line.draws) for line in group if line.draws]
    if len(taken) < 2:
        return None
    first = taken[0][0]
    a, b = (np.mean([draws[side] for _, draws in taken], axis=0) for side in (0, 1))
    ours, theirs, both = (
        sum(one.n for one in column if one)
        for column in zip(*((line.a, line.b, line.difference) for line, _ in taken), strict=True)
    )
    draws = _difference(a, b)
    p = p_value(draws)
    return replace(
        first, task=MEAN, measured=OTHERS if first.elsewhere else MEAN,
        a=estimate(a, ours), b=estimate(b, theirs), difference=estimate(draws, both),
        paired=all(line.paired for line, _ in taken), p=p, adjusted=p, effect=None, draws=(a, b),
        seeds=(sum(line.seeds[0] for line, _ in taken), sum(line.seeds[1] for line, _ in taken)),
    )  # fmt: skip


def _adjusted(group: Sequence[Line]) -> list[Line]:
    return [
        replace(line, adjusted=p)
        for line, p in zip(group, holm([line.p for line in group]), strict=True)
    ]


def _shown(key: str, value: str | None) -> str:
    if value is None:
        return "none"
    return rate_name(float(value)) if key.rpartition(".")[2] == "lr" else value


def _all(key: str, values: Sequence[str | None]) -> str:
    return ", ".join(_shown(key, value) for value in values)


def _against(key: str, ours: Sequence[str | None], theirs: Sequence[str | None]) -> str:
    return f"{_all(key, ours)} against {_all(key, theirs)}"


def _listed(study: Study) -> str:
    """The study's cells in a few words, e.g. "science at rate 1e-4"."""
    cells = [f"{cell.task} ({cell.setting}) at rate {rate_name(cell.rate)}" for cell in study.cells]
    return ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
