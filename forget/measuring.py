"""How a trial looks at a model in one phase: every split scored, its own task probed, from one pass over the examples."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from forget import likeness, metrics, models, probing, tasks
from forget.events import Likeness, Observe, ProbeScore, ignore
from forget.metrics import Row, read_rows, write_rows
from forget.models import LanguageModel
from forget.scoring import Scores, score
from forget.settings import PROTOCOL, Part, Position, Probe, Trial, digest
from forget.store import Store
from forget.tasks import Example
from forget.training import Watching

VARIABILITY_LAYER = -5
"""The paper's layer for variability, counted from the last; the first block's where a model has fewer.

Never the embedding: where all prompts end in the same token, it does not vary."""


@dataclass(frozen=True)
class Material:
    """The examples of a trial."""

    learn: tuple[Example, ...]
    forget: tuple[Example, ...]
    near: tuple[Example, ...]
    """Paraphrases of examples in `forget`."""
    validation: tuple[Example, ...]
    """For choosing the probes' penalty."""
    test: dict[str, tuple[Example, ...]]
    """By task, the trial's own first."""
    watched: tuple[Example, ...]
    """Held out, scored while the model learns and forgets."""


def gather(trial: Trial) -> Material:
    """Draw the examples of every split. The smaller of two draws is a prefix of the larger."""
    load = partial(tasks.load, seed=trial.seed, folders=trial.folders, template=trial.template, options=trial.options)
    splits = tasks.find(trial.task, trial.folders).splits
    forget = load(trial.task, "train", trial.forget.examples)
    trained = {example.id for example in forget}
    near = load(trial.task, "near") if "near" in splits else ()
    near = tuple(example for example in near if not example.source or example.source in trained)
    return Material(
        learn=load(trial.task, "train", trial.learn.examples),
        forget=forget,
        near=near[: trial.evaluation_examples],
        validation=load(trial.task, "validation", trial.probe.examples) if "validation" in splits else (),
        test={task: load(task, "test", trial.evaluation_examples) for task in trial.tasks},
        watched=load(trial.task, "test", trial.watch.examples) if trial.watch.points else (),
    )


def similarities(material: Material) -> dict[tuple[str, str, str], float]:
    """By task, split and example, the TF-IDF cosine of what is held out to the nearest example that forgetting trains on."""
    parts = {(task, "test"): examples for task, examples in material.test.items()}
    if material.near:
        parts[next(iter(material.test)), "near"] = material.near
    return {
        (*place, example.id): similar
        for place, examples in parts.items()
        for example, similar in zip(examples, likeness.nearest(examples, material.forget), strict=True)
    }


def likenesses(material: Material, states: Mapping[str, float]) -> tuple[Likeness, ...]:
    """How like the trial's own task each other one is. `states`: linear CKA by task, where it was taken."""
    own, *others = material.test
    wording = likeness.wording(material.test)
    return tuple(
        Likeness(
            task=task,
            answers=likeness.answers(material.test[own], material.test[task]),
            wording=wording[task],
            states=states.get(task),
        )
        for task in others
    )


@dataclass(frozen=True)
class Measured:
    """What was found in one phase."""

    rows: list[Row]
    """Of no trial yet: trials share them."""
    probes: tuple[ProbeScore, ...]
    alike: dict[str, float]
    """Linear CKA of the hidden states on the questions of each other task to those of the trial's own, where both vary."""


class Found(Part):
    """The part of `Measured` that is not Rows, as it lies in the store."""

    probes: tuple[ProbeScore, ...]
    alike: dict[str, float]


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

    def pairs(self, start: int, stop: int, layers: Sequence[int], position: Position) -> probing.Pairs:
        """The (question, answer) pairs of a span of the examples."""
        options = [len(example.options) for example in self.examples]
        edges = [0, *accumulate(options)]
        states = self.scores.answers[position][edges[start] : edges[stop]][:, layers]
        return probing.pairs(states, [example.answer for example in self.examples[start:stop]], options[start:stop])


