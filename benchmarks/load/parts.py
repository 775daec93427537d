"""Loads: many short trials, many that log at once, a registered model with many versions."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.load import wire
from benchmarks.load.page import Grown
from benchmarks.load.stack import Measurement, Stack
from benchmarks.storage import stores
from forget import tracking
from forget.events import StageStarted, Step
from forget.preflight import expand, identify
from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.settings.reading import read_sweep
from forget.storage import checksums
from forget.storage.finished import Trials
from forget.storage.folders import whole_folder
from forget.storage.journal import FILE, Journal
from forget.storage.store import Store
from forget.trial import run_trial
from tests import servers

STAGES, STEPS, PACE = 7, 120, 1.0
"""Stages and steps of a trial that only logs, and seconds of a step, which logs three metrics for
each stage, 21 in all.
"""

LOOKS = 5
"""Number of times that a question is asked of a registered model of one size."""

SIZES = (1, 10, 30, 100, 300, 1000, 3000)
"""Numbers of versions of the registered model when it is asked, up to the part's own size, which is
the last.
"""

SERVER = (
    r"mlflow/server/(handlers|auth/__init__)|mlflow/store/|mlflow/utils/(proto|rest)"
    r"|do_execute|do_commit|do_ping"
)
"""Frames of interest in a profile of the tracking server, from its handlers down to the statements
that it sends.
"""

CLIENT = (
    r"forget/|pipelines/|mlflow/(tracking/client|models/model)|requests/adapters"
    r"|ray/(tune/execution|_private/worker)"
)
"""Frames of interest in a profile of the driver and the trials."""

SPEC = """
description = "As many trials as there are, each as short as possible."

[base]
task = "toy"
model = "tiny"
folders = ["tasks"]
learn = {{ examples = 16, epochs = 2, lr = 1e-2, batch = 8 }}
forget = {{ examples = 16, epochs = 2, lr = 1e-2, batch = 8 }}
evaluation_examples = 16
probe = {{ examples = 16, layers = [1] }}
watch = {{ points = 1, examples = 8 }}
precision = "fp32"

[axes]
seed = {seeds}
"forget.lr" = {rates}

[resources]
cpus = 1
"""

RATES = 20
"""Number of trials that start from one learned model."""


def spec(folder: Path, trials: int) -> Path:
    """Write a spec of so many short trials, a multiple of RATES if above it, with its task."""
    stores.write_task(folder / "tasks" / "toy")
    rates = [1e-2 / (i + 1) for i in range(min(trials, RATES))]
    path = folder / "load.toml"
    path.write_text(
        SPEC.format(seeds=list(range(trials // len(rates))), rates=rates), encoding="utf-8"
    )
    return path


def trials(size: int, found: Measurement) -> None:
    """Run a sweep by `forget sweep`.

    Each trial learns, forgets, is measured, and leaves a run and a version of its model.
    """
    folder = found.stack.folder / "work"
    sweep = read_sweep(spec(folder, size))
    output = found.stack.folder / "sweep.log"
    began = time.monotonic()
    with output.open("wb") as file:
        command = [sys.executable, "-m", "pipelines.cli", "sweep", "load.toml"]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    found.watch.add("trials", process.pid)
    found.watch.add("driver", process.pid, alone=True)
    shown = ""
    with (
        found.profiled("server", found.stack.heads["server"], SERVER, 60),
        found.profiled("driver and trials", process.pid, CLIENT, 60),
    ):
        while process.poll() is None:
            time.sleep(1)
            last = _last(output)
            if "[" in last and last != shown:
                found.say(last[last.rindex("[") :])
                shown = last
    if process.returncode:
        raise RuntimeError(
            f"the sweep ended with exit code {process.returncode}:\n{servers.tail(output)}"
        )
    found.rates["trials a minute"] = 60 * size / (time.monotonic() - began)
    text = output.read_text()
    store = Store(folder / ".forget")
    ids = [identify(trial).trial for trial in sweep.trials()]
    found.wrong = _missing(found.stack, store, ids) | {
        "warnings": text.count("the tracking server"),
        "trials begun again": text.count("\nagain "),
        "trials failed": text.count("\nfailed "),
    }


def _last(output: Path) -> str:
    """Return the last line that says that a trial has ended."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("finished ")), "")


