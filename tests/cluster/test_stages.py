"""Lines of `make sweep` between submit and the first trial, and of pods that go."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cluster.stages import (
    LOST,
    OPERATOR,
    WITH_ITS_HEAD,
    Losses,
    Stage,
    Way,
    stage_of,
)

CLUSTER = "sweep-a-xyz"


def job(suspend: bool = False, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "sweep-a"}, "spec": {"suspend": suspend}, "status": status}


MADE = job(jobDeploymentStatus="Initializing", rayClusterName=CLUSTER)


def pod(role: str, uid: str = "", phase: str = "Pending", **conditions: str) -> dict[str, Any]:
    labels = {"forget/role": role, "ray.io/cluster": CLUSTER, "job-name": ""}
    if role == "submitter":
        labels["job-name"] = "sweep-a"
    if role == "operator":
        labels = dict([OPERATOR])
    found = [{"type": key, "status": value} for key, value in conditions.items()]
    return {
        "metadata": {"name": f"{role}-1", "uid": uid or role, "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"image": "forget:abc"}]},
        "status": {"phase": phase, "conditions": found},
    }


def up(role: str) -> dict[str, Any]:
    return pod(role, phase="Running", PodScheduled="True", Ready="True")


def pulled(one: dict[str, Any]) -> dict[str, Any]:
    one["status"]["containerStatuses"] = [{"name": "ray", "imageID": "sha256:1"}]
    return one


QUOTA = 'pods "x" is forbidden: exceeded quota: small'
UP = (up("head"), up("worker"))
SUBMITTED = pod("submitter", phase="Running")


@pytest.mark.parametrize(
    ("job", "pods", "warnings", "stage"),
    [
        (job(suspend=True), [], [], ("quota", "queue to admit")),
        (job(jobDeploymentStatus="Suspended"), [], [], ("quota", "queue to admit")),
        (job(), [], [], ("operator", "to see it")),
        (MADE, [], [], ("operator", "to make the head")),
        (MADE, [], [QUOTA], ("quota", "exceeded quota: small")),
        (MADE, [pod("head", PodScheduled="False")], [], ("node", "room for the head")),
        (
            MADE,
            [pod("head", PodScheduled="True", PodReadyToStartContainers="False")],
            [],
            ("volumes", "of the head, on n"),
        ),
        (MADE, [pod("head", PodScheduled="True")], [], ("image", "forget:abc, on n")),
        (MADE, [pulled(pod("head", PodScheduled="True"))], [], ("head", "head to be ready")),
        (MADE, [up("head")], [], ("operator", "to make the worker")),
        (MADE, [up("head"), pod("worker")], [], ("node", "room for the worker")),
        (MADE, [up("head"), pod("worker"), up("worker")], [], ("submitter", "submits the job")),
        (MADE, UP, [], ("submitter", "submits the job")),
        (MADE, [*UP, pod("submitter")], [], ("submitter", "submits the job")),
        (MADE, [*UP, SUBMITTED], [], ("first trial", "check its spec")),
    ],
)
def test_each_stage_says_what_it_waits_for(
    job: dict[str, Any], pods: list[dict[str, Any]], warnings: list[str], stage: tuple[str, str]
) -> None:
    found = stage_of(job, pods, warnings)
    assert found.name == stage[0]
    assert stage[1] in found.awaits


def test_pods_of_another_sweep_do_not_count() -> None:
    other = up("head")
    other["metadata"]["labels"]["ray.io/cluster"] = "sweep-b-abc"
    assert stage_of(MADE, [other]).name == "operator"


def test_the_way_is_a_line_a_stage_and_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    way = Way(clock=lambda: now[0])
    for seconds, stage in (
        (1, "operator"),
        (3, "image"),
        (40, "image"),
        (70, "image"),
        (75, "head"),
    ):
        now[0] = 100.0 + seconds
        way.look(Stage(stage, f"the {stage}"))
    way.end(100.0 + 80)
    way.end(100.0 + 90)
    assert capsys.readouterr().out.splitlines() == [
        "0:00:01 operator: waits for the operator",
        "0:00:03 image: waits for the image",
        "0:01:10 image: waits still, 0:01:07 by now, for the image",
        "0:01:15 head: waits for the head",
        "the first trial started 0:01:20 after submit "
        "(operator 0:00:03, image 0:01:12, head 0:00:05)",
    ]


@pytest.mark.parametrize("role", LOST)
def test_a_pod_that_goes_is_said_once_with_what_follows(role: str) -> None:
    losses = Losses()
    there, others = pod(role, phase="Running"), [up("head")] * (role != "head")
    assert list(losses.look([there, *others], MADE)) == []
    said = f"{role}-1 is being deleted: {LOST[role]}"
    assert list(losses.look([going(there), *others], MADE)) == [said]
    assert list(losses.look(others, MADE)) == []


def going(there: dict[str, Any]) -> dict[str, Any]:
    """Return a pod as it is while it is being deleted."""
    return {**there, "metadata": there["metadata"] | {"deletionTimestamp": "now"}}


def failed(there: dict[str, Any]) -> dict[str, Any]:
    """Return a pod whose container ended in an error."""
    return {**there, "status": there["status"] | {"phase": "Failed"}}


def test_a_submitter_that_falls_with_its_head_does_not_say_that_the_job_goes_on() -> None:
    losses, head = Losses(), up("head")
    assert list(losses.look([head, SUBMITTED], MADE)) == []
    said = list(losses.look([going(head), failed(SUBMITTED)], MADE))
    assert said == [
        f"head-1 is being deleted: {LOST['head']}",
        f"submitter-1 failed: {WITH_ITS_HEAD}",
    ]
    # The next one is there before the next head, and finds none.
    second = pod("submitter", uid="second", phase="Running")
    new = pod("head", uid="new", phase="Running")
    assert list(losses.look([new, second], MADE)) == []
    assert list(losses.look([new, failed(second)], MADE)) == [
        f"submitter-1 failed: {WITH_ITS_HEAD}"
    ]
    # The third one submits to it, and is lost alone.
    third = pod("submitter", uid="third", phase="Running")
    new = pod("head", uid="new", phase="Running", Ready="True")
    assert list(losses.look([new, third], MADE)) == []
    said = list(losses.look([new, going(third)], MADE))
    assert said == [f"submitter-1 is being deleted: {LOST['submitter']}"]


def test_a_head_whose_ray_was_started_again_has_no_job_either() -> None:
    losses, head = Losses(), up("head")
    head["spec"]["containers"] = [{"name": "ray-head"}, {"name": "autoscaler"}]

    def started(**counts: int) -> dict[str, Any]:
        names = {"ray-head": counts.get("ray", 0), "autoscaler": counts.get("autoscaler", 0)}
        status = [{"name": name, "restartCount": count} for name, count in names.items()]
        return {**head, "status": head["status"] | {"containerStatuses": status}}

    assert list(losses.look([started(), SUBMITTED], MADE)) == []
    (_, said) = losses.look([started(ray=1), failed(SUBMITTED)], MADE)
    assert said.endswith(WITH_ITS_HEAD)
    losses = Losses()
    assert list(losses.look([started(), SUBMITTED], MADE)) == []
    (_, said) = losses.look([started(autoscaler=1), failed(SUBMITTED)], MADE)
    assert said.endswith(LOST["submitter"])


def test_a_pod_that_is_drained_says_why() -> None:
    losses = Losses()
    there = pod("worker", phase="Running")
    assert list(losses.look([there], MADE)) == []
    why = {"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}
    there["status"] = {"phase": "Running", "conditions": [why]}
    (said,) = losses.look([there], MADE)
    assert said.startswith("worker-1 has to go (Eviction API: evicting): its trials go on")


def test_a_submitter_that_has_done_its_work_is_no_loss() -> None:
    losses = Losses()
    assert list(losses.look([SUBMITTED], MADE)) == []
    assert list(losses.look([pod("submitter", phase="Succeeded")], MADE)) == []
    assert list(losses.look([], MADE)) == []


def test_a_container_that_is_started_again_is_said() -> None:
    losses = Losses()
    there = pod("seaweedfs", phase="Running")
    there["status"]["containerStatuses"] = [{"name": "seaweedfs", "restartCount": 1}]
    assert list(losses.look([there], MADE)) == []
    assert list(losses.look([there], MADE)) == []
    status = there["status"] | {
        "containerStatuses": [{"name": "seaweedfs", "restartCount": 2}],
    }
    (said,) = losses.look([{**there, "status": status}], MADE)
    assert said == (
        "seaweedfs-1 had its container seaweedfs started again: "
        "trials ask the store again, or start again from their last checkpoints"
    )
    assert list(losses.look([{**there, "status": status}], MADE)) == []
    assert list(losses.look([{**there, "status": status}], MADE)) == []


def test_a_sweep_that_is_followed_later_does_not_say_how_long_its_way_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    way = Way(whole=False)
    way.look(Stage("head", "the head"))
    way.end(way.since)
    assert capsys.readouterr().out == "0:00:00 head: waits for the head\n"
