"""Studies made up without a model: specs, their tasks, and stores with their finished trials.

Their numbers are drawn by chance and mean nothing; shape and size are those of a study on two
cores: eight tasks, each trial with about 2,000 Rows, probes and looks on the way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forget.models.catalogue import MODELS
from forget.preflight import Identity, identify
from forget.results.estimates import Estimate, metric_name
from forget.results.measures import MEASURES
from forget.results.outcome import Likeness, Outcome, ProbeScore
from forget.results.rows import PHASES, Row
from forget.settings.reading import read_sweep
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials, keep_measures
from forget.storage.folders import write_text
from forget.storage.store import Store

TASKS = tuple(f"task-{letter}" for letter in "abcdefgh")
NAMES = ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-1.4b")
RATES = (3e-5, 1e-4, 2e-4, 3e-4, 1e-3)

A_SEED = len(TASKS) * len(NAMES) * len(RATES)
"""Number of trials of one seed, 200: a study grows by seeds."""

ITEMS, SCORED, WATCHED, POINTS = 240, 60, 30, 4
"""Numbers of items of a split, of them scored, of them scored on the way, and of points of each
stage at which they are.
"""

LAYERS = (0, 2, 4, 6)


def spec(folder: Path, trials: int) -> Path:
    """Write a spec of so many trials, a multiple of A_SEED.

    Its tasks stand beside it, and its store lies in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        write_task(folder / "tasks" / task)
    path = folder / f"growth-{trials}.toml"
    path.write_text(
        f"""\
store = "{folder / "store"}"
[base]
folders = ["tasks"]
evaluate_on = {list(TASKS)}
evaluation_examples = {SCORED}
probe = {{ examples = 100, layers = {list(LAYERS)} }}
watch = {{ points = {POINTS}, examples = {WATCHED} }}
save = false

[axes]
seed = {list(range(trials // A_SEED))}
model = {list(NAMES)}
"forget.lr" = {list(RATES)}
task = {list(TASKS)}
""",
        encoding="utf-8",
    )
    return path


