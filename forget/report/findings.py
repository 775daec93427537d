"""What the numbers of a sweep bear, in sentences: nothing is said that an interval leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forget import metrics
from forget.metrics import Estimate
from forget.report.cells import BASELINES, NAMES, Cell, Matrix, by_condition, rate_name

COLLAPSE = 0.1
"""Option mass below this share of what it was after learning is a collapse: the model says something else altogether."""


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
    """Sort the cells whose forget ratio is defined by whether its whole interval lies above or below one half."""
    found = Split([], [], [])
    for cell in cells:
        estimate = cell.get("forgotten", split, cell.ratio)
        if estimate and estimate.value is not None:
            _, low, high = estimate.numbers
            (found.gone if low > cell.half else found.kept if high < cell.half else found.open).append(cell)
    return found


def probe_halves(cells: Sequence[Cell]) -> Split:
    """The same for the probe at the layer that reads best after learning; its skill is its accuracy above 0.5.

    The best of many layers is flattered by chance before forgetting, not after, so `kept` is the harder verdict.
    """
    found = Split([], [], [])
    for cell in cells:
        before, after = cell.probes("learned"), cell.probes("forgotten")
        layer = max((layer for layer in before if layer in after), key=lambda layer: before[layer].numbers[0], default=None)
        if layer is None or before[layer].numbers[1] <= 0.5:
            continue
        middle = 0.5 + (before[layer].numbers[0] - 0.5) / 2
        _, low, high = after[layer].numbers
        (found.kept if low > middle else found.gone if high < middle else found.open).append(cell)
    return found


def collapsed(cells: Sequence[Cell], split: str = "test") -> list[tuple[Cell, Estimate, Estimate]]:
    """Cells whose options lost nearly all their probability: (cell, mass after learning, after forgetting)."""
    masses = [(cell, cell.get("learned", split, "option_mass"), cell.get("forgotten", split, "option_mass")) for cell in cells]
    return [(c, b, a) for c, b, a in masses if b and a and a.numbers[0] < COLLAPSE * b.numbers[0]]


def headline(cells: Sequence[Cell]) -> str:
    """How much went of the skill on trained and on held-out examples, whether probes still read it, and what broke."""
    if not cells:
        return "No trial finished, so there is nothing to say yet."
    noun = "task" if len(by_condition(cells)) == 1 else "cell"
    trained, held_out = halves(cells, "train"), halves(cells, "test")
    if not trained.all and not held_out.all:
        return f"No {noun} was learned to {metrics.DEFINED_ABOVE_CHANCE} above chance, so nothing can be said about forgetting."
    names = {cell.treatment for cell in cells}
    treatment = names.pop() if len(names) == 1 else "forgetting"
    sentences = []
    if trained.all:
        undecided = f" ({len(trained.open)} undecided)" if trained.open else ""
        went = _on(trained.gone, trained.all, noun)
        sentences.append(f"{treatment} removed most of the skill on the trained examples {went}{undecided}")
    # Whether the skill stays elsewhere is a question where it went from the trained examples, if it did anywhere.
    base = trained.gone or trained.all or held_out.all
    elsewhere = (("held-out examples", halves(base, "test")), ("linear probes", probe_halves(base)))
    told = [f"{who} {_verdict(found, len(base), noun)}" for who, found in elsewhere if found.all]
    if told:
        scope = f"of these {len(base)}, " if len(trained.gone) > 1 else "there, " if trained.gone else ""
        sentences.append((scope if trained.all else f"after {treatment}, ") + "; ".join(told))
    if broken := collapsed(cells):
        sentences.append(f"{_on(broken, cells, noun)}, the options lost nearly all their probability, as in a broken model")
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def findings(cells: Sequence[Cell], crossed: Sequence[Matrix]) -> list[str]:
    """What else can be said of all cells together, a sentence each."""
    noun = "task" if len(by_condition(cells)) == 1 else "cell"
    return [
        *_less_elsewhere(cells, noun),
        *_near(cells, noun),
        *_at_chance(cells, noun),
        *_across(crossed),
        *_unlearned(cells, noun),
        *_collapses(cells),
    ]


def _less_elsewhere(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    pairs = [(c.get("forgotten", "train", c.ratio), c.get("forgotten", "test", c.ratio)) for c in cells]
    both = [(a.numbers, b.numbers) for a, b in pairs if a and b and a.value is not None and b.value is not None]
    if both:
        less = [held_out for trained, held_out in both if held_out[2] < trained[1]]
        more = [held_out for trained, held_out in both if held_out[1] > trained[2]]
        rest = f", and more {_on(more, both, noun)}" if more else ""
        yield f"Held-out examples were forgotten less than trained ones, intervals apart, {_on(less, both, noun)}{rest}."


def _near(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    found = halves(cells, "near")
    if found.all:
        count = _count(len(found.all), noun)
        yield f"On near-duplicates of trained examples ({count}), most of the skill {_fates(found, noun)}."


def _at_chance(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    told = []
    for split in ("train", "test"):
        gaps = [gap.numbers for cell in cells if (gap := cell.get("forgotten", split, "forget_gap"))]
        if gaps:
            told.append(f"{_on([1 for _, low, high in gaps if low <= 0 <= high], gaps, noun)} for {NAMES[split]}")
    if told:
        yield f"Accuracy after forgetting cannot be told from chance {_list(told)}."


def _across(crossed: Sequence[Matrix]) -> Iterator[str]:
    for baseline in BASELINES[:2]:
        pairs = [(e.numbers, matrix.half) for matrix in crossed for _, _, e in matrix.elsewhere(baseline)]
        if pairs:
            went = sum(low > half for (_, low, _), half in pairs)
            stayed = sum(high < half for (_, _, high), half in pairs)
            yield (
                f"From one task to another ({_count(len(pairs), 'pair')}, against the model {baseline}), most of the other "
                f"task's skill went in {went}, stayed in {stayed}, and cannot be told in {len(pairs) - went - stayed}."
            )
            return


def _unlearned(cells: Sequence[Cell], noun: str) -> Iterator[str]:
    found = [c for c in cells if (ratio := c.get("forgotten", "test", c.ratio)) and ratio.value is None]
    if found:
        bound = metrics.DEFINED_ABOVE_CHANCE
        yield f"The held-out forget ratio is missing {_on(found, cells, noun)}, learned to less than {bound} above chance."


def _collapses(cells: Sequence[Cell]) -> Iterator[str]:
    for cell, before, after in collapsed(cells):
        yield (
            f"Option mass collapsed on {cell.task} ({cell.setting}, rate {rate_name(cell.rate)}): {before.numbers[0]:.2g} "
            f"after learning, {after.numbers[0]:.2g} after forgetting. The model now says something else altogether, and its "
            f"accuracy there is that of a broken model, not of one that lost a task."
        )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


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
    return _list([fate if count == n else f"{fate} {PREPOSITIONS[noun]} {count}" for fate, count in fates.items() if count])


def _fates(found: Split, noun: str) -> str:
    fates = {"stayed": found.kept, "went": found.gone, "is undecided": found.open}
    return _list([f"{fate} {PREPOSITIONS[noun]} {len(part)}" for fate, part in fates.items() if part])


def _list(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
