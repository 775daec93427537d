"""An audit, and what it may do with the model of one arm."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator

from forget import tasks
from forget.errors import BadInput
from forget.evaluation.scoring import Scores, score
from forget.events import Observe, ignore
from forget.models.batches import reach
from forget.models.catalogue import in_bf16
from forget.models.language_model import LanguageModel
from forget.results.doses import PLAIN
from forget.results.rows import Row
from forget.settings.parts import Count, Lora, Part, Position, Stage
from forget.settings.trial import Trial
from forget.tasks import labels
from forget.tasks.draws import Material
from forget.tasks.task import Example
from forget.training.loop import fine_tune
from forget.training.terms import Term


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Several = BeforeValidator(_as_list)
"""A field of several values, where one alone may stand for a list of one."""

Counts = Annotated[tuple[Count, ...], Several]


class Audit(Part):
    """Settings of an audit, and what it does: a subclass has a name, and `run`."""

    asks: ClassVar[str]
    """The question that it puts, for tables."""
    cost: ClassVar[str]
    """Words for the cost of an arm; a pass is one scoring of `examples`."""
    version: ClassVar[int] = 2
    """Raised when a change of the code changes its numbers, so that they are computed anew."""

    name: str
    examples: Count = 64
    """Examples scored, the first of the trial's test split: few, so that a study is audited in
    minutes (docs/results has their intervals). One that is to decide something takes hundreds.
    """

    @property
    def label(self) -> str:
        """The name and the settings that differ from their defaults, e.g. "relearn, n 5"."""
        parts = [self.name]
        for setting, value in self.changed.items():
            told = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"{setting} {told}")
        return ", ".join(parts)

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, for JSON."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"name"})

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ()

    @property
    def reads(self) -> str:
        """Digest of what it reads beside the trial's tasks; empty where that is nothing."""
        return ""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of what the arm's model says; the weights are as before at the end."""
        raise NotImplementedError

    def passes(self, trial: Trial) -> float:
        """Estimate the scoring passes over `examples` that an arm takes, for the plan."""
        return 1.0

    def trained(self, trial: Trial) -> float:
        """Count the examples that an arm trains on, over all epochs, for the plan."""
        return 0.0


@dataclass
class Auditing:
    """The model of one arm of a trial, and what audits do with it."""

    trial: Trial
    arm: str
    """One of ARMS."""
    model: LanguageModel
    material: Material
    audit: Audit
    other: Callable[[str], LanguageModel]
    """Gives the model of another arm, of those that the audit needs."""
    observe: Observe = ignore
    said: dict[int, Scores] = field(default_factory=dict)
    """Scores of the model as it is, by number of examples, which audits of it may share."""

    @property
    def bf16(self) -> bool:
        """True where models are run in bfloat16."""
        return in_bf16(self.trial.precision)

    @property
    def test(self) -> tuple[Example, ...]:
        """Held-out examples, which no stage trains on."""
        return self.material.test[self.trial.task][: self.audit.examples]

    @cached_property
    def held_out(self) -> tuple[Example, ...]:
        """Examples that neither a stage nor the test split has: for shots and for choices.

        They are the validation split, where there is one, else what is left of the train split.

        Raises:
            BadInput: nothing is left.
        """
        trial = self.trial
        splits = tasks.find(trial.task, trial.folders).splits
        if "validation" in splits:
            return self.load("validation", trial.evaluation_examples)
        trained = max(trial.learn.examples, trial.forget.examples)
        found = self.load("train", trained + trial.evaluation_examples)[trained:]
        if not found:
            raise BadInput(
                f'task "{trial.task}" has no split "validation", and the trial trains on all of '
                f'"train": nothing is left for {self.audit.name} to draw from'
            )
        return found

    def load(self, split: str, n: int, task: str = "", template: str = "") -> tuple[Example, ...]:
        """Draw examples of a split as the trial does; by default of its own task and template."""
        trial = self.trial
        return tasks.load(
            task or trial.task,
            split,
            n,
            seed=trial.seed,
            folders=trial.folders,
            template=template or trial.template,
            options=trial.options,
        )

    def draw(self, use: str, example: Example) -> random.Random:
        """Return the draws for one example and use, the same for every arm."""
        return random.Random(f"{self.trial.seed}/{use}/{example.task}/{example.id}")

    def room(self, example: Example) -> int:
        """Count the tokens that the model could still read before an example; may be negative."""
        longest = max(example.options, key=len) + example.suffix
        read = self.model.tokenizer(example.prompt + longest)["input_ids"]
        return reach(self.model.network) - len(read)

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        return {
            name: weight.detach().clone() for name, weight in self.model.network.named_parameters()
        }

    @contextmanager
    def fresh(self) -> Iterator[LanguageModel]:
        """Yield the arm's model, whose weights are the arm's again afterwards."""
        before = self._weights
        yield self.model
        with torch.no_grad():
            for name, weight in self.model.network.named_parameters():
                weight.copy_(before[name])

    def train(
        self,
        model: LanguageModel,
        examples: Sequence[Example],
        *,
        lr: float,
        epochs: int,
        batch: int,
        tuning: Literal["full", "lora"] = "full",
    ) -> None:
        """Fine-tune a model in place on true labels; every arm takes the same steps."""
        stage = Stage(examples=len(examples), epochs=epochs, lr=lr, batch=batch)
        lora = self.trial.lora if self.trial.tuning == "lora" else Lora()
        fine_tune(
            model,
            [Term(lambda epoch: labels.true(examples), name=self.audit.name)],
            stage,
            stage=self.audit.name,
            seed=self.trial.training_seed,
            bf16=self.bf16,
            lora=lora if tuning == "lora" else None,
            observe=self.observe,
        )

    def plain(self, dose: str = PLAIN) -> list[Row]:
        """Return Rows of the test questions, asked of the model as it is."""
        test = self.test
        if len(test) not in self.said:
            self.said[len(test)] = self.read(self.model, test, None)
        return self.rows(self.said[len(test)], test, dose)

    def score(
        self,
        examples: Sequence[Example],
        dose: str = PLAIN,
        split: str = "test",
        normalise: Literal["none", "tokens", "bytes"] | None = None,
    ) -> list[Row]:
        """Score examples of the trial's own task; return Rows of this arm and dose."""
        return self.rows(self.read(self.model, examples, None, normalise), examples, dose, split)

    def read(
        self,
        model: LanguageModel,
        examples: Sequence[Example],
        states: Sequence[Position] | None = (),
        normalise: Literal["none", "tokens", "bytes"] | None = None,
    ) -> Scores:
        """Score examples by the model of some arm; by default, read its hidden states as well.

        Args:
            model: what is scored.
            examples: of any task.
            states: positions of options at which states are read, beside the prompts' last token;
                None for no states.
            normalise: as the trial does, by default.
        """
        return score(
            model,
            examples,
            normalise=normalise or self.trial.normalise,
            bf16=self.bf16,
            states=states,
            stage=f"{self.audit.name} {self.arm}",
            observe=self.observe,
        )

    def rows(
        self,
        scores: Scores,
        examples: Sequence[Example],
        dose: str = PLAIN,
        split: str = "test",
        task: str = "",
    ) -> list[Row]:
        """Return scores as Rows of this arm and dose; by default of the trial's own task."""
        place = {"phase": self.arm, "task": task or self.trial.task, "split": split}
        rows = scores.rows(examples, trial="", **place)
        return [replace(row, audit=self.audit.label, dose=dose) for row in rows]
