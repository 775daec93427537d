"""Workers of a sweep on a cluster: as large as the trials of its spec need, and no larger."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forget.errors import BadInput
from forget.settings.sweep import Sweep

if TYPE_CHECKING:
    from forget.planning.footprint import Footprint  # torch takes seconds

GPU = "nvidia.com/gpu"
"""Kubernetes' name of the resource."""

NODE = 300 * 10**6
"""Bytes of a worker's memory that Ray's own processes take: 0.16 GB measured, and some to spare."""

THRESHOLD = 0.95
"""Share of a node's memory beyond which Ray ends trials (RAY_memory_usage_threshold)."""

UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
"""Units of a quantity of Kubernetes'."""


def number(quantity: Any) -> float:
    """Return a quantity as Kubernetes writes it, e.g. "500m" or "4Gi", as a number.

    Raises:
        BadInput: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\D*)", str(quantity))
    if not found or found[2] not in UNITS:
        raise BadInput(f'"{quantity}" is no size that Kubernetes knows: write e.g. 2, 500m or 4Gi')
    return float(found[1]) * UNITS[found[2]]


def worker_patches(
    job: Mapping[str, Any],
    study: Sweep,
    overlay: str,
    footprint: Footprint | None,
    copies: bool,
) -> list[dict[str, Any]]:
    """Return JSON patches of a RayJob that give its workers room for a trial of the sweep.

    Args:
        job: the RayJob as the overlay has it.
        study: the sweep, which says what a trial takes.
        overlay: what to call it in an error.
        footprint: what the largest trial takes of a worker; None where it is not known here.
        copies: a worker copies what it needs of the store to its disk.

    Raises:
        BadInput: GPUs are asked for and the overlay has none, or the other way round.
    """
    cluster = job["spec"]["rayClusterSpec"]
    patches = []
    for place, group in enumerate(cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        resources = worker_resources(study, pod["containers"][0]["resources"], overlay, footprint)
        changed: dict[str, Any] = {}
        if not cluster.get("enableInTreeAutoscaling"):
            # Nobody would add later the workers that there may be.
            changed |= dict.fromkeys(("replicas", "minReplicas"), group["maxReplicas"])
        start = dict(group["rayStartParams"])
        if "num-gpus" in start:
            start["num-gpus"] = str(resources["limits"][GPU])
        if footprint:
            start.setdefault("memory", str(_free(resources["limits"]["memory"])))
        changed["rayStartParams"] = start
        home = _home(pod, study, resources, footprint) if footprint and copies else None
        if home:
            where, size = home
            changed[f"template/spec/volumes/{where}/emptyDir/sizeLimit"] = size
        changed["template/spec/containers/0/resources"] = resources
        for path, value in changed.items():
            path = f"/spec/rayClusterSpec/workerGroupSpecs/{place}/{path}"
            patches.append({"op": "replace", "path": path, "value": value})
    return patches


def worker_resources(
    study: Sweep,
    has: Mapping[str, Any],
    overlay: str,
    footprint: Footprint | None = None,
) -> dict[str, dict[str, Any]]:
    """Return a worker's resources, with limits made larger where they hold no trial.

    Its memory is what its cores' trials need, between the overlay's request and limit, and at least
    what one needs. Not knowing that, it is the limit, which grows as cores or GPUs do. A request of
    cores grows with its limit where the two are equal; a smaller one is the overlay's way to say
    that a node may be shared, and stays.

    Args:
        study: the sweep, which says what a trial takes.
        has: requests and limits of the overlay's worker.
        overlay: what to call it in an error.
        footprint: what the largest trial takes of a worker; None where it is not known here.

    Raises:
        BadInput: GPUs are asked for and the worker has none, or the other way round.
    """
    take = study.resources
    limits = {**has.get("requests", {}), **has.get("limits", {})}
    each = float(GPU in limits) if take.gpus == "auto" else take.gpus
    cpus, gpus = math.ceil(take.cpus * take.workers), math.ceil(each * take.workers)
    if bool(gpus) != (GPU in limits):
        wrong = f"asks for {each:g} GPUs a process" if gpus else "asks for no GPU"
        cure = "say OVERLAY=gpu" if gpus else 'say resources.gpus = "auto", or OVERLAY=cpu'
        there = limits.get(GPU, "none")
        raise BadInput(
            f"[resources] {wrong}, and the workers of overlay {overlay} have {there}: {cure}"
        )
    scale = max(1.0, cpus / number(limits.get("cpu", cpus)), gpus / int(limits.get(GPU, 1)))
    memory = has.get("limits", {}).get("memory")
    if memory and footprint:
        room = scale * number(limits.get("cpu", cpus)) / (take.cpus * take.workers)
        if gpus:
            room = min(room, max(gpus, int(limits[GPU])) / (each * take.workers))
        trials = max(1, min(int(room + 1e-6), take.concurrent or math.inf))
        least = has.get("requests", {}).get("memory", memory)
        memory = _memory(footprint.memory(each), int(trials), least, memory)
    elif memory and (found := re.fullmatch(r"(\d+)(\D*)", str(memory))):
        memory = f"{math.ceil(int(found[1]) * scale)}{found[2]}"

    def grown(kind: str, quantity: Any) -> Any:
        """Return the quantity of a kind that a trial needs; other kinds stay as they are."""
        if kind == "cpu":
            return str(cpus) if cpus > number(quantity) else quantity
        if kind == GPU:
            return str(max(gpus, int(quantity)))
        return memory if kind == "memory" else quantity

    most = has.get("limits", {})
    resources: dict[str, dict[str, Any]] = {}
    for part, kinds in has.items():
        resources[part] = {
            kind: grown(kind, quantity) if quantity == most.get(kind, quantity) else quantity
            for kind, quantity in kinds.items()
        }
    if memory and "memory" in resources.get("requests", {}):
        # What trials reserve in Ray, the node must have.
        resources["requests"]["memory"] = memory
    return resources


def trials_at_once(study: Sweep, limits: Mapping[str, Any], need: int) -> int:
    """Return how many trials a worker with these limits runs at once.

    Args:
        study: the sweep, which says what a trial takes of cores and GPUs.
        limits: of the worker.
        need: bytes of memory that a trial takes.
    """
    take = study.resources
    fitting = [number(limits["cpu"]) / (take.cpus * take.workers), _free(limits["memory"]) / need]
    if GPU in limits:
        each = 1 if take.gpus == "auto" else take.gpus
        fitting.append(int(limits[GPU]) / (each * take.workers))
    return int(min(fitting) + 1e-6)


def described(
    objects: Sequence[Mapping[str, Any]], study: Sweep, footprint: Footprint | None
) -> Iterator[str]:
    """Yield a line about the workers of each RayJob, and what a trial takes of them."""
    for job in objects:
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"] if _is_job(job) else ():
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            least, most = group["minReplicas"], group["maxReplicas"]
            count = f"{least}" if least == most else f"{least} to {most}"
            gpus = f", {limits[GPU]} GPUs" if GPU in limits else ""
            line = (
                f"workers: {count}, each of {limits['cpu']} CPUs{gpus}, {limits['memory']} of"
                f" memory and {limits.get('ephemeral-storage', 'any amount')} of disk"
            )
            if footprint:
                need = footprint.memory(float(GPU in limits))
                at_once = max(1, trials_at_once(study, limits, need))
                line += f"; a trial takes about {need / 1e9:.1f} GB of memory: {at_once} at a time"
            yield line


def _is_job(one: Mapping[str, Any]) -> bool:
    return bool(one["kind"] == "RayJob")


def _memory(need: int, trials: int, least: Any, most: Any) -> str:
    """Return the memory of a worker for so many trials, within bounds, or for one beyond them."""

    def whole(count: int) -> int:
        """Return the Gi of a worker that holds so many trials."""
        return math.ceil((NODE + count * need) / THRESHOLD / UNITS["Gi"])

    if whole(1) * UNITS["Gi"] > number(most):
        return f"{whole(1)}Gi"
    if whole(trials) * UNITS["Gi"] > number(most):
        return str(most)
    return str(least) if number(least) > whole(trials) * UNITS["Gi"] else f"{whole(trials)}Gi"


def _free(memory: Any) -> int:
    """Return the bytes of a worker's memory that its trials may share out."""
    return int(THRESHOLD * number(memory)) - NODE


def _home(
    pod: Mapping[str, Any],
    study: Sweep,
    resources: dict[str, dict[str, Any]],
    footprint: Footprint,
) -> tuple[int, str] | None:
    """Return the place of the volume `home` and its size where it is too small; None elsewhere.

    The disk of the container, which holds the volume, grows with it.
    """
    volumes = [one["name"] for one in pod["volumes"]]
    if "home" not in volumes:
        return None
    place = volumes.index("home")
    has = number(pod["volumes"][place].get("emptyDir", {}).get("sizeLimit", "1000Ti"))
    limits = resources["limits"]
    need = footprint.memory(float(GPU in limits))
    trials = max(1, trials_at_once(study, limits, need))
    wanted = math.ceil((footprint.shared + trials * footprint.running) / UNITS["Gi"])
    more = wanted - has / UNITS["Gi"]
    if more <= 0:
        return None
    if "ephemeral-storage" in limits:
        disk = number(limits["ephemeral-storage"]) / UNITS["Gi"] + more
        limits["ephemeral-storage"] = f"{math.ceil(disk)}Gi"
    return place, f"{wanted}Gi"
