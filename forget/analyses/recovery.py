"""Recovery: how much of what was forgotten an audit brings back, between two ends that it measures.

R = (A_f - A_n) / (A_l - A_n), of the accuracies of the forgotten, the learned and the never taught
arm at the same dose: 1 as if it had never been forgotten, 0 as if it had never been taught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from forget.analyses.replicates import Replicated, over_replicates, pool
from forget.analyses.resampling import Draws, estimate
from forget.analyses.samples import Place, Sample, resampled
from forget.analyses.study import Cell, Study, kept, replicate
from forget.results.doses import Dose, pooled, read
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome
from forget.results.rows import ARMS

if TYPE_CHECKING:
    import pandas as pd

LEAST_SKILL = 0.05
"""Least A_l - A_n of which a share can be told."""

ROUNDING = 1e-9
"""A difference of two means of the same items that is less is none."""

WORST, BEST = "right in all formats", "right in any format"
"""Doses of an item's worst and best format, where an audit asks in several."""

FORMATS = "formats"
"""Name of the audit that asks in several."""

OTHERWISE = ("know", "mia", "drift", "uds", "text")
"""Audits that ask another question than the task's, so that their accuracies are no recovery."""


OF_TRAINED = ("rtt",)
"""Audits of which R is on examples that forgetting trained on, in the split "train"."""


@dataclass(frozen=True)
class Recovery:
    """Result of an audit at one dose, in a cell."""

    audit: str
    """Its label (forget.audits.audit.Audit.label)."""
    dose: Dose
    accuracy: dict[str, Estimate]
    """Accuracy by arm, on examples of `split_of` the audit."""
    draws: Draws
    """R, resampled; missing where the learned arm is less than LEAST_SKILL above the never taught.
    """
    besides: Draws | None
    """R with the scrambled arm for the one never taught: less what the same training leaves where
    nothing was learned. None where that arm was not audited.
    """
    undone: Draws | None
    """Share of the loss that the dose undoes, (A_f - A) / (A_l0 - A), where A and A_l0 are the
    accuracies of the forgotten and the learned arm as they are. It needs no arm without the skill,
    which of a skill from pretraining there is not. Missing where less than LEAST_SKILL was lost,
    None where the arms were not asked as they are.
    """
    chance: float
    """Accuracy of a guess."""
    n: int

    @property
    def number(self) -> Estimate:
        return estimate(self.draws, self.n)


def ratio(forgotten: Draws, learned: Draws, never: Draws) -> Draws:
    """Compute R from accuracies on the same resampled items."""
    skill = learned - never
    if not skill[0] >= LEAST_SKILL - ROUNDING:
        return np.full_like(skill, np.nan)
    # A resample without skill has no ratio; it must not flip the sign of the interval.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(skill > ROUNDING, (forgotten - never) / skill, np.nan)


@kept
def recoveries(cell: Cell) -> list[Recovery]:
    """Return what each audit found at each dose; none where some replicate was not audited."""
    found = []
    for label in labels(cell):
        if label.partition(",")[0] in OTHERWISE:
            continue
        for name, doses in _competing(cell, label).items():
            if one := _recovery(cell, label, name, doses):
                found.append(one)
    return found


def labels(cell: Cell) -> list[str]:
    """Return the labels of the audits that every replicate of a cell has."""
    frames = [cell.study.audited.get(outcome.id) for outcome in cell.outcomes]
    each = [set() if frame is None else set(frame["audit"]) for frame in frames]
    return sorted(set.intersection(*each)) if each else []


def split_of(label: str) -> str:
    """Return the split of an audit's Rows that R is of."""
    return "train" if label.partition(",")[0] in OF_TRAINED else "test"


def least(found: Sequence[Recovery], audit: str) -> dict[str, float | None]:
    """Return by group of doses the least number at which R is half or more; None where it never is.

    Of relearning it is n½, the examples that bring half of the skill back.
    """
    halves: dict[str, float | None] = {}
    for one in sorted((one for one in found if one.audit == audit), key=lambda one: one.dose.at):
        if not one.dose.numbers:
            continue
        back = halves.setdefault(one.dose.group, None)
        if back is None and np.isfinite(one.draws[0]) and one.draws[0] >= 0.5:
            halves[one.dose.group] = one.dose.at
    return halves


