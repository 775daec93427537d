"""A sweep's findings as sentences; one is written only where its interval settles it."""

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
from forget.analyses.study import Condition, pooled
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.results import metrics, rows
from forget.results.estimates import Estimate

COLLAPSE = 0.1
"""Option mass below this share of its value after learning is a collapse.

The model then says something else altogether.
"""

UNDECIDED = 0.9
"""Mean entropy of the options' shares from which on the model has next to no preference."""

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


def halves(cells: Sequence[Cell], split: str) -> Fates:
    """Sort the cells by the share of skill lost, above or below one half in its whole interval."""
    return _sorted((cell, cell.lost(split)) for cell in cells)


def probe_halves(cells: Sequence[Cell]) -> Fates:
    """Sort the cells by the share of the probes' skill lost, like `halves`.

    The probe is that at the first position probed and the layer that reads best after learning.
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


def collapsed(cells: Sequence[Cell], split: str = "test") -> list[tuple[Cell, Estimate, Estimate]]:
    """List the cells whose options lost nearly all their probability.

    Returns:
        (cell, option mass after learning, option mass after forgetting)
    """
    found = []
    for cell in cells:
        before = cell.get("learned", split, "option_mass")
        after = cell.get("forgotten", split, "option_mass")
        if before and after and after.numbers[0] < COLLAPSE * before.numbers[0]:
            found.append((cell, before, after))
    return found


def headline(cells: Sequence[Cell]) -> str:
    """Say in a few sentences what became of the skill.

    They say how much went on trained and on held-out examples, whether probes still read it, and
    what broke.
    """
    if not cells:
        return "No trial finished, so there is nothing to say yet."
    noun = _noun(cells)
    trained, held_out = halves(cells, "train"), halves(cells, "test")
    if not trained.all and not held_out.all:
        return (
            f"No {noun} was learned to {metrics.DEFINED_ABOVE_CHANCE} above chance, so nothing can "
            "be said about forgetting."
        )
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
    told = [f"{who} {_fate(found, len(base), noun)}" for who, found in elsewhere if found.all]
    if told:
        scope = "there, " if trained.gone else ""
        if len(trained.gone) > 1:
            scope = f"of these {len(base)}, "
        if not trained.all:
            scope = f"after {treatment}, "
        sentences.append(scope + "; ".join(told))
    broken = collapsed(cells)
    if broken:
        sentences.append(
            f"{_on(broken, cells, noun)}, the options lost nearly all their probability, as in a "
            "broken model"
        )
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


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


def numbers(study: Study) -> dict[str, Estimate]:
    """Return headline numbers by metric name; with several conditions the name begins with one."""
    found: dict[str, Estimate] = {}
    told = verdicts(study)
    for condition, cells in study.conditions.items():
        place = ""
        if len(study.conditions) > 1:
            # MLflow takes only some characters in a name.
            name = f"{condition.setting} rate {rate_name(condition.rate)}"
            place = re.sub(r"[^\w.:-]+", " ", name) + "/"
        for name, number in _numbers(cells):
            found[f"{place}headline/{name}"] = number
        for one in told[condition]:
            if one.number:
                found[f"{place}claim/{one.claim}"] = one.number
    return {name: number for name, number in found.items() if number.value is not None}


def _numbers(cells: Sequence[Cell]) -> Iterator[tuple[str, Estimate]]:
    """Yield the numbers of all tasks of a condition together."""
    for split, name in SPLIT_WORDS.items():
        n = sum(cell.n("forgotten", split) for cell in cells)
        lost = pooled(cells, split)
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


def _at_chance(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    """Tell a model that forgot from a broken one.

    At chance with the options as likely as before is forgetting; with the options gone, the model
    is broken.
    """
    broken = {id(cell) for cell, _, _ in collapsed(cells)}
    gaps = []
    for cell in cells:
        gap = cell.get("forgotten", "test", "forget_gap")
        if gap:
            gaps.append((cell, gap.numbers))
    at = [cell for cell, (_, low, high) in gaps if low <= 0 <= high]
    below = [cell for cell, (_, _, high) in gaps if high < 0]
    if not gaps:
        return
    text = (
        "On held-out examples, accuracy after forgetting cannot be told from chance "
        f"{_on(at, gaps, noun)}"
    )
    if below:
        text += (
            f", and lies below it {_on(below, gaps, noun)} (one answer has come to win, whatever "
            "the question)"
        )
    fallen = at + below
    if fallen:
        sound = [cell for cell in fallen if id(cell) not in broken]
        torn = []
        for cell in sound:
            entropy = cell.get("forgotten", "test", "entropy")
            if entropy and entropy.numbers[0] > UNDECIDED:
                torn.append(cell)
        text += (
            f"; there the options kept their probability {_on(sound, fallen, noun)}, with next to "
            f"no preference among them {_on(torn, fallen, noun)}"
        )
    yield text + "."


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


def _collapses(cells: Sequence[Cell]) -> Iterator[str]:
    for cell, before, after in collapsed(cells):
        yield (
            f"Option mass collapsed on {cell.task} ({cell.setting}, rate {rate_name(cell.rate)}): "
            f"{before.numbers[0]:.2g} after learning, {after.numbers[0]:.2g} after forgetting. The "
            "model now says something else altogether, and its accuracy there is that of a broken "
            "model, not of one that lost a task."
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
