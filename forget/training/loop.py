"""The one training loop. Forgetting is learning with other labels, so it serves both stages."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
from forget.methods.objective import Method
from forget.models import memory
from forget.models.adapting import with_adapters
from forget.models.devices import process
from forget.models.language_model import LanguageModel
from forget.models.sharding import share
from forget.results.rows import Row
from forget.settings.parts import Lora, Stage
from forget.training.attack import Attack
from forget.training.checkpoints import Checkpoints, trained
from forget.training.gradients import Gradients
from forget.training.passes import Pass
from forget.training.terms import Cycled, Steps, Term
from forget.training.watching import Watching


class Saver:
    """Saves the state of a training when it is due, and when whoever observes it stops it."""

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Callable[[], Mapping[str, torch.Tensor]],
        sharded: bool,
    ) -> None:
        self._checkpoints = checkpoints
        self._network, self._optimizer = network, optimizer
        self._state = state
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
            self._checkpoints.save(step, self._network, self._optimizer, rows, self._state())
            self._saved = time.monotonic()
        if stop:
            raise stop

    def _is_time(self) -> bool:
        minutes = self._checkpoints.minutes if self._checkpoints else math.inf
        return time.monotonic() - self._saved >= 60 * minutes


def fine_tune(
    model: LanguageModel,
    terms: Sequence[Term],
    settings: Stage,
    *,
    stage: str,
    seed: int,
    method: Method | None = None,
    bf16: bool = False,
    lora: Lora | None = None,
    observe: Observe = ignore,
    checkpoints: Checkpoints | None = None,
    watching: Watching | None = None,
) -> list[Row]:
    """Train a model in place on a weighted sum of terms, each a loss of labelled examples.

    All processes of a trial call it together. Step k is a function of (seed, k) and the weights
    alone (order, labels, dropout), so a run that goes on from a checkpoint ends with the same bits
    as one that never stopped.

    Args:
        model: what is trained.
        terms: the first sets the steps; the others cycle along.
        settings: epochs, batch, rate and schedule.
        stage: the name of the steps that `observe` receives.
        seed: decides the order of the examples and every draw of dropout.
        method: says which weights are trained and whether the first term's gradient is taken
            uphill; None for a stage that learns.
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
    adapters = with_adapters(model.network, lora, seed) if lora else None
    network = model.answers
    steps = Steps(terms[0], settings, stage, seed)
    attack = Attack(model, method.lat) if method and method.lat else None
    passes = [Pass(terms[0], steps, model, bf16, len(steps), attack)]
    for term in terms[1:]:
        passes.append(Pass(term, Cycled(term, steps, seed), model, bf16, len(steps)))
    if method and not lora:
        _freeze(network, method.trained(model.network, network.blocks))
    # Several small kernels a parameter (0.70 s a step over 135M of them on two cores) against one
    # for all (0.07 s).
    optimizer = torch.optim.AdamW(
        trained(network).values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    done, rows, state = checkpoints.load(network, optimizer) if checkpoints else (0, [], {})
    schedule = _schedule(settings, optimizer, len(steps), done)
    budget = memory.budget("training", model.network, model.device)
    look = partial(_look, model, watching, len(steps))
    # From here on accelerate's wrappers are stepped; what is saved is what they wrap.
    stepped = accelerator.prepare(optimizer)
    prepared = network if model.sharded else accelerator.prepare(network)
    gradients = Gradients(accelerator, prepared, passes, stepped, method.sam if method else 0.0)
    gradients.restore(state)
    saver = Saver(checkpoints, network, optimizer, gradients.state, model.sharded)
    if accelerator.is_main_process:
        observe(StageStarted(stage=stage, steps=len(steps)))
    if not done:
        rows += look(0)
    # Where a checkpoint was left by the look that found the dose reached, nothing is left to do.
    ended = watching is not None and watching.ended(rows)
    model.answers.start_training()
    for step in () if ended else range(done, len(steps)):
        sums, budget = gradients.of(step, draws=hash((seed, step)), budget=budget)
        rate = schedule.get_last_lr()[0]
        if not math.isfinite(sums.loss):
            raise FloatingPointError(
                f"{stage}: the loss is {sums.loss} at step {step + 1} of {len(steps)}, "
                f"rate {rate:.2g}; lower the rate"
            )
        accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
        stepped.step()
        stepped.zero_grad()
        schedule.step()
        gradients.after(sums, steps.epoch(step))
        if watching and (seen := look(step + 1)):
            rows += gradients.weighed(seen)
            ended = watching.ended(rows)
        event = Step(
            stage=stage,
            step=step + 1,
            steps=len(steps),
            loss=sums.loss,
            losses=sums.losses if len(passes) > 1 else {},
            lr=rate,
            tokens=sums.tokens,
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
    if adapters or method:
        network.unfreeze()
    return rows


def _freeze(network: nn.Module, alone: set[int]) -> None:
    """Let those weights alone be trained whose ids are given; all where none are."""
    for p in trained(network).values():
        p.requires_grad_(not alone or id(p) in alone)


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
