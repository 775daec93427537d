"""Latent adversarial training: the worst small change of the hidden states of prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from forget.methods.representations import quarter
from forget.models.language_model import LanguageModel

STEPS = 4
"""Steps uphill of each attack. The source takes 16 for four steps of the model."""


@dataclass(frozen=True)
class Attack:
    """Adds to the states of prompts, a quarter of the way up, what raises the loss most.

    The change of each token is at most `radius` times the norm of its states. It is found by Adam
    on the change in those units (after Sheshadri et al. 2024, 2407.15549, of which the radius is in
    absolute units and the attack's target an answer).
    """

    model: LanguageModel
    radius: float

    @contextmanager
    def on(self, prompts: torch.Tensor, loss: Callable[[], torch.Tensor]) -> Iterator[None]:
        """Run the network with its states changed, within the context.

        Args:
            prompts: [B, L] true for tokens of prompts.
            loss: runs the network and returns what is to be raised.
        """
        layer = quarter(len(self.model.answers.blocks))
        change = torch.zeros(1, device=prompts.device, requires_grad=True)
        seen: list[torch.Tensor] = []

        def hook(block: torch.nn.Module, args: Any, out: Any) -> Any:
            states = out[0] if isinstance(out, tuple) else out
            seen[:] = [states.detach()]
            if change.dim() == 1:
                return None
            scale = states.detach().norm(dim=-1, keepdim=True) * prompts[..., None]
            moved = states + (change * scale).to(states.dtype)
            return (moved, *out[1:]) if isinstance(out, tuple) else moved

        handle = self.model.answers.blocks[layer - 1].register_forward_hook(hook)
        try:
            with torch.no_grad():
                loss()
            change = torch.zeros_like(seen[0], dtype=torch.float32, requires_grad=True)
            rate = self.radius / math.sqrt(change.shape[-1]) / 2
            adam = torch.optim.Adam([change], lr=rate, maximize=True)
            for _ in range(STEPS):
                (change.grad,) = torch.autograd.grad(loss(), [change])
                adam.step()
                with torch.no_grad():
                    change.copy_(project(change, self.radius))
            change.requires_grad_(False)
            yield
        finally:
            handle.remove()


def project(change: torch.Tensor, radius: float) -> torch.Tensor:
    """Return changes [..., width] with those that are longer than a radius cut to it."""
    norm = change.norm(dim=-1, keepdim=True)
    return change * (radius / norm.clamp(min=1e-12)).clamp(max=1.0)
