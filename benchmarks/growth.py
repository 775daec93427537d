"""Measure how time and memory grow with each size of a study: one size varies at a time.

Seconds are the processor's, so that a busy machine changes them little. Memory is the peak over
what the process held before. The exponent is the slope of log seconds over log values, by least
squares: 1 is linear growth, and a cost that does not depend on the size pulls it below 1.
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.storage import stores
from forget.evaluation import scoring
from forget.models import catalogue, devices, language_model, loading
from forget.planning import plan
from forget.preflight import expand
from forget.settings.parts import Probe, Stage, Watch
from forget.settings.reading import read_sweep
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.builtin import TASKS
from forget.tasks.task import Example
from forget.training import loop
from forget.training.terms import Term
from forget.trial import run_trial
from pipelines.jobs import jobs
from pipelines.reports import write_report

MODEL = "smollm2-135m"

LINEAR = 1.15
"""Largest exponent that is taken for linear growth: larger working sets cost a tenth or so in
caches.
"""

QUADRATIC = 2.0
"""Exponent of attention, which compares every token of a sequence with every one before it."""

ENOUGH = 0.5
"""Seconds from which on one run is enough; below, the faster of two counts."""


def nothing(value: int) -> None:
    """Prepare nothing, for a size that needs no preparation."""


@dataclass(frozen=True)
class Growth:
    """A size of a study that is varied, and the work that grows with it."""

    what: str
    """Name of the work, e.g. "planning"."""
    of: str
    """Name of the size, e.g. "trials"."""
    values: tuple[int, ...]
    run: Callable[[int], None]
    """Function that does the work at a value; pickle has to know it, since it runs in a process of
    its own.
    """
    bound: float
    """Largest exponent that is accepted."""
    prepare: Callable[[int], None] = nothing
    """Function that makes the inputs of `run`, in the same process, before the clock starts."""


@dataclass(frozen=True)
class Curve:
    """Time and memory at each value of a size."""

    growth: Growth
    values: tuple[int, ...]
    seconds: tuple[float, ...]
    """Seconds of the processor, by value."""
    megabytes: tuple[float, ...]
    """Peaks over the memory that the process held before, by value."""
    exponent: float
    """Exponent of the seconds."""

    @property
    def accepted(self) -> bool:
        """The seconds grow no faster than the bound allows."""
        return self.exponent <= self.growth.bound


def sizes(quick: bool, folder: Path) -> list[Growth]:
    """Return every size.

    Args:
        quick: smaller values, a minute in all instead of six.
        folder: keeps the stores that are made up for them, half a gigabyte unless `quick`.
    """
    planned = (1000, 4000) if quick else (1000, 2000, 5000, 10_000)
    resumed = (200, 800) if quick else (1000, 2000, 5000)
    reported = (200, 400, 1000)
    examples = (16, 64) if quick else (32, 64, 128, 256)
    options = (2, 8) if quick else (2, 4, 8, 16)
    words = (32, 128) if quick else (64, 128, 256, 512, 1024)
    layers = (2, 8) if quick else (2, 4, 8, 15, 30)
    batches = (4, 16) if quick else (4, 8, 16, 32, 64)
    tasks = (1, 4) if quick else (1, 2, 4, 8)
    warm = partial(_warm, folder)
    report = Growth(
        "the report",
        "trials",
        reported,
        partial(_report, folder),
        LINEAR,
        partial(_with_rows, folder),
    )
    return [
        Growth(
            "planning", "trials", planned, partial(_plan, folder), LINEAR, partial(_spec, folder)
        ),
        Growth(
            "resuming",
            "finished trials",
            resumed,
            partial(_resume, folder),
            LINEAR,
            partial(_finished, folder),
        ),
        *(() if quick else (report,)),
        Growth("scoring", "examples", examples, partial(_score_examples, folder), LINEAR, warm),
        Growth("training", "examples", examples, partial(_train_examples, folder), LINEAR, warm),
        Growth(
            "training", "examples a batch", batches, partial(_train_batch, folder), LINEAR, warm
        ),
        # Options lie side by side in one sequence: each is compared with the tokens of the others,
        # under a mask.
        Growth("scoring", "options", options, partial(_score_options, folder), QUADRATIC, warm),
        Growth(
            "scoring", "words of context", words, partial(_score_context, folder), QUADRATIC, warm
        ),
        Growth(
            "scoring",
            "layers",
            layers,
            partial(_score_layers, folder),
            LINEAR,
            partial(_warm_layers, folder),
        ),
        Growth(
            "training",
            "layers",
            layers,
            partial(_train_layers, folder),
            LINEAR,
            partial(_warm_layers, folder),
        ),
        Growth(
            "a trial",
            "tasks evaluated on",
            tasks,
            partial(_evaluate, folder),
            LINEAR,
            partial(_converted, folder),
        ),
    ]


def measure(growth: Growth) -> Curve:
    """Measure each value in a process of its own, so that none finds what another left in memory.

    Raises:
        RuntimeError: a run failed; its own words are on stderr.
    """
    # The processes are forked from one that has imported everything and computed nothing.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    found = []
    for value in growth.values:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measured, args=(growth, value, sender))
        process.start()
        sender.close()
        try:
            found.append(receiver.recv())
        except EOFError:
            raise RuntimeError(f"{growth.what} of {value} {growth.of} failed") from None
        finally:
            process.join()
    seconds, megabytes = zip(*found, strict=True)
    return Curve(growth, growth.values, seconds, megabytes, exponent(growth.values, seconds))


def exponent(values: Sequence[int], numbers: Sequence[float]) -> float:
    """Return the slope of the numbers over the values, both logarithmic."""
    return float(np.polyfit(np.log(values), np.log(numbers), 1)[0])


def plot(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw a figure for each curve: seconds, with the fitted line, and memory over the size."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for curve in curves:
        figure = Figure(figsize=(7.2, 3.0), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, numbers, unit in (
            (left, curve.seconds, "processor seconds"),
            (right, curve.megabytes, "peak memory (MB)"),
        ):
            axes.plot(curve.values, numbers, "o", color="#0072b2")
            axes.set_xscale("log")
            axes.set_xticks(curve.values, [f"{value:,}" for value in curve.values])
            axes.minorticks_off()
            axes.set_xlabel(curve.growth.of)
            axes.set_ylabel(unit)
            axes.grid(color="#e8eaed")
        values, logs = np.array(curve.values), np.log(curve.seconds)
        level = np.exp(logs.mean() - curve.exponent * np.log(values).mean())
        left.plot(
            values,
            level * values**curve.exponent,
            "-",
            color="#d55e00",
            label=f"exponent {curve.exponent:.2f}",
        )
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}")
        right.set_ylim(bottom=0)
        left.legend(frameon=False)
        figure.suptitle(
            f"{curve.growth.what}, by {curve.growth.of}", x=0.01, ha="left", weight="bold", size=10
        )
        name = f"{curve.growth.what} {curve.growth.of}".replace(" ", "-")
        paths.append(folder / f"growth-{name}.png")
        figure.savefig(paths[-1], metadata={"Software": None})
    return paths


def _measured(growth: Growth, value: int, sender: Connection) -> None:
    growth.prepare(value)
    gc.collect()
    before = _peak(anew=True)
    seconds = _seconds(growth.run, value)
    # The memory is that of the first run: the next finds what the first has left to the allocator.
    megabytes = _peak() - before
    if seconds < ENOUGH:
        seconds = min(seconds, _seconds(growth.run, value))
    sender.send((seconds, megabytes))


def _seconds(run: Callable[[int], None], value: int) -> float:
    began = time.process_time()
    run(value)
    return time.process_time() - began


def _peak(anew: bool = False) -> float:
    """Return the most megabytes that the process held; with `anew`, begin to count from now on."""
    if anew:
        # Linux alone: elsewhere what was held while preparing counts as well.
        Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _spec(folder: Path, trials: int) -> None:
    stores.spec(folder, trials)
    # A fifth of a second of matrix products, whatever is planned.
    devices.throughput(catalogue.in_bf16("auto"))


def _plan(folder: Path, trials: int) -> None:
    expansion = expand(read_sweep(stores.spec(folder, trials)))
    found = plan.plan(expansion, Store(folder / "empty"))
    assert found.todo == trials


def _finished(folder: Path, trials: int) -> None:
    stores.finish(stores.spec(folder, trials), rows=False)


def _resume(folder: Path, trials: int) -> None:
    """Do as `forget sweep` does until it knows that nothing is left (pipelines.sweep.run)."""
    sweep = read_sweep(folder / f"growth-{trials}.toml")
    store = Store(sweep.store)
    expansion = expand(sweep)
    plan.check(expansion, store)
    assert jobs(expansion, store)[0] == 0


def _with_rows(folder: Path, trials: int) -> None:
    stores.finish(stores.spec(folder / "rows", trials))


def _report(folder: Path, trials: int) -> None:
    # The report is written in the working directory.
    with chdir(folder / "rows"):
        sweep = read_sweep(Path(f"growth-{trials}.toml"))
        write_report(sweep, Store(sweep.store))


@cache
def _model(folder: Path, layers: int = 4) -> language_model.LanguageModel:
    torch.set_num_threads(1)
    return loading.load(f"{MODEL}/{layers}", Store(folder / "models"))


def _examples(n: int, options: int = 2, words: int = 24) -> list[Example]:
    """Make up examples of equal lengths but for a token or two."""
    prompt = "the answer " + "is here " * (words // 2)
    texts = tuple(f" {j + 10}" for j in range(options))
    return [Example(str(i), f"{prompt}{i + 100}", texts, 0) for i in range(n)]


def _warm(folder: Path, value: int) -> None:
    """Load the model, and make what the first pass makes once."""
    scoring.score(_model(folder), _examples(4))


def _score_examples(folder: Path, n: int) -> None:
    scoring.score(_model(folder), _examples(n))


def _train_examples(folder: Path, n: int) -> None:
    _train(_model(folder), n)


def _train_batch(folder: Path, batch: int) -> None:
    """Take two steps, so that the moments are there while the second one's gradients come."""
    _train(_model(folder), 2 * batch, batch)