def _missing(stack: Stack, store: Store, ids: list[str]) -> dict[str, int]:
    """Count what the database lacks, or has too much, of a store whose trials have all finished."""
    ((runs,),) = stack.asked(
        "select count(*) from runs join tags using (run_uuid) "
        "where tags.key = 'forget.trial' and status = 'FINISHED'"
    )
    ((versions,),) = stack.asked("select count(*) from model_versions")
    ((points,),) = stack.asked("select count(*) from metrics where key like '%/loss'")
    observed = 0
    for id in ids:
        observed += sum(map(len, Journal(Trials(store).folder(id) / FILE).losses().values()))
    return {
        "runs that are not finished": len(ids) - runs,
        "versions that are missing": len(ids) - versions,
        "losses that were dropped": observed - points,
    }


def loggers(size: int, found: Measurement, pace: float = PACE) -> None:
    """Log from so many processes, which end together, so that all publish at once.

    Args:
        size: number of processes, each with a trial of STEPS steps.
        found: takes what is measured.
        pace: seconds of a step.
    """
    store = Store(found.stack.folder / "work" / "store")
    study, outcome = _model_trial(found.stack.folder / "work", store)
    context = multiprocessing.get_context("forkserver")
    # What a trial imports is there before it is forked: fifty processes share one copy of torch.
    context.set_forkserver_preload(
        [__name__, "forget.report", "transformers.models.llama.modeling_llama"]
    )
    found.say(
        f"{size} processes log for {STEPS * pace:.0f} s, then publish, "
        "which takes about as long on two cores"
    )
    with context.Manager() as manager, ProcessPoolExecutor(size, mp_context=context) as pool:
        gate = manager.Barrier(size)
        with found.profiled("server", found.stack.heads["server"], SERVER, 0.8 * STEPS * pace):
            began = time.monotonic()
            jobs = [
                pool.submit(
                    _log, gate, found.stack.environment, study, store.root, outcome, seed, pace
                )
                for seed in range(1, size + 1)
            ]
            warned = 0
            for number, job in enumerate(as_completed(jobs), 1):
                warned += job.result()
                found.say(f"[{number}/{size}] after {time.monotonic() - began:.0f} s")
    ids = [outcome.id, *(_id(outcome, seed) for seed in range(1, size + 1))]
    ((points,),) = found.stack.asked("select count(*) from metrics")
    found.rates["points a second"] = points / (time.monotonic() - began)
    found.wrong = _missing(found.stack, store, ids) | {"warnings": warned}


def _model_trial(folder: Path, store: Store) -> tuple[tracking.Study, Outcome]:
    """Run and publish a short trial; return its study and outcome."""
    sweep = read_sweep(spec(folder, 1))
    (trial,) = sweep.trials()
    study = tracking.open_study(expand(sweep), "")
    with tracking.trial_sink(study, trial, identify(trial).trial, store) as sink:
        outcome = run_trial(trial, sink, store)
    # The published trial has no weights any more; those of the learned model serve as well.
    return study, outcome


def _id(outcome: Outcome, seed: int) -> str:
    return identify(outcome.trial.model_copy(update={"seed": seed})).trial


def _finish_like(outcome: Outcome, seed: int, store: Store) -> Outcome:
    """Finish the trial with another seed, with weights and the same numbers.

    Its accuracy after forgetting alone is another, drawn by the seed.
    """
    id = _id(outcome, seed)
    with whole_folder(Trials(store).folder(id) / "model") as folder:
        # The checksums are left out: they name the folder that they are of.
        learned = store.root / "learned" / outcome.learned_id
        shutil.copytree(
            learned, folder, ignore=shutil.ignore_patterns(checksums.FILE), dirs_exist_ok=True
        )
    rows: list[Row] = [replace(row, trial=id) for row in Trials(store).rows(outcome.id)]
    drawn = random.Random(seed).random()
    accuracy = metric_name("forgotten", outcome.trial.task, "test", "accuracy")
    measures = {**outcome.measures, accuracy: Estimate(drawn, drawn, drawn, 1)}
    trial = outcome.trial.model_copy(update={"seed": seed})
    other = outcome.model_copy(update={"id": id, "trial": trial, "measures": measures})
    Trials(store).finish(other, rows)
    return other


