"""States of the objects on a cluster, in words, each said when it changes."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Changes:
    """The states that were said last, so that only changes are said."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def tell(self, what: str, state: str) -> None:
        """Say a state, unless it is the one that was said last."""
        if self._last.get(what) != state:
            self._last[what] = state
            say(f"{what}: {state}")


def say(line: str) -> None:
    """Print a line for the user."""
    # Text and line end in one write: two threads speak.
    print(f"{line}\n", end="", flush=True)


HEALTHY, FAILED = "healthy", "failed"


def _job_health(job: Mapping[str, Any]) -> str:
    conditions = {
        one["type"]
        for one in job.get("status", {}).get("conditions", ())
        if one["status"] == "True"
    }
    if "Complete" in conditions:
        return HEALTHY
    return FAILED if "Failed" in conditions else "running"


def _replica_health(one: Mapping[str, Any]) -> str:
    status, wanted = one.get("status", {}), one["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < one["metadata"].get("generation", 0):
        return "starting"
    ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    # While an update runs, pods of the old version are there as well.
    if ready >= wanted and status.get("replicas", 0) == wanted:
        return HEALTHY
    return f"{ready} of {wanted} ready"


HEALTH = {"Job": _job_health, "Deployment": _replica_health, "StatefulSet": _replica_health}
"""Functions that tell an object's health, by its kind."""


def state_of(job: Mapping[str, Any]) -> str:
    """Return the state of a RayJob, and why it is in it."""
    status = job.get("status", {})
    state = status.get("jobDeploymentStatus") or "Pending: the KubeRay operator has not seen it"
    workers = status.get("rayClusterStatus", {})
    if state == "Running" and workers.get("desiredWorkerReplicas"):
        ready, wanted = workers.get("readyWorkerReplicas", 0), workers["desiredWorkerReplicas"]
        return f"{state}, {ready} of {wanted} workers ready"
    why = status.get("message") or status.get("reason")
    # A job that failed says its last lines, which are in its log as well.
    return f"{state}: {why.partition(chr(10))[0]}" if why else state


def ended(job: Mapping[str, Any]) -> bool:
    """Return whether a RayJob does nothing more, or is being deleted."""
    going = bool(job["metadata"].get("deletionTimestamp"))
    return going or job.get("status", {}).get("jobDeploymentStatus") in (
        "Complete",
        "Failed",
        "ValidationFailed",
    )


def speaking(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (container, how it ended) of those whose log says what a pod waits for.

    They have failed, or run before the pod's own containers; of these the second word is "".
    """
    status = pod.get("status", {})
    first = status.get("initContainerStatuses", ())
    for one in (*first, *status.get("containerStatuses", ())):
        for state in (one.get("state", {}), one.get("lastState", {})):
            code = (state.get("terminated") or {}).get("exitCode", 0)
            if code:
                yield one["name"], f"ended with exit code {code}"
                break
        else:
            if one in first and one.get("state", {}).get("running"):
                yield one["name"], ""


def failing(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods of which a container has failed."""
    return [pod for pod in pods if any(map(operator.itemgetter(1), speaking(pod)))]


STARTING = ("PodInitializing", "ContainerCreating")
"""Reasons for which a container waits when all is well."""


def troubles(pods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (pod, why it does not start or was killed), in the words of the cluster."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for one in status.get("conditions", ()):
            if one["type"] == "PodScheduled" and one["status"] == "False":
                yield name, f"waits for a node: {one.get('message', one.get('reason', ''))}"
        for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = one.get("state", {}).get("waiting") or {}
            if waiting.get("reason", STARTING[0]) not in STARTING:
                yield name, f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
            if (one.get("lastState", {}).get("terminated") or {}).get("reason") == "OOMKilled":
                yield name, "was killed for its memory: give the overlay's workers more"