def _train_layers(folder: Path, layers: int) -> None:
    _train(_model(folder, layers), 32)


def _train(model: language_model.LanguageModel, n: int, batch: int = Stage().batch) -> None:
    settings = Stage(examples=n, epochs=1, lr=1e-5, batch=batch)
    items = labels.true(_examples(n))
    loop.fine_tune(model, [Term(lambda _: items)], settings, stage="learn", seed=0)


def _score_options(folder: Path, n: int) -> None:
    scoring.score(_model(folder), _examples(64, options=n))


def _score_context(folder: Path, n: int) -> None:
    scoring.score(_model(folder), _examples(16, words=n))


def _warm_layers(folder: Path, layers: int) -> None:
    scoring.score(_model(folder, layers), _examples(4))


def _score_layers(folder: Path, layers: int) -> None:
    scoring.score(_model(folder, layers), _examples(64))


def _converted(folder: Path, tasks: int) -> None:
    _model(folder, 2)


def _evaluate(folder: Path, tasks: int) -> None:
    """Run a trial without probes and looks, which are of the trial's own task alone."""
    trial = Trial(
        task="science",
        model=f"{MODEL}/2",
        learn=Stage(examples=8, epochs=1),
        forget=Stage(examples=8, epochs=1),
        evaluate_on=("science", *[name for name in TASKS if name != "science"])[:tasks],
        evaluation_examples=64,
        probe=Probe(examples=0),
        watch=Watch(points=0),
        save=False,
    )
    with tempfile.TemporaryDirectory(dir=folder) as place:
        # The converted model is there; everything else is computed.
        Path(place, "models").symlink_to(folder / "models" / "models")
        run_trial(trial, store=Store(place))
