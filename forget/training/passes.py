"""Passes of a model over a term: for the outputs of the reference, and for gradients."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from forget.methods.objective import Need, Objective, Reference, Said, Setting
from forget.models import batches, checking, memory
from forget.models.answers import flat
from forget.models.batches import Batch
from forget.models.language_model import LanguageModel
from forget.models.ways import Way
from forget.training.attack import Attack
from forget.training.items import IDLE, Item, Layout, layouts, packed, units
from forget.training.terms import Cycled, Steps, Term

OUTPUTS: frozenset[Need] = frozenset({"sums", "logits", "states"})
"""Needs that one pass of the model that begins to forget meets."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of the reference on one item, on the CPU."""

    sums: torch.Tensor
    """[options]"""
    logits: torch.Tensor | None
    """[scored tokens, vocabulary]"""
    states: torch.Tensor | None
    """[tokens, width]"""


@dataclass(frozen=True)
class Totals:
    """Result of the gradients of a term: its mean loss over its units, and tokens computed."""

    loss: float
    tokens: int
    noted: Mapping[int, float]
    """Values that the objective has kept of examples, in all processes."""


class Pass:
    """A term as a model is trained on it: as tokens, with what its objective needs.

    All processes of a trial make it together, before the model is trained.
    """

    def __init__(
        self,
        term: Term,
        steps: Steps | Cycled,
        model: LanguageModel,
        bf16: bool,
        stage: int,
        attack: Attack | None = None,
    ) -> None:
        """Encode the examples, and run the reference over them where its outputs are needed.

        Args:
            term: the term.
            steps: which examples each step takes.
            model: the model that begins the stage, in evaluation mode.
            bf16: autocast to bfloat16.
            stage: optimiser steps of the stage.
            attack: changes the hidden states under which the loss is taken.
        """
        self._attack = attack
        self.term, self.steps, self.model, self.bf16 = term, steps, model, bf16
        self.first = term.labelled(0)
        examples = [one.example for one in self.first]
        self.encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
        self.way: Way = checking.prepare(model, self.encoded, bf16)
        self.layer = self._layer(len(model.answers.blocks))
        self.reference: dict[int, Outputs] = {}
        if term.objective.needs & OUTPUTS:
            self.reference = self._outputs()
        self.objective = self._started(stage, steps.seed)

    def items(self, step: int) -> list[Item]:
        """Return the items of a step."""
        packs = self.term.objective.packs
        return [packed(i, self.encoded[i], one, packs) for i, one in self.steps[step]]

    def least(self, items: Sequence[Item]) -> int:
        """Return the tokens of the longest item."""
        return max((item.encoded.length for item in items), default=0)

    def backward(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        items: Sequence[Item],
        *,
        epoch: int,
        weight: float,
        budget: int,
    ) -> Totals:
        """Add up the gradients of the mean loss over the units of a step's items, times its weight.

        A process takes its part of the items in micro-batches, whose gradients add up.

        Args:
            accelerator: knows the processes of the trial.
            network: `model.answers`, as accelerate wrapped it.
            items: those of all processes.
            epoch: of the step.
            weight: of the term in the stage's loss.
            budget: tokens of a micro-batch.
        """
        model, count = self.model, accelerator.num_processes
        parts = [items[process::count] for process in range(count)]
        plans = [list(layouts(self.way, part, budget)) for part in parts]
        plan = plans[accelerator.process_index]
        scored = units(items, self.objective.unit)
        total, tokens = torch.zeros((), device=model.device), 0
        turns = max(map(len, plans))
        # One autocast region for all turns: the bf16 copies of the weights are made once.
        with model.autocast(self.bf16):
            for turn in range(turns):
                # A process whose part is done, or is empty, still joins the others' reductions:
                # with a token that weighs nothing.
                idle = turn >= len(plan)
                layout = Layout([IDLE], [[IDLE.encoded]]) if idle else plan[turn]
                batch = self._batch(layout)
                # Reduction over processes takes the mean of gradients: undo its division.
                share = 0.0 if idle else count / scored
                waits = turn < turns - 1 and not model.sharded
                with (
                    accelerator.no_sync(network) if waits else nullcontext(),
                    self._attacked(batch, layout, epoch, idle),
                ):
                    logits, states = self._run(network, batch, layout)
                    if idle:
                        part_loss = logits.float().sum() * 0.0
                    else:
                        said = self._said(logits, states, batch, layout, epoch)
                        part_loss = self.objective.loss(said).sum() * share
                        if states is not None:
                            # Weights that the states do not reach take part in reductions, too.
                            part_loss = part_loss + logits.float().sum() * 0.0
                    accelerator.backward(part_loss * weight)
                total += part_loss.detach()
                tokens += 0 if idle else batch.tokens
        found = [(total.item(), tokens, dict(self.objective.noted()))]
        if count > 1:
            found = gather_object(found)
        noted: dict[int, float] = {}
        for _, _, part in found:
            noted |= part
        return Totals(
            sum(part for part, _, _ in found) / count if count > 1 else found[0][0],
            sum(part for _, part, _ in found),
            noted,
        )

    def each(
        self, accelerator: Accelerator, items: Sequence[Item], epoch: int, budget: int
    ) -> dict[int, float]:
        """Return what the objective notes of each item at the present weights, in fp32."""
        mine = items[accelerator.process_index :: accelerator.num_processes]
        with torch.no_grad():
            for layout in layouts(self.way, mine, budget):
                self.loss(layout, epoch)
        found = [dict(self.objective.noted())]
        if accelerator.num_processes > 1:
            found = gather_object(found)
        noted: dict[int, float] = {}
        for part in found:
            noted |= part
        return {item.place: noted[item.place] for item in items}

    def loss(self, layout: Layout, epoch: int) -> torch.Tensor:
        """Return the sum of the loss over a micro-batch, by the model itself, in this process."""
        batch = self._batch(layout)
        logits, states = self._run(self.model.answers, batch, layout)
        return self.objective.loss(self._said(logits, states, batch, layout, epoch)).sum()

    def _attacked(
        self, batch: Batch, layout: Layout, epoch: int, idle: bool
    ) -> AbstractContextManager[None]:
        """Return the context in which the network's states are attacked, if they are to be."""
        if self._attack is None or idle:
            return nullcontext()
        rows, columns = layout.positions()
        prompts = torch.zeros(batch.ids.shape, dtype=torch.bool)
        prompts[rows, columns] = ~layout.answers()

        return self._attack.on(prompts.to(batch.ids.device), lambda: self.loss(layout, epoch))

    def _layer(self, blocks: int) -> int | None:
        asks = "states" in self.term.objective.needs
        return self.term.objective.layer(blocks) if asks else None

    def _started(self, steps: int, seed: int) -> Objective:
        tokens = [outputs.states for outputs in self.reference.values()]
        states = torch.cat([one for one in tokens if one is not None]) if self.layer else None
        setting = Setting(
            tokenizer=self.model.tokenizer,
            examples=len(self.first),
            steps=steps,
            seed=seed,
            layers=len(self.model.answers.blocks),
        )
        if states is not None:
            norm = statistics.median(states.float().norm(dim=-1).tolist())
            setting = replace(setting, width=states.shape[-1], norm=norm)
        return self.term.objective.start(setting)

    def _batch(self, layout: Layout) -> Batch:
        pad = self.model.tokenizer.pad_token_id or 0
        return self.way.pack(layout.rows, pad).to(self.model.device)

    def _run(
        self, network: nn.Module, batch: Batch, layout: Layout
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the logits of a micro-batch and, at the layer that is asked for, its states."""
        if self.layer is None:
            return network(batch), None
        kept: list[torch.Tensor] = []

        def read(states: torch.Tensor) -> None:
            # Others are let go of: they would be kept for their gradient.
            kept.append(states if len(kept) == self.layer else states.new_empty(0))

        logits = network(batch, read)
        rows, columns = layout.positions()
        return logits, flat(kept[self.layer], batch)[rows, columns]

    def _said(
        self,
        logits: torch.Tensor,
        states: torch.Tensor | None,
        batch: Batch,
        layout: Layout,
        epoch: int,
    ) -> Said:
        device = logits.device
        return Said(
            logits=logits[batch.predictor_of],
            targets=batch.targets,
            option=batch.option,
            example=layout.example(device),
            truth=layout.truth(device),
            places=[item.place for item in layout.items],
            epoch=epoch,
            states=states,
            answers=None if states is None else layout.answers().to(device),
            reference=self._of_reference(layout, device),
        )

    def _of_reference(self, layout: Layout, device: torch.device) -> Reference:
        if not self.reference:
            return Reference()
        outputs = [self.reference[item.place] for item in layout.items]
        found: dict[str, Any] = {}
        for name in self.term.objective.needs & OUTPUTS:
            parts = [getattr(one, name) for one in outputs]
            found[name] = torch.cat(parts).to(device)
        return Reference(**found)

    def _outputs(self) -> dict[int, Outputs]:
        """Run the model over all items once, and keep what its objective asks for.

        What is kept lies on the CPU: of an answer of t tokens, t times the vocabulary numbers where
        distributions are asked for, and no second model.
        """
        needs, model = self.term.objective.needs, self.model
        packs = self.term.objective.packs
        items = [packed(i, self.encoded[i], one, packs) for i, one in enumerate(self.first)]
        budget = memory.budget("scoring", model.network, model.device)
        kept: dict[int, Outputs] = {}
        with torch.no_grad(), model.autocast(self.bf16):
            for layout in layouts(self.way, items, budget):
                batch = self._batch(layout)
                logits, states = self._run(model.answers, batch, layout)
                said = self._said(logits, states, batch, layout, epoch=0)
                counts = [len(item.encoded.options) for item in layout.items]
                scored = [sum(item.encoded.scored) for item in layout.items]
                sums = said.sums.cpu().split(counts)
                every = said.logits.cpu().split(scored) if "logits" in needs else None
                hidden = None if states is None else states.cpu().split(layout.tokens)
                for k, item in enumerate(layout.items):
                    kept[item.place] = Outputs(
                        sums[k].clone(),
                        every[k].clone() if every else None,
                        hidden[k].clone() if hidden else None,
                    )
        return kept
