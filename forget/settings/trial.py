"""Settings of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from forget.settings import identity
from forget.settings.forget_set import ForgetSet
from forget.settings.parts import (
    Choice,
    Count,
    Forgetting,
    Lora,
    Name,
    Names,
    Part,
    Probe,
    Retained,
    Stage,
    Watch,
)
from forget.settings.tables import nested

Precision = Literal["fp32", "bf16"]
"""Number formats to compute in; the weights are fp32 in both."""

Arm = Literal[
    "random",
    "true",
    "balanced",
    "shuffled_inputs",
    "untaught",
    "random_each_epoch",
    "flipped",
]
"""Kinds of second training, of which "true" forgets nothing and is the control of all others.

random: labels drawn once per (seed, member, example).
true: the true labels, in the same order, steps and rate.
balanced: as random, but among examples with one true option each option is drawn equally often, so
    that of two options exactly half of the labels are right (or one more or fewer).
shuffled_inputs: as random, with the prompts permuted among the examples, each of which keeps its
    options and its label.
untaught: as random, from the untouched model, which has not learned the task first.
random_each_epoch: labels drawn anew each epoch.
flipped: a wrong option.
"""

CONTROLS: tuple[Arm, ...] = ("true", "untaught")
"""Arms that make no model that forgot what it had learned: the one forgets nothing, the other has
learned nothing. What they leave are numbers.
"""


class Trial(Part):
    """A model that learns a task, forgets it, and is measured; equal trials give equal Rows.

    What a field changes stands in `forget.settings.identity.CHANGES`.
    """

    task: Name
    model: Name
    method: Choice = Choice(name="random_labels")
    """The way to forget, one of `forget methods`, and its parameters; random_labels is the
    cross-entropy of the labels that `arm` gives.
    """
    retain: Retained = None
    """Examples of other tasks that are kept meanwhile."""
    arm: Arm = "random"
    """The kind of second training: it says what forgetting trains on, and from where it starts."""
    forget_set: ForgetSet = ForgetSet()
    """The examples that forgetting trains on; by default the task's own. The labels are drawn as
    `arm` says.
    """
    noise: float = Field(1.0, gt=0, le=1)
    """Share of the examples that forgetting trains on whose label is drawn; the others keep the
    true one. All with the arm "true" is what 0 would be.
    """
    learn: Stage = Stage()
    forget: Forgetting = Forgetting()
    tuning: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast with fp32 weights; auto: bf16 where the hardware is faster in it.

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
    measure_templates: Names = ()
    """Templates in which the trial's own items are asked as well in each phase, in no order; its
    own template is none of them.
    """
    probe: Probe = Probe()
    watch: Watch = Watch()
    seed: int = Field(0, ge=0, lt=2**63)
    """Decides the data: which examples, distractors and order of options; and, with `member`, the
    training.
    """
    member: int = Field(0, ge=0, lt=2**63)
    """Number of a training among those of one seed, which score the same items: it decides the
    order of batches, drawn labels, dropout, the adapters' first weights and the probes' control.
    """
    folders: Names = ()
    """Folders of the user's tasks (see forget.tasks.files)."""
    save: bool = True
    """Log and register the forgotten model; that of a control (CONTROLS) is not kept."""

    @model_validator(mode="before")
    @classmethod
    def _dotted(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        if "labels" in fields:
            raise ValueError(
                "labels is no setting any more: write arm in its place, which says what forgetting "
                "trains on"
            )
        tree = nested(fields)
        if "measure_templates" in tree:
            tree["measure_templates"] = _besides(
                tree["measure_templates"], tree.get("template", "task")
            )
        return tree

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that are measured: the trial's own, what is mixed with it, others, and retained."""
        return tuple(dict.fromkeys((*self.learned_tasks, *self.evaluate_on, *self.retained)))

    @property
    def retained(self) -> tuple[str, ...]:
        """Tasks whose train examples are kept while the trial forgets."""
        return self.retain.tasks if self.retain else ()

    @property
    def learned_tasks(self) -> tuple[str, ...]:
        """Tasks that the learn stage teaches: the trial's own, and what is mixed with it."""
        return tuple(dict.fromkeys((self.task, *self.forget_set.names)))

    @property
    def read_tasks(self) -> tuple[str, ...]:
        """Tasks whose data the trial reads: those measured on, and one of which it takes texts."""
        return tuple(dict.fromkeys((*self.tasks, *filter(None, [self.forget_set.task]))))

    @property
    def taught(self) -> bool:
        """True where the trial learns its task first, so that there is a learned model."""
        return self.arm != "untaught"

    @property
    def twin(self) -> Trial | None:
        """The trial whose steps this one takes, as many and no more; None where it has its own.

        True labels lose nothing, so with a dose to reach they would go on to the last step. They
        control the stage that random labels end, and end with it.
        """
        if self.arm != "true" or self.forget.until is None:
            return None
        return self.model_copy(update={"arm": "random"})

    @property
    def forgets(self) -> bool:
        """True where the model forgets what it had learned: in every arm but controls."""
        return self.arm not in CONTROLS

    @property
    def audited(self) -> bool:
        """True where something is forgotten that may come back, if only from pretraining."""
        return self.arm != "true"

    @property
    def keeps(self) -> bool:
        """True where the forgotten model is kept."""
        return self.save and self.forgets

    @property
    def training_seed(self) -> int:
        """Seed of every draw in training: `seed` itself for member 0."""
        if not self.member:
            return self.seed
        return int(identity.digest([self.seed, self.member])[:15], 16)

    def id(self, data: str) -> str:
        """Return the identity of the trial's answer (`identity.trial_id`)."""
        return identity.trial_id(self, data)

    def learned_id(self, data: str) -> str:
        """Return the identity of the learned checkpoint (`identity.learned_id`)."""
        return identity.learned_id(self, data)


def _besides(names: Any, own: Any) -> Any:
    """Leave the trial's own template out of those that are measured, and order and doubles too."""
    named = [names] if isinstance(names, str) else names
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        return names
    return tuple(sorted({*named} - {own}))


def _with_arm(fields: Any) -> Any:
    if not isinstance(fields, Mapping) or "labels" not in fields:
        return fields
    rest = {name: value for name, value in fields.items() if name != "labels"}
    return {**rest, "arm": fields["labels"]}


RecordedTrial = Annotated[Trial, BeforeValidator(_with_arm)]
"""A trial as a store has it: one that is older than `Trial.arm` has `labels` in its place."""
