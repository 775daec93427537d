"""The one training loop. Forgetting is learning with other labels, so it serves both stages."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import (
    GradientAccumulationPlugin,
    broadcast_object_list,
    gather_object,
)
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from forget.events import Observe, StageStarted, Step, ignore
from forget.methods.likelihood import Loss, cross_entropy
from forget.models import batches, checking, memory
from forget.models.adapting import adaptable
from forget.models.batches import Encoded
from forget.models.devices import process
from forget.models.language_model import LanguageModel
from forget.models.sharding import share
from forget.models.ways import Way
from forget.results.rows import Row
from forget.settings.parts import Lora, Stage
from forget.tasks.labels import Labelled
from forget.training.checkpoints import Checkpoints, trained
from forget.training.watching import Watching

if TYPE_CHECKING:
    from peft import PeftModel


Labels = Callable[[int], Sequence[Labelled]]
"""Epoch -> the examples with their labels, the same examples in every epoch."""


@dataclass(frozen=True)
class Steps:
    """The steps of a stage: which examples each trains on, and with what labels.

    A step is a function of the seed and its number alone, so that a training that goes on from a
    checkpoint takes the steps that it would have taken.
    """

    labelled: Labels
    settings: Stage
    stage: str
    seed: int

    @property
    def examples(self) -> int:
        """Examples of an epoch."""
        return len(self._labels(0))

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.examples / self.settings.batch)

    def __len__(self) -> int:
        return self.settings.steps(self.examples)

    def __getitem__(self, step: int) -> list[tuple[int, Labelled]]:
        """Return the examples of a step, each with its place among those of the epoch."""
        epoch, place = divmod(step, self.per_epoch)
        labels, batch = self._labels(epoch), self.settings.batch
        chosen = self._order(epoch)[place * batch : (place + 1) * batch]
        return [(i, labels[i]) for i in chosen]

    # Both are asked for at every step of an epoch, and drawn once.
    @lru_cache(maxsize=1)  # noqa: B019  it lives as long as its stage
    def _labels(self, epoch: int) -> Sequence[Labelled]:
        return self.labelled(epoch)

    @lru_cache(maxsize=1)  # noqa: B019
    def _order(self, epoch: int) -> list[int]:
        draw = random.Random(f"{self.seed}/{self.stage}/{epoch}")
        return draw.sample(range(self.examples), self.examples)


class Saver:
    """Saves the state of a training when it is due, and when whoever observes it stops it."""

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        sharded: bool,
    ) -> None:
        self._checkpoints = checkpoints
        self._network, self._optimizer = network, optimizer
        self._sharded = sharded
        self._saved = time.monotonic()

    def after(
        self, step: int, rows: Sequence[Row], *, last: bool, tell: Callable[[], None]
    ) -> None:
        """Tell of a step that is done, then save if it is time to or the answer is an interrupt.

        Only the main process tells and decides. Where the model is sharded, all help to save it.

        Args:
            step: steps done.
            rows: Rows watched so far.
            last: the step ends the stage, whose result is kept elsewhere.

        Raises:
            KeyboardInterrupt: `tell` raised it. No step is lost: the state was saved first.
        """
        stop: KeyboardInterrupt | None = None
        due = False
        if process().is_main_process:
            due = self._is_time() and not last
            try:
                tell()
            except KeyboardInterrupt as interrupt:
                stop, due = interrupt, True
        if self._sharded:
            stop, due = broadcast_object_list([stop, due])
        if self._checkpoints and due:
            self._checkpoints.save(step, self._network, self._optimizer, rows)
            self._saved = time.monotonic()
        if stop:
            raise stop

    def _is_time(self) -> bool:
        minutes = self._checkpoints.minutes if self._checkpoints else math.inf
        return time.monotonic() - self._saved >= 60 * minutes


def fine_tune(
    model: LanguageModel,
    labelled: Labels,
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
    """Train a model in place on the answers of labelled examples.

    All processes of a trial call it together. Step k is a function of (seed, k) and the weights
    alone (order, labels, dropout), so a run that goes on from a checkpoint ends with the same bits
    as one that never stopped.

    Args:
        model: what is trained.
        labelled: epoch -> the examples with their labels, the same examples in every epoch.
        settings: epochs, batch, rate and schedule.
        stage: the name of the steps that `observe` receives.
        seed: decides the order of the examples and every draw of dropout.
        loss: the loss of each answer token, in nats.
        bf16: autocast to bfloat16; the weights stay fp32, since small updates vanish in bf16.
        lora: train low-rank adapters, merged into the weights at the end, instead of all weights.
        observe: receives a `StageStarted` and a `Step` for each step, in the main process.
        checkpoints: where the state is kept, and found by a training that goes on.
        watching: when to look at the model on the way, and how; a dose that it finds reached ends
            the training.

    Returns:
        The Rows that `watching` gave.

    Raises:
        FloatingPointError: the loss is no longer finite; the text names the step and the rate.
        KeyboardInterrupt: `observe` raised it; the state was saved first.
    """
    # Every choice that accelerate would take from the environment is made here.
    accelerator = Accelerator(
        cpu=process().device.type == "cpu",
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    adapters = _with_adapters(model, lora, seed) if lora else None
    network = model.answers
    steps = Steps(labelled, settings, stage, seed)
    examples = [item.example for item in labelled(0)]
    encoded = batches.encode(examples, model.tokenizer, batches.reach(model.network))
    way = checking.prepare(model, encoded, bf16)
    # Several small kernels a parameter (0.70 s a step over 135M of them on two cores) against one
    # for all (0.07 s).
    optimizer = torch.optim.AdamW(
        trained(network).values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    done, rows = checkpoints.load(network, optimizer) if checkpoints else (0, [])
    schedule = _schedule(settings, optimizer, len(steps), done)
    budget = memory.budget("training", model.network, model.device)
    look = partial(_look, model, watching, len(steps))
    saver = Saver(checkpoints, network, optimizer, model.sharded)
    # From here on accelerate's wrappers are stepped; what is saved is what they wrap.
    stepped = accelerator.prepare(optimizer)
    prepared = network if model.sharded else accelerator.prepare(network)
    if accelerator.is_main_process:
        observe(StageStarted(stage=stage, steps=len(steps)))
    if not done:
        rows += look(0)
    # Where a checkpoint was left by the look that found the dose reached, nothing is left to do.
    ended = watching is not None and watching.ended(rows)
    model.answers.start_training()
    for step in () if ended else range(done, len(steps)):
        answers = [encoded[i].only(item.label) for i, item in steps[step]]
        draws = hash((seed, step))
        run = partial(_backward, accelerator, prepared, answers, model, way, loss, bf16, draws)
        (total, tokens), budget = memory.shrinking(
            budget, _least(accelerator, answers), run, undo=stepped.zero_grad
        )
        rate = schedule.get_last_lr()[0]
        if not math.isfinite(total):
            raise FloatingPointError(
                f"{stage}: the loss is {total} at step {step + 1} of {len(steps)}, "
                f"rate {rate:.2g}; lower the rate"
            )
        accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
        stepped.step()
        stepped.zero_grad()
        schedule.step()
        if watching and (seen := look(step + 1)):
            rows += seen
            ended = watching.ended(rows)
        event = Step(
            stage=stage, step=step + 1, steps=len(steps), loss=total, lr=rate, tokens=tokens
        )
        last = ended or step + 1 == len(steps)
        saver.after(step + 1, rows, last=last, tell=partial(observe, event))
        if ended:
            break
    _check_weights(
        network,
        f"{stage}: the weights are not finite after its {len(steps)} steps, "
        f"rate {settings.lr:.2g}; lower the rate",
    )
    model.network.eval()
    accelerator.free_memory()
    if adapters:
        adapters.merge_and_unload()
        network.unfreeze()
    return rows


def _look(model: LanguageModel, watching: Watching | None, steps: int, step: int) -> Sequence[Row]:
    """Return what is to be seen of a model in training after a step; most steps nothing."""
    if watching is None or not watching.due(step, steps):
        return ()
    training = model.network.training
    model.network.eval()
    rows = watching.look(step, steps)
    if training:
        model.answers.start_training()
    return rows


def _check_weights(network: nn.Module, otherwise: str) -> None:
    """Refuse weights that the last step, whose loss nobody computes, made infinite.

    Raises:
        FloatingPointError: in all processes, whichever has the weights; with the text `otherwise`.
    """
    finite = all(bool(share(p).isfinite().all()) for p in trained(network).values())
    if not all(gather_object([finite])):
        raise FloatingPointError(otherwise)


def _schedule(
    settings: Stage, optimizer: torch.optim.Optimizer, steps: int, done: int
) -> LRScheduler:
    """Return the schedule of a stage's rate, after the steps that are done.

    It begins at 0 and ends there, and no step is taken at either: a step at rate 0 would be lost.
    """
    constant = settings.schedule == "constant"
    schedule = get_scheduler(
        "constant_with_warmup" if constant else settings.schedule,
        optimizer,
        num_warmup_steps=round(settings.warmup * steps),
        num_training_steps=steps + 1,
    )
    with warnings.catch_warnings():
        # torch takes a schedule that moves before the optimizer for a mistake; here the steps were
        # taken before the checkpoint.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(done + 1):
            schedule.step()
    return schedule


def _least(accelerator: Accelerator, answers: Sequence[Encoded]) -> float:
    """Return the smallest budget of a step's micro-batches that differs from a larger one.

    Several processes have one budget: they would no longer take the same turns.
    """
    if accelerator.num_processes > 1:
        return math.inf
    return max(answer.length for answer in answers)


def _plan(way: Way, answers: Sequence[Encoded], budget: int) -> list[list[list[int]]]:
    """Return the micro-batches of a process's part of the answers, by their places in it."""
    return list(way.plan([answer.length for answer in answers], budget))


