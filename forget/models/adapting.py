"""The layers of a network that take low-rank adapters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from forget.errors import BadInput
from forget.models import kernels
from forget.settings.parts import Lora

if TYPE_CHECKING:
    from peft import PeftModel

PLAIN = (nn.Linear, kernels.Linear, Conv1D)
"""Kinds of linear layers that are nothing else. Others are tried: a router, or a layer that
multiplies its input group by group, gives something to which an adapter has no product to add.
"""


def adaptable(network: PreTrainedModel) -> list[str]:
    """Return the names of all linear layers but the head (Dettmers et al. 2023, QLoRA, section 4).

    Raises:
        BadInput: there is none.
    """
    head = network.get_output_embeddings()
    modules = dict(network.named_modules())
    names = []
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        # The last layer of a Mamba mixer is read by a kernel that knows nothing of adapters; PEFT
        # refuses it.
        mixes = own == "out_proj" and hasattr(modules[parent], "conv1d")
        if module is not head and not mixes and _is_linear(module):
            names.append(name)
    if names:
        return names
    kinds = Counter(type(module).__name__ for module in network.modules() if _has_own(module))
    raise BadInput(
        f'tuning = "lora" finds no linear layer in a {network.config.model_type}, whose weights are'
        f' in {", ".join(kinds)}: tuning = "full" trains them'
    )


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a layer is trained and multiplies its input by its weights, and nothing else."""
    if not isinstance(module, (nn.Linear, Conv1D)) or not module.weight.requires_grad:
        return False
    if type(module) in PLAIN:
        return True
    probe = torch.ones(1, 1, module.weight.shape[1], device=module.weight.device)
    try:
        with torch.no_grad():
            given = module(probe)
            return torch.allclose(given, functional.linear(probe, module.weight, module.bias))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _has_own(module: nn.Module) -> bool:
    """Tell whether a module has weights that belong to no module inside it."""
    return next(module.parameters(recurse=False), None) is not None


def with_adapters(network: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """Put low-rank adapters into a network, which alone are trained from then on.

    Args:
        network: gets them in place.
        lora: their rank, scale and dropout.
        seed: decides their first weights.

    Raises:
        BadInput: it has no layer that takes them.
    """
    from peft import LoraConfig, get_peft_model  # half a second, which only adapters cost

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=adaptable(network),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)
