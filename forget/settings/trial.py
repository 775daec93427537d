"""Settings of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from forget.settings import identity
from forget.settings.parts import Count, Lora, Name, Names, Part, Probe, Stage, Watch
from forget.settings.tables import nested

Precision = Literal["fp32", "bf16"]
"""Number formats to compute in; the weights are fp32 in both."""

LabelKind = Literal["random", "random_each_epoch", "flipped"]
"""Ways to draw the labels of forgetting."""


class Trial(Part):
    """A model that learns a task, forgets it, and is measured; equal trials give equal Rows.

    What a field changes stands in `forget.settings.identity.CHANGES`.
    """

    task: Name
    model: Name
    method: Name = "random_labels"
    """The forget loss, a name in forget.methods.catalogue.METHODS."""
    labels: LabelKind = "random"
    """Labels in forgetting: drawn once per (seed, example), drawn anew each epoch, or the wrong
    option.
    """
    learn: Stage = Stage()
    forget: Stage = Stage()
    tuning: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast with fp32 weights; auto: bf16 where the hardware computes in it.

    What auto means is settled before the trial is identified (forget.preflight.settled).
    """
    evaluate_on: Names = ()
    """Other tasks whose test split is scored before and after; the trial's own task always is."""
    evaluation_examples: Count = 800
    """Examples scored of each split."""
    options: Literal["two", "all"] = "two"
    """two: the true option and one random distractor (the paper's binarised tasks, chance 0.5)."""
    normalise: Literal["none", "tokens", "bytes"] = "none"
    """Divisor of an option's score, which is the sum of its tokens' log-probabilities: nothing, its
    tokens or its bytes.
    """
    template: Name = "task"
    """The prompt: the task's own wording, or a name in forget.tasks.task.TEMPLATES."""
    probe: Probe = Probe()
    watch: Watch = Watch()
    seed: int = Field(0, ge=0, lt=2**63)
    folders: Names = ()
    """Folders of the user's tasks (see forget.tasks.files)."""
    save: bool = True
    """Log and register the forgotten model."""

    @model_validator(mode="before")
    @classmethod
    def _dotted(cls, fields: Any) -> Any:
        return nested(fields) if isinstance(fields, Mapping) else fields

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the trial is measured on, its own first."""
        return tuple(dict.fromkeys((self.task, *self.evaluate_on)))

    def id(self, data: str) -> str:
        """Return the identity of the trial's answer (`identity.trial_id`)."""
        return identity.trial_id(self, data)

    def learned_id(self, data: str) -> str:
        """Return the identity of the learned checkpoint (`identity.learned_id`)."""
        return identity.learned_id(self, data)
