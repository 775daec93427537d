"""Probes of a task on the hidden states of scored examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
import torch

from forget import tasks
from forget.errors import BadInput
from forget.evaluation import probing
from forget.evaluation.scoring import Scores, score
from forget.events import Observe, ignore
from forget.models import catalogue
from forget.models.language_model import LanguageModel
from forget.results import estimates
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.parts import Position, Probe
from forget.settings.trial import Trial
from forget.tasks.draws import probe_parts, too_few_to_probe
from forget.tasks.task import Example

VARIABILITY_LAYER = -5
"""Layer for variability, counted from the last (the paper's); the first block's where a model has
fewer.

Never the embedding: where all prompts end in the same token, it does not vary.
"""


@dataclass(frozen=True)
class Scored:
    """Examples with what a model said of them."""

    examples: Sequence[Example]
    scores: Scores
    rows: list[Row]

    @property
    def questions(self) -> torch.Tensor:
        """Hidden states [examples, width] of the prompts, at the layer that variability is of."""
        states = self.scores.questions
        return states[:, max(VARIABILITY_LAYER, 1 - states.shape[1])]

    def pairs(
        self, start: int, stop: int, layers: Sequence[int], position: Position
    ) -> probing.Pairs:
        """Return the (question, answer) pairs of the examples from `start` to `stop`."""
        options = [len(example.options) for example in self.examples]
        edges = [0, *accumulate(options)]
        states = self.scores.answers[position][edges[start] : edges[stop]][:, layers]
        answers = [example.answer for example in self.examples[start:stop]]
        return probing.pairs(states, answers, options[start:stop])


def drawn(task: str, settings: Probe, like: Trial) -> dict[str, tuple[Example, ...]]:
    """Return the examples of a task that a loaded model is probed on, by split.

    Args:
        task: a name, which `like.folders` may hold.
        settings: how many examples.
        like: the trial whose wording, options and seed are taken.

    Raises:
        BadInput: a split that the task lacks, or too few examples for a probe.
    """
    splits = ["train", "test"]
    if "validation" in tasks.find(task, like.folders).splits:
        splits.append("validation")
    load = partial(
        tasks.load,
        task,
        n=settings.examples,
        seed=like.seed,
        folders=like.folders,
        template=like.template,
        options=like.options,
    )
    found = {split: load(split) for split in splits}
    if why := too_few_to_probe(task, settings, found["train"], found.get("validation", ())):
        raise BadInput(why)
    return found


def probe_model(
    model: LanguageModel, task: str, settings: Probe, like: Trial, observe: Observe = ignore
) -> tuple[ProbeScore, ...]:
    """Probe a loaded model on a task.

    Args:
        model: whose hidden states are read.
        task: a name, which `like.folders` may hold.
        settings: layers, positions and examples.
        like: the trial whose wording, options, precision and seed are taken.
        observe: receives the steps of scoring.

    Raises:
        BadInput: too few examples for a probe.
    """
    scored = {}
    for split, examples in drawn(task, settings, like).items():
        scores = score(
            model,
            examples,
            bf16=catalogue.in_bf16(like.precision),
            states=settings.positions,
            stage="probe",
            observe=observe,
        )
        scored[split] = Scored(examples, scores, [])
    train, validation, test = scored["train"], scored.get("validation"), scored["test"]
    return probes("loaded", task, settings, like.seed, train, validation, test)


def probes(
    phase: str,
    task: str,
    settings: Probe,
    seed: int,
    train: Scored,
    validation: Scored | None,
    test: Scored,
) -> tuple[ProbeScore, ...]:
    """Fit probes, by position and layer, and return their accuracy on held-out questions.

    The first `settings.examples` test examples are asked. A control is fit on labels that are dealt
    out anew.

    Args:
        phase: one of PHASES, or "loaded"; it is noted with each score.
        task: noted with each score.
        settings: layers, positions and examples.
        seed: deals out the controls' labels.
        train: what the probes are fit on.
        validation: what their penalty is chosen by; a task without lends a part of `train`.
        test: what they are asked.
    """
    layers = _layers(settings, next(iter(train.scores.answers.values())).shape[1])
    fit, choose = probe_parts(settings, train.examples, validation.examples if validation else ())
    options = [len(example.options) for example in test.examples[: settings.examples]]
    found = []
    for position in settings.positions:
        pairs = partial(Scored.pairs, layers=layers, position=position)
        fit_on = pairs(train, 0, len(fit))
        if validation:
            choose_on = pairs(validation, 0, len(choose))
        else:
            choose_on = pairs(train, len(fit), len(fit) + len(choose))
        labelings = [(fit_on, choose_on)]
        if settings.control:
            labelings.append((fit_on.shuffled(seed), choose_on.shuffled(seed)))
        results = probing.probe_labelings(labelings, pairs(test, 0, len(options)))
        for number, by_layer in enumerate(results):
            for layer, result in zip(layers, by_layer, strict=True):
                # The pairs of a question are right and wrong together: the interval is over
                # questions.
                right = np.add.reduceat(result.correct, [0, *accumulate(options[:-1])])
                found.append(
                    ProbeScore(
                        phase=phase,
                        task=task,
                        position=position,
                        layer=layer,
                        control=number > 0,
                        accuracy=estimates.mean(right / options),
                        l2=result.l2,
                    )
                )
    return tuple(found)


def _layers(settings: Probe, states: int) -> list[int]:
    """Return the indices of the hidden states to probe, of so many."""
    if settings.layers == "all":
        return list(range(states))
    return [layer % states for layer in settings.layers]
