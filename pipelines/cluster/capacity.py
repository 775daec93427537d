"""Checks of what a cluster has room for: nodes, quotas, queues, images, and what it lets in."""

from __future__ import annotations

import copy
import json
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from forget.errors import BadInput, nearest
from pipelines.cluster.kubectl import Cluster, Refused
from pipelines.cluster.manifests import NAMESPACE
from pipelines.cluster.workers import GPU, number

QUEUE = "kueue.x-k8s.io/queue-name"
"""Label that names the queue of Kueue's in which a sweep waits."""

SMALLER = "smaller sizes are keys of k8s/sizes/sizes.env, and OVERLAY=small has the smallest"
"""The cure of a cluster that is too small."""

WORKER = "a worker of the sweep"
"""Words for a pod that runs trials."""

GROWING = ("cluster-autoscaler-status", "karpenter.sh")
"""A ConfigMap of the cluster autoscaler's and a group of Karpenter's: who may make nodes."""


class Pod(NamedTuple):
    """Pods of one kind that the objects make."""

    what: str
    """Words for it, e.g. "a worker"."""
    spec: Mapping[str, Any]
    n: int
    """Number of them at first."""
    labels: Mapping[str, str]


def pods(objects: Sequence[Mapping[str, Any]]) -> Iterator[Pod]:
    """Yield the pods of all objects that have some, the autoscaler's container left out."""
    for one in objects:
        spec, name = one.get("spec", {}), one["metadata"]["name"]
        if one["kind"] == "RayJob":
            ray = spec["rayClusterSpec"]
            yield _pod("the head of the sweep", ray["headGroupSpec"]["template"], 1)
            for group in ray["workerGroupSpecs"]:
                yield _pod(WORKER, group["template"], group["replicas"])
            yield _pod("the submitter of the sweep", spec["submitterPodTemplate"], 1)
        elif "template" in spec:
            yield _pod(f"the pod of {name}", spec["template"], spec.get("replicas", 1))


def _pod(what: str, template: Mapping[str, Any], count: int) -> Pod:
    return Pod(what, template["spec"], count, template.get("metadata", {}).get("labels", {}))


