"""The cost of one trial: tokens, arithmetic, memory."""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass
from typing import Literal

from forget import tasks
from forget.models import catalogue, sources
from forget.settings.trial import Trial

CHARACTERS_A_TOKEN = 4
"""Of English text in the vocabularies of Llama, GPT-2 and SmolLM2."""

HUB_PROMPT, HUB_OPTION = 90, 10
"""Tokens assumed of a prompt and of an option where the task's data are not on this machine."""

ADAM = 16
"""Bytes a trained parameter takes: fp32 weight, gradient and two moments."""


@dataclass(frozen=True)
class Cost:
    """What a trial takes if it shares nothing."""

    learn: int
    """Tokens trained on."""
    forget: int
    scored: int
    """Tokens of one of the three measurements, before any training, after learning and after
    forgetting.
    """
    watched: int
    """Tokens scored on the way through one of the two stages."""
    assumed: tuple[str, ...]
    """Tasks whose length is assumed since their data are not here."""
    parameters: int
    trained: int
    """Parameters that change: all, or the adapters'."""
    memory: int
    """Bytes of weights, gradients, moments and, roughly, activations, in one process."""
    bf16: bool

    @property
    def learning(self) -> float:
        """FLOPs of learning and of measuring before and after it: what trials of the same learned checkpoint share."""
        return self._training * self.learn + self._scoring * (2 * self.scored + self.watched)

    @property
    def forgetting(self) -> float:
        """FLOPs of forgetting and of measuring after it."""
        return self._training * self.forget + self._scoring * (self.scored + self.watched)

    @property
    def _training(self) -> float:
        """FLOPs a token: 2 forward, 2 for the activations' gradient, 2 for the weights' (Kaplan et al. 2020, 2.1)."""
        return 4 * self.parameters + 2 * self.trained

    @property
    def _scoring(self) -> float:
        return 2 * self.parameters


def cost(trial: Trial, shares: int = 1) -> Cost:
    """`shares` processes hold the model between them. Raises BadInput for a task or model that is not there."""
    sizes = {
        name: _size(name, trial.folders, trial.template, trial.options) for name in trial.tasks
    }
    own = sizes[trial.task]
    learn = min(trial.learn.examples, own.train)
    forget = min(trial.forget.examples, own.train)
    limit = trial.evaluation_examples
    scored = own.scored * (
        min(limit, forget) + min(limit, own.near) + min(trial.probe.examples, own.validation)
    )
    scored += sum(size.scored * min(limit, size.test) for size in sizes.values())

    parameters, layers = sources.parameters(trial.model), sources.layers(trial.model)
    # A block holds 12 d^2 parameters (Kaplan et al. 2020, 2.1), adapters on its seven linear layers
    # about 19 d a rank.
    width = math.sqrt(parameters / 12 / layers)
    adapters = int(19 * width * trial.lora.rank * layers)
    trained = adapters if trial.tuning == "lora" else parameters
    weights = ADAM * trained + (4 * parameters if trial.tuning == "lora" else 0)
    bf16 = catalogue.in_bf16(trial.precision)
    # 34 bytes a token, layer and unit of width in 16 bits (Korthikanti et al. 2022, 4.1), attention
    # scores left out.
    activations = (
        34
        * (1 if bf16 else 2)
        * width
        * layers
        * own.trained
        * max(trial.learn.batch, trial.forget.batch)
    )
    return Cost(
        learn=int(learn * trial.learn.epochs * own.trained),
        forget=int(forget * trial.forget.epochs * own.trained),
        scored=int(scored),
        watched=int(own.scored * trial.watch.points * min(trial.watch.examples, own.test)),
        assumed=tuple(name for name, size in sizes.items() if size.assumed),
        parameters=parameters,
        trained=trained,
        # A model is loaded whole before it is shared out.
        memory=int(max(weights / shares, 4 * parameters) + activations),
        bf16=bf16,
    )


@dataclass(frozen=True)
class _Size:
    """Examples of a task's splits, and the tokens of one."""

    train: float
    test: float
    validation: float
    near: float
    trained: float
    """Tokens of a prompt with one option."""
    scored: float
    """Tokens of a prompt with all options; the prompt is computed once."""
    assumed: bool = False


@functools.cache
def _size(
    name: str, folders: tuple[str, ...], template: str, options: Literal["two", "all"]
) -> _Size:
    task = tasks.find(name, folders)
    if task.kind == "hub":
        return _Size(
            math.inf,
            math.inf,
            math.inf,
            0,
            HUB_PROMPT + HUB_OPTION,
            HUB_PROMPT + 2 * HUB_OPTION,
            assumed=True,
        )
    load = functools.partial(tasks.load, name, folders=folders, template=template, options=options)
    splits = {split: load(split) for split in task.splits}
    # Another task than the trial's own may have no more than a test split.
    some = splits.get("train") or splits["test"]
    prompt = statistics.mean(len(example.prompt) for example in some) / CHARACTERS_A_TOKEN
    option = (
        statistics.mean(len(text + example.suffix) for example in some for text in example.options)
        / CHARACTERS_A_TOKEN
    )
    count = statistics.mean(len(example.options) for example in some)
    train, test, validation, near = (
        len(splits.get(split, ())) for split in ("train", "test", "validation", "near")
    )
    return _Size(train, test, validation, near, prompt + option, prompt + count * option)
