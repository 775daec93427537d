"""The `forget` command. Heavy imports happen inside the commands: `forget --help` has to be quick."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forget.settings import BadInput, Sweep, located, read_sweep, read_trial, spec_path, validated
from pipelines import cluster as kubernetes
from pipelines import manifests

if TYPE_CHECKING:
    from forget.analyses import Study
    from forget.events import Event, Outcome

app = typer.Typer(
    help="How far does forgetting by fine-tuning reach?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A file or a pipe has no width; rich would break lines at 80 letters.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

cluster = typer.Typer(help="The same on Kubernetes; make calls it where CONTEXT is given.", no_args_is_help=True)
app.add_typer(cluster, name="cluster")

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A TOML file, or the name of a spec that ships with the package.")]
Experiment = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="A study by the name of its experiment in MLflow, or its TOML file.")
]
Folders = Annotated[list[Path], typer.Option("--folder", help="A folder of your own tasks; may be given several times.")]
Context = Annotated[str | None, typer.Option(help="The cluster, by its name in your kubeconfig.")]
Image = Annotated[str, typer.Option(help="The image's name; the tracking server's is the same with -mlflow.")]
Tag = Annotated[str | None, typer.Option(help="The images' tag; by default the git commit.")]
Dirty = Annotated[bool, typer.Option("--dirty", help="Let files differ from the commit that names the image.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be applied, and apply nothing.")]

UNMATCHED = 10
"""Cells without a partner that `forget compare` prints; the rest are in a file."""

INTERRUPTED = 130
"""The shell's exit code for Ctrl-C: 128 + SIGINT."""


def main() -> None:
    """Run the command. Bad input costs one sentence and exit code 2, as typer's own usage errors do; a bug a traceback and 1.

    What the terminal shows, a cluster keeps as a log: no password is in it. Nor does a name that came from elsewhere reach
    the terminal as a command.
    """
    try:
        app()
    except Exception as error:
        from forget.journal import without_secrets

        code, text = 2, f"forget: {error}"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            place = f": {error.filename}" if error.filename else ""
            code, text = 1, f"forget: {error.strerror}{place}; make room, and the same command goes on"
        elif not isinstance(error, BadInput):
            code, text = 1, traceback.format_exc()
        # A sentence stays one line, whatever it quotes.
        kept = "\n\t" if text.startswith("Traceback") else ""
        text = without_secrets(text.rstrip())
        print("".join(x if x.isprintable() or x in kept else ascii(x)[1:-1] for x in text), file=sys.stderr)
        sys.exit(code)
    finally:
        # Python looks for garbage once more before it ends: two seconds among all that was imported.
        gc.freeze()


@app.command("plan")
def plan_(spec: Spec) -> None:
    """Say what a sweep will cost, and what of it is done."""
    study = read_sweep(spec)
    from forget.plan import plan
    from forget.store import Store

    found = plan(study, Store(study.store))
    _print(("", ""), found.rows())
    if reason := found.shortage():
        console.print(f"\nIt will not run here: {reason}.", markup=False)


@app.command()
def sweep(
    spec: Spec,
    address: Annotated[str | None, typer.Option(help='A running Ray cluster, e.g. "auto" on one of its nodes.')] = None,
) -> None:
    """Run what is not finished of a sweep, here or on a cluster, then log and report it. Exit code 1 if a trial failed."""
    study = read_sweep(spec)
    from pipelines.sweep import cluster

    # What it runs on takes as long to import as Ray to start.
    threading.Thread(target=import_module, args=["pipelines.sweep.verbs"]).start()
    try:
        with cluster(address):
            from pipelines.sweep import run

            result = run(study, spec_path(spec).read_text(encoding="utf-8"), address)
    except KeyboardInterrupt:
        _say_how_to_go_on(spec)
    if result.outcomes:
        _print_outcomes(result.outcomes, study)
    for failure in result.failures:
        console.print(f"failed: {failure.trial.task} ({failure.id}): {failure.reason}", markup=False, soft_wrap=True)
    if result.interrupted:
        _say_how_to_go_on(spec)
    if result.report:
        console.print(f"report: {result.report}\nall runs: forget ui", markup=False)
    raise typer.Exit(1 if result.failures else 0)


