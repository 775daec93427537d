"""Sweeps on a real Ray, with real trials of the tiny model, logged to a real MLflow."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
import torch
from conftest import Unprivileged
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from ray.air.execution import FixedResourceManager, ResourceRequest
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.search import Searcher

from forget import preflight, tasks
from forget.errors import BadInput
from forget.events import Event, Step
from forget.models.language_model import save, tiny
from forget.models.loading import load
from forget.planning.plan import plan
from forget.planning.standing import standings
from forget.preflight import expand, identify
from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.settings.sweep import Resources, Search, Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.finished import MEASURES, Trials
from forget.storage.store import Store
from forget.tasks.task import Task
from forget.tracking import tracking_uri
from forget.trial import run_trial
from pipelines.jobs import Cell, jobs
from pipelines.processes import run_processes
from pipelines.progress import Progress
from pipelines.reports import write_report
from pipelines.sweep import SweepResult, commands, nodes, queue, run, send
from pipelines.sweep import driver as driving
from pipelines.sweep.driver import Actors, Driver
from pipelines.sweep.worker import Slot

ROOT = Path(__file__).parents[2]


def test_ray_lets_nobody_in_without_its_token(cluster: None, tmp_path: Path) -> None:
    """As `ray health-check` finds it, which KubeRay's workers run before they join."""
    address = ray.get_runtime_context().gcs_address
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "HOME": str(tmp_path)
    }
    tokens = {"none": "", "wrong": "0" * 64, "right": os.environ["RAY_AUTH_TOKEN"]}

    def knock(token: str) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).parent / "ray"), "health-check", "--address", address]
        mode = (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
            if token
            else {"RAY_AUTH_MODE": "disabled"}
        )
        return subprocess.Popen(
            command, env=clean | mode, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    knocks = {name: knock(token) for name, token in tokens.items()}
    said = {name: one.communicate(timeout=120)[0] for name, one in knocks.items()}
    assert {name: one.returncode for name, one in knocks.items()} == {
        "none": 1,
        "wrong": 1,
        "right": 0,
    }, said
    assert {name for name, text in said.items() if "InvalidAuthToken" in text} == {"none", "wrong"}


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Enter an empty working directory, with a store and an MLflow to be made there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("FORGET_STORE", "store")
    return Store()


@pytest.fixture
def here(nothing: Store, database: Path, undrawn: None) -> Store:
    """Enter a working directory with its own store and MLflow."""
    shutil.copy(database, "mlflow.db")
    return nothing


def sweep_of(trial: Trial, resources: Resources | None = None, **axes: list[object]) -> Sweep:
    return Sweep(
        name="study", base=trial.model_dump(), axes=axes, resources=resources or Resources()
    )


def runs() -> list[Run]:
    """Return the sweep's own run first, then its trials'."""
    client = MlflowClient(tracking_uri())
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()]
    )
    return sorted(found, key=lambda run: "mlflow.parentRunId" in run.data.tags)


def journal(store: Store, id: str) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for line in (Trials(store).folder(id) / "journal.jsonl").read_text().splitlines()
    ]