def strongest(cell: Cell) -> dict[str, Recovery]:
    """Return by audit the dose at which most comes back, of those that have an R and no control.

    A dose that is chosen for its number is not the place to read an interval from: the claim that
    forgetting hides looks at all of them.
    """
    return _highest(cell, lambda one: one.draws)


def most_undone(cell: Cell) -> dict[str, Recovery]:
    """Return by audit the dose that undoes most of the loss, of those that are no control."""
    return _highest(cell, lambda one: one.undone)


def _highest(cell: Cell, number: Callable[[Recovery], Draws | None]) -> dict[str, Recovery]:
    found: dict[str, tuple[float, Recovery]] = {}
    for one in recoveries(cell):
        draws = number(one)
        told = one.dose.name in (WORST, BEST) or one.dose.control or one.dose.plain
        if told or draws is None or not np.isfinite(draws[0]):
            continue
        if one.audit not in found or draws[0] > found[one.audit][0]:
            found[one.audit] = float(draws[0]), one
    return {audit: one for audit, (_, one) in found.items()}


def missing(study: Study) -> list[str]:
    """Name the audits that some trials lack and others have, a sentence each."""
    wanted: dict[str, None] = {}
    for frame in study.audited.values():
        wanted |= dict.fromkeys(frame["audit"])
    found = []
    for label in sorted(wanted):
        cells = [cell for cell in study.cells if label not in labels(cell) and cell.trial.audited]
        if cells:
            places = ", ".join(f"{cell.task} {cell.setting}" for cell in cells)
            found.append(f"{label}: missing for {places}")
    return found


def _competing(cell: Cell, label: str) -> dict[str, list[str]]:
    """Return the doses of an audit by their name without what is chosen, in order."""
    found: dict[str, list[str]] = {}
    frame = cell.study.audited[cell.outcomes[0].id]
    # Where a number is noted with each item, an analysis of its own reads that.
    asked = (frame["audit"] == label) & frame["value"].isna()
    for dose in dict.fromkeys(map(pooled, frame.loc[asked, "dose"].unique())):
        found.setdefault(read(dose).name, []).append(dose)
    if label.partition(",")[0] == FORMATS:
        found |= {WORST: [WORST], BEST: [BEST]}
    return found


def _recovery(cell: Cell, label: str, name: str, doses: Sequence[str]) -> Recovery | None:
    """Compute R at a dose, each arm read at the one of several that is best for it."""
    draws: dict[str, Draws] = {}
    n = 0
    for arm in ARMS:
        best = _best(cell, label, doses, arm)
        number = averaged(cell, partial(_accuracy, label=label, dose=best, arm=arm))
        if number is not None:
            draws[arm] = number
            n = _count(cell, label, best, arm)
    if not {"forgotten", "learned", "never"} <= draws.keys():
        return None
    forgotten, learned = draws["forgotten"], draws["learned"]
    besides = draws.get("scrambled")
    return Recovery(
        audit=label,
        dose=read(name),
        accuracy={arm: estimate(number, n) for arm, number in draws.items()},
        draws=ratio(forgotten, learned, draws["never"]),
        besides=None if besides is None else ratio(forgotten, learned, besides),
        undone=None if name in (WORST, BEST) else _undone(cell, label, forgotten),
        chance=_chance(cell, label, doses[0]),
        n=n,
    )


def _undone(cell: Cell, label: str, forgotten: Draws) -> Draws | None:
    """Compute the share of the loss that is undone where the forgotten arm has this accuracy."""
    as_it_is = [dose for dose in _competing(cell, label) if read(dose).plain]
    if not as_it_is:
        return None
    before, after = (
        averaged(cell, partial(_accuracy, label=label, dose=as_it_is[0], arm=arm))
        for arm in ("learned", "forgotten")
    )
    return None if before is None or after is None else ratio(forgotten, before, after)


