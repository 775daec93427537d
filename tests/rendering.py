"""Manifests as kubectl renders them, and the pods in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OVERLAYS = [f"k8s/overlays/{name}" for name in ("cpu", "gpu", "kueue", "pvc", "small")]
SERVERS = ["mlflow", "mlflow/base", "mlflow/overlays/small"]
FOLDERS = [*OVERLAYS, "k8s/internet", *SERVERS]

Object = dict[str, Any]


class Pod(NamedTuple):
    """A pod that an object makes, with the annotations of that object."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Object


def tool(name: str) -> str:
    found = shutil.which(
        name, path=os.pathsep.join([str(ROOT / ".venv-deploy/bin"), os.environ["PATH"]])
    )
    if not found:
        pytest.skip(f"{name} is missing: make setup-deploy")
    return found


@cache
def rendered(folder: str) -> str:
    run = subprocess.run(
        [tool("kubectl"), "kustomize", folder], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    return run.stdout


@cache
def parsed(folder: str) -> list[Object]:
    return list(yaml.safe_load_all(rendered(folder)))


def objects(folder: str) -> list[Object]:
    return deepcopy(parsed(folder))


def pods(found: list[Object]) -> Iterator[Pod]:
    """Yield the pods of all objects, with the containers that KubeRay adds to a RayJob's."""
    for one in found:
        about, spec = one["metadata"], one.get("spec", {})
        templates = {}
        if one["kind"] == "CronJob":
            templates[""] = spec["jobTemplate"]["spec"]["template"]
        elif one["kind"] == "RayJob":
            cluster = spec["rayClusterSpec"]
            head = deepcopy(cluster["headGroupSpec"]["template"])
            if cluster.get("enableInTreeAutoscaling"):
                options = cluster["autoscalerOptions"]
                scaler = {
                    key: options.get(key)
                    for key in ("resources", "securityContext", "volumeMounts")
                }
                image = head["spec"]["containers"][0]["image"]
                head["spec"]["containers"].append({"name": "autoscaler", "image": image, **scaler})
            templates = {"-submitter": spec["submitterPodTemplate"], "-head": head}
            for group in cluster["workerGroupSpecs"]:
                template = deepcopy(group["template"])
                first = template["spec"]["containers"][0]
                waits = {
                    key: first[key]
                    for key in ("image", "securityContext", "volumeMounts", "resources")
                }
                template["spec"]["initContainers"] = [{"name": "wait-gcs-ready", **waits}]
                templates[f"-{group['groupName']}"] = template
        elif "template" in spec:
            templates[""] = spec["template"]
        for suffix, template in templates.items():
            claims = [
                {"name": claim["metadata"]["name"], "emptyDir": {}}
                for claim in spec.get("volumeClaimTemplates", [])
            ]
            whole = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *claims]}
            yield Pod(
                about["name"] + suffix,
                template["metadata"]["labels"],
                about.get("annotations", {}),
                whole,
            )


def containers(spec: Object) -> list[Object]:
    return spec.get("initContainers", []) + spec["containers"]


def all_containers(found: list[Object]) -> Iterator[tuple[Pod, Object]]:
    """Yield every container of the pods of all objects, after its pod."""
    for pod in pods(found):
        for part in containers(pod.spec):
            yield pod, part
