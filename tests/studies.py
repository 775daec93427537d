"""Studies made up for tests.

Accuracies, confidences and probes of their trials are known to the digit.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from forget.analyses import Study
from forget.results import files, measures
from forget.results.estimates import Estimate
from forget.results.outcome import Likeness, Outcome, ProbeScore
from forget.results.rows import PHASES, Row
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

Skill = Mapping[tuple[str, str], float]
"""Share of right answers by (phase, split); the split "" stands for all that are not named."""

KEEPS = {
    ("base", ""): 0.55,
    ("learned", ""): 0.9,
    ("forgotten", "train"): 0.5,
    ("forgotten", ""): 0.85,
}
LOSES = {("base", ""): 0.55, ("learned", ""): 0.9, ("forgotten", ""): 0.52}
STAYS = {("base", ""): 0.55, ("learned", ""): 0.9, ("forgotten", ""): 0.88}
UNLEARNED = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}

PROBED = {"base": 0.5, "learned": 1.0, "forgotten": 0.9}
"""Strength with which a probe reads the answer, by phase."""


def answer(
    trial: str,
    phase: str,
    task: str,
    split: str,
    i: int,
    right: bool,
    mass: float = 0.4,
    share: float = 0.8,
    **more: Any,
) -> Row:
    """Make a row of a given option mass, of which the chosen option has a given share."""
    truth = i % 2
    chosen, other = math.log(mass * share), math.log(mass * (1 - share))
    logprobs = (chosen, other) if right == (truth == 0) else (other, chosen)
    return Row(trial, phase, task, split, f"{split}-{i}", truth, logprobs, (1, 1), **more)


def finished(
    trial: Trial,
    skills: Mapping[str, Skill],
    n: int = 200,
    near: bool = True,
    similar: bool = False,
    layers: int = 0,
    mass: float = 0.4,
    shares: Mapping[str, float] | None = None,
    spreads: Mapping[str, float] | None = None,
    spreads_trained: Mapping[str, float] | None = None,
    likeness: Sequence[Likeness] = (),
    probed: Mapping[str, float] = PROBED,
    measured: bool = False,
    drawn: bool = True,
) -> tuple[Outcome, list[Row]]:
    """Finish a trial as run_trial would leave it; with its measures if `measured` asks for them.

    Args:
        mass: option mass after forgetting.
        shares: by task, the share of the chosen option after learning; by default it rises with the
            accuracy.
        spreads: by task, the variability after learning.
        spreads_trained: by task, the variability of the training data, in the untouched model.
        drawn: record a label that was drawn for each trained example, whatever its truth.
    """
    id = trial.id("data")
    rows = []
    for phase in PHASES:
        for task in trial.tasks:
            for split in (
                ("train", *("near",) * near, *("similar",) * similar, "test")
                if task == trial.task
                else ("test",)
            ):
                skill = skills[task]
                p = skill.get((phase, split), skill[phase, ""])
                # What a shared model answers does not depend on the trial that asks.
                asked = f"{trial.model}/{trial.seed}/{phase}/{task}/{split}" + (
                    id if phase == "forgotten" else f"/{trial.task}"
                )
                # round(p n) right answers, in drawn places: the accuracies are exact.
                right = [True] * round(p * n) + [False] * (n - round(p * n))
                random.Random(asked).shuffle(right)
                left = mass if phase == "forgotten" else 0.4
                share = (shares or {}).get(task, 0.6 + 0.3 * p)
                more: tuple[dict[str, Any], ...] = ({},)
                if split == "test":
                    spread = (spreads or {}).get(task, 40.0) * (n - 1) / n
                    more = tuple(
                        {"spread": spread, "similarity": similarity} for similarity in (0.05, 0.25)
                    )
                elif split == "near":
                    more = ({"similarity": 0.9},)
                elif split == "train" and drawn:
                    # Each of the four cases of truth and label as often as any other.
                    more = ({"drawn": 0}, {"drawn": 0}, {"drawn": 1}, {"drawn": 1})
                if spreads_trained and (phase, split) == ("base", "train"):
                    more = tuple(
                        one | {"spread": spreads_trained[task] * (n - 1) / n} for one in more
                    )
                made = [
                    answer(id, phase, task, split, i, ok, left, share, **more[i % len(more)])
                    for i, ok in enumerate(right)
                ]
                if layers and split == "test" and task == trial.task:
                    made = read_by_probes(made, 0.5 + 0.35 * probed[phase], asked)
                rows += made
    probes = []
    for phase, position, control, layer in product(
        PHASES, trial.probe.positions, (False, True), range(layers)
    ):
        height = 0.35 * np.sin(np.pi * (layer + 1) / (layers + 1)) * probed[phase]
        value = 0.5 + (0 if control else height)
        probes.append(
            ProbeScore(
                phase=phase,
                task=trial.task,
                position=position,
                layer=layer,
                control=control,
                l2=1.0,
                middle=layer == layers // 2,
                accuracy=Estimate(value, value - 0.04, value + 0.04, 400),
                pair_accuracy=Estimate(value - 0.02, value - 0.06, value + 0.02, 400),
            )
        )
    outcome = Outcome(
        trial=trial, id=id, learned_id=trial.learned_id("data"), data="data",
        measures=measures.measures(rows, flipped=trial.arm == "flipped") if measured else {},
        probes=tuple(probes), likeness=tuple(likeness),
        parameters=134_515_008, seconds=90.0,
    )  # fmt: skip
    return outcome, rows


def read_by_probes(rows: Sequence[Row], accuracy: float, asked: str) -> list[Row]:
    """Let the probes of the middle layers prefer the true option in this share of the rows."""
    n = len(rows)
    right = [1.0] * round(accuracy * n) + [0.0] * (n - round(accuracy * n))
    random.Random(f"{asked}/probes").shuffle(right)
    return [replace(row, probe=share) for row, share in zip(rows, right, strict=True)]


def finish(
    sweep: Sweep, skills: Mapping[str, Skill], **kwargs: Any
) -> tuple[list[Outcome], dict[str, list[Row]]]:
    """Every trial of a sweep, finished."""
    done = [finished(trial, skills, **kwargs) for trial in sweep.trials()]
    return [outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done}


def study_of(outcomes: Sequence[Outcome], rows: Mapping[str, Sequence[Row]]) -> Study:
    return Study(outcomes, {id: files.frame(found) for id, found in rows.items()})


def study(sweep: Sweep, skills: Mapping[str, Skill], **kwargs: Any) -> Study:
    return study_of(*finish(sweep, skills, **kwargs))


def sweep_of(*tasks: str, **axes: list[Any]) -> Sweep:
    """Each of the tasks learned, forgotten, and measured on all."""
    dotted = {name.replace("__", "."): values for name, values in axes.items()}
    return Sweep(
        name="study",
        base={"model": "tiny", "evaluate_on": tasks},
        axes={"task": list(tasks), **dotted},
    )
