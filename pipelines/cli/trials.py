"""Commands about one trial or one model."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from forget.errors import BadInput, validated
from forget.settings.reading import read_trial
from pipelines.cli.shared import Folders, absolute, console, print_table

if TYPE_CHECKING:
    from forget.events import Event
    from forget.settings.trial import Trial
    from pipelines.processes import Refusal


def trial(
    file: Annotated[Path, typer.Argument(help="A TOML or JSON file with the fields of a trial.")],
    events: Annotated[
        bool, typer.Option("--events", help="Print every event as a line of JSON.")
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Minutes of training between checkpoints.")
    ] = 5,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Share the model out over processes that torchrun started."),
    ] = False,
) -> None:
    """Run one trial, without MLflow, and print its numbers."""
    if shard and (not events or os.environ.get("WORLD_SIZE", "1") == "1"):
        raise BadInput(
            "--shard shares a model out over several processes: "
            "start them with torchrun, and with --events"
        )
    wanted = read_trial(file)
    from forget.models.devices import refuse_ranks
    from forget.models.kernels import keep_memory, keep_to_cores
    from forget.preflight import identify
    from forget.storage.finished import Trials
    from forget.storage.store import Store
    from forget.trial import run_trial
    from pipelines.progress import Progress, label

    keep_memory()
    keep_to_cores()
    if events:
        _speak(wanted, checkpoint_minutes, shard)
        return
    refuse_ranks()
    store = Store()
    id = identify(wanted, store).trial
    if (why := store.read_only()) and not Trials(store).done([id]):
        raise BadInput(why)
    with Progress(1, console=console) as progress:
        progress.started(id, label(wanted))
        try:
            outcome = run_trial(
                wanted, lambda event: progress.event(id, event), None, checkpoint_minutes
            )
        except FloatingPointError as error:
            raise BadInput(f"{file}: {error}") from None
    for why in outcome.unprobed:
        console.print(f"probes left out: {why}")
    names = sorted(outcome.measures)
    print_table(
        ("measure", "value [95 % interval]"),
        [(name, str(outcome.measures[name])) for name in names],
    )


def _speak(wanted: Trial, checkpoint_minutes: float, shard: bool) -> None:
    """Run a trial in this process, one of several perhaps, and print its events as JSON."""
    from forget.events import ignore
    from forget.models.devices import process
    from forget.trial import run_trial
    from pipelines.processes import Refusal

    # Rank 0 speaks for all processes of the trial, but whoever is refused says so: it may be the
    # only one.
    speaks = os.environ.get("RANK", "0") == "0"
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    # The machine has to go: the first process keeps the trial's state at its next step, the others
    # go when it has gone.
    signal.signal(signal.SIGTERM, stop)

    def tell(event: Event | Refusal) -> None:
        if stopping:
            raise KeyboardInterrupt
        # Text and line end in one write: the processes share the pipe.
        print(event.model_dump_json() + "\n", end="", flush=True)

    try:
        run_trial(wanted, tell if speaks else ignore, None, checkpoint_minutes, shard)
        # They part together: gloo's threads may still let go of a tensor, and abort if Python has
        # ended meanwhile.
        process().wait_for_everyone()
        process().destroy_process_group()
    except (BadInput, FloatingPointError) as error:
        tell(Refusal(reason=str(error), numeric=isinstance(error, FloatingPointError)))
        raise typer.Exit(2) from None


def probe(
    model: Annotated[
        str,
        typer.Argument(help='A model, a registered forgotten one, or its "models:/name@alias".'),
    ],
    task: Annotated[str, typer.Option(help="The task to probe on.")],
    folder: Folders = [],  # noqa: B006  typer copies it
    examples: Annotated[
        int, typer.Option(help="Questions of the test split, in five folds.")
    ] = 300,
    seed: int = 0,
) -> None:
    """Probe a model's hidden states, layer by layer, for what it still knows of a task."""
    from forget import preflight, tracking
    from forget.evaluation import probes
    from forget.models import loading, sources
    from forget.models.kernels import keep_to_cores
    from forget.models.memory import naming_cures
    from forget.settings.parts import Probe
    from forget.settings.trial import Trial
    from pipelines.progress import Progress

    keep_to_cores()
    like = validated(
        Trial, {"task": task, "model": "tiny", "seed": seed, "folders": absolute(folder)}
    )
    settings = validated(Probe, {"examples": examples})
    if not examples:
        raise BadInput("--examples 0 leaves nothing to probe; give 1 or more")
    preflight.check(like)
    # Too few examples are refused before a model is fetched and loaded.
    probes.drawn(task, settings, like)
    with naming_cures():
        if model.startswith(("models:/", "forgotten-")):
            loaded = tracking.load_forgotten(model)
        else:
            sources.check(model)
            loaded = loading.load(model)
        with Progress(1, console=Console(stderr=True, highlight=False)) as progress:
            progress.started(task, f"{model} on {task}")
            found = probes.probe_model(
                loaded, task, settings, like, lambda event: progress.event(task, event)
            )
    read = {(score.layer, score.position, score.control): str(score.accuracy) for score in found}
    # A column a position, then those of the control.
    columns = dict.fromkeys((position, control) for _, position, control in read)
    ordered = sorted(columns, key=lambda column: column[1])
    header = [f"{position}{', shuffled labels' * control}" for position, control in ordered]
    rows = []
    for layer in dict.fromkeys(layer for layer, _, _ in read):
        accuracies = [read[layer, position, control] for position, control in ordered]
        rows.append([str(layer), *accuracies])
    print_table(["layer", *header], rows)
