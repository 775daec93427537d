"""Losses that make an example's options equally likely."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from forget.methods.objective import Method, Need, Packed, Said, Unit


class Uniform(Method):
    """Divergence of the options' shares from equal ones: no answer is preferred."""

    name = "uniform"
    source = "Kullback-Leibler divergence from equal shares"
    packs: ClassVar[Packed] = "all"
    unit: ClassVar[Unit] = "example"
    cost: ClassVar[float] = 1.2

    reverse: bool = False
    """KL(shares || equal) in place of KL(equal || shares)."""

    def loss(self, said: Said) -> torch.Tensor:
        if self.reverse:
            surplus = said.log_shares.exp() * said.log_shares
            return said.by_example(surplus) + said.options.log()
        return -said.mean(said.log_shares) - said.options.log()


class DfMcq(Method):
    """Flattens the options of a question.

    Flattening their probabilities is the expectation of random labels drawn anew each epoch: the
    later without the noise of the draw.
    """

    name = "df_mcq"
    source = "Sun et al. 2025, 2505.02884 (DF-MCQ); a retain set with ce_ref is theirs"
    packs: ClassVar[Packed] = "all"
    unit: ClassVar[Unit] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"retain"})
    cost: ClassVar[float] = 1.2

    flatten: Literal["all", "options", "average"] = "all"
    """all: the mean of -log p(option) over the whole vocabulary; options: the same of shares among
    the options; average: the cross-entropy to the model's own distribution of the answer's first
    token, with the probabilities of the options averaged, which keeps their sum.
    """

    def loss(self, said: Said) -> torch.Tensor:
        if self.flatten == "all":
            return -said.mean(said.sums)
        if self.flatten == "options":
            return -said.mean(said.log_shares)
        return self._to_average(said)

    def _to_average(self, said: Said) -> torch.Tensor:
        first = said.slots == 0
        logprobs = said.logprobs[first]  # [O, vocabulary], alike for the options of an example
        tokens = said.targets[first]
        target = logprobs.detach().exp()
        own = target.gather(1, tokens[:, None])[:, 0]
        mean = said.mean(own)[said.example]
        # Of an example, each option's row gets the mean at the first token of every one of them.
        alike = said.example[:, None] == said.example[None, :]
        rows, others = alike.nonzero(as_tuple=True)
        target = target.index_put((rows, tokens[others]), mean[rows])
        return said.mean(-(target * logprobs).sum(-1))
