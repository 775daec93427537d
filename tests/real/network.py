"""Which pods of a real cluster can talk to each other, as they find it themselves."""

from __future__ import annotations

import json
import time

from faults.world import Unexpected

from pipelines.cluster.kubectl import Refused

from .world import Real

OPEN = {("worker", "mlflow", 5000), ("worker", "seaweedfs", 8333), ("mlflow-gc", "postgres", 5432)}
"""Pairs (role, service, port) that the policies open."""

CLOSED = {
    ("submitter", "mlflow", 5000),
    ("submitter", "seaweedfs", 8333),
    ("submitter", "postgres", 5432),
    ("worker", "postgres", 5432),
    ("mlflow-gc", "seaweedfs", 8333),
}

ASK = """
import json, socket, sys
found = []
for host, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((host, port), 5).close()
        found.append([host, port])
    except OSError:
        pass
print(json.dumps(found))
"""


def reached(real: Real) -> set[tuple[str, str, int]]:
    """Return which of the pairs can talk."""
    found = set()
    for role in sorted({role for role, _, _ in OPEN | CLOSED}):
        targets = sorted({(host, port) for _, host, port in OPEN | CLOSED})
        for host, port in json.loads(_ask(real, role, json.dumps(targets))):
            found.add((role, host, port))
    return found & (OPEN | CLOSED)


def _ask(real: Real, role: str, targets: str) -> str:
    """Run a pod of that role, and return what it says."""
    name = f"ask-{role}"
    limits = {"cpu": "100m", "memory": "128Mi"}
    container = {
        "name": "ask",
        "image": f"{real.image}:{real.tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", ASK, targets],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": limits},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"forget/role": role}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
    real.cluster.kubectl("delete", "pod", name, "--ignore-not-found", "--wait", seconds=60)
    real.cluster.kubectl("create", "--filename=-", given=json.dumps(pod))
    until = time.monotonic() + 180
    try:
        while time.monotonic() < until:
            phase = real.cluster.kubectl("get", "pod", name, "--output=jsonpath={.status.phase}")
            if phase == "Succeeded":
                return real.cluster.kubectl("logs", name)
            if phase == "Failed":
                raise Unexpected(real.cluster.kubectl("logs", name))
            time.sleep(1)
        raise Unexpected(f"pod {name} did not run")
    finally:
        try:
            real.cluster.kubectl("delete", "pod", name, "--wait=false")
        except Refused as error:
            print(error)
