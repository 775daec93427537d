"""Checks before anything is applied to a cluster: each lack is said with its cure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forget.errors import BadInput, nearest
from forget.settings.reading import read_table
from forget.settings.sweep import Sweep
from pipelines.cluster.capacity import (
    check_admission,
    check_images,
    check_nodes,
    check_queue,
    check_quotas,
    pods,
)
from pipelines.cluster.kubectl import Cluster, Refused
from pipelines.cluster.manifests import NAMESPACE
from pipelines.cluster.workers import number

if TYPE_CHECKING:
    from forget.planning.footprint import Footprint  # torch takes seconds

OPERATOR = (
    "helm install kuberay-operator kuberay-operator"
    " --repo https://ray-project.github.io/kuberay-helm --version 1.7.0"
    " --namespace kuberay-system --create-namespace"
)
"""The command that installs KubeRay."""

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
"""Annotation of the storage class of claims that name none."""


def check_operator(cluster: Cluster) -> None:
    """Check that the cluster answers and has KubeRay.

    Raises:
        BadInput: it does not, or has not.
    """
    if not has_operator(cluster):
        raise BadInput(
            f'cluster "{cluster.context}" has no KubeRay operator (no rayjobs.ray.io); '
            f"install it with: {OPERATOR} --kube-context {cluster.context}"
        )


def check_needs(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that the cluster has what the objects need, and room for them.

    Raises:
        BadInput: something is missing or too small.
    """
    for check in NEEDS.values():
        check(cluster, objects)