def _chance(cell: Cell, label: str, dose: str) -> float:
    places = _samples(cell.study, label, dose)
    ids = [outcome.id for outcome in cell.outcomes]
    split = split_of(label)
    return float(np.mean([places[id, "learned", cell.task, split].chance for id in ids]))


def _best(cell: Cell, label: str, doses: Sequence[str], arm: str) -> str:
    """Return the dose at which an arm is best on validation examples; the first of equals."""
    if len(doses) == 1:
        return doses[0]
    scores = []
    for dose in doses:
        find = partial(_accuracy, label=label, dose=dose, arm=arm, split="validation")
        number = averaged(cell, find)
        scores.append(-np.inf if number is None else float(number[0]))
    return doses[int(np.argmax(scores))]


def averaged(cell: Cell, find: Callable[[Cell, Outcome], Draws | None]) -> Draws | None:
    """Average a number over a cell's replicates, with their spread; None where one lacks it."""
    own = _replicated(cell, find)
    if own is None:
        return None
    peers = [found for peer in cell.study.peers(cell) if (found := _replicated(peer, find))]
    return over_replicates(own, pool([peer.only(own.names) for peer in peers]))


def _replicated(cell: Cell, find: Callable[[Cell, Outcome], Draws | None]) -> Replicated | None:
    names, taken = [], []
    for outcome in sorted(cell.outcomes, key=lambda one: replicate(one.trial)):
        draws = find(cell, outcome)
        if draws is None:
            return None
        names.append(replicate(outcome.trial))
        taken.append(draws)
    return Replicated(cell.task, tuple(names), tuple(taken))


def _accuracy(
    cell: Cell, outcome: Outcome, label: str, dose: str, arm: str, split: str = ""
) -> Draws | None:
    split = split or split_of(label)
    sample = _samples(cell.study, label, dose).get((outcome.id, arm, cell.task, split))
    return sample.means["accuracy"] if sample else None


def _count(cell: Cell, label: str, dose: str, arm: str) -> int:
    places = _samples(cell.study, label, dose)
    ids = [outcome.id for outcome in cell.outcomes]
    return sum(len(places[id, arm, cell.task, split_of(label)].examples) for id in ids)


@lru_cache(maxsize=1)
def _known(study: Study) -> dict[tuple[str, str], dict[Place, Sample]]:
    """Return the cache of `_samples`, which goes with its study."""
    return {}


def _samples(study: Study, label: str, dose: str) -> dict[Place, Sample]:
    """Resample what an audit found at a dose, of every trial; arms share their resampled items."""
    known = _known(study)
    if (label, dose) not in known:
        known[label, dose] = _resampled(study, label, dose)
    return known[label, dose]


def _resampled(study: Study, label: str, dose: str) -> dict[Place, Sample]:
    frames = {}
    for id, frame in study.audited.items():
        own = frame[frame["audit"] == label]
        if dose in (WORST, BEST):
            own = _over_formats(own, worst=dose == WORST)
        else:
            same = [one for one in own["dose"].unique() if pooled(one) == dose]
            own = own[own["dose"].isin(same)]
        if len(own):
            frames[id] = own
    return resampled(frames)


def _over_formats(frame: pd.DataFrame, worst: bool) -> pd.DataFrame:
    """Keep one row of each item and arm, right where it is right in all formats, or in any."""
    places = ["phase", "task", "split", "example"]
    right = frame.groupby(places)["correct"]
    taken = right.transform("min") if worst else right.transform("max")
    return frame.assign(correct=taken).drop_duplicates(places)


def by_group(found: Sequence[Recovery], audit: str) -> Iterator[tuple[str, list[Recovery]]]:
    """Yield the groups of an audit's doses, each in order of its number."""
    groups: dict[str, list[Recovery]] = {}
    for one in found:
        if one.audit == audit:
            groups.setdefault(one.dose.group, []).append(one)
    for name, some in groups.items():
        yield name, sorted(some, key=lambda one: one.dose.at)
