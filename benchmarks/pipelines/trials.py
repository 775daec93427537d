"""Run whole trials and a sweep of twelve: this platform against a stack that a user would build.

The stack loads the model with transformers, scores it with lm-evaluation-harness, learns with
Trainer, scores it, trains it on the same random labels with Trainer, scores it again, and fits
scikit-learn's logistic regressions to each phase's hidden states, layer by layer and in five folds,
at four penalties of which the other folds choose. Both sides train on the same examples in the same
order, score the same examples, and probe the same pairs at the last token. The platform also writes
its store, the learned checkpoint and its tracking, and that time counts as ours.

In fp32 no accuracy differs by more than one example, and the probes' accuracies differ by 0.02 on
average at most. At the default precision, and in the sweep, accuracies differ by 0.05 on average at
most. The sweep is the `forget sweep` command, with a store and a database of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from transformers import PreTrainedModel

from benchmarks import data, stack
from benchmarks.compare import Comparison
from forget.evaluation import probing
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome
from forget.settings.parts import Probe, Stage, Watch
from forget.settings.reading import read_sweep
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.draws import Material, gather
from forget.tasks.task import Example
from forget.trial import run_trial

ROOT = Path(__file__).parents[2]

BATCH = 8
"""Batch size of the harness: the fastest on short contexts on two cores, or near it
(benchmarks.evaluation.scoring tries several).
"""

Accuracies = Mapping[str, float]
"""Accuracies by metric name; the names of probes end in the layer."""


def comparisons(quick: bool) -> list[Comparison[Accuracies] | Comparison[list[Accuracies]]]:
    tasks = (
        ("arc_easy", "rte", "piqa", "sst2")
        if data.REAL
        else ("science", "world", "sentiment", "reading")
    )
    against = "Trainer, lm-eval and scikit-learn in fp32"

    def row(named: str, trial: Trial) -> Comparison[Accuracies]:
        return Comparison(
            named,
            against,
            partial(_ours, trial),
            partial(_theirs, trial),
            partial(_agree, trial),
            5,
            once=True,
        )

    fp32 = _trial(tasks, learned=16 if quick else 64, scored=8 if quick else 16, precision="fp32")
    auto = fp32.model_copy(update={"precision": "auto"})
    if quick:
        return [
            row(
                "a trial of 16 blocks, default precision",
                auto.model_copy(update={"model": f"{data.MODEL}/16"}),
            )
        ]
    rows: list[Comparison[Accuracies] | Comparison[list[Accuracies]]] = [
        row("a trial, fp32", fp32),
        row("a trial, default precision", auto),
    ]
    sweep = _Sweep()
    rows.append(
        Comparison(
            "a sweep of 12 trials",
            "the same stack, trial by trial",
            sweep.ours,
            sweep.theirs,
            sweep.check,
            8,
            once=True,
            profile=sweep.profile,
        )
    )
    return rows


def _trial(tasks: Sequence[str], learned: int, scored: int, precision: str) -> Trial:
    stage = Stage(examples=learned, epochs=1, batch=min(16, learned), schedule="constant", warmup=0)
    return Trial(
        task=tasks[0],
        model=data.MODEL,
        learn=stage,
        forget=stage,
        evaluate_on=tuple(tasks[1:]),
        evaluation_examples=scored,
        probe=Probe(examples=scored, control=False),
        watch=Watch(points=0),
        precision=precision,  # type: ignore[arg-type]  # pydantic checks it
        folders=data.folders(),
        save=False,
    )


def _ours(trial: Trial) -> Accuracies:
    with tempfile.TemporaryDirectory() as folder:
        return _accuracies(run_trial(trial, store=data.fresh_store(Path(folder))))


def _accuracies(outcome: Outcome) -> Accuracies:
    found = {}
    for phase, (task, split) in product(PHASES, list(_parts(outcome.trial))):
        name = metric_name(phase, task, split, "accuracy")
        found[name] = outcome.measures[name].value
    for probe in outcome.probes:
        found[_probe_name(probe.phase, probe.task, probe.layer)] = probe.accuracy.value
    return {name: value for name, value in found.items() if value is not None}


PHASES = ("base", "learned", "forgotten")


def _parts(trial: Trial) -> Iterator[tuple[str, str]]:
    """Yield the tasks and splits that both sides score."""
    yield trial.task, "train"
    yield from ((task, "test") for task in trial.tasks)


def _probe_name(phase: str, task: str, layer: int) -> str:
    return f"{metric_name(phase, task, 'test', 'probe_accuracy_last')}/{layer}"


def _theirs(trial: Trial) -> Accuracies:
    """Run the trial by the stack."""
    material = gather(trial)
    stem, _, layers = trial.model.partition("/")
    assert stem == data.MODEL
    network, tokenizer = data.network(int(layers) if layers else None), data.model().tokenizer
    found = _look("base", network, trial, material)
    learned = stack.ordered(labels.true(material.learn), trial.seed, "learn")
    stack.train(network, tokenizer, learned, trial.learn)
    found |= _look("learned", network, trial, material)
    drawn = stack.ordered(labels.randomise(material.forget, trial.seed), trial.seed, "forget")
    stack.train(network, tokenizer, drawn, trial.forget)
    return found | _look("forgotten", network, trial, material)


def _look(
    phase: str, network: PreTrainedModel, trial: Trial, material: Material
) -> dict[str, float]:
    tokenizer = data.model().tokenizer
    found = {}
    parts: dict[tuple[str, str], Sequence[Example]] = {
        (trial.task, "train"): material.forget[: trial.evaluation_examples],
        **{(task, "test"): examples for task, examples in material.test.items()},
    }
    for (task, split), examples in parts.items():
        scores = stack.Harness(network, tokenizer, examples, BATCH).score()
        found[metric_name(phase, task, split, "accuracy")] = data.accuracy(scores, examples)
    states, right = stack.states(network, tokenizer, material.probe)
    truths = [example.options[example.answer] for example in material.probe]
    folds = probing.folds([example.group for example in material.probe], truths, trial.seed)
    for layer, accuracy in enumerate(stack.probe(states, right, folds)):
        found[_probe_name(phase, trial.task, layer)] = accuracy
    return found


def _agree(trial: Trial, ours: Accuracies, theirs: Accuracies) -> str:
    assert ours.keys() == theirs.keys(), f"not the same measures: {ours.keys() ^ theirs.keys()}"
    apart = {name: abs(ours[name] - theirs[name]) for name in ours}
    scored = [value for name, value in apart.items() if "probe" not in name]
    probed = [value for name, value in apart.items() if "probe" in name]
    largest, mean, reading = max(scored), sum(scored) / len(scored), sum(probed) / len(probed)
    if trial.precision == "fp32":
        assert largest <= 1 / trial.evaluation_examples + 1e-9, (
            f"an accuracy differs by {largest:.3f}"
        )
        assert reading <= 0.02, f"the probes' accuracies differ by {reading:.3f} on average"
    assert mean <= 0.05, f"accuracies differ by {mean:.3f} on average"
    return (
        f"{len(scored)} accuracies over {trial.evaluation_examples} examples "
        f"within {largest:.3f}, {mean:.3f} on average; "
        f"{len(probed)} of probes {reading:.3f} on average"
    )


def _point(trial: Trial) -> tuple[str, str, float]:
    """Return what a trial of the sweep has for itself: the values of its axes."""
    return trial.task, trial.model, trial.forget.lr


@dataclass(frozen=True)
class Swept:
    """A sweep that was run as a command."""

    wall: float
    """Seconds, from the shell's prompt to the next."""
    outcomes: tuple[Outcome, ...]

    def table(self) -> str:
        """Return a table of the seconds of each trial and of the whole command."""
        lines = [f"{'trial':44} {'seconds':>8}"]
        for outcome in self.outcomes:
            named = f"{outcome.trial.task}, {outcome.trial.model}, rate {outcome.trial.forget.lr:g}"
            lines.append(f"{named:44} {outcome.seconds:8.1f}")
        return "\n".join([*lines, f"{'the whole command':44} {self.wall:8.1f}"])


