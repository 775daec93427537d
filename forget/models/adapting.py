"""The layers of a network that take low-rank adapters."""

from __future__ import annotations

from collections import Counter

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from forget.errors import BadInput
from forget.models import kernels

PLAIN = (nn.Linear, kernels.Linear, Conv1D)
"""Kinds of linear layers that are nothing else. A router, or a layer that multiplies its input group
by group, is of a kind of its own: an adapter would add a product to something that is none.
"""


def adaptable(network: PreTrainedModel) -> list[str]:
    """Return the names of all linear layers but the head (Dettmers et al. 2023, QLoRA, section 4).

    Raises:
        BadInput: there is none.
    """
    head = network.get_output_embeddings()
    names = [
        name
        for name, module in network.named_modules()
        if type(module) in PLAIN and module is not head and module.weight.requires_grad
    ]
    if names:
        return names
    kinds = Counter(type(module).__name__ for module in network.modules() if _has_own(module))
    raise BadInput(
        f'tuning = "lora" finds no linear layer in a {network.config.model_type}, whose weights are'
        f" in {', '.join(kinds)}: tuning = \"full\" trains them"
    )


def _has_own(module: nn.Module) -> bool:
    """Tell whether a module has weights that belong to no module inside it."""
    return next(module.parameters(recurse=False), None) is not None
