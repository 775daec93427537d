"""Evaluation of a model in one phase of a trial, from one pass over its examples.

Every split is scored, and the trial's own task is probed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from forget import tasks
from forget.evaluation import probing
from forget.evaluation.probes import Scored, probes
from forget.evaluation.scoring import Scores, score
from forget.events import Observe, ignore
from forget.models.catalogue import in_bf16
from forget.models.language_model import LanguageModel
from forget.results.files import read_rows, write_rows
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.identity import PROTOCOL, digest, settings_of
from forget.settings.parts import Part, Position
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import Material, too_few_to_probe
from forget.tasks.labels import place
from forget.tasks.similarity import similarities
from forget.tasks.task import Example
from forget.training.watching import Watching

Stage = Literal["learn", "forget"]
"""A training of a trial."""


@dataclass(frozen=True)
class PhaseResult:
    """Result of evaluating a model in one phase."""

    rows: list[Row]
    """Rows with an empty `trial`: several trials share them."""
    probes: tuple[ProbeScore, ...]
    unprobed: tuple[str, ...]
    """Sentences that say which probes are missing, and why."""
    cka: dict[str, float]
    """Linear CKA of the hidden states on the questions of each other task to those of the trial's
    own, by task, where both vary.
    """


class StoredResult(Part):
    """The part of a `PhaseResult` that is not Rows, as it lies in the store."""

    probes: tuple[ProbeScore, ...]
    unprobed: tuple[str, ...]
    cka: dict[str, float]


@dataclass(frozen=True)
class OtherTask:
    """Result of scoring another task than the trial's own."""

    rows: list[Row]
    questions: torch.Tensor
    """[examples, width] as of `Scored`; empty where the trial has no probes."""


