"""Losses of a model's whole distributions, towards others than its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field

from forget.methods.objective import Method, Need, Objective, Said, Setting, wide

LEAST = 1e-9
"""Probability below which none is taken in a divergence from one token."""


def cross_entropy_to(target: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    """Return -sum target log p [T], of distributions [T, vocabulary]."""
    return -(target * logprobs).sum(-1)


def kl(target: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    """Return KL(target || p) [T], of log-probabilities [T, vocabulary]."""
    return (target.exp() * (target - logprobs)).sum(-1)


def jensen_shannon(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the Jensen-Shannon divergence [T] of log-probabilities [T, vocabulary]."""
    p, q = one.exp(), other.exp()
    middle = (0.5 * (p + q)).log()
    return 0.5 * ((p * (one - middle)).sum(-1) + (q * (other - middle)).sum(-1))


def of_reference(said: Said) -> torch.Tensor:
    """Return the log-probabilities [T, vocabulary] of the reference."""
    logits = said.reference.logits
    assert logits is not None
    return wide(logits).log_softmax(-1)


class Undial(Method):
    """Distils the reference, with the logit of the truth's token lowered by beta."""

    name = "undial"
    source = "Dong et al. 2024, 2402.10052; beta as in open-unlearning"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    beta: float = Field(10.0, ge=0)
    """Nats by which the logit is lowered."""

    def loss(self, said: Said) -> torch.Tensor:
        lowered = of_reference(said)
        down = torch.full_like(lowered[:, :1], -self.beta)
        lowered = lowered.scatter_add(1, said.targets[:, None], down).log_softmax(-1)
        return cross_entropy_to(lowered.exp(), said.logprobs)


class Pdu(Method):
    """Flattens the logits at the truth's tokens, as far as the retained loss stays below a bound.

    The retain set's weight is a dual variable: after each step it moves by `step` times what the
    retained loss was above `epsilon`.
    """

    name = "pdu"
    source = "PDU, 2506.05314; epsilon and step as in open-unlearning"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})

    epsilon: float = Field(0.3, gt=0)
    """Retained loss, in nats, from which on the weight falls."""
    step: float = Field(5.0, gt=0)
    """Change of the weight a step and nat."""
    alpha: float = Field(1.0, ge=0)
    """First weight of the retain set, times its own."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the steps in which the weight stays the first."""

    def start(self, setting: Setting) -> Objective:
        return Dual(self, waits=round(self.warmup * setting.steps))

    def loss(self, said: Said) -> torch.Tensor:
        return flatness(said.logits)


def flatness(logits: torch.Tensor) -> torch.Tensor:
    """Return the squared distance [T] of the largest of logits [T, vocabulary] to their mean."""
    return (wide(logits).amax(-1) - wide(logits).mean(-1)) ** 2


class Dual(Objective):
    """`Pdu` in a stage, with the retain set's weight as it is by now."""

    def __init__(self, settings: Pdu, waits: int = 0) -> None:
        self._settings = settings
        self._weight = settings.alpha
        self._waits = waits

    def loss(self, said: Said) -> torch.Tensor:
        return flatness(said.logits)

    def scale(self, term: str) -> float:
        return self._weight if term == "retain" else 1.0

    def after(self, losses: Mapping[str, float], noted: Mapping[int, float], epoch: int) -> None:
        if self._waits > 0:
            self._waits -= 1
        elif "retain" in losses:
            above = losses["retain"] - self._settings.epsilon
            self._weight = max(0.0, self._weight + self._settings.step * above)

    def state(self) -> dict[str, torch.Tensor]:
        return {"dual": torch.tensor([self._weight, self._waits], dtype=torch.float64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self._weight, waits = state["dual"].tolist()
        self._waits = int(waits)


class JenSun(Method):
    """Jensen-Shannon divergence from the tokens of another text, whatever the answer was."""

    name = "jensun"
    source = "Singh et al. 2025, 2509.02820; a retain set with js is theirs"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})

    text: str = Field(" No idea", min_length=1)
    """Text whose tokens, over and over, are what each answer's tokens should be."""

    def start(self, setting: Setting) -> Objective:
        tokens = setting.tokenizer(self.text, add_special_tokens=False)["input_ids"]
        return Instead(tokens)


class Instead(Objective):
    """`JenSun` with the tokens that answers should be."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens

    def loss(self, said: Said) -> torch.Tensor:
        wanted = torch.tensor(self._tokens, device=said.slots.device)
        tokens = wanted[said.slots % len(wanted)]
        one = torch.full_like(said.logprobs, LEAST).scatter(1, tokens[:, None], 1.0).log()
        return jensen_shannon(said.logprobs.clamp(min=math.log(LEAST)), one)
