"""Probes of a task on the hidden states of scored examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import torch

from forget import tasks
from forget.errors import BadInput
from forget.evaluation import probing
from forget.evaluation.probing import ASKED_ALONE, Probed
from forget.evaluation.scoring import Scores, score
from forget.events import Observe, ignore
from forget.models import catalogue
from forget.models.language_model import LanguageModel
from forget.results.folds import FOLDS, mean_over_folds, widening
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.parts import Position, Probe
from forget.settings.trial import Trial
from forget.tasks.draws import too_few_to_probe
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


@dataclass(frozen=True)
class Probing:
    """Result of probing a model."""

    scores: tuple[ProbeScore, ...] = ()
    by_question: Mapping[str, float] = field(default_factory=dict)
    """`Row.probe` by example; empty where no layer of the middle could be probed."""
    missing: tuple[str, ...] = ()
    """Sentences that say which layers could not be probed, and why."""


def drawn(task: str, settings: Probe, like: Trial) -> dict[str, tuple[Example, ...]]:
    """Return the examples of a task that a loaded model is probed on, by split.

    Args:
        task: a name, which `like.folders` may hold.
        settings: how many examples, and of which splits.
        like: the trial whose wording, options and seed are taken.

    Raises:
        BadInput: a split that the task lacks, or too few examples for a probe.
    """
    load = partial(
        tasks.load,
        task,
        n=settings.examples,
        seed=like.seed,
        folders=like.folders,
        template=like.template,
        options=like.options,
    )
    splits = ("test",) if settings.fit_on == "held_out" else ("test", "train")
    found = {split: load(split) for split in splits}
    if why := too_few_to_probe(task, settings, found.get("train", ()), found["test"]):
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
    found = probes("loaded", task, settings, like, scored["test"], scored.get("train"))
    return found.scores


def probes(
    phase: str, task: str, settings: Probe, like: Trial, test: Scored, trained: Scored | None
) -> Probing:
    """Fit probes, by position and layer, and ask them what they were not fit on.

    The first `settings.examples` test questions are asked; without trained ones, five folds of them
    are cross-fit. A control is fit on labels that are dealt out anew.

    Args:
        phase: one of PHASES, or "loaded"; it is noted with each score.
        task: noted with each score.
        settings: layers, positions and examples.
        like: the trial whose seed deals out the folds, and whose training the controls' labels.
        test: questions that no stage trains on.
        trained: the questions that probes are fit on instead, where `settings.fit_on` says so.
    """
    n = settings.examples
    parts = [(test, test.examples[:n])]
    if trained:
        parts.append((trained, trained.examples[:n]))
    examples = list(chain.from_iterable(taken for _, taken in parts))
    options = [len(example.options) for example in examples]
    asked = examples[: len(parts[0][1])]
    fit_on = examples[len(asked) :] if trained else asked
    folds = _folds(fit_on, like.seed)
    if trained:
        folds = np.concatenate([np.full(len(asked), ASKED_ALONE), folds])
        wider = widening(1, len(asked), len(fit_on))
    else:
        wider = widening(FOLDS, 1, FOLDS - 1)
    blocks = next(iter(test.scores.answers.values())).shape[1] - 1
    layers = _layers(settings, blocks + 1)
    middle = probing.middle(layers, blocks)
    scores: list[ProbeScore] = []
    missing: list[str] = []
    by_question: dict[str, float] = {}
    for position in settings.positions:
        states = torch.cat([_states(*part, position)[:, layers] for part in parts])
        pairs = probing.pairs(states, [example.answer for example in examples], options, folds)
        labelings = [pairs.right, pairs.dealt(like.training_seed)][: 2 if settings.control else 1]
        results = probing.probe_labelings(pairs, labelings)
        for number, by_layer in enumerate(results):
            control = number > 0
            kept = dict(zip(layers, by_layer, strict=True))
            for layer, result in kept.items():
                if result:
                    place = {"phase": phase, "task": task, "position": position, "layer": layer}
                    place |= {"control": control, "middle": layer in middle}
                    scores.append(_score(place, result, asked, wider))
            lacking = [str(layer) for layer, result in kept.items() if result is None]
            if lacking:
                missing.append(_lacking(phase, task, position, control, lacking, len(fit_on)))
            if position == settings.positions[0] and not control:
                by_question = _by_question(asked, [kept[layer] for layer in middle])
    return Probing(tuple(scores), by_question, tuple(missing))


def _states(scored: Scored, taken: Sequence[Example], position: Position) -> torch.Tensor:
    """Return the answers' hidden states [options of the taken examples, layers + 1, width]."""
    return scored.scores.answers[position][: sum(len(example.options) for example in taken)]


def _folds(examples: Sequence[Example], seed: int) -> np.ndarray:
    """Deal examples out to folds, those of one source to one fold."""
    truths = [example.options[example.answer] for example in examples]
    return probing.folds([example.group for example in examples], truths, seed)


def _score(
    place: dict[str, object], result: Probed, asked: Sequence[Example], wider: float
) -> ProbeScore:
    """Return what a layer's probe was asked, as a mean over the questions.

    Args:
        place: phase, task, position, layer and kind of the probe.
        result: the probe's answers.
        asked: the questions.
        wider: the factor by which the fits widen the variance.
    """
    groups = [example.group for example in asked]
    options = [len(example.options) for example in asked]
    return ProbeScore(
        **place,  # type: ignore[arg-type]  # pydantic checks it
        accuracy=mean_over_folds(result.preferred, groups, wider),
        chance=float(np.mean(1 / np.array(options))),
        pair_accuracy=mean_over_folds(result.correct, groups, wider),
        pair_chance=float(np.mean(1 - 1 / np.array(options))),
        l2=result.l2,
    )


def _by_question(asked: Sequence[Example], results: Sequence[Probed | None]) -> dict[str, float]:
    """Return the share of the layers' probes that prefer the truth, by question."""
    preferred = [result.preferred for result in results if result]
    if not preferred:
        return {}
    shares = np.mean(preferred, axis=0).tolist()
    return {example.id: share for example, share in zip(asked, shares, strict=True)}


def _lacking(
    phase: str, task: str, position: Position, control: bool, layers: Sequence[str], n: int
) -> str:
    kind = "controls" if control else "probes"
    return (
        f'task "{task}", {phase}: no {kind} at the position {position} of layers '
        f"{', '.join(layers)}, whose fits on {n} questions have not converged"
    )


def _layers(settings: Probe, states: int) -> list[int]:
    """Return the indices of the hidden states to probe, of so many."""
    if settings.layers == "all":
        return list(range(states))
    return list(dict.fromkeys(layer % states for layer in settings.layers))
