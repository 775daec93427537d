"""A sweep's findings as sentences; one is written only where its interval settles it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses import Cell, Study, arms
from forget.analyses.judging import Verdict
from forget.analyses.probes import readings
from forget.analyses.resampling import Draws, estimate
from forget.analyses.states import State, counted, state, states
from forget.analyses.study import Condition
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report.section import show
from forget.results import metrics, rows
from forget.results.estimates import Estimate
from forget.settings.claims import CLAIMS

SUMMED = ("accuracy", "option_mass", "entropy")
"""Measures whose means over the tasks are headline numbers."""

PREPOSITIONS = {"task": "on", "cell": "in"}


@dataclass(frozen=True)
class Fates:
    """Cells sorted by the interval of the share of skill lost."""

    gone: list[Cell]
    """Cells where more than half of the skill is gone."""
    kept: list[Cell]
    """Cells where less than half of it is gone."""
    open: list[Cell]
    """Cells whose interval holds one half."""

    @property
    def all(self) -> list[Cell]:
        return self.gone + self.kept + self.open


def probe_halves(cells: Sequence[Cell]) -> Fates:
    """Sort the cells by the share of the probes' skill lost, above or below one half for sure.

    The probes are those of the middle half of the layers at the first position probed.
    """
    lost = []
    for cell in cells:
        lost += [(cell, reading.lost) for reading in readings(cell)[:1]]
    return _sorted(lost)


def _sorted(lost: Iterable[tuple[Cell, Draws | None]]) -> Fates:
    found = Fates([], [], [])
    for cell, draws in lost:
        if draws is None or not np.isfinite(draws[0]):
            continue
        _, low, high = estimate(draws, 0).numbers
        if low > 0.5:
            found.gone.append(cell)
        elif high < 0.5:
            found.kept.append(cell)
        else:
            found.open.append(cell)
    return found


def headline(cells: Sequence[Cell]) -> str:
    """Say in a few sentences what became of the skill.

    They name the end states of trained and of held-out examples, what probes still read, and what
    true labels took in the place of random ones.
    """
    if not cells:
        return "No trial finished, so there is nothing to say yet."
    asked = forgetting(cells)
    noun = _noun(asked or cells)
    if not asked:
        return "Only controls were run: no claim is put to them."
    trained = [one for cell in asked if (one := state(cell, "train", cell.task))]
    held_out = [one for cell in asked if (one := state(cell, "test", cell.task))]
    told = [one for one in trained + held_out if one.word != "not learned"]
    if not told:
        return (
            f"No {noun} was learned to {metrics.DEFINED_ABOVE_CHANCE} above chance, so nothing can "
            "be said about forgetting."
        )
    names = {cell.treatment for cell in asked}
    treatment = names.pop() if len(names) == 1 else "forgetting"
    sentences = []
    if trained:
        sentences.append(f"after {treatment}, the trained examples are {_states(trained, noun)}")
    if held_out:
        sentences.append(f"held-out examples are {_states(held_out, noun)}")
    probed = probe_halves([cell for cell in asked if cell.mastered])
    if probed.all:
        sentences.append(f"linear probes {_fate(probed, len(probed.all), noun)}")
    sentences.append(_further(asked))
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def forgetting(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that are no controls."""
    return [cell for cell in cells if cell.trial.arm not in arms.CONTROLS]


def _states(found: Sequence[State], noun: str) -> str:
    """Write, e.g., "forgotten on 1 and memorised on 2 of 3 tasks"."""
    sorted_ = counted(found)
    if len(sorted_) == 1:
        (word,) = sorted_
        return f"{word} {_on(found, found, noun)}"
    parts = [f"{word} {PREPOSITIONS[noun]} {len(some)}" for word, some in sorted_.items()]
    return f"{_list(parts)} of {len(found)} {noun}s"