def _check_storage(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    claimed = [one.get("spec", {}).get("storageClassName") for one in _claims(objects)]
    # None asks for the default class, "" for no class at all.
    wanted = [name for name in claimed if name != ""]
    if not wanted:
        return
    classes = {}
    for one in cluster.find("storageclass"):
        classes[one["metadata"]["name"]] = one["metadata"].get("annotations", {})
    default = any(notes.get(DEFAULT_CLASS) == "true" for notes in classes.values())
    for name in wanted:
        if name is None and not default:
            patch = {"metadata": {"annotations": {DEFAULT_CLASS: "true"}}}
            note = json.dumps(patch, separators=(",", ":"))
            known = f"of {', '.join(classes)}" if classes else "after installing one"
            raise BadInput(
                f'cluster "{cluster.context}" has no default storage class for the volumes; '
                f"{known}, make one the default: "
                f"kubectl patch storageclass NAME -p '{note}'"
            )
        if name and name not in classes:
            raise BadInput(
                f'cluster "{cluster.context}" has no storage class "{name}"{nearest(name, classes)}'
            )


def _check_secrets(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    made = {one["metadata"]["name"] for one in objects if one["kind"] == "Secret"}
    needed = sorted(_secrets(objects) - made)
    if not needed:
        return
    found = cluster.kubectl("get", "secret", *needed, "--ignore-not-found", "--output=name").split()
    if missing := [name for name in needed if f"secret/{name}" not in found]:
        known = f"kubectl --context {cluster.context} create"
        raise BadInput(
            f'cluster "{cluster.context}" lacks the Secret{"s" * (len(missing) > 1)} '
            f"{', '.join(missing)} in namespace {NAMESPACE}; make random ones with: "
            f"{known} namespace {NAMESPACE}; mlflow/secrets.sh | {known} -f -"
        )


def _check_fields(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that the KubeRay of the cluster knows every field of a RayJob."""
    jobs = [one for one in objects if one["kind"] == "RayJob"]
    if not jobs:
        return
    try:
        schemas = json.loads(cluster.kubectl("get", "--raw=/openapi/v3/apis/ray.io/v1"))
    except Refused:
        # Of servers that do not publish it; they refuse an unknown field themselves.
        return
    for schema in schemas.get("components", {}).get("schemas", {}).values():
        kinds = [one.get("kind") for one in schema.get("x-kubernetes-group-version-kind", ())]
        if "RayJob" not in kinds or "properties" not in schema:
            continue
        spec = schema["properties"]["spec"]
        found = chain.from_iterable(_unknown(one["spec"], spec) for one in jobs)
        if unknown := next(found, None):
            crds = "github.com/ray-project/kuberay/ray-operator/config/crd?ref=v1.7.0"
            context = f"--context {cluster.context}"
            raise BadInput(
                f'the KubeRay operator of cluster "{cluster.context}" is too old: its RayJob has no'
                f" spec{unknown}; make it 1.7.0 with: kubectl {context} replace -k '{crds}'; "
                f"{OPERATOR.replace('install', 'upgrade', 1)} --kube-context {cluster.context}"
            )


def _unknown(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths in a value of fields that its schema does not know."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, schema.get("items", {}), path)
    elif isinstance(value, Mapping) and (known := schema.get("properties")):
        for key, inner in value.items():
            if key in known:
                yield from _unknown(inner, known[key], f"{path}.{key}")
            elif not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{path}.{key}"


def _check_volumes(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that volumes which are there keep their size: Kubernetes refuses another."""
    sets = {one["metadata"]["name"]: one for one in objects if one["kind"] == "StatefulSet"}
    if not sets:
        return
    for there in cluster.find("statefulset"):
        name = there["metadata"]["name"]
        for old, new in zip(_sizes(there), _sizes(sets.get(name, there)), strict=False):
            if number(old) != number(new):
                raise BadInput(
                    f'the volume of {name} in cluster "{cluster.context}" has {old}, which nobody'
                    f" may change to {new}: deploy it as before (OVERLAY, sizes), or make it anew"
                    f" after make undeploy CONTEXT={cluster.context} DATA=1, which deletes all runs"
                )


def _sizes(one: Mapping[str, Any]) -> list[Any]:
    """Return the sizes of the volumes that a StatefulSet claims."""
    claims = one.get("spec", {}).get("volumeClaimTemplates", ())
    return [claim["spec"]["resources"]["requests"]["storage"] for claim in claims]


def _check_runtimes(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that the runtime classes are there that pods name."""
    wanted = {str(pod.spec.get("runtimeClassName", "")) for pod in pods(objects)} - {""}
    if not wanted:
        return
    there = [one["metadata"]["name"] for one in cluster.find("runtimeclass")]
    for name in sorted(wanted - set(there)):
        raise BadInput(
            f'cluster "{cluster.context}" has no RuntimeClass "{name}": '
            "install NVIDIA's container toolkit on the GPU nodes, or leave out the component "
            "k8s/components/nvidia-runtime"
        )


NEEDS: Mapping[str, Callable[[Cluster, Sequence[Mapping[str, Any]]], None]] = {
    "KubeRay knows the fields of a RayJob": _check_fields,
    "storage classes": _check_storage,
    "volumes": _check_volumes,
    "Secrets": _check_secrets,
    "images": check_images,
    "runtime classes": _check_runtimes,
    "queue": check_queue,
    "nodes are large enough": check_nodes,
    "quotas": check_quotas,
    "pods are let in": check_admission,
}
"""Checks of a cluster for the objects that are to be applied, by what they look at."""


def has_operator(cluster: Cluster) -> bool:
    """Return whether the cluster knows RayJobs."""
    try:
        known = json.loads(cluster.kubectl("get", "--raw=/apis/ray.io/v1"))["resources"]
    except Refused as error:
        if "not find" in str(error) or "NotFound" in str(error):
            return False
        raise
    return any(one["name"] == "rayjobs" for one in known)


def _claims(objects: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the claims of volumes, those that a StatefulSet makes included."""
    for one in objects:
        if one["kind"] == "PersistentVolumeClaim":
            yield one
        elif one["kind"] == "StatefulSet":
            yield from one["spec"].get("volumeClaimTemplates", ())


def _secrets(tree: Any) -> set[str]:
    """Collect the names of the Secrets that pods in the objects cannot do without."""
    if isinstance(tree, Mapping):
        inner = (_secrets(value) for value in tree.values())
        found = set().union(*inner)
        for key, name in (
            ("secretKeyRef", "name"),
            ("secretRef", "name"),
            ("secret", "secretName"),
        ):
            reference = tree.get(key)
            if isinstance(reference, Mapping) and not reference.get("optional"):
                # Projected volumes say "name" where others say "secretName".
                found |= {reference[n] for n in {name, "name"} if n in reference}
        return found
    return set().union(*map(_secrets, tree)) if isinstance(tree, list) else set()


def check_here(study: Sweep, spec: Path) -> Footprint | None:
    """Check everything about the trials that can be told without the cluster.

    Returns:
        What the largest trial takes of a worker; None where tasks or models are on the cluster.

    Raises:
        BadInput: a trial cannot run (forget.preflight.check); the cluster cannot see a folder.
    """
    for key, path in _paths(read_table(spec), study):
        if "://" not in path and not path.startswith("/"):
            raise BadInput(
                f'{spec}: {key}: "{path}" is a folder of this machine; name the absolute path '
                "that it has in the image or on a volume of the overlay"
            )
    # An absolute path is one of the cluster; the sweep checks what is there before it begins.
    trials = study.trials()
    here = [trial for trial in trials if not trial.folders and not trial.model.startswith("/")]
    if not here:
        return None
    from forget.planning.footprint import footprint  # torch takes seconds
    from forget.preflight import check

    for trial in here:
        check(trial, study.resources.shard)
    return footprint(here, study.resources) if len(here) == len(trials) else None


def _paths(fields: Mapping[str, Any], study: Sweep) -> Iterator[tuple[str, str]]:
    """Yield the paths that a spec names, each with its key.

    Args:
        fields: as they are written.
        study: as it was read. A model that is a folder here has another name in it.
    """
    if store := fields.get("store"):
        yield "store", store
    models = {trial.model for trial in study.trials()}
    for table in ("base", "axes"):
        given = fields.get(table, {})
        for folder in _strings(given.get("folders", [])):
            yield f"{table}.folders", folder
        for name in _strings(given.get("model", [])):
            if name not in models and not (table == "base" and "model" in study.axes):
                yield f"{table}.model", name


def _strings(tree: Any) -> Iterator[str]:
    """Yield the texts in lists of lists."""
    if isinstance(tree, str):
        yield tree
    else:
        for one in tree:
            yield from _strings(one)
