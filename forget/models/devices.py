"""The device and the processes of a trial, decided before accelerate or transformers decide."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import time
from collections.abc import Mapping
from datetime import timedelta

import torch
from accelerate import PartialState

from forget.errors import BadInput
from forget.models.kernels import keep_to_cores

SETTLED = {
    "ACCELERATE_MIXED_PRECISION": ("no",),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "ACCELERATE_DYNAMO_BACKEND": ("no",),
    "ACCELERATE_USE_FSDP": ("false", "0"),
    "ACCELERATE_USE_DEEPSPEED": ("false", "0"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "0"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("false", "0"),
    "ACCELERATE_TORCH_DEVICE": (),
}
"""Variables by which `accelerate launch` and its configuration change numbers, each with the values
that change none.
"""

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which launchers say of how many processes one is."""

RANKS = (*SIZES, "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which launchers tell processes apart and bring them together."""

TOGETHER_SECONDS = 7 * 86400
"""Seconds that a trial's processes wait for each other. While the main one waits for what another
trial learns, or sends a checkpoint, the others wait in a collective, which torch would end after 10
or 30 minutes. A process that dies is no reason to hurry: torch's launcher ends the others.
"""


def device() -> torch.device:
    """Return the device that models run on: a CUDA GPU where torch sees one, else the CPU.

    Apple's GPUs are passed over: promises to the bit were tried on these two.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def throughput(bf16: bool, gpu: bool | None = None) -> float:
    """Time matrix products for a fifth of a second where trials would run; return FLOPs a second.

    Args:
        bf16: in bfloat16, or in fp32.
        gpu: on all GPUs, or on this process's cores; by default where trials run (`device`).
    """
    on_gpu = torch.cuda.is_available() if gpu is None else gpu
    if not on_gpu:
        keep_to_cores()
    size = 8192 if on_gpu else 1024
    dtype = torch.bfloat16 if bf16 else torch.float32
    a = torch.randn(size, size, device="cuda" if on_gpu else "cpu", dtype=dtype)
    (a @ a).sum().item()
    # The fastest counts: what else the machine computes now is no part of it.
    fastest, end = math.inf, time.perf_counter() + 0.2
    while (began := time.perf_counter()) < end:
        # The sum brings a number back, which on a GPU is what waits for the product.
        (a @ a).sum().item()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * size**3 / fastest * (torch.cuda.device_count() if on_gpu else 1)


def gpu_trouble() -> str | None:
    """Return why torch cannot compute on this machine's GPUs, or on one of them; None if it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        driver = nvidia_driver()
        found = f"the driver is {driver}, perhaps too old" if driver else "no driver answers"
        return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, and {found}"
    for number in range(torch.cuda.device_count()):
        if not _built_for(torch.cuda.get_device_capability(number)):
            return (
                f"torch {torch.__version__} is built for {', '.join(torch.cuda.get_arch_list())}, "
                f"and {gpu(number)} is none of them"
            )
    return None


def check_gpu() -> None:
    """Check that torch computes on the GPU that this process was given.

    Raises:
        BadInput: it does not; Trial would run on the CPU, perhaps for weeks.
    """
    if trouble := gpu_trouble():
        raise BadInput(
            f"a trial takes a GPU ([resources] gpus) that it cannot use: {trouble}; "
            "forget doctor says more, gpus = 0 runs on the CPU"
        )


def gpu(number: int) -> str:
    """Return name, architecture and memory of a GPU that torch sees."""
    found = torch.cuda.get_device_properties(number)
    return f"{found.name} (sm_{found.major}{found.minor}, {found.total_memory / 1e9:.0f} GB)"


def nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver; None where none answers."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.partition("\n")[0].strip() or None


def _built_for(capability: tuple[int, int]) -> bool:
    """Tell whether torch has code for a GPU of that compute capability.

    Code of an architecture runs on those of the same generation from it on; "compute_90" is code
    that the driver compiles for whatever comes later.
    """
    for name in torch.cuda.get_arch_list():
        kind, _, digits = name.partition("_")
        if kind not in ("sm", "compute"):
            return True  # AMD's names tell their own
        exact = not digits.isdigit()
        digits = digits.rstrip("abcdefghijklmnopqrstuvwxyz")
        built = int(digits[:-1]), int(digits[-1])
        same = built[0] == capability[0] or kind == "compute"
        if built == capability or (same and built < capability and not exact):
            return True
    return False


def process() -> PartialState:
    """Return this process among those of its trial, on `device`.

    Raises:
        BadInput: the environment holds settings of accelerate, which would change numbers behind
            the settings of the trial.
    """
    refuse_launchers()
    # Left to itself, accelerate takes whatever accelerator it finds.
    return PartialState(cpu=device().type == "cpu", timeout=timedelta(seconds=TOGETHER_SECONDS))


def launchers(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables by which accelerate would change a trial's numbers."""
    return [
        name
        for name, inert in SETTLED.items()
        if environment.get(name, "").lower() not in ("", *inert)
    ]


def without_launchers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what launchers left in it, for a process that we start."""
    left = (*SETTLED, *RANKS)
    return {name: value for name, value in environment.items() if name not in left}


def refuse_ranks(environment: Mapping[str, str] = os.environ) -> None:
    """Raise BadInput where a launcher calls this process one of several: it would wait for them."""
    several = [name for name in SIZES if environment.get(name, "1") not in ("", "1")]
    if environment.get("LOCAL_RANK", "-1") not in ("", "-1"):
        several.append("LOCAL_RANK")
    if several:
        raise BadInput(
            f"{several[0]} is set in the environment, so this process would wait for others that"
            f" nobody started: unset {', '.join(several)}; a trial in several processes is"
            " [resources] workers = 2 of a sweep"
        )


def refuse_launchers() -> None:
    """Raise BadInput where the environment holds settings of accelerate."""
    if found := launchers():
        raise BadInput(
            f"{found[0]} is set in the environment, where it changes numbers behind a trial's"
            f" settings: unset {', '.join(found)}; the trial's own keys are precision, batch and"
            " workers"
        )
