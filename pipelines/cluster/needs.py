"""Checks before anything is applied to a cluster: each lack is said with its cure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forget.errors import BadInput, nearest
from forget.settings.reading import read_table
from forget.settings.sweep import Sweep
from pipelines.cluster.kubectl import Cluster, Refused
from pipelines.cluster.manifests import NAMESPACE

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
    """Check that the cluster has the storage classes and Secrets that the objects need.

    Raises:
        BadInput: one is missing.
    """
    _check_storage(cluster, objects)
    _check_secrets(cluster, objects)


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


def check_here(study: Sweep, spec: Path) -> None:
    """Check everything about the trials that can be told without the cluster.

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
    here = [
        trial for trial in study.trials() if not trial.folders and not trial.model.startswith("/")
    ]
    if here:
        from forget.preflight import check  # torch takes seconds

        for trial in here:
            check(trial, study.resources.shard)


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
