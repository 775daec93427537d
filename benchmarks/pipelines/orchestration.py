"""Measure a study's cost beside its computing: orchestration, memory and tracking.

Orchestration is the part of a sweep's wall time, over all of its slots, in which no trial runs:
starting Python, Ray and MLflow, waiting for the last trial beside an empty slot, and writing the
report. It is measured on the quickstart, run as a command in an empty folder.

The memory of a trial is the peak of its process over the moment before the model is loaded. The
whole is 16 bytes for each parameter: weights, gradients and two moments of the optimiser in fp32.

Tracking is the time that 12 trials of 500 steps with 21 metrics a step (three from each of seven
stages) take to reach a database of MLflow in SQLite, final numbers included. The whole is that time
and the training steps of such trials, at the speed of a few steps measured beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import psutil

from benchmarks import data
from benchmarks.compare import Share, functions
from benchmarks.pipelines.trials import sweep_as_command
from forget import tracking
from forget.events import Event, StageStarted, Step
from forget.machine import cores
from forget.models import catalogue, loading
from forget.models.kernels import keep_memory
from forget.models.language_model import LanguageModel
from forget.preflight import expand, identify
from forget.settings.parts import Probe, Stage, Watch
from forget.settings.reading import spec_path
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.training.loop import fine_tune
from forget.training.terms import Term
from forget.trial import run_trial

TRIALS, STEPS, STAGES = 12, 500, 7
METRICS = 3 * STAGES
"""Metrics of a step: each stage logs its loss, rate and speed, so twenty need seven stages."""


def comparisons(quick: bool) -> list[Share]:
    memory, quickstart, timed = _Memory(32 if quick else 100), _Quickstart(), 3 if quick else TRIALS
    rows = [
        Share(
            "peak memory of a trial",
            "weights, gradients and optimiser state",
            memory.measure,
            1.3,
            at_most=True,
            profile=memory.profile,
        ),
        Share(
            f"tracking {TRIALS} trials x {STEPS} steps x {METRICS} metrics",
            "the trials' training steps and their tracking",
            partial(_tracking, timed),
            0.02,
            at_most=True,
            profile=partial(functions, partial(_track, 1)),
        ),
    ]
    if not quick:
        rows.append(
            Share(
                "orchestration of the quickstart",
                "its wall time over all slots",
                quickstart.measure,
                0.04,
                at_most=True,
                profile=quickstart.profile,
            )
        )
    return rows


class _Quickstart:
    def measure(self) -> tuple[float, str]:
        slots = min(TRIALS, cores())
        with tempfile.TemporaryDirectory() as folder:
            self.swept = sweep_as_command(spec_path("quickstart"), Path(folder))
        seconds = sum(outcome.seconds for outcome in self.swept.outcomes)
        share = 1 - seconds / (self.swept.wall * slots)
        return share, (
            f"{len(self.swept.outcomes)} trials took {seconds:.0f} s "
            f"of {slots} slots x {self.swept.wall:.0f} s"
        )

    def profile(self) -> str:
        return self.swept.table()


def _trial(examples: int) -> Trial:
    """Return a trial on short contexts, at the default batch."""
    stage = Stage(examples=examples, epochs=1)
    return Trial(
        task="science",
        model=data.MODEL,
        learn=stage,
        forget=stage,
        evaluate_on=("world", "sentiment"),
        evaluation_examples=examples,
        probe=Probe(examples=examples),
        watch=Watch(points=0),
    )


class _Memory:
    def __init__(self, examples: int) -> None:
        self.examples = examples

    def measure(self) -> tuple[float, str]:
        with tempfile.TemporaryDirectory() as folder:
            data.fresh_store(Path(folder))
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
                self.grown = alone.submit(_growth, _trial(self.examples), folder).result()
        peak, whole = max(self.grown.values()), catalogue.MODELS[data.MODEL].training_memory
        return peak / whole, f"{peak / 2**30:.2f} GiB of {whole / 2**30:.2f} GiB"

    def profile(self) -> str:
        lines = [f"{'by the end of':24} {'peak, GiB':>10}"]
        lines += [f"{stage:24} {size / 2**30:10.2f}" for stage, size in self.grown.items()]
        return "\n".join(lines)


def _growth(trial: Trial, where: str) -> dict[str, int]:
    """Return the bytes that this process has grown by at its peak, by stage of the trial."""
    keep_memory()
    # A process that waits for its first trial has imported and read as much.
    identify(trial)
    before = psutil.Process().memory_info().rss
    grown: dict[str, int] = {}

    def observe(event: Event) -> None:
        stage = event.stage if isinstance(event, (StageStarted, Step)) else "the trial"
        grown[stage] = _peak() - before

    run_trial(trial, observe, Store(where))
    return grown


def _peak() -> int:
    """Return the most bytes that this program held, by the kernel's high-water mark.

    getrusage's mark outlives exec, so that a child inherits its parent's.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _tracking(trials: int) -> tuple[float, str]:
    step = _step_seconds()
    times = _track(trials)
    tracked, trained = sum(times), trials * STEPS * step
    note = (
        f"{statistics.mean(times):.1f} s a trial, {trials} timed, "
        f"beside {STEPS} steps of {step:.2f} s (science, 16 examples, the default precision)"
    )
    return tracked / (tracked + trained), note


def _track(trials: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder, _alone(Path(folder)):
        return [_tracked(Path(folder), seed) for seed in range(trials)]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Work in the folder, where MLflow's database lies, without a server of the environment."""
    before = os.environ.pop("MLFLOW_TRACKING_URI", None)
    with contextlib.chdir(folder):
        yield
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


def _tracked(folder: Path, seed: int) -> float:
    """Return the seconds that a trial with STEPS steps of METRICS metrics spends on tracking."""
    trial = _trial(16).model_copy(
        update={"model": "tiny", "seed": seed, "probe": Probe(examples=0), "save": False}
    )
    sweep = Sweep(name="tracking", base=trial.model_dump(mode="json"))
    store = Store(folder / "store")
    study = tracking.open_study(expand(sweep), "")
    began = time.perf_counter()
    with tracking.trial_sink(study, trial, identify(trial).trial, store) as sink:
        for stage in range(STAGES):
            for step in range(1, STEPS + 1):
                sink(
                    Step(
                        stage=f"stage{stage}",
                        step=step,
                        steps=STEPS,
                        loss=1 / step,
                        lr=1e-4,
                        tokens=1000,
                    )
                )
        ran = time.perf_counter()
        run_trial(trial, sink, store)
        ran = time.perf_counter() - ran
    return time.perf_counter() - began - ran


def _step_seconds() -> float:
    """Return the seconds of a training step in `_trial`, the median of a few."""
    model: LanguageModel = loading.load(data.MODEL, Store())
    some = labels.true(data.shipped("science", 6 * 16))
    times: list[float] = []

    def observe(event: Event) -> None:
        times.append(time.perf_counter())

    bf16 = catalogue.in_bf16("auto")
    fine_tune(
        model,
        [Term(lambda _: some)],
        Stage(epochs=1),
        stage="learn",
        seed=0,
        bf16=bf16,
        observe=observe,
    )
    return statistics.median(after - before for before, after in itertools.pairwise(times[1:]))
