"""A model shared out over the processes of a trial (FSDP2), where no device holds it whole."""

from __future__ import annotations

import gc

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from forget.errors import BadInput
from forget.models.batches import Answers


def shard(answers: Answers) -> None:
    """Leave each process its share of every parameter, on its device. The whole model is on the CPU before.

    It moves and is gathered block by block. What lies outside the blocks is gathered while
    `answers` runs: nothing else may run the network from now on. accelerate shards on GPUs alone,
    so this is torch's own.

    Raises:
        BadInput: a model in one block.
    """
    blocks = [
        module for module in answers.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    if not blocks:
        kind = answers.network.config.model_type
        raise BadInput(
            f"shard = true gathers a model block by block, and transformers knows no blocks of a {kind}"
        )
    # One before it, which nobody uses any more, holds on to itself.
    gc.collect()
    process = PartialState()
    mesh = init_device_mesh(process.device.type, (process.num_processes,))
    # Backward computes a block again: kept for it, activations and autocast's bf16 weights would
    # fill the device.
    answers.network.activation_checkpointing_enable()
    for module in (*blocks, answers):
        # Left to itself, the root would stay whole after a forward.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_sharded(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """For the main process: the tensor, on the CPU if it was shared; all ask together, the others get an empty one."""
    full = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
    return full if PartialState().is_main_process else torch.empty(0)


def like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """This process's share of a tensor that all of them have, if `other` is shared."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
