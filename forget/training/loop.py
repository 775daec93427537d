"""The one training loop. Forgetting is learning with other labels, so it serves both."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers import get_scheduler

from forget.events import Observe, StageStarted, Step, ignore
from forget.methods.likelihood import Loss, cross_entropy
from forget.models import batches
from forget.models.batches import Encoded
from forget.models.language_model import LanguageModel
from forget.results.rows import Row
from forget.settings.parts import Lora, Stage
from forget.tasks.labels import Labelled
from forget.training.checkpoints import Checkpoints, _trained

if TYPE_CHECKING:
    from peft import PeftModel


BUDGET = {"cpu": 512, "cuda": 8192}
"""Tokens of a micro-batch: as many as keep the device busy. On a CPU, more would no longer fit in
its caches.
"""


@dataclass(frozen=True)
class Watching:
    """Looks at the model at evenly spaced points of the training."""

    points: int
    look: Callable[[int], Sequence[Row]]
    """Steps done -> Rows. All processes of the trial call it together."""

    def steps(self, steps: int) -> set[int]:
        """After which of the steps to look; the ends are left to whoever looks before and after."""
        return {round(steps * k / (self.points + 1)) for k in range(1, self.points + 1)} - {
            0,
            steps,
        }


def fine_tune(
    model: LanguageModel,
    labelled: Callable[[int], Sequence[Labelled]],
    settings: Stage,
    *,
    stage: str,
    seed: int,
    loss: Loss = cross_entropy,
    bf16: bool = False,
    lora: Lora | None = None,
    observe: Observe = ignore,
    checkpoints: Checkpoints | None = None,
    watching: Watching | None = None,
) -> list[Row]:
    """Train `model` in place on the answers of labelled examples. All processes of the trial call it together.

    Step k is a function of (seed, k) and the weights alone (order, labels, dropout), so a run that
    goes on from a checkpoint ends with the same bits as one that never stopped.

    Args:
        labelled: epoch -> the examples with their labels, the same examples in every epoch.
        stage: names the steps that `observe` receives.
        bf16: autocast to bfloat16; the weights stay fp32, since small updates vanish in bf16.
        lora: train low-rank adapters, merged into the weights at the end, instead of all weights.

    Returns:
        What `watching` saw.

    Raises:
        FloatingPointError: the loss is no longer finite; the text names the step and the rate.
    """
    accelerator = Accelerator()
    adapters = _with_adapters(model, lora, seed) if lora else None
    network = model.answers
    # Several small kernels a parameter (0.70 s a step over 135M of them on two cores) against one
    # for all (0.07 s).
    optimizer = torch.optim.AdamW(
        _trained(network).values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    examples = [item.example for item in labelled(0)]
    encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
    per_epoch = math.ceil(len(examples) / settings.batch)
    steps = per_epoch * settings.epochs
    schedule = get_scheduler(
        "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        optimizer,
        num_warmup_steps=round(settings.warmup * steps),
        num_training_steps=steps,
    )
    done, rows = checkpoints.load(network, optimizer) if checkpoints else (0, [])
    looks = watching.steps(steps) if watching else set()
    with warnings.catch_warnings():
        # It takes a schedule that moves before the optimizer for a mistake; here the steps were
        # taken before the checkpoint.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(done):
            schedule.step()
    optimizer = accelerator.prepare(optimizer)
    prepared = network if model.sharded else accelerator.prepare(network)
    if accelerator.is_main_process:
        observe(StageStarted(stage=stage, steps=steps))
    model.network.train()
    saved = time.monotonic()
    for step in range(done, steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or step == done:
            order = random.Random(f"{seed}/{stage}/{epoch}").sample(
                range(len(examples)), len(examples)
            )
            labels = labelled(epoch)
        chosen = order[place * settings.batch : (place + 1) * settings.batch]
        torch.manual_seed(hash((seed, step)))
        answers = [encoded[i].only(labels[i].label) for i in chosen]
        total, tokens = _backward(accelerator, prepared, answers, model, loss, bf16)
        rate = schedule.get_last_lr()[0]
        if not math.isfinite(total):
            raise FloatingPointError(
                f"{stage}: the loss is {total} at step {step + 1} of {steps}, rate {rate:.2g}; lower the rate"
            )
        accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if watching and step + 1 in looks:
            model.network.eval()
            rows.extend(watching.look(step + 1))
            model.network.train()
        stop: KeyboardInterrupt | None = None
        due = False
        if accelerator.is_main_process:
            due = (
                checkpoints is not None
                and time.monotonic() - saved >= 60 * checkpoints.minutes
                and step + 1 < steps
            )
            try:
                observe(
                    Step(
                        stage=stage, step=step + 1, steps=steps, loss=total, lr=rate, tokens=tokens
                    )
                )
            except KeyboardInterrupt as interrupt:
                # Whoever stops a trial loses no step of it.
                stop, due = interrupt, True
        if model.sharded:
            stop, due = broadcast_object_list([stop, due])
        if checkpoints and due:
            checkpoints.save(step + 1, network, optimizer.optimizer, rows)
            saved = time.monotonic()
        if stop:
            raise stop
    model.network.eval()
    accelerator.free_memory()
    if adapters:
        adapters.merge_and_unload()
        model.network.requires_grad_(True)
    return rows


def _backward(
    accelerator: Accelerator,
    network: nn.Module,
    answers: Sequence[Encoded],
    model: LanguageModel,
    loss: Loss,
    bf16: bool,
) -> tuple[float, int]:
    """Gradients of the mean loss over the tokens of a step's answers; (that loss, tokens computed by all processes).

    A process takes its share of the answers in micro-batches, whose gradients add up.
    """
    count, budget = accelerator.num_processes, BUDGET[model.device.type]
    shares = [answers[process::count] for process in range(count)]
    plans = [list(batches.plan([e.length for e in share], budget)) for share in shares]
    mine, plan = shares[accelerator.process_index], plans[accelerator.process_index]
    scored = sum(e.scored[0] for e in answers)
    total, tokens = torch.zeros((), device=model.device), 0
    turns = max(map(len, plans))
    # One autocast region for all turns: the bf16 copies of the weights are made once.
    with model.autocast(bf16):
        for turn in range(turns):
            # A process whose share is done, or is empty, still joins the others' reductions.
            idle = turn >= len(plan)
            part = (
                [[Encoded([0], [[0]], [1])]]
                if idle
                else [[mine[i] for i in row] for row in plan[turn]]
            )
            batch = batches.pack(part, model.tokenizer.pad_token_id or 0).to(model.device)
            waits = turn < turns - 1 and not model.sharded
            with accelerator.no_sync(network) if waits else nullcontext():
                logits, _ = network(batch)
                # Reduction over processes takes the mean of gradients: undo its division.
                share = loss(logits[batch.source], batch.targets).sum() * (
                    (not idle) * count / scored
                )
                accelerator.backward(share)
            total += share.detach()
            tokens += 0 if idle else batch.tokens
    if count == 1:
        return total.item(), tokens
    parts = gather_object([(total.item(), tokens)])
    return sum(part for part, _ in parts) / count, sum(part for _, part in parts)


def _with_adapters(model: LanguageModel, lora: Lora, seed: int) -> PeftModel:
    from peft import LoraConfig, get_peft_model  # half a second, which only adapters cost

    torch.manual_seed(seed)
    return get_peft_model(
        model.network,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