def finish(path: Path, rows: bool = True) -> Sweep:
    """Finish every trial of the spec in its store, and return the sweep.

    Without `rows`, no Rows are written: planning and resuming look at none.
    """
    sweep = read_sweep(path)
    store = Store(sweep.store)
    for place, trial in enumerate(sweep.trials()):
        identity = identify(trial)
        folder = Trials(store).folder(identity.trial)
        if (folder / "outcome.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(place)
        if rows:
            pq.write_table(_rows(trial, identity.trial, draw), folder / "rows.parquet")
        outcome = _outcome(trial, identity, draw)
        keep_measures(folder, outcome.id, outcome.measures)
        write_text(folder / "outcome.json", outcome.model_dump_json(indent=1, exclude={"measures"}))
    return sweep


def write_task(folder: Path) -> None:
    """Write a task of yes and no, in files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        items = [
            {
                "id": _id(split, i),
                "question": f"Is {i} in {folder.name}?",
                "choices": ["yes", "no"],
                "answer": i % 2,
            }
            for i in range(ITEMS)
        ]
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps(item) + "\n" for item in items), encoding="utf-8"
        )


def _id(split: str, i: int) -> str:
    return f"{split}-{i:04}"


@cache
def _asked(task: str, seed: int) -> pa.Table:
    """Return the columns of Rows that do not depend on the model's answers.

    The Rows have the order of `forget.results.files.write_rows`.
    """
    phase: list[str] = []
    of: list[str] = []
    split: list[str] = []
    example: list[str] = []
    step: list[int | None] = []

    def ask(phases: Sequence[tuple[str, int | None]], other: str, part: str, n: int) -> None:
        # Another seed scores other items of the split.
        items = sorted(random.Random(f"{other}/{part}/{seed}").sample(range(ITEMS), SCORED))[:n]
        for name, at in phases:
            phase.extend([name] * n)
            of.extend([other] * n)
            split.extend([part] * n)
            example.extend(_id(part, i) for i in items)
            step.extend([at] * n)

    ask([(name, None) for name in PHASES], task, "train", SCORED)
    for other in TASKS:
        ask([(name, None) for name in PHASES], other, "test", SCORED)
    steps = [10 * (k + 1) for k in range(POINTS)]
    ask(list(product(("learn", "forget"), steps)), task, "test", WATCHED)
    n = len(phase)
    like = np.random.default_rng(seed).uniform(0, 0.6, n).tolist()
    return pa.table(
        {
            "phase": phase,
            "task": of,
            "split": split,
            "example": example,
            "truth": pa.array([int(name[-1]) % 2 for name in example], pa.int64()),
            "step": pa.array(step, pa.int64()),
            # Fair coins, of trained examples alone.
            "drawn": pa.array(
                [
                    int(name[-2]) % 2 if part == "train" else None
                    for name, part in zip(example, split, strict=True)
                ],
                pa.int64(),
            ),
            "similarity": [
                s if part == "test" and o == task else None
                for s, part, o in zip(like, split, of, strict=True)
            ],
            "spread": [
                40 + 10 * s if part == "test" and at is None else None
                for s, part, at in zip(like, split, step, strict=True)
            ],
        }
    )


RIGHT = {"base": 0.55, "learned": 0.9, "forgotten": 0.65, "learn": 0.7, "forget": 0.8}
"""Share of right answers, by phase, and by stage for looks on the way."""


def _rows(trial: Trial, id: str, draw: np.random.Generator) -> pa.Table:
    """Make the table that `forget.results.files.write_rows` writes, column by column.

    Two million Row objects would take a minute.
    """
    asked = _asked(trial.task, trial.seed)
    n = len(asked)
    phases = asked["phase"].to_pylist()
    # Trials that differ in the rate of forgetting alone start from one learned model.
    learned = np.random.default_rng([NAMES.index(trial.model), TASKS.index(trial.task), trial.seed])
    own = np.array([phase in ("forgotten", "forget") for phase in phases])
    right = np.where(own, draw.random(n), learned.random(n)) < np.array(
        [RIGHT[phase] for phase in phases]
    )
    share = np.where(own, draw.uniform(0.5, 1.0, n), learned.uniform(0.5, 1.0, n))
    truth = asked["truth"].to_numpy()
    first = np.where(np.where(right, truth, 1 - truth) == 0, share, 1 - share)
    logprobs = np.log(0.4 * np.stack([first, 1 - first], axis=1)).ravel()
    ends = pa.array(np.arange(0, 2 * n + 1, 2), pa.int32())
    columns = {name: asked[name] for name in asked.column_names} | {
        "trial": pa.array([id] * n),
        "logprobs": pa.ListArray.from_arrays(ends, pa.array(logprobs)),
        "lengths": pa.ListArray.from_arrays(ends, pa.array(np.ones(2 * n, int))),
        "weights": pa.ListArray.from_arrays(ends, pa.array(np.ones(2 * n))),
        **dict.fromkeys(("probe", "value"), pa.nulls(n, pa.float64())),
        **dict.fromkeys(("template", "audit", "dose"), pa.array([""] * n)),
    }
    return pa.table({field.name: columns[field.name] for field in fields(Row)})


def _outcome(trial: Trial, identity: Identity, draw: np.random.Generator) -> Outcome:
    def some(n: int, value: float) -> Estimate:
        value += draw.uniform(-0.05, 0.05)
        return Estimate(value, value - 0.1, value + 0.1, n)

    places = [(trial.task, "train"), *((task, "test") for task in trial.tasks)]
    measures = {}
    for phase, (task, split) in product(PHASES, places):
        forgotten = ("forget_gap", "forget_ratio") if phase == "forgotten" else ()
        plain = (one.name for one in MEASURES if not one.change and one.column != "spread")
        for measure in (*plain, *forgotten):
            measures[metric_name(phase, task, split, measure)] = some(SCORED, RIGHT[phase])
    probes = []
    for phase, position, control, layer in product(
        PHASES, trial.probe.positions, (False, True), LAYERS
    ):
        accuracy = some(200, 0.5 if control else RIGHT[phase])
        probes.append(
            ProbeScore(
                phase=phase,
                task=trial.task,
                position=position,
                layer=layer,
                control=control,
                l2=1.0,
                accuracy=accuracy,
            )
        )
    likeness = tuple(
        Likeness(task=task, answers=draw.random(), wording=draw.random(), states=draw.random())
        for task in trial.tasks[1:]
    )
    return Outcome(
        trial=trial,
        id=identity.trial,
        learned_id=identity.learned,
        data=identity.data,
        measures=measures,
        probes=tuple(probes),
        likeness=likeness,
        parameters=MODELS[trial.model].parameters,
        seconds=90.0,
    )
