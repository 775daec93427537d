"""What forgetting minimises: a loss by name. Adding a method is adding a function here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [tokens, vocabulary], targets [tokens]) -> loss of each answer token [tokens], in nats."""


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log p(target): learning, and forgetting by other labels (Zhang et al. 2024)."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def ascent(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """+log p(truth), climbed: the loss of the truth grows without bound, so few steps at a low rate (Jang et al. 2023)."""
    return -cross_entropy(logits, targets)
