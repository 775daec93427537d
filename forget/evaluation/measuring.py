"""How a trial looks at a model in one phase: every split scored, its own task probed, from one pass over the examples."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from forget import tasks
from forget.evaluation import probing
from forget.evaluation.probes import Seen, probes
from forget.evaluation.scoring import score
from forget.events import Observe, ignore
from forget.models.language_model import LanguageModel
from forget.results.files import read_rows, write_rows
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.identity import PROTOCOL, digest
from forget.settings.parts import Part, Position
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks.draws import Material
from forget.tasks.task import Example
from forget.training.loop import Watching


@dataclass(frozen=True)
class Measured:
    """What was found in one phase."""

    rows: list[Row]
    """Of no trial yet: trials share them."""
    probes: tuple[ProbeScore, ...]
    alike: dict[str, float]
    """Linear CKA of the hidden states on the questions of each other task to those of the trial's own,
    where both vary.
    """


class Found(Part):
    """The part of `Measured` that is not Rows, as it lies in the store."""

    probes: tuple[ProbeScore, ...]
    alike: dict[str, float]


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
        settings = self.trial.model_dump(
            mode="json", include={"evaluation_examples", "probe", "seed", "task"}
        )
        key = digest([settings, self._key(phase, weights, self.trial.tasks, parts)])

        def make(folder: Path | None) -> None:
            found = self.measure(phase, load(), weights)
            if folder:
                write_rows(found.rows, folder / "rows.parquet")
                (folder / "found.json").write_text(
                    Found(probes=found.probes, alike=found.alike).model_dump_json()
                )

        folder = self.store.once("measured", key, make)
        found = Found.model_validate_json((folder / "found.json").read_text())
        return Measured(read_rows(folder / "rows.parquet"), found.probes, found.alike)

    def watching(self, stage: str, model: LanguageModel) -> Watching:
        """Scores the watched examples while the model is trained."""
        watched, of = (
            self.material.watched,
            {"trial": "", "phase": stage, "task": self.trial.task, "split": "test"},
        )

        def look(step: int) -> list[Row]:
            scores = score(model, watched, normalise=self.trial.normalise, bf16=self.bf16)
            return [replace(row, step=step) for row in scores.rows(watched, **of)]

        return Watching(self.trial.watch.points, look)

    def _key(
        self, phase: str, weights: str, names: Sequence[str], parts: Sequence[Sequence[Example]]
    ) -> str:
        """Identity of what is found in a phase by scoring examples of the tasks of these names."""
        settings = self.trial.model_dump(mode="json", include={"normalise", "options", "template"})
        data = tasks.fingerprint(names, self.trial.folders)
        examples = [[example.id for example in part] for part in parts]
        return digest([PROTOCOL, phase, weights, settings, list(names), self.bf16, examples, data])

    def measure(self, phase: str, model: LanguageModel, weights: str | None = None) -> Measured:
        """Score every split and task, and probe the trial's own task by the hidden states of the same pass.

        Args:
            weights: their identity, where other trials look at them too. Each other task is then
                scored once for all.
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
            # Trials that start together would all wait for the first task to be scored: each has an
            # order of its own.
            order = random.Random(trial.task).sample(trial.tasks[1:], len(trial.tasks) - 1)
            others = {task: self._other(phase, model, task, weights) for task in order}
        rows = [
            *train.rows,
            *test.rows,
            *near,
            *(row for task in trial.tasks[1:] for row in others[task].rows),
        ]
        if not self.reads:
            return Measured(rows, (), {})
        near_states = (
            (task, probing.cka(test.questions, others[task].questions)) for task in trial.tasks[1:]
        )
        alike = {task: value for task, value in near_states if value is not None}
        return Measured(
            rows, probes(phase, trial.task, trial.probe, trial.seed, train, validation, test), alike
        )

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
        return replace(
            seen, rows=[replace(row, spread=one) for row, one in zip(rows, spread, strict=True)]
        )

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
        folder = self.store.once("scored", key, make)
        return Other(
            read_rows(folder / "rows.parquet"),
            load_file(folder / "states.safetensors")["questions"],
        )