def sweep_as_command(spec: Path, folder: Path) -> Swept:
    """Run `forget sweep` in a folder that holds nothing but the converted model."""
    data.fresh_store(folder / "store")
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    env = kept | {"FORGET_STORE": str(folder / "store"), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "sweep", str(spec)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - began
    assert done.returncode == 0, (
        f"forget sweep ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
    )
    trials = Trials(Store(folder / "store"))
    return Swept(wall, tuple(trials.outcomes(trials.finished()).values()))


class _Sweep:
    """A sweep of three tasks, two sizes of the model and two rates.

    Its trials are of the size of the one that is timed by itself.
    """

    SPEC = """\
[base]
evaluate_on = ["world", "science", "sentiment"]
evaluation_examples = 16
learn = { examples = 64, epochs = 1, schedule = "constant", warmup = 0 }
forget = { examples = 64, epochs = 1, schedule = "constant", warmup = 0 }
probe = { examples = 16, positions = "last", control = false }
watch = { points = 0 }
save = false

[axes]
"forget.lr" = [1e-4, 3e-4]
model = ["smollm2-135m", "smollm2-135m/25"]
task = ["world", "science", "sentiment"]
"""

    def __init__(self) -> None:
        self.swept: Swept | None = None

    @contextmanager
    def _spec(self) -> Iterator[tuple[Path, Sweep]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "twelve.toml"
            path.write_text(self.SPEC)
            yield path, read_sweep(path)

    def ours(self) -> list[Accuracies]:
        with self._spec() as (path, sweep):
            self.swept = sweep_as_command(path, path.parent)
            # An outcome says which precision the spec's "auto" was.
            found = {_point(one.trial): _accuracies(one) for one in self.swept.outcomes}
            return [found[_point(trial)] for trial in sweep.trials()]

    def theirs(self) -> list[Accuracies]:
        with self._spec() as (_, sweep):
            return [_theirs(trial) for trial in sweep.trials()]

    def check(self, ours: list[Accuracies], theirs: list[Accuracies]) -> str:
        apart: list[float] = []
        for mine, other in zip(ours, theirs, strict=True):
            apart += [abs(mine[name] - other[name]) for name in mine.keys() | other.keys()]
        mean = sum(apart) / len(apart)
        assert mean <= 0.05, f"accuracies differ by {mean:.3f} on average"
        return f"{len(apart)} accuracies of {len(ours)} trials differ by {mean:.3f} on average"

    def profile(self) -> str:
        """Return the table of the run that was timed."""
        assert self.swept
        return self.swept.table()
