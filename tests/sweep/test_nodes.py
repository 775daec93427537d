"""A sweep on several nodes, over a real object store and a real MLflow.

Each node is a network namespace with a Ray of its own.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from servers import S3, mlflow_server, needs, postgres, seaweedfs

from forget.preflight import identify
from forget.results.outcome import Outcome
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.trial import run_trial

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BRIDGE = "10.77.0.1"
HEAD = "10.77.0.10"
WORKERS = ("10.77.0.11", "10.77.0.12")
SEEDS = (0, 1, 2)

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for network namespaces"),
    pytest.mark.skipif(not shutil.which("ip"), reason="no command `ip`: apt-get install iproute2"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def soon(ready: Callable[[], object], what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"{what} after {seconds:g} s"
        time.sleep(0.1)


@contextmanager
def network() -> Iterator[None]:
    """Yield a bridge at BRIDGE and a namespace for each node, named by its address."""
    nodes = (HEAD, *WORKERS)

    def clear() -> None:
        for number, node in enumerate(nodes):
            # A node that was cut off is still at work.
            pids = subprocess.run(
                ["ip", "netns", "pids", node], capture_output=True, text=True, check=False
            ).stdout
            for pid in pids.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", node], check=False, capture_output=True)
            subprocess.run(
                ["ip", "link", "delete", f"forget0-{number}"], check=False, capture_output=True
            )
        subprocess.run(["ip", "link", "delete", "forget0"], check=False, capture_output=True)

    clear()
    try:
        ip("link", "add", "forget0", "type", "bridge")
        ip("address", "add", f"{BRIDGE}/24", "dev", "forget0")
        ip("link", "set", "forget0", "up")
        for number, node in enumerate(nodes):
            ip("netns", "add", node)
            ip(
                "link",
                "add",
                f"forget0-{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                node,
            )
            ip("link", "set", f"forget0-{number}", "master", "forget0", "up")
            ip("-n", node, "address", "add", f"{node}/24", "dev", "eth0")
            ip("-n", node, "link", "set", "eth0", "up")
            ip("-n", node, "link", "set", "lo", "up")
        yield
    finally:
        clear()


@dataclass(frozen=True)
class Nodes:
    """A head without CPUs and two workers with one each."""

    folder: Path
    s3: S3
    environment: dict[str, str] = field(repr=False)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """`ray start`, by address."""

    def command(self, node: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", node, *words]

    def on(self, node: str) -> dict[str, str]:
        """Return the environment of a process there: its own home is a machine of its own."""
        home = self.folder / node
        home.mkdir(exist_ok=True)
        return {**self.environment, "HOME": str(home)}

    def cut(self, node: str) -> None:
        """From all others, as when its cable is pulled."""
        ip("-n", node, "link", "set", "eth0", "down")

    def sweep(self, spec: Path) -> subprocess.Popen[str]:
        command = self.command(
            HEAD, str(BIN / "forget"), "sweep", str(spec), "--address", f"{HEAD}:6379"
        )
        log = (self.folder / "sweep.log").open("w")
        return subprocess.Popen(
            command, env=self.on(HEAD), cwd=self.folder, stdout=log, stderr=log, text=True
        )

    def said(self) -> str:
        return (self.folder / "sweep.log").read_text()

    def running(self, node: str) -> list[str]:
        """Ids of the trials that the node has sent a checkpoint of, and no outcome."""
        trials = list((self.folder / node).glob(".cache/forget/*/trials/*"))
        return [
            t.name
            for t in trials
            if (t / ".checkpoint.version").exists() and not (t / "outcome.json").exists()
        ]

    def journal(self, id: str) -> list[dict[str, object]]:
        """As the node that finished the trial left it."""
        lines = self.s3.read("forget", f"store/trials/{id}/journal.jsonl").decode().splitlines()
        return [json.loads(line) for line in lines]

    def forget_steps(self, id: str) -> list[object]:
        return [
            event["step"]
            for event in self.journal(id)
            if event["kind"] == "step" and event["stage"] == "forget"
        ]

    def starts(self, id: str) -> int:
        return sum(event["kind"] == "started" for event in self.journal(id))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        stack.enter_context(network())
        s3 = stack.enter_context(seaweedfs(tmp_path, BRIDGE))
        s3.make_bucket("forget")
        database = stack.enter_context(postgres(tmp_path))
        tracking = stack.enter_context(mlflow_server(tmp_path, database, s3, BRIDGE))
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node that is silent for three seconds is lost; by default for half a minute.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "FORGET_STORE": "s3://forget/store",
            **s3.environment,
            **tracking.environment,
        }
        found = Nodes(tmp_path, s3, environment)
        # Sockets lie there, whose paths end at 107 bytes.
        sessions = Path(stack.enter_context(short_folder()))
        for node in (HEAD, *WORKERS):
            head = node == HEAD
            place = ["--head", "--port=6379", f"--temp-dir={sessions}", "--include-dashboard=false"]
            role = place if head else [f"--address={HEAD}:6379"]
            size = [
                f"--num-cpus={0 if head else 1}",
                "--num-gpus=0",
                "--object-store-memory=100000000",
            ]
            start = ["ray", "start", *role, *size, f"--node-ip-address={node}", "--block"]
            log = stack.enter_context((tmp_path / f"ray-{node}.log").open("w"))
            process = found.processes[node] = subprocess.Popen(
                found.command(node, *start),
                env=found.on(node),
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=tmp_path,
            )
            stack.callback(end, process)
            said = Path(log.name).read_text
            soon(
                lambda p=process, said=said: (
                    "Ray runtime started" in said() or p.poll() is not None
                ),
                f"no ray on {node}",
            )
            assert process.poll() is None, said()
        yield found


@contextmanager
def short_folder() -> Iterator[str]:
    folder = f"/tmp/forget-{secrets.token_hex(4)}"
    Path(folder).mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """At once; what it started goes with the network."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def long(quick: Trial) -> Trial:
    """Return a trial that takes long enough to be disturbed."""
    return overlay(quick, {"forget.epochs": 500, "forget.lr": 1e-4, "probe.examples": 0})


