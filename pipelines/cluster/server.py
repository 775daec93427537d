"""The tracking server on a cluster: set up, looked at from here, and deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import yaml

from forget.errors import BadInput
from pipelines.cluster.kubectl import DELETE_SECONDS, POLL_SECONDS, Cluster, Refused
from pipelines.cluster.logs import last_words
from pipelines.cluster.manifests import NAMESPACE, parse
from pipelines.cluster.needs import check_needs, check_operator, has_operator
from pipelines.cluster.stages import ROLE
from pipelines.cluster.states import (
    FAILED,
    HEALTH,
    HEALTHY,
    Changes,
    ended,
    say,
    troubles,
)
from pipelines.opening import show_once_up

SECRET = ("get", "secret", "forget-client")
"""Words of kubectl that read the tracking server's user and password."""

HEALTHY_SECONDS = 900
"""Seconds that the tracking server may take: nodes come, images are pulled, volumes are made."""


def deploy(cluster: Cluster, manifests: str) -> int:
    """Apply the tracking server, wait until it is healthy, and return the exit code.

    Raises:
        BadInput: the cluster lacks what everything stands on.
    """
    objects = parse(manifests)
    check_operator(cluster)
    check_needs(cluster, objects)
    # A Job cannot be changed; that of an earlier version makes room for this one's.
    if jobs := [one["metadata"]["name"] for one in objects if one["kind"] == "Job"]:
        cluster.kubectl(
            "delete", "job", *jobs, "--ignore-not-found", "--wait", seconds=DELETE_SECONDS
        )
    cluster.apply(manifests)
    say(f'applied {len(objects)} objects to cluster "{cluster.context}"')
    return _until_healthy(cluster, objects)


def _until_healthy(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> int:
    """Say how the objects come up until all are healthy; return the exit code."""
    wanted = {
        (one["kind"].lower(), one["metadata"]["name"]) for one in objects if one["kind"] in HEALTH
    }
    told = Changes()
    states = dict.fromkeys(sorted(wanted), "missing")
    until = time.monotonic() + HEALTHY_SECONDS
    while any(state != HEALTHY for state in states.values()):
        for one in cluster.find(",".join(sorted({kind for kind, _ in wanted}))):
            what = (one["kind"].lower(), one["metadata"]["name"])
            # A Job that is complete is deleted after a while, and was complete all the same.
            if what in wanted:
                states[what] = HEALTH[one["kind"]](one)
                told.tell("/".join(what), states[what])
        pods = cluster.find("pod")
        for pod, trouble in _reasons(cluster, pods):
            told.tell(pod, trouble)
        late = time.monotonic() > until
        for what, state in states.items():
            if state == FAILED or (late and state != HEALTHY):
                bad = "/".join(what)
                said = [f"{one}: {why}" for one, why in _reasons(cluster, pods, what[1])]
                say(f"{bad} did not become healthy: {'; '.join(said) or state}")
                say(f"its log: {cluster.command('logs', bad, '--all-containers')}")
                return 1
        time.sleep(POLL_SECONDS)
    say(
        f"MLflow is up: http://mlflow.{NAMESPACE}:5000 within the cluster; "
        f"here: make ui CONTEXT={cluster.context}"
    )
    return 0


def _reasons(
    cluster: Cluster, pods: Sequence[Mapping[str, Any]], role: str | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (pod or a container of it, why it is not healthy), of one role or of all."""
    of_it = [pod for pod in pods if role in (None, pod["metadata"].get("labels", {}).get(ROLE))]
    yield from troubles(of_it)
    yield from last_words(cluster, of_it)


def undeploy(cluster: Cluster, manifests: str, data: bool) -> int:
    """Delete what `deploy` made.

    The volumes and the Secrets, which cannot be made again, stay unless `data` is true.

    Raises:
        BadInput: a sweep runs.
    """
    jobs = cluster.find("rayjob") if has_operator(cluster) else []
    if running := [job["metadata"]["name"] for job in jobs if not ended(job)]:
        stop = cluster.command("delete", "rayjob", running[0])
        raise BadInput(
            f"{running[0]} runs and needs the tracking server: wait for it, or stop it with: {stop}"
        )
    if data:
        cluster.kubectl(
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--wait",
            seconds=2 * DELETE_SECONDS,
        )
        say(f"deleted namespace {NAMESPACE} with its volumes and Secrets")
        return 0
    kept = ("Namespace", "PersistentVolumeClaim", "Secret")
    gone = [one for one in parse(manifests) if one["kind"] not in kept]
    words = ("delete", "--ignore-not-found", "--wait", "--filename=-")
    cluster.kubectl(*words, given=yaml.safe_dump_all(gone), seconds=DELETE_SECONDS)
    # Config maps of earlier versions have other names, which hold a hash of what they say.
    cluster.kubectl(
        "delete", "configmap", "--selector=app.kubernetes.io/part-of=forget", "--ignore-not-found"
    )
    claims = [claim["metadata"]["name"] for claim in cluster.find("pvc")]
    say(
        f"deleted {len(gone)} objects; kept namespace {NAMESPACE}, "
        f"its Secrets and volumes ({', '.join(claims) or 'none'})"
    )
    say(
        "delete these as well, with every run and model in them: "
        f"make undeploy CONTEXT={cluster.context} DATA=1"
    )
    return 0


def ui(cluster: Cluster, port: int) -> NoReturn:
    """Forward a port of this machine to the tracking server, until Ctrl-C.

    Raises:
        BadInput: it is not deployed.
    """
    if not cluster.find("service", "mlflow"):
        raise BadInput(
            f'no MLflow in cluster "{cluster.context}"; '
            f"deploy it with: make deploy CONTEXT={cluster.context}"
        )
    decoded = [
        f"{{{{.data.MLFLOW_TRACKING_{key} | base64decode}}}}" for key in ("USERNAME", "PASSWORD")
    ]
    who = f"'{' '.join(decoded)}'"
    secret = cluster.command(*SECRET, f"--output=go-template={who}")
    say(f"MLflow: http://127.0.0.1:{port}, until Ctrl-C; user and password: {secret}")
    here = f"http://127.0.0.1:{port}"
    template = f"--output=go-template={' '.join(decoded)}"
    try:
        user, _, password = cluster.kubectl(*SECRET, template).partition(" ")
    except Refused as error:
        say(f"the newest study is not looked up: {error}")
    else:
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        show_once_up(here, dict(zip(names, (here, user, password), strict=True)))
    words = [
        "--context",
        cluster.context,
        "--namespace",
        NAMESPACE,
        "port-forward",
        "service/mlflow",
        f"{port}:5000",
    ]
    os.execvp("kubectl", ["kubectl", *words])