def _backward(
    accelerator: Accelerator,
    network: nn.Module,
    answers: Sequence[Encoded],
    model: LanguageModel,
    way: Way,
    loss: Loss,
    bf16: bool,
    draws: int,
    budget: int,
) -> tuple[float, int]:
    """Add up the gradients of the mean loss over the tokens of a step's answers.

    A process takes its part of the answers in micro-batches, whose gradients add up.

    Args:
        accelerator: knows the processes of the trial.
        network: `model.answers`, as accelerate wrapped it.
        answers: those of all processes.
        model: what is trained.
        way: how the answers are laid out.
        loss: the loss of each answer token.
        bf16: autocast to bfloat16.
        draws: seed of dropout.
        budget: tokens of a micro-batch.

    Returns:
        That loss, and the tokens that all processes computed.
    """
    torch.manual_seed(draws)
    count = accelerator.num_processes
    parts = [answers[process::count] for process in range(count)]
    plans = [_plan(way, part, budget) for part in parts]
    mine, plan = parts[accelerator.process_index], plans[accelerator.process_index]
    scored = sum(e.scored[0] for e in answers)
    total, tokens = torch.zeros((), device=model.device), 0
    turns = max(map(len, plans))
    # One autocast region for all turns: the bf16 copies of the weights are made once.
    with model.autocast(bf16):
        for turn in range(turns):
            # A process whose part is done, or is empty, still joins the others' reductions: with a
            # token that weighs nothing.
            idle = turn >= len(plan)
            rows = [[IDLE]] if idle else batches.rows_of(plan[turn], mine)
            batch = way.pack(rows, model.tokenizer.pad_token_id or 0).to(model.device)
            # Reduction over processes takes the mean of gradients: undo its division.
            weight = 0.0 if idle else count / scored
            waits = turn < turns - 1 and not model.sharded
            with accelerator.no_sync(network) if waits else nullcontext():
                logits = network(batch)
                part_loss = loss(logits[batch.predictor_of], batch.targets).sum() * weight
                accelerator.backward(part_loss)
            total += part_loss.detach()
            tokens += 0 if idle else batch.tokens
    if count == 1:
        return total.item(), tokens
    gathered = gather_object([(total.item(), tokens)])
    return sum(part for part, _ in gathered) / count, sum(part for _, part in gathered)


IDLE = Encoded([0], [[0]], [1])
"""An answer of one token, for a process that has none of its own left."""


def _with_adapters(model: LanguageModel, lora: Lora, seed: int) -> PeftModel:
    """Put low-rank adapters into a model, which alone are trained from then on.

    Raises:
        BadInput: it has no layer that takes them.
    """
    from peft import LoraConfig, get_peft_model  # half a second, which only adapters cost

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=adaptable(model.network),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model.network, config)
