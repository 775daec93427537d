"""Gradients of one step: of every term in turn, and of the first one uphill where that is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from forget.models import memory
from forget.results.rows import Row
from forget.tasks.labels import place
from forget.training.items import Item
from forget.training.meta import weight_slopes
from forget.training.passes import Pass, Totals
from forget.training.terms import META


@dataclass(frozen=True)
class Sums:
    """Result of a step's gradients."""

    loss: float
    """Sum of the terms' mean losses times their weights."""
    losses: dict[str, float]
    """Mean loss of each term, by its name."""
    tokens: int
    """Tokens that all processes computed."""
    totals: Sequence[Totals]
    """Totals of each term, in order."""


class Gradients:
    """Takes the gradients of a stage's terms, and carries the state of their objectives."""

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        passes: Sequence[Pass],
        optimizer: AcceleratedOptimizer,
        rho: float = 0.0,
    ) -> None:
        """Prepare for the steps of a stage.

        Args:
            accelerator: knows the processes of the trial.
            network: `model.answers`, as accelerate wrapped it.
            passes: the terms.
            optimizer: whose gradients they are.
            rho: length of the step uphill (`Method.sam`); 0 takes none.
        """
        self._accelerator, self._network = accelerator, network
        self._passes = [one for one in passes if one.term.name != META]
        self._meta = [one for one in passes if one.term.name == META]
        self._optimizer, self._rho = optimizer, rho

    def of(self, step: int, *, draws: int, budget: int) -> tuple[Sums, int]:
        """Take the gradients of a step; return its losses, and the budget that the memory had.

        Args:
            step: number of the step.
            draws: seed of dropout, the same for each pass over the first term.
            budget: tokens of a micro-batch.
        """
        items = [one.items(step) for one in self._passes]
        held = [one.items(step) for one in self._meta]
        epoch = self._passes[0].steps.epoch(step)

        def run(budget: int) -> list[Totals]:
            due = held if self._passes[0].objective.due(step) else []
            return self._run(items, due, epoch, draws, budget)

        undo = self._optimizer.zero_grad
        totals, budget = memory.shrinking(budget, self._least(items), run, undo=undo)
        weighed = [self._weight(one) * found.loss for one, found in self._of(totals)]
        losses = {one.term.name: found.loss for one, found in self._of(totals)}
        return Sums(sum(weighed), losses, sum(one.tokens for one in totals), totals), budget

    def after(self, sums: Sums, epoch: int) -> None:
        """Let the objectives take note of a step that was taken."""
        for one, found in self._of(sums.totals):
            one.objective.after(sums.losses, found.noted, epoch)

    def weighed(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the Rows of a look, each trained example's with the weight it has in its loss."""
        first = self._passes[0]
        weights = {}
        for index, weight in first.objective.weights().items():
            example = first.first[index].example
            weights[place(example.task, example.id)] = weight
        if not weights:
            return rows
        found = []
        for row in rows:
            trained = row.split == "train"
            value = weights.get(place(row.task, row.example)) if trained else None
            found.append(replace(row, value=value))
        return found

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of every objective, by term and name."""
        found: dict[str, torch.Tensor] = {}
        for one in self._passes:
            state = one.objective.state().items()
            found |= {f"{one.term.name}.{name}": value for name, value in state}
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` returned; from the start where there is none."""
        for one in self._passes:
            prefix = f"{one.term.name}."
            own = {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}
            if own:
                one.objective.restore(own)

    def _of(self, totals: Sequence[Totals]) -> Iterator[tuple[Pass, Totals]]:
        return zip(self._passes, totals, strict=True)

    def _weight(self, one: Pass) -> float:
        """Return the weight of a term at this step, which an objective may have a say in."""
        scales = (other.objective.scale(one.term.name) for other in self._passes)
        return one.term.weight * math.prod(scales)

    def _least(self, items: Sequence[Sequence[Item]]) -> float:
        """Return the smallest budget of micro-batches that differs from a larger one.

        Several processes have one budget: they would no longer take the same turns.
        """
        if self._accelerator.num_processes > 1:
            return math.inf
        return max(one.least(own) for one, own in zip(self._passes, items, strict=True))

    def _run(
        self,
        items: Sequence[Sequence[Item]],
        held: Sequence[Sequence[Item]],
        epoch: int,
        draws: int,
        budget: int,
    ) -> list[Totals]:
        totals = []
        for number, (one, own) in enumerate(zip(self._passes, items, strict=True)):
            seed = hash((draws, number)) if number else draws
            found = self._backward(one, own, epoch, seed, budget)
            if held and not number:
                self._learn(found, items, held, epoch, seed, budget)
            if self._rho and not number:
                with self.uphill():
                    self._backward(one, own, epoch, seed, budget)
            totals.append(found)
        return totals

    def _backward(
        self, one: Pass, items: Sequence[Item], epoch: int, seed: int, budget: int
    ) -> Totals:
        if not items:
            return Totals(0.0, 0, {})
        torch.manual_seed(seed)
        return one.backward(
            self._accelerator,
            self._network,
            items,
            epoch=epoch,
            weight=self._weight(one),
            budget=budget,
        )

    def _learn(
        self,
        found: Totals,
        items: Sequence[Sequence[Item]],
        held: Sequence[Sequence[Item]],
        epoch: int,
        seed: int,
        budget: int,
    ) -> None:
        """Let the first term's objective learn from held-out examples how its own should weigh."""
        first = self._passes[0]

        def meta() -> None:
            others = [*zip(self._passes[1:], items[1:], strict=True)]
            for one, own in [*zip(self._meta, held, strict=True), *others]:
                self._backward(one, own, epoch, seed, budget)

        def each() -> dict[int, float]:
            torch.manual_seed(seed)  # The same dropout at both ends.
            return first.each(self._accelerator, items[0], epoch, budget)

        weights = [p for p in self._network.parameters() if p.requires_grad]
        rate = self._optimizer.param_groups[0]["lr"]
        slopes = weight_slopes(weights, rate, meta, each)
        first.objective.learn(found.noted, slopes)

    @contextmanager
    def uphill(self) -> Iterator[None]:
        """Move the weights uphill, along the gradient, for the gradient that is taken there.

        The gradients so far are dropped, and the weights get their own bits back.
        """
        weights = [p for p in self._network.parameters() if p.grad is not None]
        norm = self._accelerator.clip_grad_norm_(weights, math.inf)
        kept = [p.detach().clone() for p in weights]
        with torch.no_grad():
            for p in weights:
                assert p.grad is not None
                p.add_(p.grad * (self._rho / (float(norm) + 1e-12)))
        self._optimizer.zero_grad()
        try:
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(weights, kept, strict=True):
                    p.copy_(before)
