"""Stages of a sweep on a cluster until its first trial, and pods that it loses on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pipelines.cluster.states import say

AGAIN_SECONDS = 60.0
"""Seconds after which a stage that goes on is said again."""

ROLE = "forget/role"
"""Label of our pods."""

OPERATOR = ("app.kubernetes.io/component", "kuberay-operator")
"""Label, and its value, of the pods of KubeRay's operator, in whichever namespace they are."""

Pod = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A part of the way from submit to the first trial."""

    name: str
    awaits: str
    """Words for that which it waits for."""


def stage_of(job: Mapping[str, Any], pods: Sequence[Pod], warnings: Sequence[str] = ()) -> Stage:
    """Tell at which stage a RayJob is that has no trial yet.

    Args:
        job: the RayJob.
        pods: of its namespace.
        warnings: why the operator could not make a pod, the newest last.
    """
    status = job.get("status", {})
    if job["spec"].get("suspend") or status.get("jobDeploymentStatus") in (
        "Suspended",
        "Suspending",
    ):
        return Stage("quota", "its queue to admit it")
    cluster = status.get("rayClusterName")
    if not cluster:
        return Stage("operator", "the KubeRay operator to see it")
    why = f": {warnings[-1]}" if warnings else ""
    for role in ("head", "worker"):
        mine = [pod for pod in alive(pods, role) if in_cluster(pod, cluster)]
        if not any(map(ready, mine)):
            if not mine:
                about = "quota" if "exceeded quota" in why else "operator"
                return Stage(about, f"the KubeRay operator to make the {role}{why}")
            return min((_of_pod(pod, role) for pod in mine), key=lambda one: -ORDER.index(one.name))
    if not any(running(pod) for pod in submitting(pods, job)):
        return Stage("submitter", "the pod that submits the job to the head")
    return Stage("first trial", "the sweep to check its spec, read models and data, and start one")


ORDER = ("quota", "operator", "node", "volumes", "image", "head", "worker", "submitter")
"""The stages before the first trial, in their order."""


def _of_pod(pod: Pod, role: str) -> Stage:
    """Tell the stage of a pod that is not ready."""
    status = pod.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    if conditions.get("PodScheduled", {}).get("status") != "True":
        return Stage("node", f"a node with room for the {role}")
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    if not any(one.get("imageID") for one in containers):
        node = pod["spec"].get("nodeName", "a node")
        if conditions.get("PodReadyToStartContainers", {}).get("status") == "False":
            return Stage("volumes", f"the volumes and the address of the {role}, on {node}")
        image = pod["spec"]["containers"][0]["image"]
        return Stage("image", f"the image {image}, on {node}")
    return Stage(role, f"the {role} to be ready")


def alive(pods: Sequence[Pod], role: str) -> list[Pod]:
    """Return the pods of a role that neither have ended nor are told to."""
    return [
        pod
        for pod in pods
        if role_of(pod) == role
        and not pod["metadata"].get("deletionTimestamp")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def role_of(pod: Pod) -> str:
    """Return what a pod does for a sweep, "" where it does nothing."""
    labels = pod["metadata"].get("labels", {})
    key, value = OPERATOR
    return "operator" if labels.get(key) == value else labels.get(ROLE, "")


def in_cluster(pod: Pod, cluster: str) -> bool:
    """Return whether a pod is one of the Ray cluster."""
    return pod["metadata"].get("labels", {}).get("ray.io/cluster") == cluster


def submitting(pods: Sequence[Pod], job: Mapping[str, Any]) -> list[Pod]:
    """Return the pods that submit the RayJob."""
    name = job["metadata"]["name"]
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get("job-name") == name]


def running(pod: Pod) -> bool:
    """Return whether a pod's containers run, or have ended well."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def ready(pod: Pod) -> bool:
    """Return whether a pod says that it is ready."""
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in pod.get("status", {}).get("conditions", ())
    )


def duration(seconds: float) -> str:
    """Return seconds as a person reads them, e.g. 0:01:30."""
    return str(timedelta(seconds=round(seconds)))