@app.command()
def trial(
    file: Annotated[Path, typer.Argument(help="A TOML or JSON file with the fields of a trial.")],
    events: Annotated[bool, typer.Option("--events", help="Print every event as a line of JSON.")] = False,
    checkpoint_minutes: Annotated[float, typer.Option(help="Minutes of training between checkpoints.")] = 5,
    shard: Annotated[bool, typer.Option("--shard", help="Share the model out over processes that torchrun started.")] = False,
) -> None:
    """Run one trial, without MLflow, and print its numbers."""
    if shard and (not events or os.environ.get("WORLD_SIZE", "1") == "1"):
        raise BadInput("--shard shares a model out over several processes: start them with torchrun, and with --events")
    wanted = read_trial(file)
    from forget.events import ignore
    from forget.kernels import keep_memory
    from forget.trial import identify, run_trial
    from pipelines.progress import Progress, Refusal, label

    keep_memory()
    if events:
        import torch
        from accelerate import PartialState

        # accelerate takes processes without a GPU for strangers unless it is told; the first to ask decides for all.
        process = PartialState(cpu=not torch.cuda.is_available())
        # Rank 0 speaks for all processes of the trial, but whoever is refused says so: it may be the only one.
        speaks = os.environ.get("RANK", "0") == "0"

        stopping = False

        def stop(number: int, frame: object) -> None:
            nonlocal stopping
            stopping = True

        # The machine has to go: the first process keeps the trial's state at its next step, the others go when it has gone.
        signal.signal(signal.SIGTERM, stop)

        def tell(event: Event | Refusal) -> None:
            if stopping:
                raise KeyboardInterrupt
            # Text and line end in one write: the processes share the pipe.
            print(event.model_dump_json() + "\n", end="", flush=True)

        try:
            run_trial(wanted, tell if speaks else ignore, None, checkpoint_minutes, shard)
            # They part together: gloo's threads may still let go of a tensor, and abort if Python has ended meanwhile.
            process.wait_for_everyone()
            process.destroy_process_group()
        except (BadInput, FloatingPointError) as error:
            tell(Refusal(reason=str(error), numeric=isinstance(error, FloatingPointError)))
            raise typer.Exit(2) from None
        return
    id = identify(wanted).trial
    with Progress(1, console=console) as progress:
        progress.started(id, label(wanted))
        try:
            outcome = run_trial(wanted, lambda event: progress.event(id, event), None, checkpoint_minutes)
        except FloatingPointError as error:
            raise BadInput(f"{file}: {error}") from None
    names = sorted(outcome.measures)
    _print(("measure", "value [95 % interval]"), [(name, str(outcome.measures[name])) for name in names])


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help='A model, a registered forgotten one, or its "models:/name@alias".')],
    task: Annotated[str, typer.Option(help="The task to probe on.")],
    folder: Folders = [],  # noqa: B006  typer copies it
    examples: Annotated[int, typer.Option(help="Examples of the train and of the test split.")] = 400,
    seed: int = 0,
) -> None:
    """Probe a model's hidden states, layer by layer, for what it still knows of a task."""
    from forget import measuring, models, tracking
    from forget import trial as trials
    from forget.settings import Probe, Trial
    from pipelines.progress import Progress

    like = validated(Trial, {"task": task, "model": "tiny", "seed": seed, "folders": _absolute(folder)})
    settings = validated(Probe, {"examples": examples})
    if not examples:
        raise BadInput("--examples 0 leaves nothing to probe; give 1 or more")
    trials.check(like)
    if model.startswith(("models:/", "forgotten-")):
        loaded = tracking.load_forgotten(model)
    else:
        models.check(model)
        loaded = models.load(model)
    with Progress(1, console=Console(stderr=True, highlight=False)) as progress:
        progress.started(task, f"{model} on {task}")
        found = measuring.probe(loaded, task, settings, like, lambda event: progress.event(task, event))
    names = {(score.position, score.control): f"{score.position}{', shuffled labels' * score.control}" for score in found}
    read = {(score.layer, score.position, score.control): str(score.accuracy) for score in found}
    columns = sorted(names, key=lambda column: column[1])
    layers = dict.fromkeys(score.layer for score in found)
    rows = [(str(layer), *(read[layer, *column] for column in columns)) for layer in layers]
    _print(("layer", *(names[column] for column in columns)), rows)


