"""What the things on a cluster are at, in words, each said when it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Changes:
    """Says what something is at whenever that changes."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def tell(self, what: str, state: str) -> None:
        if self._last.get(what) != state:
            self._last[what] = state
            say(f"{what}: {state}")


def say(line: str) -> None:
    # Text and line end in one write: two threads speak.
    print(f"{line}\n", end="", flush=True)


HEALTHY, FAILED = "healthy", "failed"


def _job_health(job: Mapping[str, Any]) -> str:
    conditions = {
        one["type"]
        for one in job.get("status", {}).get("conditions", ())
        if one["status"] == "True"
    }
    return HEALTHY if "Complete" in conditions else FAILED if "Failed" in conditions else "running"


def _replica_health(one: Mapping[str, Any]) -> str:
    status, wanted = one.get("status", {}), one["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < one["metadata"].get("generation", 0):
        return "starting"
    ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    return (
        HEALTHY
        if ready >= wanted and status.get("replicas", 0) == wanted
        else f"{ready} of {wanted} ready"
    )


HEALTH = {"Job": _job_health, "Deployment": _replica_health, "StatefulSet": _replica_health}


def state_of(job: Mapping[str, Any]) -> str:
    """What a RayJob is at, and why."""
    status = job.get("status", {})
    state = status.get("jobDeploymentStatus") or "Pending: the KubeRay operator has not seen it"
    workers = status.get("rayClusterStatus", {})
    if state == "Running" and workers.get("desiredWorkerReplicas"):
        return f"{state}, {workers.get('readyWorkerReplicas', 0)} of {workers['desiredWorkerReplicas']} workers ready"
    why = status.get("message") or status.get("reason")
    # A job that failed says its last lines, which are in its log as well.
    return f"{state}: {why.partition(chr(10))[0]}" if why else state


def ended(job: Mapping[str, Any]) -> bool:
    """Whether a RayJob does nothing more, or is being deleted."""
    going = bool(job["metadata"].get("deletionTimestamp"))
    return going or job.get("status", {}).get("jobDeploymentStatus") in (
        "Complete",
        "Failed",
        "ValidationFailed",
    )


def troubles(pods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(pod, why it does not start), in the words of the cluster."""
    for pod in pods:
        status = pod.get("status", {})
        for one in status.get("conditions", ()):
            if one["type"] == "PodScheduled" and one["status"] == "False":
                yield (
                    pod["metadata"]["name"],
                    f"waits for a node: {one.get('message', one.get('reason', ''))}",
                )
        for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = one.get("state", {}).get("waiting") or {}
            if waiting.get("reason", "PodInitializing") not in (
                "PodInitializing",
                "ContainerCreating",
            ):
                yield (
                    pod["metadata"]["name"],
                    f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": "),
                )
            if (one.get("lastState", {}).get("terminated") or {}).get("reason") == "OOMKilled":
                yield (
                    pod["metadata"]["name"],
                    "was killed for its memory: give the overlay's workers more",
                )
