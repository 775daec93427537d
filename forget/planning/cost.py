"""The cost of one trial: tokens, arithmetic, memory."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from forget import tasks
from forget.models import catalogue, sources
from forget.models.memory import BUDGET
from forget.settings.trial import Trial
from forget.tasks.draws import SCORED, Use, draws, take, too_few_to_probe

CHARACTERS_A_TOKEN = 4
"""Characters of English text a token, in the vocabularies of Llama, GPT-2 and SmolLM2."""

HUB_PROMPT, HUB_OPTION = 90, 10
"""Tokens assumed of a prompt and of an option where the task's data are not on this machine."""

MANY = 100
"""Questions among which five sources are taken for granted. A trial that lacks them says so."""

ADAM = 16
"""Bytes a trained parameter takes: fp32 weight, gradient and two moments."""


@dataclass(frozen=True)
class Cost:
    """Cost of a trial that shares nothing with others."""

    learn: int
    """Tokens that learning trains on."""
    forget: int
    """Tokens that forgetting trains on, at most: a dose may end it before."""
    scored: int
    """Tokens of one of the measurements: before any training, after each stage."""
    watched_learn: int
    """Tokens scored on the way through learning."""
    watched_forget: int
    """Tokens scored on the way through forgetting, at most."""
    assumed: tuple[str, ...]
    """Tasks whose length is assumed since their data are not here."""
    parameters: int
    """Parameters of the model."""
    trained: int
    """Parameters that change: all, or the adapters'."""
    held: int
    """Bytes of weights, gradients and moments in one process."""
    memory: int
    """Bytes that a process takes: what it holds and, roughly, activations."""
    bf16: bool
    """True where it computes in bfloat16."""
    taught: bool
    """True where it learns its task; otherwise it is made to forget from the untouched model."""
    unprobed: str | None
    """The reason why its task cannot be probed; None where it can, or none is asked for."""

    @property
    def learning(self) -> float:
        """FLOPs of learning and of measuring before and after it, which trials may share."""
        return self._training * self.learn + self._scoring * self.learning_scored

    @property
    def forgetting(self) -> float:
        """FLOPs of forgetting and of measuring after it; without learning, before it as well."""
        return self._training * self.forget + self._scoring * self.forgetting_scored

    @property
    def learning_scored(self) -> int:
        """Tokens that are scored before, during and after learning."""
        return (2 * self.scored if self.taught else 0) + self.watched_learn

    @property
    def forgetting_scored(self) -> int:
        """Tokens that are scored during and after forgetting; without learning, before as well."""
        return (1 if self.taught else 2) * self.scored + self.watched_forget

    @property
    def _training(self) -> float:
        """FLOPs a token: 2 forward, 2 for the activations' gradient, 2 for the weights'.

        Kaplan et al. 2020, 2.1.
        """
        return 4 * self.parameters + 2 * self.trained

    @property
    def _scoring(self) -> float:
        return 2 * self.parameters


def cost(trial: Trial, shares: int = 1) -> Cost:
    """Estimate the cost of a trial.

    Args:
        shares: processes that hold the model between them.

    Raises:
        BadInput: a task or model that is not there.
    """
    sizes = {
        name: _size(name, trial.folders, trial.template, trial.options) for name in trial.tasks
    }
    own = sizes[trial.task]
    taken: dict[Use, float] = dict.fromkeys(get_args(Use), 0.0)
    scored = 0.0
    for draw in draws(trial):
        size = sizes[draw.task]
        count = min(draw.n, size.examples.get(draw.split, 0))
        taken[draw.use] += count
        if draw.use in SCORED:
            scored += size.scored * count
        if draw.use == "probe":
            # What is in the draw "test" as well is scored once.
            scored -= size.scored * min(count, trial.evaluation_examples)
    trained = _trained(trial)
    watched_learn, watched_forget = _watched(trial, taken)
    held = _held(trial, trained, shares)
    return Cost(
        learn=int(taken["learn"] * trial.learn.epochs * own.trained),
        forget=int(taken["forget"] * trial.forget.epochs * own.trained),
        scored=int(scored),
        watched_learn=int(own.scored * watched_learn),
        watched_forget=int(own.scored * watched_forget),
        assumed=tuple(name for name, size in sizes.items() if size.assumed),
        parameters=sources.parameters(trial.model),
        trained=trained,
        held=held,
        memory=held + _activations(trial, own.trained),
        bf16=catalogue.in_bf16(trial.precision),
        taught=trial.taught,
        unprobed=None if own.assumed else _unprobed(trial, taken),
    )


