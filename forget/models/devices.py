"""The device and the processes of a trial, decided before accelerate or transformers decide."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import PartialState

from forget.errors import BadInput

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


def device() -> torch.device:
    """Return the device that models run on: a CUDA GPU where torch sees one, else the CPU.

    Apple's GPUs are passed over: promises to the bit were tried on these two.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def process() -> PartialState:
    """Return this process among those of its trial, on `device`.

    Raises:
        BadInput: the environment holds settings of accelerate, which would change numbers behind
            the settings of the trial.
    """
    refuse_launchers()
    # Left to itself, accelerate takes whatever accelerator it finds.
    return PartialState(cpu=device().type == "cpu")


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
