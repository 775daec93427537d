"""What the numbers of a sweep bear, in sentences: nothing is said that an interval leaves open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forget.analyses import Cell, Study
from forget.analyses.claims import CLAIMS, Verdict, verdicts
from forget.analyses.probes import readings
from forget.analyses.resampling import Draws, estimate
from forget.analyses.study import pooled
from forget.analyses.words import NAMES, rate_name
from forget.results import metrics, rows
from forget.results.metrics import Estimate

COLLAPSE = 0.1
"""Option mass below this share of what it was after learning is a collapse: the model says
something else altogether.
"""

UNDECIDED = 0.9
"""Mean entropy of the options' shares from which on the model has next to no preference."""

PREPOSITIONS = {"task": "on", "cell": "in"}


@dataclass(frozen=True)
class Split:
    """Cells by what the interval of a ratio says."""

    gone: list[Cell]
    """More than half of the skill is gone."""
    kept: list[Cell]
    """Less than half is."""
    open: list[Cell]
    """The interval holds both."""

    @property
    def all(self) -> list[Cell]:
        return self.gone + self.kept + self.open


def halves(cells: Sequence[Cell], split: str) -> Split:
    """Sort the cells by whether the whole interval of the share of skill lost lies above or below one half."""
    return _sorted((cell, cell.lost(split)) for cell in cells)


def probe_halves(cells: Sequence[Cell]) -> Split:
    """The same for what the probes lost, at the first position probed and the layer that reads best after learning."""
    return _sorted((cell, reading.lost) for cell in cells for reading in readings(cell)[:1])


def _sorted(lost: Iterable[tuple[Cell, Draws | None]]) -> Split:
    found = Split([], [], [])
    for cell, draws in lost:
        if draws is not None and np.isfinite(draws[0]):
            _, low, high = estimate(draws, 0).numbers
            (found.gone if low > 0.5 else found.kept if high < 0.5 else found.open).append(cell)
    return found


def collapsed(cells: Sequence[Cell], split: str = "test") -> list[tuple[Cell, Estimate, Estimate]]:
    """Cells whose options lost nearly all their probability: (cell, mass after learning, after forgetting)."""
    masses = [
        (
            cell,
            cell.get("learned", split, "option_mass"),
            cell.get("forgotten", split, "option_mass"),
        )
        for cell in cells
    ]
    return [(c, b, a) for c, b, a in masses if b and a and a.numbers[0] < COLLAPSE * b.numbers[0]]


def headline(cells: Sequence[Cell]) -> str:
    """How much went of the skill on trained and on held-out examples, whether probes still read it, and what broke."""
    if not cells:
        return "No trial finished, so there is nothing to say yet."
    noun = _noun(cells)
    trained, held_out = halves(cells, "train"), halves(cells, "test")
    if not trained.all and not held_out.all:
        return f"No {noun} was learned to {metrics.DEFINED_ABOVE_CHANCE} above chance, so nothing can be said about forgetting."
    names = {cell.treatment for cell in cells}
    treatment = names.pop() if len(names) == 1 else "forgetting"
    sentences = []
    if trained.all:
        undecided = f" ({len(trained.open)} undecided)" if trained.open else ""
        went = _on(trained.gone, trained.all, noun)
        sentences.append(
            f"{treatment} removed most of the skill on the trained examples {went}{undecided}"
        )
    # Whether the skill stays elsewhere is a question where it went from the trained examples, if it
    # did anywhere.
    base = trained.gone or trained.all or held_out.all
    elsewhere = (("held-out examples", halves(base, "test")), ("linear probes", probe_halves(base)))
    told = [f"{who} {_verdict(found, len(base), noun)}" for who, found in elsewhere if found.all]
    if told:
        scope = (
            f"of these {len(base)}, "
            if len(trained.gone) > 1
            else "there, "
            if trained.gone
            else ""
        )
        sentences.append((scope if trained.all else f"after {treatment}, ") + "; ".join(told))
    if broken := collapsed(cells):
        sentences.append(
            f"{_on(broken, cells, noun)}, the options lost nearly all their probability, as in a broken model"
        )
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def summary(told: Mapping[tuple[str, float], Sequence[Verdict]]) -> dict[str, str]:
    """Each claim over all settings and rates: "holds", or "holds in 2 of 3, not enough data in 1 of 3"."""
    counts = {
        claim: Counter(
            one.verdict for found in told.values() for one in found if one.claim == claim
        )
        for claim in CLAIMS
    }
    return {
        claim: next(iter(count))
        if len(count) == 1
        else ", ".join(f"{word} in {n} of {count.total()}" for word, n in count.most_common())
        for claim, count in counts.items()
        if count
    }


