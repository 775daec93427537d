"""How a trial looks at a model in one phase: every split scored, its own task probed, from one pass over the examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from forget import metrics, models, probing, tasks
from forget.events import Observe, ProbeScore, ignore
from forget.metrics import Estimate, Row, metric_name, read_rows, write_rows
from forget.models import LanguageModel
from forget.scoring import Scores, score
from forget.settings import PROTOCOL, Part, Probe, Trial, digest
from forget.store import Store
from forget.tasks import Example

VARIABILITY_LAYER = -5
"""The paper's layer for variability, counted from the last; the embedding where a model has fewer."""


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
    )


@dataclass(frozen=True)
class Measured:
    """What was found in one phase."""

    rows: list[Row]
    """Of no trial yet: trials share them."""
    probes: tuple[ProbeScore, ...]
    spread: dict[str, Estimate]
    """Variability by metric name."""


class Found(Part):
    """The part of `Measured` that is not Rows, as it lies in the store."""

    probes: tuple[ProbeScore, ...]
    spread: dict[str, Estimate]


@dataclass(frozen=True)
class Seen:
    """Examples with what a model says of them."""

    examples: Sequence[Example]
    scores: Scores

    def pairs(self, start: int, stop: int, layers: Sequence[int]) -> probing.Pairs:
        """The (question, answer) pairs of a span of the examples."""
        options = [len(example.options) for example in self.examples]
        edges = [0, *accumulate(options)]
        states = self.scores.answers[edges[start] : edges[stop]][:, layers]
        return probing.pairs(states, [example.answer for example in self.examples[start:stop]], options[start:stop])


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
        names = {"evaluation_examples", "normalise", "options", "template", "probe", "seed", "task"}
        settings = self.trial.model_dump(mode="json", include=names)
        parts = (self.material.forget, self.material.near, *self.material.test.values())
        data = tasks.fingerprint(self.trial.tasks, self.trial.folders)
        examples = [[example.id for example in part] for part in parts]
        key = digest([PROTOCOL, phase, weights, settings, self.trial.tasks, self.bf16, examples, data])

        def make(folder: Path | None) -> None:
            found = self.measure(phase, load())
            if folder:
                write_rows(found.rows, folder / "rows.parquet")
                (folder / "found.json").write_text(Found(probes=found.probes, spread=found.spread).model_dump_json())

        folder = self.store.shared("measured", key, make)
        found = Found.model_validate_json((folder / "found.json").read_text())
        return Measured(read_rows(folder / "rows.parquet"), found.probes, found.spread)

    def measure(self, phase: str, model: LanguageModel) -> Measured:
        """Score every split and task, and probe the trial's own task by the hidden states of the same pass."""
        trial, material = self.trial, self.material
        stage = f"score {phase}"
        look = partial(score, model, normalise=trial.normalise, bf16=self.bf16, stage=stage, observe=self.observe)
        states = trial.probe.position if trial.probe.examples else "no"
        train = Seen(
            material.forget[: trial.evaluation_examples], look(material.forget[: trial.evaluation_examples], states=states)
        )
        test = Seen(material.test[trial.task], look(material.test[trial.task], states=states))
        seen = {(trial.task, "train"): train, (trial.task, "test"): test}
        if material.near:
            seen[trial.task, "near"] = Seen(material.near, look(material.near))
        for task in trial.tasks[1:]:
            seen[task, "test"] = Seen(material.test[task], look(material.test[task]))
        rows = [
            row
            for (task, split), part in seen.items()
            for row in part.scores.rows(part.examples, trial="", phase=phase, task=task, split=split)
        ]
        if states == "no":
            return Measured(rows, (), {})
        validation = Seen(material.validation, look(material.validation, states=states)) if material.validation else None
        questions = test.scores.questions
        variability = probing.variability(questions[:, max(VARIABILITY_LAYER, -questions.shape[1])])
        spread = Estimate(variability, None, None, len(questions))
        return Measured(
            rows,
            probes(phase, trial.task, trial.probe, train, validation, test),
            {metric_name(phase, trial.task, "test", "variability"): spread},
        )


def probe(model: LanguageModel, task: str, settings: Probe, like: Trial, observe: Observe = ignore) -> tuple[ProbeScore, ...]:
    """Probe a loaded model on a task, with the examples, prompt and seed that the trial `like` would take."""
    load = partial(tasks.load, task, n=settings.examples, seed=like.seed, folders=like.folders, template=like.template)
    bf16 = models.in_bf16(like.precision)
    look = partial(score, model, bf16=bf16, states=settings.position, stage="probe", observe=observe)
    splits = ("train", "validation", "test") if "validation" in tasks.find(task, like.folders).splits else ("train", "test")
    examples = {split: load(split=split, options=like.options) for split in splits}
    seen = {split: Seen(part, look(part)) for split, part in examples.items()}
    return probes("loaded", task, settings, seen["train"], seen.get("validation"), seen["test"])


def probes(phase: str, task: str, settings: Probe, train: Seen, validation: Seen | None, test: Seen) -> tuple[ProbeScore, ...]:
    """Probe accuracy by layer on the first `settings.examples` of the test examples."""
    count = train.scores.answers.shape[1]
    layers = list(range(count)) if settings.layers == "all" else [layer % count for layer in settings.layers]
    size = min(settings.examples, len(train.examples))
    # A task without a validation split lends a fifth of its training examples.
    cut = size if validation else size - max(1, size // 5)
    choose_on = validation.pairs(0, len(validation.examples), layers) if validation else train.pairs(cut, size, layers)
    held_out = test.pairs(0, min(settings.examples, len(test.examples)), layers)
    results = probing.probe(train.pairs(0, cut, layers), choose_on, held_out)
    return tuple(
        ProbeScore(phase=phase, task=task, layer=layer, accuracy=metrics.mean(result.correct), l2=result.l2)
        for layer, result in zip(layers, results, strict=True)
    )
