"""Objectives: what a term of training minimises, and what it is told of a model to do so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from forget.settings.parts import Part

Packed = Literal["drawn", "true", "wrong", "all"]
"""Options of an example that a model is given: the one whose label is drawn, the true one, the true
one and a wrong one that is drawn, or all of them in their order.
"""

Unit = Literal["token", "answer", "example", "position", "reply"]
"""Things over which a loss is averaged: scored tokens, packed options, examples, all tokens, or
those of options.
"""

Need = Literal["retain", "sums", "logits", "states", "learned"]
"""Things that an objective asks for: a retain set; of the model that begins to forget, the
log-probabilities of its options, its whole distributions, or its hidden states; and that it is
another model than the untouched one.
"""


@dataclass(frozen=True)
class Reference:
    """Outputs of the model that begins to forget, on the options of a micro-batch."""

    sums: torch.Tensor | None = None
    """[O] log-probabilities of the options."""
    logits: torch.Tensor | None = None
    """[T, vocabulary] that predict the scored tokens."""
    states: torch.Tensor | None = None
    """[N, width] hidden states of one layer."""


@dataclass(frozen=True)
class Said:
    """Outputs of a model on a micro-batch: E examples, O options and T scored tokens among them."""

    logits: torch.Tensor
    """[T, vocabulary] that predict the scored tokens."""
    targets: torch.Tensor
    """[T] scored tokens."""
    option: torch.Tensor
    """[T] index of the option that a token is of."""
    example: torch.Tensor
    """[O] index of the example that an option is of."""
    truth: torch.Tensor
    """[E] index, among the options, of each example's true one; the only one where one is
    packed.
    """
    places: Sequence[int] = ()
    """Place [E] of each example among those of its term."""
    epoch: int = 0
    states: torch.Tensor | None = None
    """[N, width] hidden states of one layer, of every token in order of the examples."""
    answers: torch.Tensor | None = None
    """[N] true for tokens of options, false for those of prompts."""
    reference: Reference = field(default_factory=Reference)

    @cached_property
    def nll(self) -> torch.Tensor:
        """-log p(token) [T] of each scored token, in nats."""
        return functional.cross_entropy(wide(self.logits), self.targets, reduction="none")

    @cached_property
    def logprobs(self) -> torch.Tensor:
        """Log-probabilities [T, vocabulary], in at least single precision."""
        return wide(self.logits).log_softmax(-1)

    @cached_property
    def sums(self) -> torch.Tensor:
        """Log-probability [O] of each option: the sum over its scored tokens."""
        return _summed(-self.nll, self.option, len(self.example))

    @property
    def gained(self) -> torch.Tensor:
        """Log-probability [O] that each option has gained over the reference."""
        assert self.reference.sums is not None
        return self.sums - self.reference.sums

    @cached_property
    def lengths(self) -> torch.Tensor:
        """Scored tokens [O] of each option."""
        return torch.bincount(self.option, minlength=len(self.example))

    @cached_property
    def slots(self) -> torch.Tensor:
        """Number [T] of each scored token within its option, from 0."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.option), device=self.option.device) - starts[self.option]

    @cached_property
    def log_shares(self) -> torch.Tensor:
        """Log of each option's share [O] in the probability of its example's options."""
        highest = torch.full_like(self.truth, -1, dtype=self.sums.dtype).scatter_reduce(
            0, self.example, self.sums.detach(), "amax", include_self=False
        )
        shifted = self.sums - highest[self.example]
        total = self.by_example(shifted.exp()).log()
        return shifted - total[self.example]

    @cached_property
    def options(self) -> torch.Tensor:
        """Number [E] of packed options of each example."""
        return torch.bincount(self.example, minlength=len(self.truth))

    def by_example(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values [O] of options over those of each example, [E]."""
        return _summed(values, self.example, len(self.truth))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average values [O] of options over those of each example, [E]."""
        return self.by_example(values) / self.options


def wide(logits: torch.Tensor) -> torch.Tensor:
    """Return logits in single precision, or in double where they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _summed(values: torch.Tensor, owner: torch.Tensor, owners: int) -> torch.Tensor:
    return torch.zeros(owners, dtype=values.dtype, device=values.device).index_add(0, owner, values)


@dataclass(frozen=True)
class Setting:
    """Everything an objective may look at before it begins."""

    tokenizer: PreTrainedTokenizerBase
    examples: int
    """Examples of its term."""
    steps: int
    """Optimiser steps of the stage."""
    seed: int
    layers: int
    """Blocks of the network."""
    width: int = 0
    """Width of the hidden states at its layer; 0 where it asks for none."""
    norm: float = 1.0
    """Median L2 norm of the reference's states there, over the tokens of its examples."""


class Objective:
    """A loss of what a model says, with the state that it carries from step to step."""

    packs: ClassVar[Packed] = "true"
    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def loss(self, said: Said) -> torch.Tensor:
        """Return the loss of each unit, in nats unless it says otherwise."""
        raise NotImplementedError

    def start(self, setting: Setting) -> Objective:
        """Return the objective as one stage trains on it; one without state is that itself."""
        return self

    def layer(self, layers: int) -> int:
        """Return the layer of a network of so many blocks whose states it asks for."""
        raise NotImplementedError

    def scale(self, term: str) -> float:
        """Return what the weight of a term of the stage is multiplied by at the next step."""
        return 1.0

    def noted(self) -> Mapping[int, float]:
        """Return the values that it has kept of examples since `after`, by place."""
        return {}

    def after(self, losses: Mapping[str, float], noted: Mapping[int, float], epoch: int) -> None:
        """Take note of a step that was taken.

        Args:
            losses: mean loss of each term, the same in all processes.
            noted: `noted()` of all processes.
            epoch: of the step.
        """

    def weights(self) -> Mapping[int, float]:
        """Return the present weight of each example in its loss, by place; none by default."""
        return {}

    def due(self, step: int) -> bool:
        """Tell whether it is to learn from held-out examples at a step (`learn`)."""
        return False

    def learn(self, losses: Mapping[int, float], slopes: Mapping[int, float]) -> None:
        """Learn how its examples should weigh.

        Args:
            losses: `noted()` of the step, in all processes.
            slopes: of the held-out examples' loss after the step, in each example's weight.
        """

    def state(self) -> dict[str, torch.Tensor]:
        """Return what it carries from step to step, for a checkpoint."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` returned."""


class Method(Part, Objective):
    """A way to forget: an objective with its parameters. Each is one class in a family's file."""

    name: ClassVar[str]
    """Name in specs."""
    cost: ClassVar[float] = 1
    """Forward and backward passes of a step, those of random labels being 1; without a retain set,
    which costs as much again.
    """
    simple: ClassVar[bool] = True
    """True for a loss by itself; false for a procedure, of which there is no other one."""
    trains: ClassVar[bool] = True
    """False for a method that changes the weights without the loop (`change`)."""
    source: ClassVar[str]
    """Publication of the formula and of the defaults."""
    retains: ClassVar[str] = "nll"
    """Loss of the retain set where the spec names none (`Retain.loss`)."""

    weight: float = Field(1.0, gt=0)
    """Weight of its loss beside that of a retain set."""
    sam: float = Field(0.0, ge=0)
    """Length of the step uphill at whose end the gradient of its loss is taken, in the L2 norm of
    all weights; 0 takes none (sharpness-aware minimisation; Fan et al. 2025, 2502.05374: 0.01).
    """

    lat: float = Field(0.0, ge=0)
    """Largest change of a prompt token's hidden states, in their norm, under which its loss is
    taken, where the change is the one that raises it most; 0 takes none (latent adversarial
    training; 0.1 to 0.5 are worth trying).
    """

    @property
    def trains_on(self) -> Packed:
        """Options that the method trains on, which a procedure takes from the method it is of."""
        return self.packs

    @property
    def asks(self) -> frozenset[Need]:
        """Needs of the method, as `needs`."""
        return self.needs

    def objective(self) -> Objective:
        """Return the loss of its examples."""
        return self

    @property
    def passes(self) -> float:
        """Passes over the examples of an epoch, for the plan."""
        return self.cost * (2 if self.sam else 1) * (6 if self.lat else 1)

    def trained(self, network: torch.nn.Module, blocks: Sequence[torch.nn.Module]) -> set[int]:
        """Return the id of each weight that alone is trained; of none where all are."""
        return set()

    def epochs(self, epochs: int) -> int:
        """Return the epochs of its stage, where the settings ask for so many."""
        return epochs

    def parts(self, examples: int, epochs: int, seed: int) -> Parts | None:
        """Return which examples are forgotten in which epoch; None where all are in each."""
        return None

    def holds(self, examples: int) -> Sequence[int]:
        """Return the places of examples that are held out of training, for it to learn from."""
        return ()

    def change(self, work: Work) -> bool:
        """Change the model without the loop; return False where it is to be trained."""
        return False


Parts = Callable[[int], Sequence[int]]
"""Epoch -> places of the examples that are forgotten in it; the others are retained."""


@dataclass(frozen=True)
class Work:
    """Everything that a method works on which changes the weights without the loop."""

    network: torch.nn.Module
    """The model that forgets, whose weights are changed in place."""
    untouched: Callable[[], Mapping[str, torch.Tensor]]
    """Loads the weights of the untouched model, by the same names."""
    slopes: Callable[[int, float], Mapping[str, torch.Tensor]]
    """Returns, for an epoch and a rate of adapters that relearn the examples for a moment, the
    slope of their cross-entropy in each of the MLPs' weights, by name.
    """
    epochs: int