def when(ready: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    """Do `then` once `ready` is true, in the background."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not ready() and time.monotonic() < until:
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on: expansions of sweeps, trials identified, readings of a task's data."""
    counts: Counter[str] = Counter()
    expanding, identifying, reading = Sweep.trials, preflight._Known.identify, tasks.content

    def trials(sweep: Sweep) -> tuple[Trial, ...]:
        counts["trials"] += 1
        return expanding(sweep)

    def identified(known: preflight._Known, trial: Trial) -> preflight.Identity:
        counts["identify"] += 1
        return identifying(known, trial)

    def content(task: Task, instructed: bool) -> list[str]:
        counts[task.name] += 1
        return reading(task, instructed)

    monkeypatch.setattr(Sweep, "trials", trials)
    monkeypatch.setattr(preflight._Known, "identify", identified)
    monkeypatch.setattr(tasks, "content", content)
    return counts


def test_a_sweep_runs_every_trial_and_running_it_again_runs_nothing(
    quick: Trial, here: Store, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(quick, **{"forget.lr": [1e-2, 1e-4]})
    first = run(sweep, "the spec")
    assert [outcome.trial.forget.lr for outcome in first.outcomes] == [1e-2, 1e-4]
    assert not first.failures
    assert first.report
    assert first.report.is_file()
    # Learned once, by one of them; the other read it.
    assert len([path for path in (here.root / "learned").iterdir() if path.is_dir()]) == 1
    parent, *children = runs()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_finished"] == 2
    assert {child.data.tags["forget.trial"] for child in children} == {
        outcome.id for outcome in first.outcomes
    }
    assert {child.info.status for child in children} == {"FINISHED"}
    for outcome in first.outcomes:
        child = next(child for child in children if child.data.tags["forget.trial"] == outcome.id)
        name = metric_name("forgotten", "vowels", "test", "accuracy")
        assert child.data.metrics["forgotten"] == outcome.measures[name].value

    lines = {outcome.id: journal(here, outcome.id) for outcome in first.outcomes}
    counts = counted(monkeypatch)
    again = run(sweep, "the spec")
    # The sweep was expanded and identified once, for whoever needs its trials.
    assert counts == {"trials": 1, "identify": 2, "vowels": 1, "upper": 1}
    assert again.outcomes == first.outcomes
    assert {id: journal(here, id) for id in lines} == lines
    assert len(runs()) == 3


def test_a_trial_with_bad_input_fails_alone_and_is_not_tried_again(
    quick: Trial, tmp_path: Path, here: Store, cluster: None
) -> None:
    # Only whoever loads the weights finds out.
    broken = tiny()
    broken.network.get_input_embeddings().weight.data.fill_(torch.nan)
    save(broken, tmp_path / "broken")
    result = run(
        sweep_of(quick, Resources(concurrent=1), model=[str(tmp_path / "broken"), "tiny"]), ""
    )
    assert [outcome.trial.model for outcome in result.outcomes] == ["tiny"]
    (failure,) = result.failures
    assert failure.trial.model == str(tmp_path / "broken")
    assert "its logits are not finite" in failure.reason
    kinds = [line["kind"] for line in journal(here, failure.id)]
    assert kinds.count("started") == 1
    parent, *children = runs()
    assert parent.info.status == "FAILED"
    assert {child.data.tags["forget.trial"]: child.info.status for child in children} == {
        failure.id: "FAILED",
        result.outcomes[0].id: "FINISHED",
    }


def test_stopped_then_killed_a_trial_goes_on_where_it_was(
    quick: Trial, here: Store, cluster: None
) -> None:
    long = overlay(
        quick, {"forget.epochs": 300, "forget.lr": 1e-4, "probe.examples": 0, "save": False}
    )
    sweep = sweep_of(long, Resources(checkpoint_minutes=0.01, retries=1), seed=[0])
    id = identify(sweep.trials()[0]).trial
    checkpoint = Trials(here).folder(id) / "checkpoint"

    stopper = when(checkpoint.exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = run(sweep, "")
    stopper.join()
    assert stopped.interrupted
    assert not stopped.outcomes
    assert not stopped.failures
    assert [found.info.status for found in runs()] == ["KILLED", "KILLED"]

    def kill() -> None:
        for process in psutil.Process().children(recursive=True):
            if ".train" in process.name():
                process.kill()

    def steps() -> list[int]:
        return [
            int(str(line["step"]))
            for line in journal(here, id)
            if line["kind"] == "step" and line["stage"] == "forget"
        ]

    reached = max(steps())
    killer = when(lambda: max(steps()) > reached + 200, kill)
    result = run(sweep, "")
    killer.join()
    assert [outcome.id for outcome in result.outcomes] == [id]
    lines = journal(here, id)
    starts = [number for number, line in enumerate(lines) if line["kind"] == "started"]
    assert len(starts) == 3
    for start in starts[1:]:
        resumed = next(
            line for line in lines[start:] if line["kind"] == "step" and line["stage"] == "forget"
        )
        assert int(str(resumed["step"])) > 1
    assert [found.info.status for found in runs()] == ["FINISHED", "FINISHED"]


def test_resources_that_no_node_has_are_refused(
    quick: Trial, nothing: Store, cluster: None
) -> None:
    with pytest.raises(BadInput, match=r"takes 4096 CPU, which no node has"):
        run(sweep_of(quick, Resources(cpus=2048, workers=2), seed=[7]), "")
    assert list(Path.cwd().iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_before_the_first_trial(
    quick: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unprivileged: Unprivileged
) -> None:
    """The store and the database may lie elsewhere; the report goes to the working directory."""
    (tmp_path / "work").mkdir(mode=0o555)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FORGET_STORE", str(tmp_path / "store"))

    def visit() -> str:
        with pytest.raises(BadInput) as refused:
            run(sweep_of(quick, seed=[7]), "")
        return str(refused.value)

    assert f"{tmp_path / 'work'} cannot be written, where the report goes" in unprivileged(visit)
    assert not (tmp_path / "store").exists()


def test_another_users_finished_study_is_read_but_not_written(
    quick: Trial,
    finished: tuple[Store, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unprivileged: Unprivileged,
    undrawn: None,
) -> None:
    theirs, own = tmp_path / "theirs", tmp_path / "own"
    own.mkdir()
    shutil.copytree(finished[0].root, theirs / ".forget")
    # Measures by other code, which would be replaced if they could.
    for path in theirs.rglob(MEASURES):
        path.write_text("{}")
    for path in (theirs, *theirs.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
    monkeypatch.delenv("FORGET_STORE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = sweep_of(quick)

    def visit() -> tuple[SweepResult, list[str], Path]:
        os.chdir(theirs)
        seen, said = run(sweep, ""), []
        for act in (lambda: write_report(sweep, Store()), lambda: send(sweep, "", Store())):
            with pytest.raises(BadInput) as refused:
                act()
            said.append(str(refused.value))
        os.chdir(own)
        return seen, said, write_report(sweep, Store(theirs / ".forget")).page

    seen, said, page = unprivileged(visit)
    assert seen.outcomes == (finished[1],)
    assert not seen.report
    assert [text.partition(": ")[2] for text in said] == [
        "run the command in a folder of yours",
        "set FORGET_STORE to a folder of yours",
    ]
    assert (own / page).is_file()
    assert {path: path.stat().st_mtime_ns for path in theirs.rglob("*")} == before


def test_a_sweep_waits_for_another_process_that_runs_it(
    quick: Trial, here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    entered = threading.Event()

    def enter() -> None:
        with commands._alone(sweep_of(quick), here):
            entered.set()

    with commands._alone(sweep_of(quick), here):
        second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.3)
    second.join(10)
    assert entered.is_set()
    assert 'another process runs sweep "study"' in capsys.readouterr().out


def test_what_killed_sweeps_left_of_ray_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "FOLDERS", tmp_path)
    for name in ("ray-alive", "ray-dead"):
        (tmp_path / name / "session").mkdir(parents=True)
        (tmp_path / name / nodes.LOCK).touch()
    (tmp_path / "ray-of-others").mkdir()
    with FileLock(tmp_path / "ray-alive" / nodes.LOCK):
        nodes._clear_folders()
    assert {path.name for path in tmp_path.iterdir()} == {"ray-alive", "ray-of-others"}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:10001"])
def test_a_cluster_that_does_not_answer_is_refused(address: str) -> None:
    # Ray takes one cluster a process: where the others' is up, `nodes.cluster` would not look for
    # this one.
    with pytest.raises(BadInput, match=address):
        nodes._connect(address)


def test_the_first_trial_of_each_learned_checkpoint_goes_first(
    quick: Trial, tmp_path: Path
) -> None:
    sweep = sweep_of(quick, **{"seed": [0, 1], "forget.lr": [1e-3, 1e-4]})
    total, todo = jobs(expand(sweep), Store(tmp_path))
    order = [(job.trial.seed, job.trial.forget.lr) for job in todo]
    assert total == 4
    assert order == [(0, 1e-3), (1, 1e-3), (0, 1e-4), (1, 1e-4)]


def test_true_labels_with_a_dose_go_after_the_random_ones_whose_steps_they_take(
    quick: Trial, tmp_path: Path
) -> None:
    dosed = overlay(quick, {"forget.until": {}})
    axes = {"seed": [0, 1], "arm": ["true", "random"]}
    _, todo = jobs(expand(sweep_of(dosed, **axes)), Store(tmp_path))
    order = [(job.trial.arm, job.trial.seed) for job in todo]
    assert order == [("random", 0), ("random", 1), ("true", 0), ("true", 1)]
    # Those that are not in the sweep are not waited for.
    _, todo = jobs(expand(sweep_of(dosed, **axes | {"arm": ["true", "balanced"]})), Store(tmp_path))
    assert [(job.trial.arm, job.trial.seed) for job in todo][:2] == [("true", 0), ("true", 1)]


def test_long_trials_go_before_short_ones(quick: Trial, tmp_path: Path) -> None:
    """Beside the last trial of a sweep slots are empty: it should be a short one."""
    sweep = sweep_of(quick, **{"forget.epochs": [1, 2, 3], "learn.epochs": [1, 4]})
    _, todo = jobs(expand(sweep), Store(tmp_path))
    order = [(job.trial.learn.epochs, job.trial.forget.epochs) for job in todo]
    # The first two learn as well; the others find it done.
    assert order[:2] == [(4, 1), (1, 1)]
    assert [forget for learn, forget in order[2:]] == [3, 3, 2, 2]


def test_trials_that_are_equal_run_once(quick: Trial, tmp_path: Path) -> None:
    # Adapters' rank changes nothing where the whole model is tuned.
    total, todo = jobs(expand(sweep_of(quick, **{"lora.rank": [4, 8]})), Store(tmp_path))
    assert total == len(list(todo)) == 1


def test_a_trial_whose_process_never_starts_fails_in_one_sentence(
    quick: Trial, here: Store, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray takes minutes to give up; Tune then tells of a failure, having told of no start."""
    driver = driver_of(sweep_of(quick, Resources(retries=1)), here)
    for _ in range(2):
        driver.queue.suggest("tune")
        fails(driver, "Traceback\nActorUnschedulableError: no worker started", "tune")
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["started", "again", "failed"]
    assert driver.failures[0].reason.startswith("ActorUnschedulableError: no worker started (see ")
    assert driver.queue.suggest("none") == Searcher.FINISHED


def driver_of(sweep: Sweep, store: Store, slots: int = 1) -> Driver:
    """Return a driver as it is when Tune begins to ask it for trials."""
    driver = Driver(expand(sweep), store)
    driver.slots, driver.progress = slots, Progress(driver.total, slots)
    return driver


def starts(driver: Driver) -> str:
    """Have a trial handed out and started; return Tune's id."""
    id = secrets.token_hex(4)
    assert driver.queue.suggest(id), "no trial is handed out"
    driver.on_trial_start(1, [], SimpleNamespace(trial_id=id))
    return id


def fails(driver: Driver, text: str, id: str) -> None:
    """End a trial with these words of Ray."""
    error = driver.store.root / "tune-error"
    error.parent.mkdir(exist_ok=True)
    error.write_text(text)
    driver.queue.on_trial_complete(id, error=True)
    driver.on_trial_error(1, [], SimpleNamespace(trial_id=id, error_file=str(error)))


MACHINE = """
import json, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import ray
from forget.errors import BadInput
from forget.settings.sweep import Resources
from pipelines.sweep.nodes import bundle, cluster, slots

def visible(resources):
    task = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    need = bundle(resources)
    return ray.get(task.options(num_cpus=need["CPU"], num_gpus=need["GPU"]).remote())

def held(gpus):
    with slots(Resources(cpus=0.25, gpus=gpus), None) as found:
        return found.count, visible(found.resources)

with cluster():
    seen = {"one": visible(Resources(gpus=1)), "half": visible(Resources(gpus=0.5))}
    seen |= {"none": held(0), "auto": held("auto"), "cores": ray.cluster_resources()["CPU"]}
    try:
        held(1)
    except BadInput as error:
        seen["refused"] = str(error)
print(json.dumps(seen))
"""


def test_a_trial_sees_the_gpus_that_it_takes_and_no_other(tmp_path: Path) -> None:
    """And Ray shares out the cores that this process may use.

    The machine has no GPU that torch could use, so that "auto" is none, with a word, and one that
    is asked for is refused.
    """
    clean = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    pretended = {"RAY_OVERRIDE_RESOURCES": '{"GPU": 2}', "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MACHINE],
        env=clean | pretended,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *said, last = done.stdout.splitlines()
    seen = json.loads(last)
    assert "a trial takes a GPU ([resources] gpus) that it cannot use: torch" in seen.pop("refused")
    assert seen == {"one": "0", "half": "0", "none": [4, ""], "auto": [4, ""], "cores": 1}
    assert "trials run on the CPU, not the GPU: torch" in said[-1]


def test_a_trial_that_took_a_gpu_which_torch_does_not_see_is_refused(quick: Trial) -> None:
    slot = Slot.__new__(Slot)
    slot.resources = Resources(gpus=1)
    with pytest.raises(BadInput, match=r"a trial takes a GPU .* that it cannot use: torch"):
        slot._run(quick, lambda event: None)


def test_where_trials_fill_the_memory_fewer_run_at_once(
    quick: Trial, here: Store, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """No trial's failures are counted before it ran alone."""
    sweep = sweep_of(quick, Resources(retries=0), seed=[0, 1, 2, 3, 4])
    driver = driver_of(sweep, here, slots=3)
    first, second, third = (starts(driver) for _ in range(3))
    driver.queue.suggest(waiting := "waiting")
    fails(driver, SHORT.format(mine=20.5, others=1.5), third)
    assert "; 2 at a time from now on" in capsys.readouterr().out
    # One that Tune had asked for before is sent back as soon as it starts.
    driver.on_trial_start(1, [], SimpleNamespace(trial_id=waiting))
    id = driver.queue.jobs[waiting].id
    assert driver.board.order(id, "node") == "stop"
    stopped = SimpleNamespace(trial_id=waiting, last_result={"stopped": True, "reason": None})
    driver.queue.on_trial_complete(waiting)
    driver.on_trial_complete(1, [], stopped)
    assert driver.board.order(id, "node") == "go on"
    fails(driver, SHORT.format(mine=20.5, others=1.5), second)
    assert driver.queue.suggest("too many") is None
    assert not driver.failures
    fails(driver, SHORT.format(mine=20.5, others=1.5), first)
    assert "20.5 by this sweep" in driver.failures[0].reason
    assert "a smaller batch" in driver.failures[0].reason
    # Those that went back come again, first those that failed.
    again = starts(driver)
    assert driver.queue.jobs[again] == driver.queue.jobs[third]


def test_where_others_fill_the_memory_a_trial_waits(
    quick: Trial,
    here: Store,
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It does not wait for ever: the last sentence says who used the memory, and what to do."""
    monkeypatch.setattr(driving, "WAITS", (60, 120))
    now = [0.0]
    monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    driver = driver_of(sweep_of(quick, Resources(retries=1)), here)
    for seconds in (60, 120):
        fails(driver, SHORT.format(mine=2.5, others=18.0), starts(driver))
        assert f"trying again in {seconds} s" in capsys.readouterr().out
        now[0] += seconds - 1
        assert driver.queue.suggest("too early") is None
        now[0] += 1
    assert not driver.failed[driver.queue.jobs[next(iter(driver.queue.jobs))].id]
    for _ in range(2):
        assert not driver.failures
        fails(driver, SHORT.format(mine=2.5, others=18.0), starts(driver))
    reason = driver.failures[0].reason
    for words in (
        "22.4 of 23.5 GB",
        "2.5 by this sweep",
        "18.0 by process 77 (postgres)",
        "end what",
    ):
        assert words in reason


SHORT = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 1.2.3.4, ID: 33) was 22.36GB used / 23.54GB limit (0.95)
OOM kill reason: Memory usage 24009000000B exceeded threshold of 23947000000B (95.0% of 25276510208B limit)
Selected to kill: (Task: job ID=01, lease ID=00, task name=_Inner.train, required resources={{}}, pid=18564, actual memory used={mine}GB, worker ID=df)
Top 10 memory users: PID	MEM(GB)	COMMAND
77	{others}	postgres
18564	0.25	ray::_Inner.train
"""  # noqa: E501  Ray's own words


def test_a_shortage_that_tune_itself_meets_is_one_sentence(
    quick: Trial, here: Store, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(*words: object, **settings: object) -> None:
        raise driving.tune.TuneError(f"Traceback:\n{SHORT.format(mine='0.25', others='18.0')}")

    monkeypatch.setattr(driving.tune, "run", meet)
    with pytest.raises(BadInput, match=r"memory ran short: 22\.4 .* the same command goes on"):
        run(sweep_of(quick), "")


def test_files_of_tunes_that_a_killed_driver_left_in_a_bucket_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGET_CACHE", str(tmp_path / "cache"))
    store = Store(f"file://{tmp_path}/shared")
    dead, others = (tmp_path / "shared" / f"tune-{name}" / "0123" for name in ("mine", "other"))
    for folder in (dead, others):
        folder.mkdir(parents=True)
        (folder / "trial.json").touch()
    with driving._scratch(store, "mine") as place:
        assert place.startswith(f"{store.where}/tune-mine/")
        assert not dead.exists()
    assert [path.name for path in (tmp_path / "shared").glob("tune*")] == ["tune-other"]
    assert list(others.iterdir())


def test_files_of_tunes_that_are_lost_end_no_sweep(
    quick: Trial, here: Store, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the store was away when Tune wrote what it knows of the trials."""
    lost = "ray.tune.analysis.experiment_analysis._find_newest_experiment_checkpoint"
    monkeypatch.setattr(lost, lambda **place: None)
    done = run(sweep_of(quick), "the spec")
    assert len(done.outcomes) == 1
    assert not done.failures


def test_a_process_that_ray_ends_for_the_memory_is_a_failure_of_its_trial_alone() -> None:
    """Tune would raise, and end the sweep in its traceback."""
    told: list[Exception] = []
    actors = Actors(FixedResourceManager())
    actor = actors.add_actor(object, {}, ResourceRequest([{"CPU": 1}]))
    actors._live_actors_to_ray_actors_resources[actor] = (None, None)
    actors._resource_manager.free_resources = lambda acquired_resource: None
    task = TrackedActorTask(actor, on_error=lambda actor, error: told.append(error))
    actors._actor_task_failed(task, OutOfMemoryError("the node runs low on memory"))
    assert isinstance(told[0], RayActorError)
    assert str(told[0]) == "the node runs low on memory"


HURRY = """
import os, socket, datetime
socket.getfqdn = lambda name="": "this.machine.has.no.address.invalid"
if os.environ.get("RANK"):
    import torch.distributed.distributed_c10d as group
    group.default_pg_timeout = datetime.timedelta(seconds=2)
"""


def test_a_trial_whose_processes_share_its_model(
    quick: Trial,
    here: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends with the Rows and the model of a process that has the model to itself.

    Meanwhile the main process waits for another trial that learns, longer than processes by default
    wait for each other; and the name of the machine has no address.
    """
    (tmp_path / "sitecustomize.py").write_text(HURRY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    # At a low rate: a high one magnifies by what sums in another order differ.
    trial = overlay(quick, {"learn.lr": 1e-3, "forget.lr": 1e-3})
    seen: list[Event] = []
    (here.root / "learned").mkdir(parents=True)
    another = FileLock(
        here.root / "learned" / f"{identify(trial).learned}.lock", thread_local=False
    )
    another.acquire()

    def measured() -> bool:
        return any(here.root.glob("measured/*/result.json"))

    learner = when(measured, lambda: (time.sleep(4), another.release()))
    run_processes(trial, Resources(workers=2, shard=True), seen.append, here)
    learner.join()
    id = identify(trial).trial
    mine = Trials(here).outcome(id)
    assert mine
    assert mine == seen[-1]
    steps = [event.step for event in seen if isinstance(event, Step) and event.stage == "forget"]
    # 48 examples, 16 a step over both processes, 6 epochs; each step is told once.
    assert steps == list(range(1, 19))
    store = Store(tmp_path / "alone")
    assert mine.parameters == run_trial(trial, store=store).parameters
    for row, alone in zip(Trials(here).rows(id), Trials(store).rows(id), strict=True):
        assert replace(row, logprobs=alone.logprobs, spread=alone.spread) == alone
        # What sums in another order come to in 42 steps.
        assert row.logprobs == pytest.approx(alone.logprobs, abs=5e-5)
        assert (row.spread or 0) == pytest.approx(alone.spread or 0, rel=1e-4)
    saved, expected = (
        load(Trials(where).folder(id) / "model").network.state_dict() for where in (here, store)
    )
    assert saved.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(saved[name], weight, rtol=2**-7, atol=1e-5)


def test_adapters_do_not_share_a_model(quick: Trial, here: Store) -> None:
    with pytest.raises(
        BadInput, match='shard = true is for whole models: it does not go with tuning = "lora"'
    ):
        run(sweep_of(overlay(quick, {"tuning": "lora"}), Resources(workers=2, shard=True)), "")


def test_a_refusal_in_a_process_reaches_the_sweep(quick: Trial, here: Store) -> None:
    with pytest.raises(BadInput, match='no task is named "vowel"'):
        run_processes(
            overlay(quick, {"task": "vowel"}), Resources(workers=2), lambda event: None, here
        )


MEETING = """
import torch.distributed as group
def barrier(*args, **kwargs):
    {}
group.barrier = barrier
"""
FATES = {
    "an error": ("raise ValueError('no such luck')", "ValueError: no such luck"),
    "a kill": (
        "import signal; os.kill(os.getpid(), signal.SIGKILL)",
        "process 1 of the trial died of SIGKILL",
    ),
    "a crash": (
        "import faulthandler; faulthandler._sigsegv()",
        "process 1 of the trial died of SIGSEGV: Fatal Python error: Segmentation fault",
    ),
}


@pytest.mark.parametrize(
    ("when", "fate"),
    [
        (MEETING, "an error"),
        ("{}", "a kill"),
        ("{}", "a crash"),
        pytest.param(MEETING, "a kill", marks=pytest.mark.slow),
        pytest.param(MEETING, "a crash", marks=pytest.mark.slow),
    ],
    ids=[
        "error together",
        "kill at the start",
        "crash at the start",
        "kill together",
        "crash together",
    ],
)
def test_a_process_that_dies_says_of_what(
    quick: Trial, here: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, fate: str
) -> None:
    """One process says how it died; the other, taken along, only knows that a peer went away."""
    does, words = FATES[fate]
    code = textwrap.indent(when.format(does), "    ")
    (tmp_path / "sitecustomize.py").write_text(
        f'import os\nif os.environ.get("RANK") == "1":\n{code}'
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError) as error:
        run_processes(quick, Resources(workers=2), lambda event: None, here)
    assert str(error.value) == words


SEARCH = Search.model_validate(
    {"trials": 4, "settings": {"forget.lr": {"low": 1e-5, "high": 1e-2, "log": True}}}
)


def cell_of(trial: Trial, store: Store, search: Search = SEARCH, sweep: str = "study") -> Cell:
    (standing,) = standings(expand(sweep_of(trial).model_copy(update={"search": search})), store)
    return Cell(sweep, standing, search, store)


def finish(store: Store, outcome: Outcome, trial: Trial) -> Outcome:
    """Record the outcome as the trial's."""
    mine = outcome.model_copy(update={"trial": trial, "id": identify(trial).trial})
    Trials(store).finish(mine, [])
    return mine


def test_a_search_goes_on_where_it_was_killed(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    _, outcome = finished
    store = Store(tmp_path)
    cell = cell_of(quick, store)
    done, told_late, lost = cell.ask(), cell.ask(), cell.ask()
    rates = {job.trial.forget.lr for job in (done, told_late, lost)}
    assert len(rates) == 3
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    done.ended(finish(store, outcome, done.trial))
    finish(store, outcome, told_late.trial)
    # A report meanwhile only looks.
    assert set(cell_of(quick, store).done) == {done.id, told_late.id}
    assert [trial.state.name for trial in cell.study.trials] == ["COMPLETE", "RUNNING", "RUNNING"]

    resumed = cell_of(quick, store)
    assert resumed.left == 2
    again, fresh = resumed.ask(), resumed.ask()
    assert again.trial == lost.trial
    assert fresh.trial.forget.lr not in rates
    for job in (again, fresh):
        job.ended(finish(store, outcome, job.trial))
    assert cell_of(quick, store).left == 0
    assert cell_of(quick, store, SEARCH.model_copy(update={"trials": 6})).left == 2


def test_a_search_hears_of_trials_that_another_one_proposed(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    """Its bounds may have moved since, or its scale, of which Optuna takes one a study."""
    _, outcome = finished
    store = Store(tmp_path)
    before = cell_of(quick, store)
    rates = []
    for _ in range(2):
        job = before.ask()
        job.ended(finish(store, outcome, job.trial))
        rates.append(job.trial.forget.lr)
    settings = {"forget.lr": {"low": 1e-6, "high": 0.1}, "forget.clip": {"low": 0.5, "high": 2}}
    now = Search.model_validate({"trials": 4, "settings": settings})
    cell = cell_of(quick, store, now)
    assert cell.left == 2
    cell.ask().ended(None)
    heard = [trial for trial in cell.study.trials if trial.user_attrs["id"] in cell.done]
    assert {trial.params["forget.lr"] for trial in heard} == set(rates)
    assert {trial.params["forget.clip"] for trial in heard} == {quick.forget.clip}
    # Once each, however often the study is opened.
    cell_of(quick, store, now).ask()
    assert len(cell.study.trials) == 4


def test_two_sweeps_may_search_the_same_at_once(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    one, other = (cell_of(quick, store, sweep=name) for name in ("one", "other"))
    jobs = [one.ask(), other.ask()]
    # Neither closes what the other has open, nor proposes the same.
    assert len({job.id for job in jobs}) == 2
    for job in jobs:
        job.ended(finish(store, finished[1], job.trial))
    assert {trial.state.name for trial in one.study.trials} == {"COMPLETE"}


def test_a_search_weighs_forgetting_against_the_other_tasks(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    _, outcome = finished
    cell = cell_of(quick, Store(tmp_path))

    def objectives(own: float | None, other: float | None) -> list[float] | None:
        ratios = {
            metric_name("forgotten", task, "test", "forget_ratio"): Estimate(
                ratio, ratio, ratio, 40
            )
            for task, ratio in (("vowels", own), ("upper", other))
        }
        return cell.objectives(outcome.model_copy(update={"measures": ratios}))

    assert objectives(0.9, 0.2) == [0.9, 0.2]
    # Nothing was learned, so nothing can be said of forgetting it.
    assert objectives(None, 0.2) is None
    assert objectives(0.9, None) is None
    alone = cell_of(overlay(quick, {"evaluate_on": []}), Store(tmp_path))
    assert alone.study.directions[0].name == "MAXIMIZE"
    assert len(alone.study.directions) == 1


def test_a_search_runs_its_trials(quick: Trial, here: Store, cluster: None) -> None:
    base = overlay(quick, {"probe.examples": 0, "save": False}).model_dump()
    search = SEARCH.model_copy(update={"trials": 2})
    sweep = Sweep(name="study", base=base, search=search, resources=Resources(concurrent=1))
    result = run(sweep, "")
    assert len({outcome.trial.forget.lr for outcome in result.outcomes}) == 2
    assert jobs(expand(sweep), here)[0] == 0
    assert run(sweep, "").outcomes == result.outcomes
    # Other bounds, within which what has finished does not lie: as many as the plan says run.
    moved = Search.model_validate(
        {"trials": 1, "settings": {"forget.lr": {"low": 0.02, "high": 0.03}}}
    )
    other = sweep.model_copy(update={"search": moved})
    assert plan(expand(other), here).todo == 1
    (outcome,) = run(other, "").outcomes
    assert 0.02 <= outcome.trial.forget.lr <= 0.03