@dataclass
class Way:
    """The way of a sweep to its first trial: a line a stage, and one a minute."""

    clock: Callable[[], float] = time.monotonic
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    whole: bool = True
    """It began with the submit; how long it was is not known of a sweep that is followed later."""
    over: bool = False
    """The first trial has started."""

    def __post_init__(self) -> None:
        self.since = self.looked = self.said = self.clock()
        self.at: Stage | None = None

    def look(self, stage: Stage) -> None:
        """Say what is waited for, where that has changed or lasts."""
        now = self.clock()
        last, self.looked = self.looked, now
        was = (self.at or stage).name
        self.spent[was] = self.spent.get(was, 0.0) + now - last
        new, self.at = stage != self.at, stage
        if new or now - self.said >= AGAIN_SECONDS:
            self.said = now
            for_ = "" if new else f" still, {duration(self.spent[stage.name])} by now,"
            say(f"{duration(now - self.since)} {stage.name}: waits{for_} for {stage.awaits}")

    def end(self, at: float) -> None:
        """Say how long the way to the first trial was, and what it went by.

        Args:
            at: when the trial started, on the clock.
        """
        if self.over or self.at is None or not self.whole:
            return
        self.over = True
        self.spent[self.at.name] = self.spent.get(self.at.name, 0.0) + max(0.0, at - self.looked)
        parts = ", ".join(f"{name} {duration(spent)}" for name, spent in self.spent.items())
        say(f"the first trial started {duration(at - self.since)} after submit ({parts})")


LOST = {
    "head": "its trials go on from their last checkpoints, on another head or another cluster",
    "worker": "its trials go on from their last checkpoints, on another worker or its successor",
    "submitter": "the job goes on; another submitter takes over",
    "mlflow": "trials go on; what they log waits in their journals until the server is back",
    "postgres": "trials go on; what they log waits in their journals until MLflow is back",
    "seaweedfs": "trials ask the store again, or start again from their last checkpoints",
    "operator": "trials go on; no pod is replaced, and no end is seen, until another one runs",
}
"""Consequences of the loss of a pod, by its role."""

WITH_ITS_HEAD = "no head has its job any more; another submitter, or the next try, submits it again"
"""Consequence of the loss of a submitter beside that of the head that it submitted to."""


@dataclass
class Losses:
    """Pods that were there and go before the sweep ends, each said once."""

    known: dict[str, Pod] = field(default_factory=dict)
    """By uid."""
    heads: dict[str, str] = field(default_factory=dict)
    """The head (`_identity`) that a submitter found ready, by the submitter's uid."""

    def look(self, pods: Sequence[Pod], job: Mapping[str, Any]) -> Iterator[str]:
        """Yield a sentence for each pod that is gone, or goes.

        Args:
            pods: of the namespace, and those of the operator.
            job: the RayJob, whose own pods count; others' Ray pods do not.
        """
        now = {pod["metadata"]["uid"]: pod for pod in pods}
        cluster = job.get("status", {}).get("rayClusterName", "")
        heads = [pod for pod in alive(pods, "head") if in_cluster(pod, cluster)]
        for uid in list(self.known):
            pod = now.get(uid)
            if pod and pod.get("status", {}).get("phase") == "Succeeded":
                del self.known[uid]
            elif why := gone(pod) or restarted(self.known[uid], pod):
                last = self.known.pop(uid)
                follows = LOST[role_of(last)]
                if role_of(last) == "submitter" and self.heads.get(uid, "") not in map(
                    _identity, heads
                ):
                    follows = WITH_ITS_HEAD
                yield f"{last['metadata']['name']} {why}: {follows}"
        for role in LOST:
            for pod in alive(pods, role):
                ours = role not in ("head", "worker", "submitter") or in_cluster(pod, cluster)
                if (ours or pod in submitting(pods, job)) and running(pod):
                    self.known[pod["metadata"]["uid"]] = pod
                    # A head that comes later does not have its job.
                    for head in filter(ready, heads if role == "submitter" else ()):
                        self.heads.setdefault(pod["metadata"]["uid"], _identity(head))


def _identity(head: Pod) -> str:
    """Return a head's uid and how often its Ray was started, which loses all jobs."""
    container = head["spec"]["containers"][0].get("name", "")
    return f"{head['metadata']['uid']} {_restarts(head).get(container, 0)}"


def gone(pod: Pod | None) -> str:
    """Return how a pod went or goes, "" where it stays or has done its work."""
    if pod is None:
        return "is gone"
    status = pod.get("status", {})
    for one in status.get("conditions", ()):
        if one["type"] == "DisruptionTarget" and one["status"] == "True":
            return f"has to go ({one.get('message') or one.get('reason')})".replace("\n", " ")
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    if status.get("phase") == "Failed":
        return f"failed ({status['message']})" if status.get("message") else "failed"
    return ""


def restarted(before: Pod, now: Pod | None) -> str:
    """Return how a container of a pod ended that was started again since, "" where none was."""
    counts = [_restarts(pod) for pod in (before, now or before)]
    for name, count in counts[1].items():
        if count > counts[0].get(name, 0):
            return f"had its container {name} started again"
    return ""


def _restarts(pod: Pod) -> dict[str, int]:
    """Return how often each container of a pod was started again."""
    found = pod.get("status", {}).get("containerStatuses", ())
    return {one["name"]: one.get("restartCount", 0) for one in found}
