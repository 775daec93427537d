"""What is checked before anything is applied: each lack is said with its cure."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forget.errors import BadInput, nearest
from forget.settings.sweep import Sweep
from pipelines.cluster.kubectl import Cluster, Refused
from pipelines.cluster.manifests import NAMESPACE

OPERATOR = (
    "helm install kuberay-operator kuberay-operator --repo https://ray-project.github.io/kuberay-helm --version 1.7.0"
    " --namespace kuberay-system --create-namespace"
)


def check_operator(cluster: Cluster) -> None:
    """Raises BadInput where KubeRay is not installed, or the cluster does not answer."""
    if not has_operator(cluster):
        install = f"{OPERATOR} --kube-context {cluster.context}"
        raise BadInput(
            f'cluster "{cluster.context}" has no KubeRay operator (no rayjobs.ray.io); install it with: {install}'
        )


def check_needs(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Raises BadInput where a storage class or a Secret is missing that the objects need."""
    claimed = [one.get("spec", {}).get("storageClassName") for one in _claims(objects)]
    if wanted := [name for name in claimed if name != ""]:
        classes = {
            one["metadata"]["name"]: one["metadata"].get("annotations", {})
            for one in cluster.find("storageclass")
        }
        default = any(
            notes.get("storageclass.kubernetes.io/is-default-class") == "true"
            for notes in classes.values()
        )
        for name in wanted:
            if name is None and not default:
                cure = "kubectl patch storageclass NAME -p"
                note = '{"metadata":{"annotations":{"storageclass.kubernetes.io/is-default-class":"true"}}}'
                known = f"of {', '.join(classes)}" if classes else "after installing one"
                raise BadInput(
                    f'cluster "{cluster.context}" has no default storage class for the volumes; {known}, make one the default:'
                    f" {cure} '{note}'"
                )
            if name and name not in classes:
                raise BadInput(
                    f'cluster "{cluster.context}" has no storage class "{name}"{nearest(name, classes)}'
                )
    needed = sorted(
        _secrets(objects) - {one["metadata"]["name"] for one in objects if one["kind"] == "Secret"}
    )
    names = (
        cluster.kubectl("get", "secret", *needed, "--ignore-not-found", "--output=name").split()
        if needed
        else []
    )
    if missing := [name for name in needed if f"secret/{name}" not in names]:
        known = f"kubectl --context {cluster.context} create"
        raise BadInput(
            f'cluster "{cluster.context}" lacks the Secret{"s" * (len(missing) > 1)} {", ".join(missing)} in namespace'
            f" {NAMESPACE}; make random ones with: {known} namespace {NAMESPACE}; mlflow/secrets.sh | {known} -f -"
        )


def has_operator(cluster: Cluster) -> bool:
    try:
        known = json.loads(cluster.kubectl("get", "--raw=/apis/ray.io/v1"))["resources"]
    except Refused as error:
        if "not find" in str(error) or "NotFound" in str(error):
            return False
        raise
    return any(one["name"] == "rayjobs" for one in known)


def _claims(objects: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in objects:
        if one["kind"] == "PersistentVolumeClaim":
            yield one
        elif one["kind"] == "StatefulSet":
            yield from one["spec"].get("volumeClaimTemplates", ())


def _secrets(tree: Any) -> set[str]:
    """Names of the Secrets that pods in the objects cannot do without."""
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
    """Everything about the trials that can be told without the cluster.

    Raises:
        BadInput: as `forget.preflight.check`; a folder that the cluster cannot see.
    """
    fields = tomllib.loads(spec.read_text(encoding="utf-8"))
    for table in ("base", "axes"):
        for folder in _strings(fields.get(table, {}).get("folders", [])):
            if not folder.startswith("/"):
                raise BadInput(
                    f'{spec}: {table}.folders: "{folder}" is a folder of this machine; name the absolute path that your tasks'
                    " have in the image or on a volume of the overlay"
                )
    # What has an absolute path is there on the cluster; the sweep checks it before it begins.
    if known := [
        trial for trial in study.trials() if not trial.folders and not trial.model.startswith("/")
    ]:
        from forget.preflight import check_all  # torch takes seconds

        check_all(known, study.resources.shard)


def _strings(tree: Any) -> list[str]:
    return [tree] if isinstance(tree, str) else [text for one in tree for text in _strings(one)]
