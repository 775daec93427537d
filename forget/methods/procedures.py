"""Ways to forget that are more than one loss: several stages in one, or no training at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, Field

from forget.errors import BadInput
from forget.methods.objective import Method, Need, Objective, Packed, Parts, Work
from forget.settings.parts import Choice


def _of_another(choice: Choice) -> Choice:
    """Return the choice in its one form; refuse what trains nothing or is a procedure itself.

    Raises:
        ValueError: it is.
    """
    # Asked for when a trial names one: the catalogue has this file's methods, too.
    from forget.methods.catalogue import canonical, method

    try:
        if method(choice).simple:
            return canonical(choice)
    except BadInput as error:
        raise ValueError(str(error)) from None
    raise ValueError(f'"{choice.name}" is a procedure itself: take a method that is a loss')


class Layered(Method):
    """Forgets the examples fold by fold, retaining those whose turn has not come.

    Stage i trains the method on folds 1 to i and the retain set on the others, all in one course of
    the rate. It takes as many epochs for each fold as the settings ask for.
    """

    name = "layered"
    source = "Layered Unlearning, 2505.09500"
    simple: ClassVar[bool] = False

    of: Annotated[Choice, AfterValidator(_of_another)] = Choice(name="random_labels")
    """The method of each stage."""
    folds: int = Field(2, ge=2, le=10)
    """Parts of the examples, drawn at random."""

    @property
    def inner(self) -> Method:
        """The method of each stage."""
        from forget.methods.catalogue import method

        return method(self.of)

    @property
    def trains_on(self) -> Packed:
        return self.inner.trains_on

    @property
    def asks(self) -> frozenset[Need]:
        return self.inner.asks

    @property
    def passes(self) -> float:
        # Of folds, on average a little more than half is forgotten, and the rest retained.
        return self.folds * self.inner.passes

    def objective(self) -> Objective:
        return self.inner.objective()

    def trained(self, network: torch.nn.Module, blocks: Sequence[torch.nn.Module]) -> set[int]:
        return self.inner.trained(network, blocks)

    def epochs(self, epochs: int) -> int:
        return epochs * self.folds

    def parts(self, examples: int, epochs: int, seed: int) -> Parts:
        order = random.Random(f"{seed}/folds").sample(range(examples), examples)

        def part(epoch: int) -> list[int]:
            return order[: -(-examples * (epoch // epochs + 1) // self.folds)]

        return part


class TaskVector(Method):
    """Takes away what learning added: (1 - alpha) learned + alpha untouched weights.

    It trains nothing. With alpha 1 it is the untouched model, which has never learned the task.
    """

    name = "task_vector"
    source = "Ilharco et al. 2023, 2212.04089, with the task vector of what was learned"
    needs: ClassVar[frozenset[Need]] = frozenset({"learned"})
    cost: ClassVar[float] = 0
    simple: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    alpha: float = Field(1.0, gt=0)
    """Share of the way back; above 1 it goes on beyond the untouched model."""

    def change(self, work: Work) -> bool:
        untouched = work.untouched()
        with torch.no_grad():
            for name, weight in work.network.named_parameters():
                # In this form alpha = 1 gives the untouched weights to the bit.
                before = untouched[name].to(weight)
                weight.copy_((1 - self.alpha) * weight + self.alpha * before)
        return True