def _log(
    gate: Any,
    environment: Mapping[str, str],
    study: tracking.Study,
    root: Path,
    outcome: Outcome,
    seed: int,
    pace: float,
) -> int:
    """Log a trial in a process of its own, without its computing.

    Args:
        gate: barrier at which all processes wait for each other.
        environment: variables by which the servers are found.
        study: the study that the trial belongs to.
        root: folder of the store.
        outcome: outcome of the trial that this one is like.
        seed: the trial's own seed.
        pace: seconds of a step.

    Returns:
        The number of warnings that it wrote.
    """
    os.environ.update(environment)
    wire.record()
    heard = _Heard()
    logging.getLogger("forget").addHandler(heard)
    store = Store(root)
    trial = outcome.trial.model_copy(update={"seed": seed})
    gate.wait(300)
    with tracking.trial_sink(study, trial, _id(outcome, seed), store) as sink:
        for stage in range(STAGES):
            sink(StageStarted(stage=f"stage{stage}", steps=STEPS))
        began = time.monotonic()
        for step in range(1, STEPS + 1):
            for stage in range(STAGES):
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
            time.sleep(max(0.0, began + pace * step - time.monotonic()))
        sink(_finish_like(outcome, seed, store))
    return heard.records


class _Heard(logging.Handler):
    """A handler that counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1


def versions(size: int, found: Measurement) -> None:
    """Make versions of one registered model, one after the other.

    At each of SIZES, versions are loaded, listed and published, and timed.
    """
    store = Store(found.stack.folder / "work" / "store")
    study, outcome = _model_trial(found.stack.folder / "work", store)
    name = tracking.registered_name(outcome.trial.model, outcome.trial.task)
    client, draw, seeds = study.client, random.Random(0), iter(range(1, 10**6))
    (first,) = client.search_model_versions(f"name = '{name}'")
    source = str(first.source)
    model_id = source.removeprefix("models:/")
    number, waiting = 1, list[str]()
    questions: dict[str, Callable[[], object]] = {
        "load @strongest": lambda: tracking.load_forgotten(outcome.trial.model, outcome.trial.task),
        "load a version by its number": lambda: tracking.load_forgotten(
            f"{name}/{draw.randint(1, number)}"
        ),
        "list all versions": lambda: client.search_model_versions(f"name = '{name}'"),
        "publish a trial": lambda: tracking.publish(study, store, waiting.pop()),
    }
    sizes = (*(n for n in SIZES if n < size), size)
    times: dict[str, list[list[float]]] = {question: [] for question in questions}
    began = time.monotonic()
    with found.profiled("server", found.stack.heads["server"], SERVER, 0):
        for n in sizes:
            while number < n:
                # Without an accuracy: aliases are for what was published.
                tags = {k: v for k, v in first.tags.items() if k != "forget.accuracy"} | {
                    "forget.trial": f"made-up-{number}"
                }
                client.create_model_version(
                    name,
                    source,
                    first.run_id,
                    tags,
                    description=first.description,
                    model_id=model_id,
                )
                number += 1
            spent = time.monotonic() - began
            left = timedelta(seconds=round(spent / number * (size - number)))
            found.say(f"[{number}/{size}, about {left} left]")
            waiting = [_finish_like(outcome, next(seeds), store).id for _ in range(LOOKS)]
            for question, ask in questions.items():
                times[question].append([_milliseconds(ask) for _ in range(LOOKS)])
            number += LOOKS
    found.grown = tuple(
        Grown(
            question=question,
            versions=sizes,
            middle=tuple(map(statistics.median, asked)),
            worst=tuple(map(max, asked)),
        )
        for question, asked in times.items()
    )
    there = client.search_model_versions(f"name = '{name}'")
    accuracies = {
        v.version: float(v.tags["forget.accuracy"]) for v in there if "forget.accuracy" in v.tags
    }
    at = {
        alias: client.get_model_version_by_alias(name, alias).version
        for alias in ("strongest", "weakest")
    }
    found.wrong = {
        "versions that are missing": number - len(there),
        "wrong aliases": (accuracies[at["strongest"]] > min(accuracies.values()))
        + (accuracies[at["weakest"]] < max(accuracies.values())),
    }


def _milliseconds(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)
