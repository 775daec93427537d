"""Sections on before and after, by task.

They show accuracy, what forgetting took, and whether the model still answers at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import chain
from pathlib import Path

from forget.analyses.states import COLLAPSE, states
from forget.analyses.study import Study
from forget.analyses.words import SPLIT_WORDS, rate_name
from forget.report import figures
from forget.report.figures import Series
from forget.report.layout import Group, setting_pictures
from forget.report.section import Picture, Section, show
from forget.results.measures import named
from forget.results.metrics import DEFINED_ABOVE_CHANCE


def accuracy(study: Study, folder: Path) -> Section | None:
    """Show accuracy in all phases; None where no task was scored after forgetting."""
    text = (
        "Share of examples whose true option scores highest: untouched, after learning the task, "
        "and after forgetting it. Trained examples are those that forgetting was run on. Bars are "
        "95 % intervals; the dashed line is chance." + _nested(study)
    )
    pictures = setting_pictures(study, folder, "accuracy", _accuracy)
    return Section("accuracy", "Accuracy before and after", text, pictures) if pictures else None


def _nested(study: Study) -> str:
    """Say of which tasks a sum of log-probabilities prefers one option by itself, "" of none."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for outcome in study.outcomes:
        if outcome.trial.normalise == "none":
            frame = study.frames[outcome.id]
            nested = frame[frame["nested"] == 1]
            for task, *place in zip(
                nested["task"], nested["split"], nested["example"], strict=True
            ):
                found[task].add(tuple(place))
    if not found:
        return ""
    counts = [f"{len(examples)} of {task}" for task, examples in found.items()]
    return (
        " In some examples an option begins with another's tokens, so that a sum of"
        f" log-probabilities never scores it higher ({', '.join(counts)})."
    )


def ratio(study: Study, folder: Path) -> Section | None:
    """Show the share of the skill that forgetting took; None where there is none."""
    text = (
        "The share of the learned skill that forgetting took, (a_ft - a_fg) / (a_ft - chance): 0 "
        "is untouched, 1 is at chance. It is missing, and says so, where learning brought the task "
        f"less than {DEFINED_ABOVE_CHANCE} above chance. An arrow gives a value beyond the axis. "
        "(For flipped labels the denominator is 2 a_ft - 1: 0.5 is at chance, 1 reversed.)"
    )
    pictures = setting_pictures(study, folder, "ratio", _ratio)
    return Section("ratio", "Forget ratio", text, pictures) if pictures else None


def mass(study: Study, folder: Path) -> Section | None:
    """Show whether the model still answers, and list the cells where it hardly does."""
    text = (
        "Total probability of the options, and the entropy of their shares over its maximum. A "
        "model that lost a task still answers with one of the options, without preference (entropy "
        "near 1) or with a wrong one; one that is broken says something else, and its accuracy "
        "means little. "
    )
    collapses = []
    for cell in study.cells:
        for one in states(cell):
            if one.word == "silent" and one.mass:
                task = one.task if one.task == cell.task else f"{one.task} after {cell.task}"
                place = f"{task}, {SPLIT_WORDS[one.split]}, {cell.setting}, {rate_name(cell.rate)}"
                before, after = (show(number, ".2g") for number in one.mass)
                collapses.append(f"{place} ({before} after learning, {after} after forgetting)")
    below = f"below {round(100 * COLLAPSE)} % of its value after learning"
    if collapses:
        text += f"It fell {below} on: {'; '.join(collapses)}."
    else:
        text += f"Nowhere did it fall {below}."
    pictures = setting_pictures(study, folder, "mass", _mass)
    pictures += setting_pictures(study, folder, "entropy", _entropy)
    if not pictures:
        return None
    return Section("mass", "Option mass and entropy: at chance, or broken?", text, pictures)


def _panels(part: Group, measure: str) -> dict[str, list[Series]]:
    """Return a panel for each split, with the measure in all phases."""
    panels = {}
    for split in part.splits(measure):
        panels[SPLIT_WORDS[split]] = part.before(split, measure) + part.after(split, measure)
    return panels


def _accuracy(part: Group, path: Path) -> Picture | None:
    panels = _panels(part, "accuracy")
    if not panels:
        return None
    split = part.splits("accuracy")[-1]
    guesses = [part.of[task].chance(split) for task in part.tasks]
    figures.dots(path, part.tasks, panels, "accuracy", chance=guesses)
    return Picture(path, part.setting)


def _ratio(part: Group, path: Path) -> Picture | None:
    cell = part.cells[0]
    panels = {SPLIT_WORDS[s]: part.after(s, cell.ratio) for s in part.splits(cell.ratio)}
    if not panels:
        return None
    lines = {"untouched": 0.0, "at chance": 1.0}
    if cell.flipped:
        lines = {"untouched": 0.0, "at chance": 0.5, "reversed": 1.0}
    axis = named(cell.ratio).title
    figures.dots(path, part.tasks, panels, axis, limits=(-0.5, 1.5), lines=lines)
    return Picture(path, part.setting)


def _mass(part: Group, path: Path) -> Picture | None:
    panels = _panels(part, "option_mass")
    if not panels:
        return None
    masses = []
    for series in chain.from_iterable(panels.values()):
        masses += [estimate.value for estimate in series.values if estimate and estimate.value]
    # Down to a power of ten below the lowest mass that is not 0.
    powers = [10.0 ** math.floor(math.log10(mass)) for mass in masses]
    limits = min([0.1, *powers]), max([1.0, *masses])
    axis = "option mass (probability)"
    figures.dots(path, part.tasks, panels, axis, limits=limits, log=True)
    return Picture(path, part.setting)


def _entropy(part: Group, path: Path) -> Picture | None:
    panels = _panels(part, "entropy")
    if not panels:
        return None
    axis = "entropy of the options' shares"
    figures.dots(path, part.tasks, panels, axis, lines={"no preference": 1.0})
    return Picture(path, part.setting)
