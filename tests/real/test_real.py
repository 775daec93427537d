"""From an empty cluster to a finished sweep, what may go wrong on the way, and back to empty.

The tests stand in the order in which a user comes to what they test, and each takes what the one
before it left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.check import Undisturbed, _points, _rows, broken, clear
from faults.world import Moment
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.cluster.manifests import NAMESPACE, job_name
from pipelines.cluster.stages import LOST

from .network import CLOSED, OPEN, reached
from .world import BIN, ROOT, Command, Real, cell, reach

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

FORGET = [BIN / "forget"]


@contextmanager
def stopping(command: Command) -> Iterator[Command]:
    """Kill a command at the end of the block, should it still run."""
    try:
        yield command
    finally:
        command.stop()


def minutes(seconds: float) -> str:
    """Return seconds as minutes and seconds."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


def test_deploy_from_empty(real: Real) -> None:
    found = real.cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found")
    assert not found, (
        f"empty the cluster first: make undeploy CONTEXT={real.cluster.context} DATA=1"
    )
    real.cluster.kubectl("create", "namespace", NAMESPACE)
    secrets = subprocess.run(
        [ROOT / "mlflow" / "secrets.sh"], capture_output=True, text=True, check=True
    )
    real.cluster.kubectl("create", "--filename=-", given=secrets.stdout)
    began = time.monotonic()
    small = ["SMALL=1"] if real.overlay == "small" else []
    with stopping(real.make("deploy", *small)) as command:
        said = command.ends(0, seconds=900)
    assert "MLflow is up" in said
    real.seen["`make deploy` from empty"] = f"healthy after {minutes(time.monotonic() - began)}"


def test_a_sweep_from_submit_to_its_last_trial(real: Real) -> None:
    began = time.monotonic()
    with stopping(real.sweep("smoke")) as command:
        said = command.ends(0)
    took = time.monotonic() - began
    (first,) = (line for line in said.splitlines() if line.startswith("the first trial started "))
    assert "sweep-smoke succeeded" in said
    for stage in ("head", "first trial"):
        assert f" {stage}: waits for " in said
    real.seen["`make sweep SPEC=smoke`"] = f"succeeded after {minutes(took)}; {first}"