def _further(cells: Sequence[Cell]) -> str:
    """Say what true labels took in the place of others, of all tasks that they were run on."""
    controls = [other for cell in cells if (other := arms.control(cell))]
    lost = arms.pooled(controls, "test")
    if lost is None:
        return "no arm with true labels was run, so what further training alone takes is counted"
    n = sum(cell.n("forgotten", "test") for cell in controls)
    numbers = "{:z.2f} [{:z.2f}, {:z.2f}]".format(*estimate(lost, n).numbers)
    return f"true labels in their place took {numbers} of the skill held out"


def summary(told: Mapping[Condition, Sequence[Verdict]]) -> dict[str, str]:
    """Put each claim over all conditions: "holds", or "holds in 2 of 3, contradicted in 1 of 3"."""
    counts: dict[str, Counter[str]] = {claim: Counter() for claim in CLAIMS}
    for found in told.values():
        for one in found:
            counts[one.claim][one.verdict] += 1
    words = {}
    for claim, count in counts.items():
        if len(count) == 1:
            words[claim] = next(iter(count))
        elif count:
            parts = [f"{word} in {n} of {count.total()}" for word, n in count.most_common()]
            words[claim] = ", ".join(parts)
    return words


def numbers(study: Study, told: Mapping[Condition, Sequence[Verdict]]) -> dict[str, Estimate]:
    """Return headline numbers by metric name; with several conditions the name begins with one."""
    found: dict[str, Estimate] = {}
    for condition, cells in study.conditions.items():
        place = ""
        if len(study.conditions) > 1:
            # MLflow takes only some characters in a name.
            name = f"{condition.setting} rate {rate_name(condition.rate)}"
            place = re.sub(r"[^\w.:-]+", " ", name) + "/"
        for name, number in _numbers(cells):
            found[f"{place}headline/{name}"] = number
        for one in told.get(condition, ()):
            if one.number:
                found[f"{place}claim/{one.claim}"] = one.number
    return {name: number for name, number in found.items() if number.value is not None}


def _numbers(cells: Sequence[Cell]) -> Iterator[tuple[str, Estimate]]:
    """Yield the numbers of all tasks of a condition together."""
    for split, name in SPLIT_WORDS.items():
        n = sum(cell.n("forgotten", split) for cell in cells)
        lost = arms.pooled(cells, split)
        if lost is not None:
            yield f"skill lost on {name}", estimate(lost, n)
    for phase in rows.PHASES:
        for measure in SUMMED:
            drawn = [cell.draws(phase, "test", measure) for cell in cells]
            taken = [draws for draws in drawn if draws is not None]
            n = sum(cell.n(phase, "test") for cell in cells)
            if taken:
                yield f"{phase} {measure} on held-out examples", estimate(np.mean(taken, axis=0), n)


def findings(study: Study) -> list[str]:
    """Say what else can be said of all cells together, a sentence each."""
    cells, noun = study.cells, _noun(study.cells)
    asked = forgetting(cells)
    return [
        *_memorised(asked),
        *_less_elsewhere(asked, noun),
        *_elsewhere(asked),
        *_silent(cells),
        *_unlearned(cells, noun),
        *_not_mastered(cells),
        *_unrecorded(asked),
    ]


def _noun(cells: Sequence[Cell]) -> str:
    return "task" if len({(cell.setting, cell.rate) for cell in cells}) == 1 else "cell"