def numbers(study: Study) -> dict[str, Estimate]:
    """Headline numbers by metric name; with several settings or rates the name begins with which."""
    found: dict[str, Estimate] = {}
    told = verdicts(study)
    for (setting, rate), cells in study.conditions.items():
        # What MLflow takes for a name.
        place = (
            re.sub(r"[^\w.:-]+", " ", f"{setting} rate {rate_name(rate)}") + "/"
            if len(study.conditions) > 1
            else ""
        )
        for split, name in NAMES.items():
            n = sum(cell.n("forgotten", split) for cell in cells)
            if (lost := pooled(cells, split)) is not None:
                found[f"{place}headline/skill lost on {name}"] = estimate(lost, n)
        for phase in rows.PHASES:
            for measure in ("accuracy", "option_mass", "entropy"):
                taken = [
                    draws
                    for cell in cells
                    if (draws := cell.draws(phase, "test", measure)) is not None
                ]
                n = sum(cell.n(phase, "test") for cell in cells)
                if taken:
                    found[f"{place}headline/{phase} {measure} on held-out examples"] = estimate(
                        np.mean(taken, axis=0), n
                    )
        found |= {
            f"{place}claim/{one.claim}": one.number for one in told[setting, rate] if one.number
        }
    return {name: number for name, number in found.items() if number.value is not None}


def findings(study: Study) -> list[str]:
    """What else can be said of all cells together, a sentence each."""
    cells, noun = study.cells, _noun(study.cells)
    return [
        *_less_elsewhere(cells, noun),
        *_at_chance(cells, noun),
        *_unlearned(cells, noun),
        *_not_mastered(cells),
        *_collapses(cells),
    ]


def _noun(cells: Sequence[Cell]) -> str:
    return "task" if len({(cell.setting, cell.rate) for cell in cells}) == 1 else "cell"


def _less_elsewhere(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    pairs = [(cell.lost("train"), cell.lost("test")) for cell in cells]
    both = [
        trained - held_out
        for trained, held_out in pairs
        if trained is not None and held_out is not None
    ]
    found = [estimate(difference, 0).numbers for difference in both if np.isfinite(difference[0])]
    if found:
        less = [one for one in found if one[1] > 0]
        more = [one for one in found if one[2] < 0]
        rest = f", and more {_on(more, found, noun)}" if more else ""
        yield f"Held-out examples were forgotten less than trained ones {_on(less, found, noun)}{rest}."


def _at_chance(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    """At chance with the options as likely as before is forgetting; with the options gone it is a broken model."""
    broken = {id(cell) for cell, _, _ in collapsed(cells)}
    gaps = [
        (cell, gap.numbers)
        for cell in cells
        if (gap := cell.get("forgotten", "test", "forget_gap"))
    ]
    at = [cell for cell, (_, low, high) in gaps if low <= 0 <= high]
    below = [cell for cell, (_, _, high) in gaps if high < 0]
    if not gaps:
        return
    text = f"On held-out examples, accuracy after forgetting cannot be told from chance {_on(at, gaps, noun)}"
    if below:
        text += f", and lies below it {_on(below, gaps, noun)} (one answer has come to win, whatever the question)"
    fallen = at + below
    if fallen:
        sound = [cell for cell in fallen if id(cell) not in broken]
        torn = [
            cell
            for cell in sound
            if (e := cell.get("forgotten", "test", "entropy")) and e.numbers[0] > UNDECIDED
        ]
        text += (
            f"; there the options kept their probability {_on(sound, fallen, noun)}, with next to no preference among them "
            f"{_on(torn, fallen, noun)}"
        )
    yield text + "."


def _unlearned(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    found = [
        c for c in cells if (ratio := c.get("forgotten", "test", c.ratio)) and ratio.value is None
    ]
    if found:
        bound = metrics.DEFINED_ABOVE_CHANCE
        yield f"The held-out forget ratio is missing {_on(found, cells, noun)}, learned to less than {bound} above chance."


def _not_mastered(cells: Sequence[Cell]) -> Iterator[str]:
    tasks = dict.fromkeys(cell.task for cell in cells if not cell.mastered)
    if tasks:
        yield (
            "Accuracy after learning is not surely above chance and above always giving the most frequent answer on "
            f"{_list(list(tasks))}: what goes there may be a prior and no skill, so the claims on generalisation, prediction, "
            "order and probes leave it out."
        )


def _collapses(cells: Sequence[Cell]) -> Iterator[str]:
    for cell, before, after in collapsed(cells):
        yield (
            f"Option mass collapsed on {cell.task} ({cell.setting}, rate {rate_name(cell.rate)}): {before.numbers[0]:.2g} "
            f"after learning, {after.numbers[0]:.2g} after forgetting. The model now says something else altogether, and its "
            f"accuracy there is that of a broken model, not of one that lost a task."
        )


def _on(part: Sequence[object], whole: Sequence[object], noun: str) -> str:
    """on none of 4 tasks, on 3 of 4 tasks, on all 4 tasks, on the one task; in cells."""
    preposition = PREPOSITIONS[noun]
    if len(whole) == 1:
        return f"{preposition} the one {noun}" if part else f"{preposition} no {noun}"
    whole_of_it = "both" if len(whole) == 2 else f"all {len(whole)}"
    share = whole_of_it if len(part) == len(whole) else f"{len(part) or 'none'} of {len(whole)}"
    return f"{preposition} {share} {noun}s"


def _verdict(found: Split, n: int, noun: str) -> str:
    """kept most of it on 2, lost most of it on 1, ...; without numbers where one fate fits all `n` cells."""
    fates = {
        "kept most of it": len(found.kept),
        "lost most of it": len(found.gone),
        "are undecided": len(found.open),
        "had little to lose": n - len(found.all),
    }
    return _list(
        [
            fate if count == n else f"{fate} {PREPOSITIONS[noun]} {count}"
            for fate, count in fates.items()
            if count
        ]
    )


def _list(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