@dataclass(frozen=True)
class Other:
    """What is read off another task than the trial's own."""

    rows: list[Row]
    questions: torch.Tensor
    """[examples, width] as of `Seen`; or empty."""


@dataclass(frozen=True)
class Measuring:
    """A trial's way to look at models."""

    trial: Trial
    material: Material
    store: Store
    bf16: bool
    observe: Observe = ignore

    def once(self, phase: str, weights: str, load: Callable[[], LanguageModel]) -> Measured:
        """`measure`, computed once for all trials that look in the same way at the weights with this identity."""
        parts = (self.material.forget, self.material.near, *self.material.test.values())
        settings = self.trial.model_dump(mode="json", include={"evaluation_examples", "probe", "seed", "task"})
        key = digest([settings, self._key(phase, weights, self.trial.tasks, parts)])

        def make(folder: Path | None) -> None:
            found = self.measure(phase, load(), weights)
            if folder:
                write_rows(found.rows, folder / "rows.parquet")
                (folder / "found.json").write_text(Found(probes=found.probes, alike=found.alike).model_dump_json())

        folder = self.store.shared("measured", key, make)
        found = Found.model_validate_json((folder / "found.json").read_text())
        return Measured(read_rows(folder / "rows.parquet"), found.probes, found.alike)

    def watching(self, stage: str, model: LanguageModel) -> Watching:
        """Scores the watched examples while the model is trained."""
        watched, of = self.material.watched, {"trial": "", "phase": stage, "task": self.trial.task, "split": "test"}

        def look(step: int) -> list[Row]:
            scores = score(model, watched, normalise=self.trial.normalise, bf16=self.bf16)
            return [replace(row, step=step) for row in scores.rows(watched, **of)]

        return Watching(self.trial.watch.points, look)

    def _key(self, phase: str, weights: str, names: Sequence[str], parts: Sequence[Sequence[Example]]) -> str:
        """Identity of what is found in a phase by scoring examples of the tasks of these names."""
        settings = self.trial.model_dump(mode="json", include={"normalise", "options", "template"})
        data = tasks.fingerprint(names, self.trial.folders)
        examples = [[example.id for example in part] for part in parts]
        return digest([PROTOCOL, phase, weights, settings, list(names), self.bf16, examples, data])

    def measure(self, phase: str, model: LanguageModel, weights: str | None = None) -> Measured:
        """Score every split and task, and probe the trial's own task by the hidden states of the same pass.

        Args:
            weights: their identity, where other trials look at them too. Each other task is then scored once for all.
        """
        trial, material = self.trial, self.material
        states = trial.probe.positions if self.reads else None
        see = partial(self._see, phase, model)
        # One autocast region for all sets: the bf16 copies of the weights are made once.
        with model.autocast(self.bf16):
            train = see(material.forget[: trial.evaluation_examples], trial.task, "train", states)
            test = see(material.test[trial.task], trial.task, "test", states)
            near = see(material.near, trial.task, "near", None).rows if material.near else []
            lends = material.validation if self.reads else ()
            validation = see(lends, trial.task, "validation", states) if lends else None
            # Trials that start together would all wait for the first task to be scored: each has an order of its own.
            order = random.Random(trial.task).sample(trial.tasks[1:], len(trial.tasks) - 1)
            others = {task: self._other(phase, model, task, weights) for task in order}
        rows = [*train.rows, *test.rows, *near, *(row for task in trial.tasks[1:] for row in others[task].rows)]
        if not self.reads:
            return Measured(rows, (), {})
        near_states = ((task, probing.cka(test.questions, others[task].questions)) for task in trial.tasks[1:])
        alike = {task: value for task, value in near_states if value is not None}
        return Measured(rows, probes(phase, trial.task, trial.probe, trial.seed, train, validation, test), alike)

    @property
    def reads(self) -> bool:
        return self.trial.probe.examples > 0

    def _see(
        self,
        phase: str,
        model: LanguageModel,
        examples: Sequence[Example],
        task: str,
        split: str,
        states: Sequence[Position] | None,
    ) -> Seen:
        scores = score(
            model,
            examples,
            normalise=self.trial.normalise,
            bf16=self.bf16,
            states=states,
            stage=f"score {phase}",
            observe=self.observe,
        )
        rows = scores.rows(examples, trial="", phase=phase, task=task, split=split)
        seen = Seen(examples, scores, rows)
        if states is None or split != "test":
            return seen
        spread = probing.spread(seen.questions)
        return replace(seen, rows=[replace(row, spread=one) for row, one in zip(rows, spread, strict=True)])

    def _other(self, phase: str, model: LanguageModel, task: str, weights: str | None) -> Other:
        """What is seen of the test examples of another task than the trial's own."""
        examples = self.material.test[task]

        def look() -> Other:
            seen = self._see(phase, model, examples, task, "test", () if self.reads else None)
            return Other(seen.rows, seen.questions if self.reads else torch.empty(0))

        def make(folder: Path | None) -> None:
            seen = look()
            if folder:
                write_rows(seen.rows, folder / "rows.parquet")
                save_file({"questions": seen.questions.contiguous()}, folder / "states.safetensors")

        if weights is None:
            return look()
        key = digest([self.reads, self._key(phase, weights, [task], [examples])])
        folder = self.store.shared("scored", key, make)
        return Other(read_rows(folder / "rows.parquet"), load_file(folder / "states.safetensors")["questions"])


