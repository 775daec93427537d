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
from forget.methods.catalogue import method
from forget.models import catalogue, sources
from forget.models.memory import BUDGET
from forget.settings.trial import Trial
from forget.tasks.draws import SCORED, Draw, Use, draws, take, too_few_to_probe
from forget.tasks.forget_sets import learned_counts, mixed_counts
from forget.tasks.prose import chunks

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
    """Tokens that forgetting trains on, at most: a dose may end it before. What a method passes
    over twice, or retains meanwhile, counts as often.
    """
    scored: int
    """Tokens of one of the measurements: before any training, after each stage."""
    own: int
    """Those of them that are of the trial's own task."""
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
    def again(self) -> float:
        """FLOPs of measuring its own task before and after a learning that another trial did."""
        return self._scoring * 2 * self.own

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
    sizes = {}
    for name in trial.read_tasks:
        # Of a task that gives its texts alone, the wording is not asked.
        template = trial.template if name in trial.tasks else "task"
        sizes[name] = _size(name, trial.folders, template, trial.options)
    own = sizes[trial.task]
    taken: dict[Use, float] = dict.fromkeys(get_args(Use), 0.0)
    tokens: dict[Use, float] = dict.fromkeys(get_args(Use), 0.0)
    scored = scored_own = 0.0
    for draw in draws(trial):
        size = sizes[draw.task]
        if draw.template:
            size = _size(draw.task, trial.folders, draw.template, trial.options)
        count = _count(trial, draw, sizes)
        taken[draw.use] += count
        # The texts of another task are as long as that one's.
        texts = trial.forget_set.task if draw.use == "forget" else ""
        tokens[draw.use] += count * sizes[texts or draw.task].trained
        if draw.use in SCORED:
            scored += size.scored * count
            scored_own += size.scored * count * (draw.task == trial.task)
        if draw.use == "probe":
            # What is in the draw "test" as well is scored once.
            scored -= size.scored * min(count, trial.evaluation_examples)
            scored_own -= size.scored * min(count, trial.evaluation_examples)
    trained = _trained(trial)
    how = method(trial.method)
    retained = [sizes[name].trained for name in trial.retained]
    if trial.retain and trial.retain.text:
        lengths = (len(one.prompt + one.options[0]) for one in chunks(trial.retain.examples))
        retained = [length / CHARACTERS_A_TOKEN for length in lengths]
    of_retain = statistics.mean(retained) * taken["forget"] if retained else 0
    read = {trial.task, trial.forget_set.task or trial.task, *trial.forget_set.names}
    assumed = any(sizes[name].assumed for name in read)
    watched_learn, watched_forget = _watched(trial, taken)
    held = _held(trial, trained, shares)
    return Cost(
        learn=int(trial.learn.epochs * tokens["learn"]),
        forget=int(trial.forget.epochs * (how.passes * tokens["forget"] + of_retain)),
        scored=int(scored),
        own=int(scored_own),
        watched_learn=int(own.scored * watched_learn),
        watched_forget=int(own.scored * watched_forget),
        assumed=tuple(name for name, size in sizes.items() if size.assumed),
        parameters=sources.parameters(trial.model),
        trained=trained,
        held=held,
        memory=held + _activations(trial, own.trained),
        bf16=catalogue.in_bf16(trial.precision),
        taught=trial.taught,
        unprobed=None if assumed else _unprobed(trial, taken),
    )


def _count(trial: Trial, draw: Draw, sizes: Mapping[str, _Size]) -> float:
    """Count the examples of a draw, of which the plan of a mixture depends on all its tasks."""
    there = min(draw.n, sizes[draw.task].examples.get(draw.split, 0))
    train = {name: size.examples.get("train", 0) for name, size in sizes.items()}
    if draw.use == "learn":
        return min(there, learned_counts(trial, train)[draw.task])
    if draw.use == "forget" and trial.forget_set.name == "mix":
        counts = mixed_counts(trial, train)
        return counts[draw.task] + (counts[""] if draw.task == trial.task else 0)
    return there


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