def tokens(trial: Trial) -> tuple[float, float]:
    """Return the tokens of an example of the trial's own task: trained on, and scored."""
    own = _size(trial.task, trial.folders, trial.template, trial.options)
    return own.trained, own.scored


def _watched(trial: Trial, taken: Mapping[Use, float]) -> tuple[float, float]:
    """Count the examples scored on the way through each stage, of which a dose may end the second.

    Args:
        trial: the trial.
        taken: examples by use.
    """
    points, until = trial.watch.points, trial.forget.until
    learning = points * (taken["watch"] + taken["watch_learn"]) if trial.taught else 0.0
    looks = points
    if until:
        looks += math.ceil(trial.forget.steps(taken["forget"]) / until.every) + 1
    return learning, points * taken["watch"] + looks * taken["watch_forget"]


def _unprobed(trial: Trial, taken: Mapping[Use, float]) -> str | None:
    """Say why a trial that takes so many examples by use cannot be probed; None where it can."""
    fit_on: Use = "trained" if trial.probe.fit_on == "trained" else "probe"
    if taken[fit_on] >= MANY:
        return None
    # Few: which they are decides how many sources they have.
    few = {draw.use: draw for draw in draws(trial) if draw.use in ("trained", "probe")}
    examples = {use: take(trial, draw) for use, draw in few.items()}
    trained, held_out = examples["trained"], examples.get("probe", ())
    return too_few_to_probe(trial.task, trial.probe, trained, held_out)


def _width(model: str) -> float:
    """Estimate a model's width: a block holds 12 d^2 parameters (Kaplan et al. 2020, 2.1)."""
    return math.sqrt(sources.parameters(model) / 12 / sources.layers(model))


def _trained(trial: Trial) -> int:
    """Estimate the parameters that a trial changes."""
    if trial.tuning == "full":
        return sources.parameters(trial.model)
    # Adapters on a block's seven linear layers hold about 19 d parameters a rank.
    return int(19 * _width(trial.model) * trial.lora.rank * sources.layers(trial.model))


def _held(trial: Trial, trained: int, shares: int) -> int:
    """Count the bytes of weights, gradients and moments in one of the processes that share them."""
    parameters = sources.parameters(trial.model)
    weights = ADAM * trained + (4 * parameters if trial.tuning == "lora" else 0)
    # A model is loaded whole before it is shared out.
    return int(max(weights / shares, 4 * parameters))


def _activations(trial: Trial, tokens: float) -> int:
    """Estimate the bytes kept for the gradients of a micro-batch of examples of so many tokens."""
    budget = BUDGET["training"]["cuda" if torch.cuda.is_available() else "cpu"]
    # 34 bytes a token, layer and unit of width in 16 bits (Korthikanti et al. 2022, 4.1), attention
    # scores left out.
    unit = 34 * (1 if catalogue.in_bf16(trial.precision) else 2)
    units = _width(trial.model) * sources.layers(trial.model)
    batch = tokens * max(trial.learn.batch, trial.forget.batch)
    return int(unit * units * max(tokens, min(batch, budget)))


@dataclass(frozen=True)
class _Size:
    """Examples of a task's splits, and the tokens of one."""

    examples: Mapping[str, float]
    """Examples by split; infinite where they are not known."""
    trained: float
    """Tokens of a prompt with one option."""
    scored: float
    """Tokens of a prompt with all options; the prompt is computed once."""
    assumed: bool = False


@functools.cache
def _size(
    name: str, folders: tuple[str, ...], template: str, options: Literal["two", "all"]
) -> _Size:
    """Measure a task; what the hub has is assumed, since it may not be on this machine."""
    task = tasks.find(name, folders)
    if task.kind == "hub":
        unknown = dict.fromkeys(("train", "test"), math.inf)
        trained, scored = HUB_PROMPT + HUB_OPTION, HUB_PROMPT + 2 * HUB_OPTION
        return _Size(unknown, trained, scored, assumed=True)
    load = functools.partial(tasks.load, name, folders=folders, template=template, options=options)
    splits = {split: load(split) for split in task.splits}
    # Another task than the trial's own may have no more than a test split.
    some = splits.get("train") or splits["test"]
    prompt = statistics.mean(len(example.prompt) for example in some) / CHARACTERS_A_TOKEN
    lengths: list[int] = []
    for example in some:
        lengths += [len(text + example.suffix) for text in example.options]
    option = statistics.mean(lengths) / CHARACTERS_A_TOKEN
    count = statistics.mean(len(example.options) for example in some)
    examples = {split: len(found) for split, found in splits.items()}
    return _Size(examples, prompt + option, prompt + count * option)