@app.command()
def report(spec: Spec) -> None:
    """Write the report over what has finished of a sweep."""
    study = read_sweep(spec)
    from forget.store import Store
    from pipelines.sweep import write_report

    console.print(f"report: {write_report(study, Store(study.store)).page}", markup=False)


@app.command()
def compare(first: Experiment, second: Experiment) -> None:
    """Print and draw the difference between two studies, with intervals, from what the tracking server has of them."""
    from forget.analyses.compare import compare as differences
    from forget.report.compare import folder_name, write
    from forget.report.section import show

    names = [_experiment(word) for word in (first, second)]
    studies = [_fetch(name) for name in names]
    found = differences(*studies)
    for letter, name, study in zip("AB", names, studies, strict=True):
        console.print(f"{letter}: {name}, finished trials: {len(study.outcomes)}", markup=False, soft_wrap=True)
    for key, (ours, theirs) in found.settings.items():
        console.print(f"{key}: {ours} against {theirs}", markup=False, soft_wrap=True)
    if not found.settings:
        console.print("The two do not differ in their settings.")
    rows = [
        [line.at, line.measure.replace("_", " "), line.task, line.split]
        + [show(entry, "z.3f") for entry in (line.a, line.b, line.difference)]
        + ["" if line.adjusted is None else f"{line.adjusted:.3f}"]
        for line in (*found.lines, *found.means)
        if line.headline
    ]
    header = ["setting", "measure", "task", "split", "A", "B", "B - A [95 % interval]", "adjusted p"]
    keep = slice(None) if any(row[0] for row in rows) else slice(1, None)
    _print(header[keep], [row[keep] for row in rows])
    for one in found.unmatched[:UNMATCHED]:
        console.print(f"only in {one.study}: {one.task} {one.at}".rstrip(), markup=False, soft_wrap=True)
    if (more := len(found.unmatched) - UNMATCHED) > 0:
        console.print(f"{more} more cells without a partner: unmatched.csv")
    for path in write(found, *names, Path("report") / folder_name(*names)):
        console.print(str(path), markup=False, soft_wrap=True)


@app.command("models")
def models_() -> None:
    """List the models by name."""
    from forget.models import MODELS
    from forget.plan import amount

    rows = [
        (name, amount(one.parameters), str(one.layers), amount(one.training_memory) + "B", one.source)
        for name, one in MODELS.items()
    ]
    _print(("name", "parameters", "layers", "full fine-tuning", "source"), rows)
    console.print('\nAny hub id or local folder works, too; "name/15" keeps the first 15 layers.', markup=False)


@app.command("tasks")
def tasks_(folder: Folders = []) -> None:  # noqa: B006
    """List the tasks by name."""
    from forget.tasks import catalogue

    rows = [(task.name, task.kind, task.family, task.note) for task in catalogue(_absolute(folder)).values()]
    _print(("name", "kind", "family", "note"), rows)


@app.command()
def ui() -> None:
    """Serve MLflow's pages over the runs."""
    from forget.tracking import ui_command

    command, environment = ui_command()
    os.execve(command[0], command, os.environ | environment)


@app.command()
def sync(spec: Spec) -> None:
    """Send the tracking server what it lacks of a sweep."""
    study = read_sweep(spec)
    from forget.store import Store
    from pipelines.sweep import send

    console.print(f"trials sent: {send(study, spec_path(spec).read_text(encoding='utf-8'), Store(study.store))}")


