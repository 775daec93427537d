"""A sweep on Kubernetes: the real kubectl against an emulated API server."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import ApiServer, Log, whole_cluster
from conftest import command

from forget.errors import BadInput
from pipelines import cluster
from pipelines.cluster import logs, rayjob, server
from pipelines.cluster.manifests import job_name, tag_of
from pipelines.cluster.stages import LOST, OPERATOR

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.servers("kubectl")

# An absolute folder is the cluster's: nothing about the trial can be checked here, and torch is not
# imported.
SPEC = """
[base]
task = "vowels"
model = "tiny"
folders = ["/tasks"]
"""

# As Ray 2.60 writes them to a pod's log.
HEAD = """\
2026-11-25 20:08:10,789\tINFO cli.py:42 -- \x1b[37mJob submission server address\x1b[39m: \x1b[1mhttp://study-head-svc:8265\x1b[22m
2026-11-25 20:08:12,157\tSUCC cli.py:66 -- \x1b[32m---------------------------------\x1b[39m
2026-11-25 20:08:12,157\tSUCC cli.py:67 -- \x1b[32mJob 'study' submitted successfully\x1b[39m
2026-11-25 20:08:12,157\tINFO cli.py:330 -- \x1b[36mNext steps\x1b[39m
2026-11-25 20:08:12,157\tINFO cli.py:331 -- Query the logs of the job:
2026-11-25 20:08:12,161\tINFO cli.py:351 -- Tailing logs until the job exits (disable with --no-wait):
2026-11-25 20:08:12,120\tINFO job_manager.py:581 -- Runtime env is setting up.
Running entrypoint for job study: forget sweep /spec/spec.toml --address auto""".splitlines()  # noqa: E501
AGAIN = [HEAD[0], *HEAD[-2:]]
GOOD = """\
2026-11-25 20:08:19,258\tINFO sdk.py:520 -- WebSocket closed for job good with close code 1000
2026-11-25 20:08:19,265\tSUCC cli.py:66 -- \x1b[32m--------------------\x1b[39m
2026-11-25 20:08:19,265\tSUCC cli.py:67 -- \x1b[32mJob 'study' succeeded\x1b[39m""".splitlines()
BAD = """\
2026-11-25 20:08:25,936\tINFO sdk.py:520 -- WebSocket closed for job bad with close code 1000
2026-11-25 20:08:25,943\tERR cli.py:75 -- \x1b[31mJob 'study' failed\x1b[39m
2026-11-25 20:08:25,943\tINFO cli.py:89 -- Status message: Job entrypoint command failed with exit code 1, last available logs:
2026-11-25 20:08:12,120\tINFO job_manager.py:581 -- Runtime env is setting up.
Running entrypoint for job study: forget sweep /spec/spec.toml --address auto
started  vowels
failed   vowels: loss is nan
""".splitlines()  # noqa: E501

RUN = """
import signal
from pipelines.cli.app import main
from pipelines.cluster import logs, rayjob, server
logs.POLL_SECONDS = rayjob.POLL_SECONDS = server.POLL_SECONDS = 0.1
# A process of the background, which a run of tests may be, is started with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


class Operator:
    """KubeRay and the other controllers, played: what is applied becomes healthy.

    A RayJob goes through the given script.
    """

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.script: Callable[[str], None] = lambda name: None
        api.react = self.react

    def react(self, one: dict[str, Any]) -> None:
        if one["kind"] == "Job":
            one["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        elif one["kind"] in ("Deployment", "StatefulSet"):
            one["status"] = {
                "replicas": 1,
                "readyReplicas": 1,
                "updatedReplicas": 1,
                "observedGeneration": 1,
            }
        elif one["kind"] == "RayJob":
            self.script(one["metadata"]["name"])

    def status(self, name: str, state: str, job: str = "", **more: Any) -> None:
        one = self.api.objects["rayjobs", name]
        status = {
            "jobDeploymentStatus": state,
            "jobStatus": job,
            "rayClusterName": f"{name}-abcde",
            **more,
        }
        self.api.objects["rayjobs", name] = {**one, "status": status}

    def let_look(self) -> None:
        """Wait until who follows a sweep has seen how things are."""
        looks = self.api.gets["rayjobs"]
        wait_for(lambda: self.api.gets["rayjobs"] > looks + 2)

    def submitter(
        self, name: str, pod: str = "one", job: str = "first", cuts: tuple[int, ...] = ()
    ) -> Log:
        labels = {"job-name": name, "batch.kubernetes.io/controller-uid": job}
        log = self.api.logs[pod] = Log(cuts)
        containers = [{"name": "ray-job-submitter", "image": "forget"}]
        self.api.put(
            "Pod",
            pod,
            metadata={"labels": labels},
            spec={"containers": containers},
            status={"phase": "Running"},
        )
        return log


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """Yield a cluster that has everything; ~/.kube/config knows it as "here"."""
    made = whole_cluster(tmp_path)
    (tmp_path / "study.toml").write_text(SPEC)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def operator(api: ApiServer) -> Operator:
    return Operator(api)


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """`forget cluster ...` in a process group of its own, as in a terminal."""
    env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "cluster", *words],
        cwd=home,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def forget(home: Path, *words: str) -> tuple[int, list[str], str]:
    """`forget cluster ...` in this process: exit code, lines of stdout, stderr."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        patch.delenv("KUBECONFIG", raising=False)
        for module in (logs, rayjob, server):
            patch.setattr(module, "POLL_SECONDS", 0.1)
        code = command("cluster", *words)
    return code, out.getvalue().splitlines(), error.getvalue()


SWEEP = ("sweep", "study.toml", "--context", "here", "--tag", "abc", "--dirty")
DEPLOY = ("deploy", "--context", "here", "--tag", "abc", "--dirty")


def succeed(operator: Operator) -> Callable[[str], None]:
    def script(name: str) -> None:
        operator.status(name, "Initializing")
        operator.let_look()
        operator.status(name, "Running", "PENDING")
        log = operator.submitter(name)
        log.lines += [*HEAD, "started  vowels", "finished vowels: learned 0.9 [1/1]", *GOOD]
        log.closed = True
        operator.status(name, "Complete", "SUCCEEDED")

    return script


def test_a_sweep_is_submitted_followed_and_its_result_is_the_exit_code(
    operator: Operator, tmp_path: Path
) -> None:
    operator.script = succeed(operator)
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert lines[:2] == [
        "workers: 1 to 4, each of 4 CPUs, 16Gi of memory and 120Gi of disk",
        'sweep-study submitted to cluster "here"; MLflow: make ui CONTEXT=here',
    ]
    assert "sweep-study: Initializing" in lines
    assert [line for line in lines if "vowels" in line] == [
        "started  vowels",
        "finished vowels: learned 0.9 [1/1]",
    ]
    assert lines[-1] == "sweep-study succeeded; MLflow: make ui CONTEXT=here"
    assert not [line for line in lines if ".py" in line or "entrypoint" in line]
    job = operator.api.objects["rayjobs", "sweep-study"]
    group = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert group["containers"][0]["image"] == "forget:abc"
    (volume,) = (volume for volume in group["volumes"] if "configMap" in volume)
    text = operator.api.objects["configmaps", volume["configMap"]["name"]]["data"]["spec.toml"]
    assert text == f'name = "study"\n{SPEC}'


def test_a_failed_job_is_exit_code_1_and_its_log_is_not_repeated(
    operator: Operator, tmp_path: Path
) -> None:
    def script(name: str) -> None:
        log = operator.submitter(name)
        log.lines += [*HEAD, "started  vowels", "failed   vowels: loss is nan", *BAD]
        log.closed = True
        operator.status(
            name,
            "Failed",
            "FAILED",
            message="Job entrypoint command failed with exit code 1\nfailed vowels",
        )

    operator.script = script
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (1, "")
    assert [line for line in lines if "vowels" in line] == [
        "started  vowels",
        "failed   vowels: loss is nan",
    ]
    assert "sweep-study: Failed: Job entrypoint command failed with exit code 1" in lines
    assert lines[-1] == "sweep-study failed; MLflow: make ui CONTEXT=here"


def test_a_log_that_breaks_is_read_on_without_repeating_a_line(
    operator: Operator, tmp_path: Path
) -> None:
    written = [f"line {number}" for number in range(8)] + ["", "line 3", "line 8"]

    def script(name: str) -> None:
        operator.status(name, "Running", "RUNNING")
        first = operator.submitter(name, cuts=(12, 10))
        first.lines += [*HEAD, *written[:5]]
        wait_for(lambda: first.readers == 3)
        first.lines += [
            *written[5:7],
            "Traceback (most recent call last):",
            "RuntimeError: connection lost",
        ]
        first.closed = True
        # Another submitter takes over: it gets the log of the same job from its start.
        second = operator.submitter(name, pod="two", cuts=(8,))
        second.lines += [*AGAIN, *written[:8]]
        wait_for(lambda: second.readers == 2)
        second.lines += [*written[8:], *GOOD]
        second.closed = True
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert [line for line in lines if line in written] == written


# As Ray 2.60 writes it where its head goes away, shortened.
LOST_HEAD = """\
Traceback (most recent call last):
  File "/opt/forget/lib/python3.11/site-packages/urllib3/connectionpool.py", line 793, in urlopen
    response = self._make_request(
               ^^^^^^^^^^^^^^^^^^^
http.client.RemoteDisconnected: Remote end closed connection without response

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/forget/bin/ray", line 8, in <module>
    sys.exit(main())
             ^^^^^^
requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected())""".splitlines()
OF_THE_SWEEP = """\
Traceback (most recent call last):
  File "/tasks/mine.py", line 8, in read
    raise KeyError(name)
KeyError: 'x'""".splitlines()


def test_the_traceback_of_a_submitter_that_lost_its_head_is_left_out(
    operator: Operator, tmp_path: Path
) -> None:
    written = ["started  vowels", *OF_THE_SWEEP, "failed   vowels"]

    def script(name: str) -> None:
        operator.status(name, "Running", "RUNNING")
        first = operator.submitter(name)
        first.lines += [*HEAD, *written, *LOST_HEAD]
        first.closed = True
        wait_for(lambda: first.readers == 1)
        operator.let_look()
        second = operator.submitter(name, pod="two")
        second.lines += [*HEAD, *GOOD]
        second.closed = True
        wait_for(lambda: second.readers == 1)
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert [line for line in lines if line in {*written, *LOST_HEAD}] == written


def test_the_end_of_a_log_is_not_lost_where_it_breaks_after_the_job_has_ended(
    operator: Operator, tmp_path: Path
) -> None:
    def script(name: str) -> None:
        log = operator.submitter(name, cuts=(9,) * 4)
        log.lines += [*HEAD, "started  vowels", "finished vowels", *GOOD]
        log.closed = True
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    code, lines, _ = forget(tmp_path, *SWEEP)
    assert code == 0
    assert [line for line in lines if line.endswith("vowels")] == [
        "started  vowels",
        "finished vowels",
    ]


def test_a_cluster_that_stops_answering_is_asked_again(operator: Operator, tmp_path: Path) -> None:
    def script(name: str) -> None:
        operator.status(name, "Running", "RUNNING")
        log = operator.submitter(name)
        log.lines += [*HEAD, "started  vowels"]
        wait_for(lambda: log.readers == 1)
        operator.api.away = 30
        wait_for(lambda: operator.api.away == 0)
        log.lines += ["finished vowels", *GOOD]
        log.closed = True
        operator.api.away = 5
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert [line for line in lines if line.endswith("vowels")] == [
        "started  vowels",
        "finished vowels",
    ]
    assert any(line.startswith('trying again: cluster "here": ') for line in lines)
    assert len(set(lines)) == len(lines)


def test_the_next_try_of_a_sweep_has_a_log_of_its_own(operator: Operator, tmp_path: Path) -> None:
    def script(name: str) -> None:
        first = operator.submitter(name)
        first.lines += [*HEAD, "started  vowels"]
        first.closed = True
        operator.status(name, "Running", "RUNNING")
        wait_for(lambda: first.readers > 1)
        operator.status(name, "Retrying", "FAILED")
        operator.let_look()
        second = operator.submitter(name, pod="two", job="second")
        second.lines += [*HEAD, "started  vowels", "finished vowels"]
        second.closed = True
        wait_for(lambda: second.readers > 1)
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    code, lines, _ = forget(tmp_path, *SWEEP)
    assert code == 0
    assert [line for line in lines if line.endswith("vowels")] == [
        "started  vowels",
        "started  vowels",
        "finished vowels",
    ]
    assert "sweep-study: Retrying" in lines


def test_why_a_pod_waits_is_said_once(operator: Operator, tmp_path: Path) -> None:
    def script(name: str) -> None:
        operator.status(name, "Initializing")
        labels = {"ray.io/cluster": f"{name}-abcde"}
        message = "0/3 nodes are available: 3 Insufficient cpu."
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        }
        operator.api.put(
            "Pod",
            "worker",
            metadata={"labels": labels},
            status={"phase": "Pending", "conditions": [condition]},
        )
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "forget:abc"'}
        status = {
            "phase": "Pending",
            "containerStatuses": [{"name": "ray-head", "state": {"waiting": waiting}}],
        }
        operator.api.put("Pod", "head", metadata={"labels": labels}, status=status)
        operator.let_look()
        succeed(operator)(name)

    operator.script = script
    code, lines, _ = forget(tmp_path, *SWEEP)
    assert code == 0
    assert (
        lines.count("worker: waits for a node: 0/3 nodes are available: 3 Insufficient cpu.") == 1
    )
    assert lines.count('head: ImagePullBackOff: Back-off pulling image "forget:abc"') == 1


def test_stages_losses_and_the_reason_of_a_failure_are_said(
    operator: Operator, tmp_path: Path
) -> None:
    def script(name: str) -> None:
        api = operator.api
        operator.let_look()
        operator.status(name, "Initializing")
        operator.let_look()
        for role in ("head", "worker"):
            labels = {"ray.io/cluster": f"{name}-abcde", "forget/role": role}
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            api.put("Pod", role, metadata={"labels": labels}, status=status)
        operator.status(name, "Running", "RUNNING")
        operator.let_look()
        log = operator.submitter(name)
        log.lines += HEAD
        wait_for(lambda: log.readers == 1)
        operator.let_look()
        log.lines.append("started  vowels")
        operator.let_look()
        del api.objects["pods", "worker"]
        operator.let_look()
        labels = {"ray.io/cluster": f"{name}-abcde", "forget/role": "worker"}
        died(api, "worker-2", "ray-worker", "OSError: no space left", labels)
        operator.let_look()
        log.closed = True
        operator.status(name, "Failed", "FAILED")

    operator.script = script
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (1, "")
    said = "\n".join(lines)
    for stage in ("operator", "submitter", "first trial"):
        assert f" {stage}: waits for " in said
    (first,) = (line for line in lines if line.startswith("the first trial started 0:00:"))
    # How long depends on what else the machine does.
    assert "(operator 0:00:" in first
    assert (
        "worker is gone: its trials go on from their last checkpoints, on another worker or its "
        "successor" in lines
    )
    assert lines[-1] == (
        "sweep-study failed: worker-2, ray-worker: ended with exit code 1: OSError: no space left; "
        "MLflow: make ui CONTEXT=here"
    )


@pytest.mark.parametrize("confined", [False, True])
def test_an_operator_that_goes_is_said_where_it_may_be_looked_at(
    confined: bool, operator: Operator, tmp_path: Path
) -> None:
    def script(name: str) -> None:
        api = operator.api
        log = operator.submitter(name)
        metadata = {"labels": dict([OPERATOR]), "namespace": "kuberay-system"}
        api.put("Pod", "ray", metadata=metadata, status={"phase": "Running"})
        operator.status(name, "Running", "RUNNING")
        operator.let_look()
        del api.objects["pods", "ray"]
        operator.let_look()
        log.closed = True
        operator.status(name, "Complete", "SUCCEEDED")

    operator.script = script
    operator.api.confined = confined
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    said = f"ray is gone: {LOST['operator']}"
    assert lines.count(said) == (not confined)
    assert "forbidden" not in "\n".join(lines)


def test_an_autoscaler_that_cannot_reach_the_api_is_a_sentence(
    operator: Operator, tmp_path: Path
) -> None:
    last = (
        "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='kubernetes.default', "
        "port=443): Max retries exceeded"
    )

    def script(name: str) -> None:
        labels = {"ray.io/cluster": f"{name}-abcde", "forget/role": "head"}
        died(operator.api, "head", "autoscaler", last, labels)
        operator.status(name, "Initializing")
        operator.let_look()
        succeed(operator)(name)

    operator.script = script
    code, lines, _ = forget(tmp_path, *SWEEP)
    assert code == 0
    (line,) = (line for line in lines if line.startswith("head, autoscaler: "))
    assert "exit code 1: it cannot reach the Kubernetes API, so that no worker comes or" in line
    assert line.endswith(last)


def test_ctrl_c_detaches_and_the_same_command_follows_again(
    operator: Operator, tmp_path: Path
) -> None:
    def script(name: str) -> None:
        operator.status(name, "Running", "RUNNING")
        operator.submitter(name).lines += [*HEAD, "started  vowels"]

    operator.script = script
    with start(tmp_path, *SWEEP) as process:
        assert process.stdout
        seen = []
        while "started  vowels" not in seen:
            seen.append(process.stdout.readline().strip())
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "")
    assert (
        "detached; sweep-study goes on: follow it with: make sweep CONTEXT=here SPEC=study.toml"
        in out
    )
    assert operator.api.objects["rayjobs", "sweep-study"]["status"]["jobStatus"] == "RUNNING"

    uid = operator.api.objects["rayjobs", "sweep-study"]["metadata"]["uid"]
    before = len(operator.api.written)

    def end() -> None:
        wait_for(lambda: operator.api.logs["one"].readers > 1)
        operator.api.logs["one"].lines += ["finished vowels", *GOOD]
        operator.api.logs["one"].closed = True
        operator.status("sweep-study", "Complete", "SUCCEEDED")

    threading.Thread(target=end, daemon=True).start()
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert lines[0] == "sweep-study runs already: following it"
    assert [line for line in lines if line.endswith("vowels")] == [
        "started  vowels",
        "finished vowels",
    ]
    assert operator.api.objects["rayjobs", "sweep-study"]["metadata"]["uid"] == uid
    assert len(operator.api.written) == before


@pytest.mark.parametrize(("state", "job"), [("Complete", "SUCCEEDED"), ("Failed", "FAILED")])
def test_after_the_end_the_same_spec_is_submitted_anew(
    state: str, job: str, operator: Operator, tmp_path: Path
) -> None:
    api = operator.api
    old = api.put("RayJob", "sweep-study", status={"jobDeploymentStatus": state, "jobStatus": job})
    api.put("ConfigMap", "forget-spec-old", metadata={"labels": {"forget/sweep": "sweep-study"}})
    api.put("ConfigMap", "forget-spec-other", metadata={"labels": {"forget/sweep": "sweep-other"}})
    operator.script = succeed(operator)
    code, _, error = forget(tmp_path, *SWEEP)
    assert (code, error) == (0, "")
    assert api.written.index(("DELETE", "rayjobs", "sweep-study")) < api.written.index(
        ("PATCH", "rayjobs", "sweep-study")
    )
    assert api.objects["rayjobs", "sweep-study"]["metadata"]["uid"] != old["metadata"]["uid"]
    specs = [
        name
        for kind, name in api.objects
        if kind == "configmaps" and name.startswith("forget-spec")
    ]
    assert len(specs) == 2
    assert "forget-spec-old" not in specs


def test_another_spec_of_that_name_is_not_taken_for_the_one_that_runs(
    operator: Operator, tmp_path: Path
) -> None:
    operator.api.put("RayJob", "sweep-study", status={"jobDeploymentStatus": "Running"})
    code, lines, error = forget(tmp_path, *SWEEP)
    assert (code, lines) == (2, [])
    assert error.startswith(
        "forget: sweep-study runs another version of study.toml: wait for it, or stop it with: "
    )
    assert not operator.api.written


def test_a_rayjob_that_vanishes_ends_the_following(operator: Operator, tmp_path: Path) -> None:
    def script(name: str) -> None:
        operator.status(name, "Running", "RUNNING")
        operator.let_look()
        del operator.api.objects["rayjobs", name]

    operator.script = script
    code, lines, _ = forget(tmp_path, *SWEEP)
    assert (code, lines[-1]) == (1, "sweep-study was deleted")


def no_operator(api: ApiServer) -> None:
    del api.kinds["ray.io", "v1"]


def no_default(api: ApiServer) -> None:
    api.objects["storageclasses", "standard"]["metadata"]["annotations"] = {}


def no_class(api: ApiServer) -> None:
    del api.objects["storageclasses", "standard"]


def no_secrets(api: ApiServer) -> None:
    del api.objects["secrets", "mlflow-server"], api.objects["secrets", "forget-client"]


def is_away(api: ApiServer) -> None:
    api.away = 1000


LACKS = {
    "operator": (
        no_operator,
        "has no KubeRay operator (no rayjobs.ray.io); install it with: helm install ",
    ),
    "default storage class": (
        no_default,
        "has no default storage class for the volumes; of standard, make one the default: kub",
    ),
    "storage class": (
        no_class,
        "has no default storage class for the volumes; after installing one, make one the default:",
    ),
    "secrets": (
        no_secrets,
        "lacks the Secrets forget-client, mlflow-server in namespace forget; make random ones",
    ),
    "answer": (is_away, 'cluster "here": '),
}


@pytest.mark.parametrize(("take", "words"), LACKS.values(), ids=LACKS.keys())
def test_what_a_cluster_lacks_is_said_in_one_sentence(
    take: Callable[[ApiServer], None], words: str, api: ApiServer, tmp_path: Path
) -> None:
    take(api)
    code, lines, error = forget(tmp_path, *DEPLOY)
    assert (code, lines) == (2, [])
    assert words in error
    assert error.startswith("forget: ")
    assert error.count("\n") == 1
    assert not api.written


def test_a_sweep_is_refused_where_the_operator_or_its_secret_is_missing(
    api: ApiServer, tmp_path: Path
) -> None:
    no_secrets(api)
    code, _, error = forget(tmp_path, *SWEEP)
    assert (code, "lacks the Secret forget-client in namespace forget" in error) == (2, True)
    no_operator(api)
    code, _, error = forget(tmp_path, *SWEEP)
    assert (code, "has no KubeRay operator" in error) == (2, True)
    assert not api.written


def test_deploy_replaces_the_jobs_of_before_and_waits_until_all_is_healthy(
    operator: Operator, tmp_path: Path
) -> None:
    api = operator.api
    code, lines, error = forget(tmp_path, *DEPLOY)
    assert (code, error) == (0, "")
    for what in (
        "job/mlflow-migrate",
        "deployment/mlflow",
        "statefulset/postgres",
        "statefulset/seaweedfs",
    ):
        assert f"{what}: healthy" in lines
    assert (
        lines[-1]
        == "MLflow is up: http://mlflow.forget:5000 within the cluster; here: make ui CONTEXT=here"
    )

    def slowly(one: dict[str, Any]) -> None:
        operator.react(one)
        if one["kind"] == "Job":
            # As its ttlSecondsAfterFinished has it, while the server still starts.
            looks = api.lists["jobs"]
            wait_for(lambda: api.lists["jobs"] > looks + 1)
            del api.objects["jobs", one["metadata"]["name"]]
        elif one["kind"] == "Deployment":
            one["status"] = {"replicas": 1, "observedGeneration": 1}
            wait_for(lambda: ("jobs", "mlflow-migrate") in api.objects)
            wait_for(lambda: ("jobs", "mlflow-migrate") not in api.objects)
            looks = api.lists["deployments"]
            wait_for(lambda: api.lists["deployments"] > looks + 1)
            operator.react(one)

    api.react = slowly
    code, lines, error = forget(tmp_path, *DEPLOY[:3], "--tag", "def", "--dirty")
    assert (code, error) == (0, "")
    assert (
        api.objects["deployments", "mlflow"]["spec"]["template"]["spec"]["containers"][0]["image"]
        == "forget-mlflow:def"
    )
    assert lines.index("deployment/mlflow: 0 of 1 ready") < lines.index(
        "deployment/mlflow: healthy"
    )
    assert "job/mlflow-migrate: healthy" in lines


def died(api: ApiServer, name: str, container: str, last: str, labels: dict[str, str]) -> None:
    """Put a pod whose container has failed, and the log that says why."""
    log = api.logs[name] = Log()
    log.lines += ["Traceback (most recent call last):", last]
    log.closed = True
    state = {"name": container, "state": {"terminated": {"exitCode": 1}}}
    api.put(
        "Pod",
        name,
        metadata={"labels": labels},
        spec={"containers": [{"name": container, "image": "forget"}]},
        status={"phase": "Failed", "containerStatuses": [state]},
    )


def test_a_migration_that_fails_ends_deploy(operator: Operator, tmp_path: Path) -> None:
    def fail(one: dict[str, Any]) -> None:
        operator.react(one)
        if one["metadata"]["name"] == "mlflow-migrate":
            one["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
            died(
                operator.api,
                "migrate-1",
                "migrate",
                "KeyError: 'x'",
                {"forget/role": "mlflow-migrate"},
            )

    operator.api.react = fail
    code, lines, _ = forget(tmp_path, *DEPLOY)
    assert code == 1
    assert "job/mlflow-migrate: failed" in lines
    assert lines[-2] == (
        "job/mlflow-migrate did not become healthy: "
        "migrate-1, migrate: ended with exit code 1: KeyError: 'x'"
    )


def test_what_deploy_waits_for_is_told_by_the_last_words_of_its_pods(
    operator: Operator, tmp_path: Path
) -> None:
    api = operator.api

    def slowly(one: dict[str, Any]) -> None:
        if one["kind"] == "Job":
            died(api, "migrate-1", "migrate", "KeyError: 'x'", {})
            looks = api.lists["pods"]
            wait_for(lambda: api.lists["pods"] > looks + 2)
        operator.react(one)

    api.react = slowly
    code, lines, error = forget(tmp_path, *DEPLOY)
    assert (code, error) == (0, "")
    told = "migrate-1, migrate: ended with exit code 1: KeyError: 'x'"
    assert lines.count(told) == 1


def test_undeploy_keeps_volumes_and_secrets_unless_told(operator: Operator, tmp_path: Path) -> None:
    api = operator.api
    assert forget(tmp_path, *DEPLOY)[0] == 0
    api.put("PersistentVolumeClaim", "data-postgres-0")
    api.put("RayJob", "sweep-study", status={"jobDeploymentStatus": "Running"})
    code, _, error = forget(tmp_path, "undeploy", "--context", "here")
    assert (code, "sweep-study runs and needs the tracking server" in error) == (2, True)
    assert ("deployments", "mlflow") in api.objects

    operator.status("sweep-study", "Complete", "SUCCEEDED")
    code, lines, error = forget(tmp_path, "undeploy", "--context", "here")
    assert (code, error) == (0, "")
    left = {kind for kind, _ in api.objects} - {"nodes", "localqueues"}
    assert left == {"namespaces", "persistentvolumeclaims", "rayjobs", "secrets", "storageclasses"}
    assert "kept namespace forget, its Secrets and volumes (data-postgres-0)" in lines[0]
    code, lines, error = forget(tmp_path, "undeploy", "--context", "here", "--data")
    assert (code, error) == (0, "")
    assert api.written[-1] == ("DELETE", "namespaces", "forget")


def test_ui_needs_a_deployment(api: ApiServer, tmp_path: Path) -> None:
    code, _, error = forget(tmp_path, "ui", "--context", "here")
    assert code == 2
    assert (
        error == 'forget: no MLflow in cluster "here"; deploy it with: make deploy CONTEXT=here\n'
    )
    ports = [{"name": "http", "port": 5000, "targetPort": 5000}]
    api.put("Service", "mlflow", spec={"selector": {"forget/role": "mlflow"}, "ports": ports})
    pod = {"containers": [{"name": "mlflow", "ports": [{"containerPort": 5000}]}]}
    api.put(
        "Pod",
        "mlflow-0",
        metadata={"labels": {"forget/role": "mlflow"}},
        spec=pod,
        status={"phase": "Running"},
    )
    # It becomes kubectl.
    with start(tmp_path, "ui", "--context", "here", "--port", "5999") as process:
        out, _ = process.communicate(timeout=120)
    assert out.startswith(
        "MLflow: http://127.0.0.1:5999, until Ctrl-C; user and password: kubectl --context here "
    )
    assert "/api/v1/namespaces/forget/pods/mlflow-0/portforward" in api.unknown


@pytest.mark.parametrize(
    "overlay", ["cpu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pvc", "kueue"))]
)
def test_dry_run_of_a_sweep_prints_what_kubectl_accepts_and_applies_nothing(
    overlay: str, operator: Operator, tmp_path: Path
) -> None:
    code, lines, error = forget(tmp_path, *SWEEP, "--dry-run", "--overlay", overlay)
    assert (code, error) == (0, "")
    assert not operator.api.written
    accepted(tmp_path, "\n".join(lines), "rayjob.ray.io/sweep-study created (dry run)")
    assert not operator.api.written
    operator.script = succeed(operator)
    assert forget(tmp_path, *SWEEP, "--overlay", overlay)[0] == 0
    applied = {name for method, _, name in operator.api.written if method == "PATCH"}
    assert applied == {one["metadata"]["name"] for one in yaml.safe_load_all("\n".join(lines))}


def test_dry_run_of_deploy_prints_what_kubectl_accepts_and_applies_nothing(
    api: ApiServer, tmp_path: Path
) -> None:
    # Needs no cluster.
    code, lines, error = forget(tmp_path, "deploy", "--tag", "abc", "--dirty", "--dry-run")
    assert (code, error) == (0, "")
    accepted(tmp_path, "\n".join(lines), "deployment.apps/mlflow created (dry run)")
    assert not api.written


def accepted(home: Path, manifests: str, line: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {"HOME": str(home)}
    apply = [
        "kubectl",
        "--context",
        "here",
        "apply",
        "--dry-run=client",
        "--validate=false",
        "-f",
        "-",
    ]
    done = subprocess.run(
        apply, input=manifests, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("sweep", "study.toml", "--context", "elsewhere"),
            'no cluster is named "elsewhere" in your kubeconfig',
        ),
        (("deploy",), "CONTEXT names the cluster, e.g. make deploy CONTEXT=here"),
        ((*SWEEP, "--overlay", "gpus"), 'no overlay is named "gpus"'),
        (
            ("sweep", "none.toml", *SWEEP[2:], "--overlay", "gpu"),
            "[resources] asks for no GPU, and the workers of overlay gpu have 1",
        ),
        (
            ("sweep", "gpus.toml", *SWEEP[2:]),
            "[resources] asks for 1 GPUs a process, and the workers of overlay cpu have none",
        ),
        (
            ("sweep", "own.toml", *SWEEP[2:]),
            'own.toml: base.folders: "my_tasks" is a folder of this machine',
        ),
        (("sweep", "wrong.toml", *SWEEP[2:]), 'no task is named "wrld"; did you mean "world"?'),
        (("sweep", "key.toml", *SWEEP[2:]), 'key.toml: unknown key "base.epoch"'),
    ],
)
def test_mistakes_cost_one_sentence(
    words: tuple[str, ...], sentence: str, api: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(SPEC.replace("/tasks", "my_tasks"))
    (tmp_path / "key.toml").write_text(f"{SPEC}epoch = 3")
    (tmp_path / "gpus.toml").write_text(f"{SPEC}[resources]\ngpus = 1")
    (tmp_path / "none.toml").write_text(f"{SPEC}[resources]\ngpus = 0")
    (tmp_path / "wrong.toml").write_text('[base]\ntask = "wrld"\nmodel = "tiny"')
    code, lines, error = forget(tmp_path, *words)
    assert (code, lines) == (2, [])
    assert sentence in error
    assert error.count("\n") == 1
    assert not api.written


def test_a_machine_without_kubectl_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match="kubectl is not installed"):
        cluster.connect("here")


def test_the_tag_is_the_commit_and_a_dirty_tree_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    monkeypatch.setattr("pipelines.cluster.manifests.PROJECT", tmp_path)
    with pytest.raises(BadInput, match="is no git repository"):
        tag_of(None, dirty=False)
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "--message", "one")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert tag_of(None, dirty=False) == commit
    (tmp_path / "my.toml").write_text(SPEC)
    assert tag_of(None, dirty=False, spec=tmp_path / "my.toml") == commit
    (tmp_path / "code.py").write_text("2")
    with pytest.raises(
        BadInput,
        match=rf"commit {commit} names the image and lacks your changes of code.py: commit them,",
    ):
        tag_of(None, dirty=False, spec=tmp_path / "my.toml")
    with pytest.raises(BadInput, match="DIRTY=1"):
        tag_of("mine", dirty=False)
    assert tag_of(None, dirty=True) == f"{commit}-dirty"
    assert tag_of("mine", dirty=True) == "mine"


def test_a_rayjob_is_called_by_its_sweep_within_what_kubernetes_allows() -> None:
    assert job_name("quickstart") == "sweep-quickstart"
    names = {job_name(name) for name in ("my_study", "my-study", "My.study", "x" * 60, "x" * 61)}
    assert len(names) == 5
    assert all(
        len(name) <= 47 and name.replace("-", "").isalnum() and name.islower() for name in names
    )


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)