def _less_elsewhere(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    found = []
    for cell in cells:
        trained, held_out = cell.lost("train"), cell.lost("test")
        if trained is not None and held_out is not None:
            difference = trained - held_out
            if np.isfinite(difference[0]):
                found.append(estimate(difference, 0).numbers)
    if found:
        less = [one for one in found if one[1] > 0]
        more = [one for one in found if one[2] < 0]
        where = _on(less, found, noun)
        rest = f", and more {_on(more, found, noun)}" if more else ""
        yield f"Held-out examples were forgotten less than trained ones {where}{rest}."


def _memorised(cells: Sequence[Cell]) -> Iterator[str]:
    """Tell accuracy at chance by memory from that by forgetting."""
    for cell in cells:
        one = state(cell, "train", cell.task)
        if one and one.word == "memorised" and one.agreement:
            parts = [f"the drawn label is given in {show(one.agreement)} of the trained examples"]
            if one.draw_right and one.draw_wrong:
                parts.append(
                    f"the accuracy is {show(one.draw_right)} where the draw was right and "
                    f"{show(one.draw_wrong)} where it was wrong"
                )
            yield f"{_place(cell)} is memorised: {', and '.join(parts)}."


def _elsewhere(cells: Sequence[Cell]) -> Iterator[str]:
    """Say what became of other tasks, pair by pair."""
    found = []
    for cell in cells:
        for task in cell.trial.tasks[1:]:
            one = state(cell, "test", task)
            if one:
                found.append(one)
    if found:
        parts = [f"{len(some)} {word}" for word, some in counted(found).items()]
        yield f"Of {len(found)} pairs of a task forgotten and another measured: {_list(parts)}."


def _silent(cells: Sequence[Cell]) -> Iterator[str]:
    """Name the tasks, own and others, of which a model says something else altogether."""
    for cell in cells:
        for one in states(cell):
            if one.word == "silent" and one.split == "test" and one.mass:
                before, after = (show(number, ".2g") for number in one.mass)
                what = cell.task if one.task == cell.task else f"{one.task} after {cell.task}"
                yield (
                    f"The probability of the options collapsed on {what} ({cell.setting}, rate "
                    f"{rate_name(cell.rate)}): {before} after learning, {after} after forgetting."
                )


def _unrecorded(cells: Sequence[Cell]) -> Iterator[str]:
    """Name what older trials did not keep."""
    tasks = []
    for cell in cells:
        drawn = arms.draws_all(cell.trial) and cell.n("forgotten", "train")
        if drawn and cell.get("forgotten", "train", "agreement") is None:
            tasks.append(cell.task)
    if tasks:
        yield (
            f"The labels drawn were not recorded on {_list(list(dict.fromkeys(tasks)))}, so that "
            "memory of them cannot be told from forgetting."
        )


def _place(cell: Cell) -> str:
    return f"{cell.task} ({cell.setting}, rate {rate_name(cell.rate)})"


def _unlearned(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    ratios = [cell.get("forgotten", "test", cell.ratio) for cell in cells]
    missing = [ratio for ratio in ratios if ratio and ratio.value is None]
    if missing:
        yield (
            f"The held-out forget ratio is missing {_on(missing, cells, noun)}, learned to less "
            f"than {metrics.DEFINED_ABOVE_CHANCE} above chance."
        )


def _not_mastered(cells: Sequence[Cell]) -> Iterator[str]:
    tasks = dict.fromkeys(cell.task for cell in cells if not cell.mastered)
    if tasks:
        yield (
            "Accuracy after learning is not surely above chance and above always giving the most "
            f"frequent answer on {_list(list(tasks))}: what goes there may be a prior and no "
            "skill, so the claims on generalisation, prediction, order and probes leave it out."
        )


def _on(part: Sequence[object], whole: Sequence[object], noun: str) -> str:
    """Write, e.g., "on none of 4 tasks", "on 3 of 4 tasks", "on all 4 tasks", "in the one cell"."""
    preposition = PREPOSITIONS[noun]
    if len(whole) == 1:
        return f"{preposition} the one {noun}" if part else f"{preposition} no {noun}"
    whole_of_it = "both" if len(whole) == 2 else f"all {len(whole)}"
    share = whole_of_it if len(part) == len(whole) else f"{len(part) or 'none'} of {len(whole)}"
    return f"{preposition} {share} {noun}s"


def _fate(found: Fates, n: int, noun: str) -> str:
    """Write, e.g., "kept most of it on 2 and lost most of it on 1".

    Numbers are left out where one fate fits all `n` cells.
    """
    fates = {
        "kept most of it": len(found.kept),
        "lost most of it": len(found.gone),
        "are undecided": len(found.open),
        "had little to lose": n - len(found.all),
    }
    parts = []
    for fate, count in fates.items():
        if count:
            parts.append(fate if count == n else f"{fate} {PREPOSITIONS[noun]} {count}")
    return _list(parts)


def _list(parts: Sequence[str]) -> str:
    """Join words by commas, the last one by "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
