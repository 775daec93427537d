"""Losses of hidden states at one layer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from transformers.pytorch_utils import Conv1D

from forget.methods.objective import Method, Need, Objective, Said, Setting, Unit

STATES: frozenset[Need] = frozenset({"states"})

REACH = 3
"""Blocks up to the layer whose weights are trained."""


def quarter(layers: int) -> int:
    """Return a quarter of the layers, at least the second, and never the last."""
    return max(1, min(layers - 1, max(2, round(0.25 * layers))))


def misdirection(states: torch.Tensor, direction: torch.Tensor, length: float) -> torch.Tensor:
    """Return the mean squared distance [N] of states [N, width] to a direction of a length."""
    return ((states.float() - length * direction) ** 2).mean(-1)


class Rmu(Method):
    """Steers the hidden states of the examples towards one random direction.

    No loss is taken of the answers, which drift rather than become equally likely. All squares are
    divided by the square of the median norm of the states, so that no setting is of one model.
    Trained are the last layers of three MLPs up to there; with adapters, all of those. A retain set
    is kept by its states unless its loss is named. Rates of other methods hardly move those three:
    20 steps at 1e-3 do nothing to smollm2-135m.
    """

    name = "rmu"
    source = "Li et al. 2024, 2403.03218 (WMDP); lengths in units of the states' norm are ours"
    needs: ClassVar[frozenset[Need]] = frozenset({"states", "retain"})
    cost: ClassVar[float] = 1.3
    # Beside the answers' loss its own, a mean over the width, hardly counts.
    retains: ClassVar[str] = "states"

    kappa: float = Field(2.0, gt=0)
    """Length of the direction, in median norms of the states; 1, 2 and 4 are worth trying."""
    at: int = Field(0, ge=0)
    """Layer whose output it is; 0 takes a quarter of the depth, at least the second."""
    positions: Literal["all", "answer"] = "all"
    """Tokens whose states are steered: a skill is read from the prompt as well."""

    def layer(self, layers: int) -> int:
        return min(self.at, layers) or quarter(layers)

    def start(self, setting: Setting) -> Objective:
        return Steered(self, setting)

    def trained(self, network: nn.Module, blocks: Sequence[nn.Module]) -> set[int]:
        layer = self.layer(len(blocks))
        near = nn.ModuleList(blocks[max(0, layer - REACH) : layer])
        # Blocks without any, such as recurrent ones, are trained as a whole.
        return set(map(id, _down_projections(near) or near.parameters()))


class Steered(Objective):
    """`Rmu` in a stage, with its direction."""

    needs: ClassVar[frozenset[Need]] = STATES

    def __init__(self, settings: Rmu, setting: Setting) -> None:
        draw = torch.Generator().manual_seed(setting.seed)
        # Uniform from 0 to 1 in each coordinate and not centred, as theirs is.
        direction = torch.rand(setting.width, generator=draw)
        self._direction = direction / direction.norm()
        self._kappa, self._norm = settings.kappa, setting.norm
        self.unit: Unit = "position" if settings.positions == "all" else "reply"  # type: ignore[misc]

    def loss(self, said: Said) -> torch.Tensor:
        assert said.states is not None
        assert said.answers is not None
        states = said.states if self.unit == "position" else said.states[said.answers]
        direction = self._direction.to(states.device)
        return misdirection(states / self._norm, direction, self._kappa)


class RetainStates(Objective):
    """Mean squared distance of the states to the reference's, over their squared median norm."""

    unit: ClassVar[Unit] = "position"
    needs: ClassVar[frozenset[Need]] = STATES

    def __init__(self, norm: float = 1.0) -> None:
        self._norm = norm

    def layer(self, layers: int) -> int:
        return quarter(layers)

    def start(self, setting: Setting) -> Objective:
        return RetainStates(setting.norm)

    def loss(self, said: Said) -> torch.Tensor:
        assert said.states is not None
        assert said.reference.states is not None
        moved = (said.states.float() - said.reference.states.float()) / self._norm
        return (moved**2).mean(-1)


def _down_projections(blocks: nn.Module) -> list[torch.Tensor]:
    """Return the weights of the linear layers that give the states' width of a larger one.

    In each block that is the last layer of its MLP. Keys and values may be narrower than states.
    """
    shapes: list[tuple[int, int, torch.Tensor]] = []
    for module in blocks.modules():
        if isinstance(module, nn.Linear | Conv1D):
            weight = module.weight
            outputs, inputs = weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1]
            shapes.append((outputs, inputs, weight))
    # What a block gives is what most of its layers get.
    width = statistics.mode(inputs for _, inputs, _ in shapes) if shapes else 0
    return [weight for outputs, inputs, weight in shapes if width == outputs < inputs]