@pytest.fixture(scope="module")
def undisturbed(
    long: Trial, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, dict[str, Outcome]]:
    """Run the trials of the sweep one after the other in this process."""
    # A fixture of the module comes before `nodes`, which would skip the tests only when the trials
    # have run.
    needs("psycopg2")
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    outcomes = [run_trial(overlay(long, {"seed": seed}), store=store) for seed in SEEDS]
    return store, {outcome.id: outcome for outcome in outcomes}


def spec_of(trial: Trial, folder: Path) -> Path:
    """Write the sweep over SEEDS to a file."""
    # TOML has no word for what is not set.
    fields = trial.model_dump(mode="json", exclude_none=True)
    lines = ["[base]"]
    lines += [
        f"{key} = {json.dumps(value)}"
        for key, value in fields.items()
        if not isinstance(value, dict)
    ]
    for name, part in fields.items():
        if isinstance(part, dict):
            lines += [
                f"[base.{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in part.items()),
            ]
    lines += ["[axes]", f"seed = {list(SEEDS)}", "[resources]", "checkpoint_minutes = 0.02"]
    path = folder / "study.toml"
    path.write_text("\n".join(lines))
    return path


def check_whole(
    nodes: Nodes, undisturbed: tuple[Store, dict[str, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial FINISHED once, with one version and the Rows of an undisturbed run."""
    from mlflow import MlflowClient

    plain, outcomes = undisturbed
    for name, value in nodes.environment.items():
        if name.startswith(("AWS", "MLFLOW")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("FORGET_CACHE", str(nodes.folder / "reader"))
    store = Store("s3://forget/store")
    assert Trials(store).outcomes(outcomes).keys() == outcomes.keys()
    for id in outcomes:
        assert Trials(store).rows(id) == Trials(plain).rows(id)
    client = MlflowClient(nodes.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("study")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * (1 + len(SEEDS))
    children = [
        run.data.tags["forget.trial"] for run in runs if "mlflow.parentRunId" in run.data.tags
    ]
    assert sorted(children) == sorted(outcomes)
    versions = client.search_model_versions("name = 'forgotten-tiny-vowels'")
    assert sorted(version.tags["forget.trial"] for version in versions) == sorted(outcomes)


@pytest.mark.timeout(600)
def test_a_worker_whose_link_is_cut_costs_nothing(
    nodes: Nodes,
    long: Trial,
    undisturbed: tuple[Store, dict[str, Outcome]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with nodes.sweep(spec_of(long, nodes.folder)) as sweep:
        soon(
            lambda: all(nodes.running(worker) for worker in WORKERS) or sweep.poll() is not None,
            "not on both workers",
        )
        assert sweep.poll() is None, nodes.said()
        (lost,) = nodes.running(WORKERS[1])
        nodes.cut(WORKERS[1])
        assert sweep.wait(300) == 0, nodes.said()
    # It went on from the checkpoint that the lost worker had left, whose steps are in the journal.
    steps = nodes.forget_steps(lost)
    assert nodes.starts(lost) == 2
    assert steps.count(1) == 1
    assert sorted(set(steps)) == list(range(1, max(steps) + 1))
    assert lost in {identify(overlay(long, {"seed": seed})).trial for seed in SEEDS}
    check_whole(nodes, undisturbed, monkeypatch)


@pytest.mark.timeout(600)
def test_a_worker_that_is_told_to_go_loses_no_step(
    nodes: Nodes,
    long: Trial,
    undisturbed: tuple[Store, dict[str, Outcome]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with nodes.sweep(spec_of(long, nodes.folder)) as sweep:
        soon(
            lambda: nodes.running(WORKERS[1]) or sweep.poll() is not None, "no trial on the worker"
        )
        assert sweep.poll() is None, nodes.said()
        (moved,) = nodes.running(WORKERS[1])
        # What Kubernetes does to a pod.
        nodes.processes[WORKERS[1]].terminate()
        assert sweep.wait(300) == 0, nodes.said()
    assert "its machine goes away" in nodes.said()
    assert nodes.starts(moved) == 2
    steps = nodes.forget_steps(moved)
    assert steps == list(range(1, len(steps) + 1))
    check_whole(nodes, undisturbed, monkeypatch)