def of_smoke(real: Real) -> Run:
    """Return the run of the only trial of `smoke`, with all that the sweep left in MLflow, once."""
    with real.world():
        client = MlflowClient()
        experiment = client.get_experiment_by_name("smoke")
        runs = client.search_runs([experiment.experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        (child,) = (run for run in runs if "forget.trial" in run.data.tags)
        assert 15 < len(child.data.metrics) <= 60
        assert client.list_artifacts(child.info.run_id)
        (version,) = client.search_model_versions("name = 'forgotten-smollm2-135m-sentiment'")
        assert version.run_id == child.info.run_id
    return child


def test_its_runs_models_and_artifacts_are_in_mlflow(real: Real) -> None:
    child = of_smoke(real)
    real.seen["runs, models, artifacts in MLflow"] = (
        f"2 runs FINISHED, {len(child.data.metrics)} metrics, the model registered"
    )


def test_a_forgotten_model_is_probed_from_outside(real: Real, tmp_path: Path) -> None:
    began = time.monotonic()
    with real.world() as world:
        done = subprocess.run(
            [
                *FORGET,
                "probe",
                "models:/forgotten-smollm2-135m-sentiment@strongest",
                "--task",
                "sentiment",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | world.tracking.environment | {"PYTHONPATH": str(ROOT)},
            timeout=900,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    real.seen["`forget probe models:/…@strongest` from outside"] = (
        f"read and measured in {minutes(time.monotonic() - began)}"
    )


def test_a_second_sweep_finds_everything_done(real: Real) -> None:
    before = of_smoke(real)
    began = time.monotonic()
    with stopping(real.sweep("smoke")) as command:
        said = command.ends(0)
    assert "sweep-smoke submitted" in said
    assert "sweep-smoke succeeded" in said
    assert "started  " not in said
    # The same run, to which nothing was added.
    assert of_smoke(real).to_dictionary() == before.to_dictionary()
    real.delete_job(Path("smoke.toml"))
    real.seen["the same sweep again"] = (
        f"nothing is left to run; {minutes(time.monotonic() - began)}"
    )


def test_the_pairs_that_the_policies_close_are_closed(real: Real) -> None:
    found = reached(real)
    if found == OPEN | CLOSED:
        real.seen["pairs that the NetworkPolicies close"] = "open: this network enforces none"
        pytest.skip("this cluster's network enforces no NetworkPolicy: all pairs are open")
    assert found == OPEN
    real.seen["pairs that the NetworkPolicies close"] = f"{len(CLOSED)} asked, all closed"


@pytest.fixture(scope="session")
def undisturbed(real: Real) -> Undisturbed:
    """Run the study that the others disturb; return its Rows and numbers."""
    spec = real.study("undisturbed")
    with stopping(real.sweep(spec)) as command:
        command.ends(0)
    real.delete_job(spec)
    with real.world() as world:
        here = cell(world, spec)
        points = {point: values[0] for point, values in _points(here).items()}
        found = Undisturbed(_rows(here), points)
        assert len(found.rows) == 2
        assert list(broken(here, found)) == []
        clear(here)
    return found


def delete(role: str) -> Callable[[Real], str]:
    """Return a fault that deletes the newest pod of a role."""

    def fault(real: Real) -> str:
        name = real.pod(role)
        real.cluster.kubectl("delete", "pod", name, "--wait=false")
        return name

    return fault


def restart(what: str) -> Callable[[Real], str]:
    """Return a fault that restarts a Deployment or StatefulSet."""

    def fault(real: Real) -> str:
        real.cluster.kubectl("rollout", "restart", what)
        return what.partition("/")[2]

    return fault


def operator(real: Real) -> str:
    """Delete KubeRay's operator; return its pod's name."""
    selector = "--selector=app.kubernetes.io/component=kuberay-operator"
    words = ("get", "pod", "--all-namespaces", selector, "--output=jsonpath={.items[0].metadata}")
    path = "{.items[0].metadata.namespace} {.items[0].metadata.name}"
    namespace, name = real.cluster.kubectl(*words[:-1], f"--output=jsonpath={path}").split()
    real.cluster.kubectl("delete", "pod", name, f"--namespace={namespace}", "--wait=false")
    return name


def evict(real: Real) -> str:
    """Evict the worker, as a drain of its node does; return its name."""
    name = real.pod("worker")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
    real.cluster.kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(eviction))
    return name


DETACHED = (2, 130, -signal.SIGINT)
"""Exit codes after Ctrl-C: make turns every failure into 2, or dies of the signal as well."""

Fault = tuple[Callable[[Real], str], Moment, str]
"""A fault: its doing, which returns the name of what goes, at which moment of a trial, and words of
the sentence that says it, beside that name.
"""

FAULTS: dict[str, tuple[Fault, ...]] = {
    "submitter, then operator": (
        (delete("submitter"), "learning", LOST["submitter"]),
        (operator, "forgetting", "no pod is replaced"),
    ),
    # A pod may be gone before the next look: then nobody says why it went.
    "worker deleted": ((delete("worker"), "learning", "its trials go on"),),
    "worker drained": ((evict, "forgetting", "its trials go on"),),
    "MLflow, then SeaweedFS restarted": (
        (restart("deployment/mlflow"), "learning", "what they log waits"),
        (restart("statefulset/seaweedfs"), "forgetting", "trials ask the store again"),
    ),
    "head deleted": ((delete("head"), "forgetting", "on another head"),),
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_everything_is_as_if_nothing_had_happened(
    name: str, real: Real, undisturbed: Undisturbed
) -> None:
    spec = real.study(name.split(",")[0].replace(" ", "-").lower())
    began = time.monotonic()
    with stopping(real.sweep(spec)) as command:
        for done, (fault, moment, words) in enumerate(FAULTS[name]):
            reach(real, command, spec, moment, trials=done)
            command.says(fault(real), words, seconds=120)
        said = command.ends(0)
    took = minutes(time.monotonic() - began)
    # A job does not outlive its head.
    assert name != "head deleted" or LOST["submitter"] not in said
    check(real, spec, undisturbed)
    real.seen[f"{name}, in the middle of a trial"] = (
        f"Rows, runs, models as undisturbed; {took} in all"
    )


def check(real: Real, spec: Path, undisturbed: Undisturbed) -> None:
    """Check that the study left what an undisturbed one leaves, once; then take it away."""
    real.delete_job(spec)
    with real.world() as world:
        here = cell(world, spec)
        problems = list(broken(here, undisturbed))
        clear(here)
    assert not problems, problems


def test_ctrl_c_and_the_same_command_again(real: Real, undisturbed: Undisturbed) -> None:
    spec = real.study("interrupted")
    with stopping(real.sweep(spec)) as command:
        reach(real, command, spec, "learning", trials=0)
        command.interrupt()
        assert "detached; sweep-interrupted goes on" in command.ends(*DETACHED)
    with stopping(real.sweep(spec)) as command:
        said = command.ends(0)
    assert "sweep-interrupted runs already: following it" in said
    assert "sweep-interrupted succeeded" in said
    check(real, spec, undisturbed)
    real.seen["Ctrl-C, and the same command again"] = "detached, then followed to its end"


def test_an_image_that_does_not_exist_is_said_at_once(real: Real) -> None:
    spec = real.study("no-image")
    with stopping(real.sweep(spec, TAG="none")) as command:
        command.says(job_name(spec.stem), "none", seconds=120)
        command.until(lambda: "ErrImage" in command.said() or "ImagePull" in command.said(), "no")
        command.interrupt()
        command.ends(*DETACHED)
    real.delete_job(spec)
    # A line for each pod that waits: the head's, and a worker's.
    line = next((line for line in command.said().splitlines() if "ErrImage" in line), "")
    real.seen["an image that does not exist"] = f"`{line[:160]}`"


# Each process takes a gigabyte, and each core is one that a node may lack.
@pytest.mark.parametrize("resources", ["cpus = 1\nworkers = 2000", "cpus = 1000"])
def test_a_worker_that_fits_no_node_is_refused(resources: str, real: Real) -> None:
    spec = real.study("no-node")
    spec.write_text(spec.read_text().replace("cpus = 1", resources))
    with stopping(real.sweep(spec)) as command:
        said = command.ends(2)
    (line,) = (line for line in said.splitlines() if "no node of cluster" in line)
    resources = resources.replace("\n", ", ")
    real.seen[f"a worker that fits no node: `{resources}`"] = f"`{line[:160]}`"


def test_undeploy_keeps_the_data_unless_told(real: Real) -> None:
    before = of_smoke(real)
    with stopping(real.make("undeploy")) as command:
        said = command.ends(0, seconds=400)
    assert "kept namespace forget" in said
    claims = {one["metadata"]["name"] for one in real.cluster.find("pvc")}
    assert claims == {"data-postgres-0", "data-seaweedfs-0"}
    small = ["SMALL=1"] if real.overlay == "small" else []
    with stopping(real.make("deploy", *small)) as command:
        command.ends(0, seconds=900)
    assert of_smoke(real).to_dictionary() == before.to_dictionary()
    with stopping(real.make("undeploy", "DATA=1")) as command:
        command.ends(0, seconds=400)
    assert not real.cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found")
    real.seen["`make undeploy`, `make deploy`, `make undeploy DATA=1`"] = (
        "volumes, Secrets and runs stay; then nothing is left"
    )