@dataclass(frozen=True)
class Evaluation:
    """The way in which a trial looks at models."""

    trial: Trial
    material: Material
    store: Store
    observe: Observe = ignore

    @cached_property
    def bf16(self) -> bool:
        """True where models are run in bfloat16."""
        return in_bf16(self.trial.precision)

    @property
    def has_probes(self) -> bool:
        """True where the trial reads hidden states."""
        return self.trial.probe.examples > 0

    def evaluate_shared(
        self, phase: str, weights: str, load: Callable[[], LanguageModel]
    ) -> PhaseResult:
        """Evaluate a model once for all trials that look in the same way at the same weights.

        All processes of a trial call it together.

        Args:
            phase: one of PHASES.
            weights: their identity.
            load: gives the model; called only where the result is not in the store.
        """
        material = self.material
        own = (material.forget, material.near, material.similar, material.probe)
        parts = (*own, *material.test.values())
        settings = settings_of(self.trial, "measuring")
        asked = [settings, self._key(phase, weights, self.trial.tasks, parts)]
        if self.trial.forget_set.name != "own":
            # Their texts are none of their task's data.
            asked.append([example.prompt for example in material.trained])
        if tasks.instructs(*self.trial.measure_templates):
            asked.append(tasks.fingerprint([self.trial.task], self.trial.folders, True))
        key = digest(asked)

        def make(folder: Path | None) -> None:
            result = self.evaluate(phase, load(), weights)
            if folder:
                write_rows(result.rows, folder / "rows.parquet")
                stored = StoredResult(
                    probes=result.probes, unprobed=result.unprobed, cka=result.cka
                )
                (folder / "result.json").write_text(stored.model_dump_json())

        folder = self.store.once("measured", key, make)
        stored = StoredResult.model_validate_json((folder / "result.json").read_text())
        rows = read_rows(folder / "rows.parquet")
        return PhaseResult(rows, stored.probes, stored.unprobed, stored.cka)

    def evaluate(self, phase: str, model: LanguageModel, weights: str | None = None) -> PhaseResult:
        """Score every split and task, and probe the trial's own task from the same pass.

        All processes of a trial call it together.

        Args:
            phase: one of PHASES.
            model: what is evaluated.
            weights: their identity, where other trials look at them too. Each other task is then
                scored once for all.
        """
        trial, material = self.trial, self.material
        own, *others = trial.tasks
        states = trial.probe.positions if self.has_probes else None
        fits_trained = self.has_probes and trial.probe.fit_on == "trained"
        # Both are the first of the test split: what is probed and perhaps more, or the reverse.
        held_out = max(material.test[own], material.probe, key=len)
        # One autocast region for all sets: the bf16 copies of the weights are made once.
        with model.autocast(self.bf16):
            trained_states = states if fits_trained else None
            train = self._score(phase, model, own, "train", material.trained, trained_states)
            test = self._score(phase, model, own, "test", held_out, states)
            rows = [*train.rows, *test.rows]
            for split, examples in material.like.items():
                if examples:
                    rows += self._score(phase, model, own, split, examples, None).rows
            for (template, split), examples in material.templates.items():
                asked = self._score(phase, model, own, split, examples, None).rows
                rows += [replace(row, template=template) for row in asked]
            # Trials that start together would all wait for the first task to be scored: each has an
            # order of its own.
            order = random.Random(trial.task).sample(others, len(others))
            scored = {task: self._score_other(phase, model, task, weights) for task in order}
        for task in others:
            rows += scored[task].rows
        if not self.has_probes:
            return PhaseResult(rows, (), (), {})
        cka = self._cka_to_own_task(test, scored)
        # What cannot be probed is measured without; the plan and the report say so.
        if why := too_few_to_probe(own, trial.probe, material.trained, material.probe):
            return PhaseResult(rows, (), (why,), cka)
        with self._finite(phase):
            fit_on = train if fits_trained else None
            found = probes(phase, own, trial.probe, trial, test, fit_on)
        for at, row in enumerate(rows):
            if (row.task, row.split, row.template) == (own, "test", ""):
                rows[at] = replace(row, probe=found.by_question.get(row.example))
        return PhaseResult(rows, found.scores, found.missing, cka)

    def watching(
        self, stage: Stage, model: LanguageModel, drawn: Mapping[str, int] | None = None
    ) -> Watching:
        """Return how a model is looked at while it is trained: watched examples are scored.

        Args:
            stage: what it is trained in.
            model: what is trained.
            drawn: the label of each example that the stage trains on, where it is drawn
                (forget.tasks.labels.fixed).
        """
        trial, material = self.trial, self.material

        def look(split: str, examples: Sequence[Example], step: int) -> list[Row]:
            if not examples:
                return []
            scores = score(model, examples, normalise=trial.normalise, bf16=self.bf16)
            with self._finite(stage):
                rows = scores.rows(examples, trial="", phase=stage, task=trial.task, split=split)
            labels = drawn if drawn and split == "train" else {}
            return [
                replace(row, step=step, drawn=labels.get(place(row.task, row.example)))
                for row in rows
            ]

        trained = material.watch_learn if stage == "learn" else material.watch_forget
        return Watching(
            trial.watch.points,
            held_out=partial(look, "test", material.watch),
            trained=partial(look, "train", trained),
            until=trial.forget.until if stage == "forget" else None,
        )

    def _key(
        self, phase: str, weights: str, names: Sequence[str], parts: Iterable[Sequence[Example]]
    ) -> str:
        """Return the identity of what scoring examples of the tasks of these names gives."""
        settings = settings_of(self.trial, "scoring")
        instructed = tasks.instructs(self.trial.template)
        data = tasks.fingerprint(names, self.trial.folders, instructed)
        asked = [list(map(_asked, part)) for part in parts]
        return digest([PROTOCOL, phase, weights, settings, list(names), self.bf16, asked, data])

    def _score(
        self,
        phase: str,
        model: LanguageModel,
        task: str,
        split: str,
        examples: Sequence[Example],
        states: Sequence[Position] | None,
    ) -> Scored:
        """Score examples of a split, and keep the hidden states at these positions."""
        if not examples:
            # A mixture may have none of the trial's own task.
            return Scored((), Scores([], [], [], {}, torch.empty(0)), [])
        scores = score(
            model,
            examples,
            normalise=self.trial.normalise,
            bf16=self.bf16,
            states=states,
            stage=f"score {phase}",
            observe=self.observe,
        )
        with self._finite(phase):
            rows = scores.rows(examples, trial="", phase=phase, task=task, split=split)
        scored = Scored(examples, scores, rows)
        if states is None or split != "test":
            return scored
        # Questions that only the probes are asked have no Rows.
        measured = len(self.material.test[task])
        spread = probing.spread(scored.questions[:measured])
        pairs = zip(rows[:measured], spread, strict=True)
        return replace(scored, rows=[replace(row, spread=distance) for row, distance in pairs])

    @contextmanager
    def _finite(self, phase: str) -> Iterator[None]:
        """Add to the error about numbers that are not finite the rate that made them so."""
        try:
            yield
        except FloatingPointError as error:
            stage = self.trial.learn if phase in ("learn", "learned") else self.trial.forget
            raise FloatingPointError(f"{error}, rate {stage.lr:.2g}; lower the rate") from None

    def _score_other(
        self, phase: str, model: LanguageModel, task: str, weights: str | None
    ) -> OtherTask:
        """Score the test examples of another task; once for all trials, if `weights` is known."""
        examples = self.material.test[task]

        def look() -> OtherTask:
            states = () if self.has_probes else None
            scored = self._score(phase, model, task, "test", examples, states)
            return OtherTask(scored.rows, scored.questions if self.has_probes else torch.empty(0))

        def make(folder: Path | None) -> None:
            other = look()
            if folder:
                write_rows(other.rows, folder / "rows.parquet")
                questions = other.questions.contiguous()
                save_file({"questions": questions}, folder / "states.safetensors")

        if weights is None:
            return look()
        key = digest([self.has_probes, self._key(phase, weights, [task], [examples])])
        folder = self.store.once("scored", key, make)
        questions = load_file(folder / "states.safetensors")["questions"]
        return OtherTask(read_rows(folder / "rows.parquet"), questions)

    def _cka_to_own_task(self, own: Scored, others: dict[str, OtherTask]) -> dict[str, float]:
        """Return the linear CKA of each other task to the own one, where both have one."""
        found = {}
        name, *names = self.trial.tasks
        questions = own.questions[: len(self.material.test[name])]
        for task in names:
            value = probing.cka(questions, others[task].questions)
            if value is not None:
                found[task] = value
        return found


def named(
    trial: str, material: Material, drawn: Mapping[str, int], parts: Iterable[Sequence[Row]]
) -> list[Row]:
    """Return the Rows of a trial, with what only it knows of their examples.

    That is the trial's identity, the label that was drawn, and the similarity to what was trained.

    Args:
        trial: the identity.
        material: the trial's examples.
        drawn: the label of each example that forgetting trains on (forget.tasks.labels.fixed).
        parts: Rows that trials share.
    """
    similar = similarities(material)
    own = next(iter(material.test))
    label = {}
    for example in material.forget:
        if example.task == own:
            label["train", example.id] = drawn.get(place(own, example.id))
    for example in material.near:
        label["near", example.id] = drawn.get(place(own, example.source))
    rows = []
    for part in parts:
        for row in part:
            at = (row.task, row.split, row.example)
            told = label.get(at[1:]) if row.task == own else None
            rows.append(replace(row, trial=trial, similarity=similar.get(at), drawn=told))
    return rows


def _asked(example: Example) -> tuple[str, tuple[str, ...]]:
    # The text of an item is in its task's fingerprint; its distractor is drawn by the seed.
    return example.id, tuple(example.options)