def probe(model: LanguageModel, task: str, settings: Probe, like: Trial, observe: Observe = ignore) -> tuple[ProbeScore, ...]:
    """Probe a loaded model on a task, with the examples, prompt and seed that the trial `like` would take."""
    load = partial(tasks.load, task, n=settings.examples, seed=like.seed, folders=like.folders, template=like.template)
    bf16 = models.in_bf16(like.precision)
    look = partial(score, model, bf16=bf16, states=settings.positions, stage="probe", observe=observe)
    splits = ("train", "validation", "test") if "validation" in tasks.find(task, like.folders).splits else ("train", "test")
    examples = {split: load(split=split, options=like.options) for split in splits}
    seen = {split: Seen(part, look(part), []) for split, part in examples.items()}
    return probes("loaded", task, settings, like.seed, seen["train"], seen.get("validation"), seen["test"])


def probes(
    phase: str, task: str, settings: Probe, seed: int, train: Seen, validation: Seen | None, test: Seen
) -> tuple[ProbeScore, ...]:
    """Probe accuracy by position and layer on the first `settings.examples` of the test examples, and its control's.

    A control is fit on labels that are dealt out anew, which the seed does.
    """
    count = next(iter(train.scores.answers.values())).shape[1]
    layers = list(range(count)) if settings.layers == "all" else [layer % count for layer in settings.layers]
    size = min(settings.examples, len(train.examples))
    # A task without a validation split lends a fifth of its training examples.
    cut = size if validation else size - max(1, size // 5)
    found = []
    for position in settings.positions:
        span = partial(Seen.pairs, layers=layers, position=position)
        fit_on = span(train, 0, cut)
        choose_on = span(validation, 0, len(validation.examples)) if validation else span(train, cut, size)
        options = [len(example.options) for example in test.examples[: settings.examples]]
        held_out = span(test, 0, len(options))
        labelings = [(fit_on, choose_on)]
        if settings.control:
            labelings.append((fit_on.shuffled(seed), choose_on.shuffled(seed)))
        for number, results in enumerate(probing.probe_labelings(labelings, held_out)):
            for layer, result in zip(layers, results, strict=True):
                # The pairs of a question are right and wrong together: the interval is over questions.
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
