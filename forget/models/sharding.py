"""A model shared out over the processes of a trial (FSDP2), where no device holds it whole."""

from __future__ import annotations

import gc

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from forget.errors import BadInput
from forget.models.answers import Answers
from forget.models.devices import process


def shard(answers: Answers) -> None:
    """Leave each process its share of every parameter, on its device.

    Before, every process has the whole model on the CPU. It moves and is gathered block by block.
    Parameters outside the blocks are gathered while `answers` runs: nothing else may run the
    network from now on. This is torch's own sharding, because accelerate's works on GPUs alone.

    Raises:
        BadInput: transformers knows no blocks of the model.
    """
    blocks = answers.blocks
    if not blocks:
        kind = answers.network.config.model_type
        raise BadInput(
            "shard = true gathers a model block by block, "
            f"and transformers knows no blocks of a {kind}"
        )
    # A sharded model that nobody uses any more holds on to itself by a circle of references.
    gc.collect()
    own = process()
    mesh = init_device_mesh(own.device.type, (own.num_processes,))
    # Backward computes each block again, because activations and autocast's bf16 weights that were
    # kept for it would fill the device.
    answers.network.activation_checkpointing_enable()
    for module in (*blocks, answers):
        # Without the last argument, the root would stay whole after a forward.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_sharded(module: nn.Module) -> bool:
    """Return whether `shard` was called on the module."""
    return isinstance(module, FSDPModule)


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process has of a tensor: all of it, unless it was shared."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor for the main process, on the CPU if it was shared.

    All processes ask together; the others get an empty tensor.
    """
    full = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
    return full if process().is_main_process else torch.empty(0)


def like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor that all of them have, cut as `other` is.

    If `other` is not shared, it is the tensor itself.
    """
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