@app.command()
def doctor() -> None:
    """Check what the platform stands on; every line that is not ok names its cure."""
    from pipelines.doctor import checks

    healthy = True
    for check in checks():
        mark = "ok" if check.ok else "not ok" if check.needed else "note"
        console.print(f"{mark:<6}  {check.what}{'' if check.ok else f': {check.cure}'}", markup=False, soft_wrap=True)
        healthy &= check.ok or not check.needed
    raise typer.Exit(0 if healthy else 1)


@cluster.command("deploy")
def cluster_deploy(
    context: Context = None, image: Image = "forget", tag: Tag = None, dirty: Dirty = False, dry_run: DryRun = False
) -> None:
    """Set up the tracking server, its database and its object store, and wait until they are healthy."""
    if dry_run:
        print(manifests.render_server(image, manifests.tag_of(tag, dirty)), end="")
        return
    where = kubernetes.connect(context)
    raise typer.Exit(kubernetes.deploy(where, manifests.render_server(image, manifests.tag_of(tag, dirty))))


@cluster.command("sweep")
def cluster_sweep(
    spec: Spec,
    context: Context = None,
    overlay: Annotated[str, typer.Option(help="Kind of workers: a folder in k8s/overlays, or one of yours.")] = "cpu",
    image: Image = "forget",
    tag: Tag = None,
    dirty: Dirty = False,
    dry_run: DryRun = False,
) -> None:
    """Run what is not finished of a sweep, and follow it. Ctrl-C leaves it running. Exit code 1 if a trial failed."""
    study, path = read_sweep(spec), spec_path(spec)
    kubernetes.check_here(study, path)

    def render() -> str:
        return manifests.render_sweep(study, path, overlay, image, manifests.tag_of(tag, dirty, path))

    if dry_run:
        print(render(), end="")
        return
    hint = f"make sweep CONTEXT={context} SPEC={spec}"
    raise typer.Exit(kubernetes.sweep(kubernetes.connect(context), study, path, hint, render))


@cluster.command("ui")
def cluster_ui(context: Context = None, port: Annotated[int, typer.Option(help="Of this machine.")] = 5000) -> None:
    """Forward a port of this machine to the cluster's MLflow, until Ctrl-C."""
    kubernetes.ui(kubernetes.connect(context), port)


@cluster.command("undeploy")
def cluster_undeploy(
    context: Context = None,
    data: Annotated[bool, typer.Option("--data", help="Delete the volumes and the Secrets as well.")] = False,
) -> None:
    """Delete the tracking server; its volumes and Secrets stay."""
    where = kubernetes.connect(context)
    raise typer.Exit(kubernetes.undeploy(where, manifests.render_server("forget", "none"), data))


def _experiment(word: str) -> str:
    """The experiment's name; a file that is not there is taken for one, since a name may end in .toml."""
    return read_sweep(word).name if word.endswith(".toml") and Path(word).exists() else word


def _fetch(name: str) -> Study:
    """The study of an experiment; a bar on stderr shows how much of it is fetched."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from forget.analyses import Study
    from forget.events import StageStarted, Step
    from forget.metrics import read_frame
    from forget.store import Store
    from forget.tracking import read_experiment

    stderr = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(name, total=None)

        def tell(event: Event) -> None:
            if isinstance(event, StageStarted):
                progress.update(bar, total=event.steps)
            elif isinstance(event, Step):
                progress.update(bar, completed=event.step)

        found = read_experiment(name, Store().root / "fetched", tell)
    return Study([outcome for outcome, _ in found], {outcome.id: read_frame(rows) for outcome, rows in found})


def _absolute(folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(located(folder, Path.cwd()) for folder in folders)


def _print(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*header, box=None, show_header=any(header), pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_outcomes(outcomes: Sequence[Outcome], study: Sweep) -> None:
    from pipelines.progress import label, numbers

    found = [(label(outcome.trial, study), numbers(outcome)) for outcome in outcomes]
    rows = [(name, *("" if n is None else f"{n:.3f}" for n in values.values())) for name, values in found]
    _print(("trial", *found[0][1]), rows)


def _say_how_to_go_on(spec: str) -> NoReturn:
    console.print(f"stopped; go on with: forget sweep {spec}", markup=False, soft_wrap=True)
    raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    main()
