"""Ray itself, on this machine for as long as a sweep takes or on a cluster, and its nodes."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from filelock import FileLock, Timeout
from ray.autoscaler.sdk import request_resources
from ray.tune.execution import class_cache

from forget.errors import BadInput
from forget.machine import cores
from forget.settings import addresses
from forget.settings.sweep import Resources
from pipelines import PROJECT

if TYPE_CHECKING:
    from forget.planning.footprint import Footprint
    from forget.settings.trial import Precision

NODE_SECONDS = 300
"""Seconds that a cluster may take to grow a node that can hold a trial."""

FOLDERS, LOCK = Path("/tmp"), "driver.lock"  # noqa: S108  its folders are made by mkdtemp
"""Home of the folders in which the Ray of a sweep keeps its files; a locked one is of a sweep that
lives.
"""

KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
"""Environment variables that Tune would hand to each trial."""

OBJECTS = 100 * 2**20
"""Bytes of Ray's object store. Trials exchange files, not objects; Ray would take a third of the
memory.
"""

TUNE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A process that takes no GPU sees none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's handler would wait for the running steps, and a step is a whole trial.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's newer output prints a table even where it is told to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
}


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Connect to the Ray at the address, or start one here for as long as the block lasts.

    Sweeps within the block share it.

    Raises:
        BadInput: no cluster at the address, or it wants another token.
    """
    if ray.is_initialized():
        yield
        return
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(TUNE | {"PYTHONPATH": path})
    # Tune would hand the keys to each trial in a way that `ps` and Ray's logs show. Trials have the
    # environment of their node.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(KEYS)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    _clear_folders()
    # The folder holds sockets, whose paths end at 107 bytes: TMPDIR may be too long.
    draft = Path(tempfile.mkdtemp(prefix=".ray-", dir=FOLDERS))
    lock = FileLock(draft / LOCK)
    lock.acquire()
    # Under the name at which others look only now that it is locked.
    folder = draft.rename(FOLDERS / draft.name[1:])
    try:
        if not address:
            # Ray protects what it starts by a token, which it would write under HOME. Ours lives as
            # long as this process.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            os.environ.pop("RAY_ADDRESS", None)
            # Ray starts its workers by a shell, which takes a blank in the path of Python for the
            # end of a word.
            if (python := shlex.quote(sys.executable)) != sys.executable:
                quiet["runtime_env"] = {"py_executable": python}
            ray.init(
                num_cpus=cores(),
                include_dashboard=False,
                object_store_memory=OBJECTS,
                _temp_dir=str(folder),
                **quiet,
            )
            _watch()
        else:
            _connect(address, runtime_env={"env_vars": TUNE | {"PYTHONPATH": path}}, **quiet)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _watch() -> None:
    """End this process, from now on, when one that Ray stands on dies before Ray is shut down.

    Nothing goes on without them; Ray itself would wait for a minute and then end this process
    without a word.
    """
    node = ray._private.worker._global_node
    assert node

    def wait(name: str) -> None:
        node.all_processes[name][0].process.wait()
        if ray.is_initialized() and ray._private.worker._global_node is node:
            print(
                f"forget: Ray's process {name} died, killed or out of memory; "
                "the same command goes on",
                file=sys.stderr,
            )
            # Whatever the main thread waits for will never come. What Ray started goes with this
            # process.
            os._exit(1)

    for name in ("gcs_server", "raylet"):
        threading.Thread(target=wait, args=[name], daemon=True).start()


def _clear_folders() -> None:
    """Remove the folders of sweeps that were killed: nobody holds their locks."""
    for path in FOLDERS.glob(f"ray-*/{LOCK}"):
        with suppress(Timeout, OSError), FileLock(path, timeout=0):
            shutil.rmtree(path.parent)


def _connect(address: str, **settings: Any) -> None:
    """Join the cluster at the address, or raise BadInput where none answers or lets us in."""
    if "://" in address:
        raise BadInput(
            f'"{address}" is a Ray client: '
            "run the sweep on the cluster (ray job submit), with --address auto"
        )
    host, _, port = address.rpartition(":")
    try:
        if address != "auto":
            # Ray itself would knock for a quarter of an hour.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **settings)
    except (OSError, ValueError, OverflowError, ray.exceptions.AuthenticationError):
        # Ray tells a cluster that is not there from one that refuses our token on standard error
        # alone.
        cure = "start one with: ray start --head; where one runs, RAY_AUTH_TOKEN must be its token"
        if address == addresses.ray():
            cure += "; RAY_ADDRESS names it: unset it to run on this machine"
        raise BadInput(f'no Ray cluster answers at "{address}"; {cure}') from None


@dataclass(frozen=True)
class Slots:
    """Room for trials on the nodes."""

    resources: Resources
    """Resources of a trial; gpus is a number."""
    count: int
    """Number of trials that the nodes hold at once."""
    memory: int = 0
    """Bytes of a node's memory that a trial reserves, so that none runs beside it for whom there is
    none left; 0 where it is not known.
    """


