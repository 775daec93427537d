"""Probes of a task on the hidden states of scored examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
import torch

from forget import tasks
from forget.evaluation import probing
from forget.evaluation.scoring import Scores, score
from forget.events import Observe, ignore
from forget.models import catalogue
from forget.models.language_model import LanguageModel
from forget.results import metrics
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.parts import Position, Probe
from forget.settings.trial import Trial
from forget.tasks.task import Example

VARIABILITY_LAYER = -5
"""The paper's layer for variability, counted from the last; the first block's where a model has
fewer.

Never the embedding: where all prompts end in the same token, it does not vary.
"""


@dataclass(frozen=True)
class Seen:
    """Examples with what a model says of them."""

    examples: Sequence[Example]
    scores: Scores
    rows: list[Row]

    @property
    def questions(self) -> torch.Tensor:
        """[examples, width]: the states whose variability is measured."""
        states = self.scores.questions
        return states[:, max(VARIABILITY_LAYER, 1 - states.shape[1])]

    def pairs(
        self, start: int, stop: int, layers: Sequence[int], position: Position
    ) -> probing.Pairs:
        """The (question, answer) pairs of a span of the examples."""
        options = [len(example.options) for example in self.examples]
        edges = [0, *accumulate(options)]
        states = self.scores.answers[position][edges[start] : edges[stop]][:, layers]
        return probing.pairs(
            states, [example.answer for example in self.examples[start:stop]], options[start:stop]
        )


def probe(
    model: LanguageModel, task: str, settings: Probe, like: Trial, observe: Observe = ignore
) -> tuple[ProbeScore, ...]:
    """Probe a loaded model on a task, with the examples, prompt and seed that the trial `like` would take."""
    load = partial(
        tasks.load,
        task,
        n=settings.examples,
        seed=like.seed,
        folders=like.folders,
        template=like.template,
    )
    bf16 = catalogue.in_bf16(like.precision)
    look = partial(
        score, model, bf16=bf16, states=settings.positions, stage="probe", observe=observe
    )
    splits = (
        ("train", "validation", "test")
        if "validation" in tasks.find(task, like.folders).splits
        else ("train", "test")
    )
    examples = {split: load(split=split, options=like.options) for split in splits}
    seen = {split: Seen(part, look(part), []) for split, part in examples.items()}
    return probes(
        "loaded", task, settings, like.seed, seen["train"], seen.get("validation"), seen["test"]
    )


def probes(
    phase: str,
    task: str,
    settings: Probe,
    seed: int,
    train: Seen,
    validation: Seen | None,
    test: Seen,
) -> tuple[ProbeScore, ...]:
    """Probe accuracy by position and layer on the first `settings.examples` of the test examples, and its control's.

    A control is fit on labels that are dealt out anew, which the seed does.
    """
    count = next(iter(train.scores.answers.values())).shape[1]
    layers = (
        list(range(count))
        if settings.layers == "all"
        else [layer % count for layer in settings.layers]
    )
    size = min(settings.examples, len(train.examples))
    # A task without a validation split lends a fifth of its training examples.
    cut = size if validation else size - max(1, size // 5)
    found = []
    for position in settings.positions:
        span = partial(Seen.pairs, layers=layers, position=position)
        fit_on = span(train, 0, cut)
        choose_on = (
            span(validation, 0, len(validation.examples)) if validation else span(train, cut, size)
        )
        options = [len(example.options) for example in test.examples[: settings.examples]]
        held_out = span(test, 0, len(options))
        labelings = [(fit_on, choose_on)]
        if settings.control:
            labelings.append((fit_on.shuffled(seed), choose_on.shuffled(seed)))
        for number, results in enumerate(probing.probe_labelings(labelings, held_out)):
            for layer, result in zip(layers, results, strict=True):
                # The pairs of a question are right and wrong together: the interval is over
                # questions.
                right = np.add.reduceat(result.correct, [0, *accumulate(options[:-1])])
                accuracy = metrics.mean(right / options)
                found.append(
                    ProbeScore(
                        phase=phase,
                        task=task,
                        position=position,
                        layer=layer,
                        control=number > 0,
                        accuracy=accuracy,
                        l2=result.l2,
                    )
                )
    return tuple(found)
