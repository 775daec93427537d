"""Losses of the answers' likelihood."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [tokens, vocabulary], targets [tokens]) -> loss [tokens] of answer tokens, in nats."""


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -log p(target): for learning, and for forgetting by other labels.

    Zhang, Choshen, Andreas 2024, section 3.
    """
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def ascent(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return log p(target), minus the cross-entropy: a step makes the truth less likely.

    It has no lower bound, so it takes few steps at a low rate (Jang et al. 2023, eq. 1).
    """
    return -cross_entropy(logits, targets)