def requested(spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what a pod asks of its node, by kind: CPUs, bytes, GPUs."""
    asked: Counter[str] = Counter()
    for part in spec["containers"]:
        has = part.get("resources", {})
        # Kubernetes takes a limit for the request that is not there.
        for kind, quantity in {**has.get("limits", {}), **has.get("requests", {})}.items():
            asked[kind] += number(quantity)  # type: ignore[assignment]
    return dict(asked)


def check_nodes(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that a node is as large as each pod, as far as nodes may be looked at.

    Raises:
        BadInput: none is, and the cluster is not seen to make any.
    """
    try:
        found = cluster.find("node")
    except Refused:
        # Who may use a namespace alone may not look at nodes.
        return
    nodes = [node for node in found if not node.get("spec", {}).get("unschedulable")]
    sizes = {
        node["metadata"]["name"]: node.get("status", {}).get("allocatable", {}) for node in nodes
    }
    for pod in pods(objects):
        asked = requested(pod.spec)
        if not any(_lacks(asked, size) == [] for size in sizes.values()) and not _grows(cluster):
            raise BadInput(_too_large(cluster, pod, asked, sizes))
        if pod.what == WORKER:
            _check_cores(cluster, pod, nodes)


def _check_cores(cluster: Cluster, worker: Pod, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Check that a node has the CPUs that Ray takes a worker to have, which are its limit.

    A worker may request fewer than its trials take: then it shares them with others, on a node that
    has them.

    Raises:
        BadInput: none has, and the cluster is not seen to make any.
    """
    limits = worker.spec["containers"][0].get("resources", {}).get("limits", {})
    needed, cores = number(limits.get("cpu", 0)), {}
    for node in nodes:
        status = node.get("status", {})
        size = status.get("capacity", status.get("allocatable", {}))
        cores[node["metadata"]["name"]] = number(size.get("cpu", 0))
    if max(cores.values(), default=0.0) >= needed or _grows(cluster):
        return
    name, most = max(cores.items(), key=operator.itemgetter(1))
    raise BadInput(
        f'no node of cluster "{cluster.context}" has the CPUs of {WORKER}, '
        f"{readable('cpu', needed)} where {name} has {readable('cpu', most)}: let a trial take "
        "fewer ([resources] cpus and workers of the spec), or set WORKER_CPU of "
        "k8s/sizes/sizes.env to what a node has"
    )


def _lacks(asked: Mapping[str, float], size: Mapping[str, Any]) -> list[str]:
    """Return the kinds of which a node has less than is asked."""
    return [kind for kind, n in asked.items() if n > number(size.get(kind, 0))]


def _too_large(
    cluster: Cluster, pod: Pod, asked: Mapping[str, float], sizes: Mapping[str, Mapping[str, Any]]
) -> str:
    """Say of what no node has as much as a pod asks for, and what would help."""
    where = f'cluster "{cluster.context}"'
    if GPU in asked and not any(number(size.get(GPU, 0)) for size in sizes.values()):
        return (
            f"{where} has no node with {GPU}, which {pod.what} asks for: install NVIDIA's device "
            "plugin (or its GPU operator) and look at kubectl describe nodes, or say OVERLAY=cpu"
        )
    if not sizes:
        return f"{where} has no node that takes pods: see kubectl get nodes"
    best, size = min(sizes.items(), key=lambda item: len(_lacks(asked, item[1])))
    lacking = []
    for kind in _lacks(asked, size):
        has = readable(kind, number(size.get(kind, 0)))
        lacking.append(f"{readable(kind, asked[kind])} where {best} has {has}")
    return f"no node of {where} is as large as {pod.what}, {' and '.join(lacking)}: {SMALLER}"


def readable(kind: str, n: float) -> str:
    """Return an amount of a kind of resource in words, e.g. "4 CPUs", "16.0 Gi of memory"."""
    if kind in ("cpu", GPU):
        return f"{n:g} {'CPUs' if kind == 'cpu' else 'GPUs'}"
    return f"{n / 2**30:.1f} Gi of {kind.replace('ephemeral-storage', 'disk')}"


def _grows(cluster: Cluster) -> bool:
    """Return whether the cluster makes nodes as pods ask for them, as far as that can be seen."""
    status, group = GROWING
    try:
        if cluster.find("configmap", status, "--namespace=kube-system"):
            return True
        return group in cluster.kubectl("api-versions")
    except Refused:
        return True


def check_quotas(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that the quotas of the namespace leave room for the pods of a sweep.

    What was deployed before counts as used, and would be counted twice.

    Raises:
        BadInput: one does not.
    """
    wanted = [pod for pod in pods(objects) if "sweep" in pod.what]
    if not wanted:
        return
    asked: Counter[str] = Counter()
    for pod in wanted:
        asked["pods"] += pod.n
        for part in pod.spec["containers"]:
            for bound, kinds in part.get("resources", {}).items():
                for kind, quantity in kinds.items():
                    asked[f"{bound}.{kind}"] += pod.n * number(quantity)  # type: ignore[assignment]
    for short in ("cpu", "memory"):
        asked[short] = asked[f"requests.{short}"]
    try:
        quotas = cluster.find("resourcequota")
    except Refused:
        return
    for quota in quotas:
        status = quota.get("status", {})
        for kind, most in status.get("hard", quota.get("spec", {}).get("hard", {})).items():
            left = number(most) - number(status.get("used", {}).get(kind, 0))
            if asked[kind] > left:
                raise BadInput(
                    f'quota "{quota["metadata"]["name"]}" of namespace {NAMESPACE} in cluster '
                    f'"{cluster.context}" leaves {_plain(left)} of {kind}, and the sweep starts '
                    f"with {_plain(asked[kind])}: have it raised, or ask for less; {SMALLER}"
                )


def _plain(n: float) -> str:
    """Return a number, or bytes in Gi."""
    return f"{n / 2**30:.1f} Gi" if n >= 2**20 else f"{n:g}"


def check_admission(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Let the cluster itself say which pods it would refuse (PodSecurity, quotas, policies).

    They are sent for a dry run: nothing is made.

    Raises:
        BadInput: it would refuse one.
    """
    if not cluster.find("namespace", NAMESPACE):
        # `make deploy` makes it, with its rules.
        return
    for pod in pods(objects):
        spec = copy.deepcopy(dict(pod.spec))
        # The account comes with what is applied; a pod may come before it only here.
        spec.pop("serviceAccountName", None)
        metadata = {"generateName": "forget-", "namespace": NAMESPACE, "labels": dict(pod.labels)}
        one = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        try:
            words = ("create", "--dry-run=server", "--filename=-", "--output=name")
            cluster.kubectl(*words, given=json.dumps(one))
        except Refused as error:
            said = str(error)
            # Not to be allowed to make pods is no word about them: KubeRay makes them.
            if "is forbidden" in said and "cannot create resource" not in said:
                raise BadInput(f"{said}; {pod.what} would not be let in, {_cure(said)}") from None


def _cure(said: str) -> str:
    """Return what helps against a refusal, by its words."""
    if "quota" in said:
        return f"have the quota raised, or ask for less; {SMALLER}"
    if "PodSecurity" in said:
        return (
            "the namespace's label pod-security.kubernetes.io/enforce may be no stricter than "
            '"restricted", which the manifests keep to: what a patch of yours adds has to go'
        )
    return "ask who set this rule up, or change the pods in an overlay of yours"


def check_queue(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that Kueue's queue is there that a sweep is to wait in.

    Raises:
        BadInput: it is not.
    """
    for one in objects:
        name = one["metadata"].get("labels", {}).get(QUEUE)
        if not name:
            continue
        try:
            queues = [queue["metadata"]["name"] for queue in cluster.find("localqueue")]
        except Refused as error:
            if "doesn't have a resource type" not in str(error):
                raise
            raise BadInput(
                f'cluster "{cluster.context}" has no Kueue (no LocalQueue): install it from '
                "https://kueue.sigs.k8s.io/docs/installation, or say OVERLAY=cpu"
            ) from None
        if name not in queues:
            raise BadInput(
                f'namespace {NAMESPACE} of cluster "{cluster.context}" has no LocalQueue "{name}"'
                f"{nearest(name, queues) if queues else ''}: make one that names a ClusterQueue, "
                "see https://kueue.sigs.k8s.io/docs/tasks/manage/administer_cluster_quotas"
            )


def check_images(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Check that nodes can have the images: from a registry, or because they were put there.

    Raises:
        BadInput: an image names no registry and is on no node.
    """
    images = set()
    for pod in pods(objects):
        for part in (*pod.spec.get("initContainers", ()), *pod.spec["containers"]):
            images.add(part["image"])
    # Docker Hub has no image of ours, and of no one else who builds them.
    ours = sorted(image for image in images if _local(image))
    if not ours:
        return
    try:
        nodes = cluster.find("node")
    except Refused:
        return
    there = set()
    for node in nodes:
        for image in node.get("status", {}).get("images", ()):
            there |= {name.removeprefix("docker.io/library/") for name in image.get("names", ())}
    if nodes and (missing := [image for image in ours if image not in there]):
        raise BadInput(
            f'image {missing[0]} names no registry, and no node of cluster "{cluster.context}" has '
            "it: push it and say IMAGE=registry.example.com/forget, or put it on the nodes "
            f"(kind load docker-image {missing[0]}; minikube image load; k3d image import)"
        )


def _local(image: str) -> bool:
    """Return whether an image is ours and names no registry."""
    return "/" not in image and image.startswith("forget")