@contextmanager
def slots(
    resources: Resources,
    address: str | None,
    memory: int = 0,
    footprint: Footprint | None = None,
) -> Iterator[Slots]:
    """Connect to Ray (see `cluster`); yield what a trial takes and how many the nodes hold.

    Args:
        resources: what the spec says.
        address: of a cluster.
        memory: bytes that a process of the largest trial takes (Plan.memory).
        footprint: what the largest trial takes of a node.

    Raises:
        BadInput: no node holds one, nor does a cluster grow a node that does: Ray would wait for
            ever; the GPU of this machine cannot be used.
    """
    with cluster(address):
        if resources.gpus == "auto":
            # Nodes that a cluster grows for the cores tell whether it has GPUs.
            _able(resources.model_copy(update={"gpus": 0}), address)
            gpus = _gpus(resources, address, memory)
            resources = resources.model_copy(update={"gpus": gpus})
        able = _able(resources, address)
        reserved = 0
        if footprint and resources.gpus != "auto":
            reserved = _reserved(footprint.memory(resources.gpus), able)
        held = sum(_fitting(node, bundle(resources, reserved)) for node in able)
        if resources.gpus and not address:
            # Not before Ray starts: torch takes as long to import as Ray to start.
            from forget.models.devices import check_gpu

            check_gpu()
        yield Slots(resources, held, reserved)


def _gpus(resources: Resources, address: str | None, memory: int) -> float:
    """Return how many GPUs "auto" means: a part of one only where the GPU can be looked at."""
    if not any(node.get("GPU") for node in _nodes()):
        return 0
    if address:
        return 1
    from forget.models.devices import gpu_trouble
    from forget.planning.gpus import gpus_a_process

    if trouble := gpu_trouble():
        print(f"trials run on the CPU, not the GPU: {trouble} (see: forget doctor)", flush=True)
    return gpus_a_process(resources, memory)


def _able(resources: Resources, address: str | None) -> list[dict[str, float]]:
    """Return the nodes that can hold a trial; wait for a cluster to grow, or raise BadInput."""
    need = bundle(resources)
    until = time.monotonic() + (NODE_SECONDS if address else 0)
    while not (able := [node for node in _nodes() if _fitting(node, need)]):
        if time.monotonic() >= until:
            wanted = _listed(need, [kind for kind in need if need[kind]])
            have = "; ".join(_listed(node, need) for node in _nodes())
            raise BadInput(
                f"[resources]: a trial takes {wanted}, which no node has (the nodes have: {have})"
            )
        request_resources(bundles=[need])
        time.sleep(1)
    return able


def _reserved(memory: int, able: Sequence[dict[str, float]]) -> int:
    """Return the bytes that a trial reserves, at most what the largest node has.

    The memory that a trial takes is an estimate: where no node has as much, it is tried alone.
    """
    most = int(max(node.get("memory", memory) for node in able))
    if memory > most:
        print(
            f"a trial takes about {memory / 1e9:.1f} GB of memory and the largest node has"
            f" {most / 1e9:.1f} GB free for it: each node runs one at a time",
            flush=True,
        )
    return min(memory, most)


def precision(resources: Resources) -> Precision:
    """Return what a trial's precision "auto" means on a node that holds one.

    Raises:
        BadInput: the node's GPU cannot be used.
    """
    need = bundle(resources)
    task = ray.remote(num_cpus=need["CPU"], num_gpus=need["GPU"])(_best_precision)
    try:
        found: Precision = ray.get(task.remote(bool(need["GPU"])))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BadInput):
            raise error.cause from None
        raise
    return found


def _best_precision(gpu: bool) -> Precision:
    """Return what precision "auto" means on this node, whose GPU is looked at first."""
    from forget.models.devices import check_gpu
    from forget.preflight import best_precision

    if gpu:
        check_gpu()
    return best_precision(gpu)


def bundle(resources: Resources, memory: int = 0) -> dict[str, float]:
    """Return the CPUs, GPUs and bytes of memory of a trial, as one bundle.

    A bundle is held by one node: a trial's processes share GPUs by NVLink or PCIe, not by the
    network.
    """
    if resources.gpus == "auto":
        raise ValueError('gpus = "auto" is not decided yet')
    computing = {
        "CPU": resources.cpus * resources.workers,
        "GPU": resources.gpus * resources.workers,
    }
    return computing | ({"memory": memory} if memory else {})


def _nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _listed(amounts: dict[str, float], kinds: Iterable[str]) -> str:
    """Return amounts of some kinds of resources, e.g. "4 CPU, 1 GPU"."""
    return ", ".join(f"{amounts.get(kind, 0):g} {kind}" for kind in kinds)


def _fitting(node: dict[str, float], need: dict[str, float]) -> int:
    """Return how many bundles a node holds at once."""
    # Five times 0.2 is 1, though not for a machine.
    return min(int(node.get(kind, 0) / n + 1e-6) for kind, n in need.items() if n)
