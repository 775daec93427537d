"""The parts of a trial by themselves, for a notebook or a script: `import forget` offers them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forget.errors import BadInput
from forget.evaluation import probes, scoring
from forget.models.catalogue import in_bf16
from forget.models.language_model import LanguageModel
from forget.results.outcome import ProbeScore
from forget.results.rows import Row
from forget.settings.parts import Forgetting, Probe, Stage
from forget.settings.trial import Arm, Trial
from forget.tasks import labels as drawing
from forget.tasks.task import Example
from forget.training import loop
from forget.training.terms import Term


def score(
    model: LanguageModel, examples: Sequence[Example], *, task: str = "", split: str = "test"
) -> list[Row]:
    """Score every option of every example, and return a Row for each.

    Args:
        model: from `load_model` or `load_forgotten`.
        examples: from `load_task`.
        task: noted in the Rows.
        split: noted in the Rows.

    Raises:
        BadInput: an example that the model cannot read.
    """
    scores = scoring.score(model, examples, bf16=in_bf16("auto"))
    return scores.rows(examples, trial="", phase="loaded", task=task, split=split)


def fine_tune(
    model: LanguageModel,
    examples: Sequence[Example],
    stage: Stage,
    *,
    arm: Arm = "true",
    seed: int = 0,
) -> None:
    """Train a model in place: on true labels it learns, on others it forgets.

    Args:
        model: from `load_model` or `load_forgotten`.
        examples: from `load_task`.
        stage: epochs, batch, rate and schedule.
        arm: what is trained on: "true" labels, or drawn ones (`Trial.arm`).
        seed: decides the order of the examples and the labels that are drawn.

    Raises:
        BadInput: an example that the model cannot read.
        FloatingPointError: the loss is no longer finite.
    """
    if isinstance(stage, Forgetting) and stage.until:
        raise BadInput("until is for a trial: a stage by itself takes all its steps")
    if arm == "shuffled_inputs":
        examples = drawing.shuffle_inputs(examples, seed)

    def labelled(epoch: int) -> list[drawing.Labelled]:
        return drawing.draw(examples, arm, seed, epoch)

    name = "learn" if arm == "true" else "forget"
    terms = [Term(labelled, name=name)]
    loop.fine_tune(model, terms, stage, stage=name, seed=seed, bf16=in_bf16("auto"))


def probe(
    model: LanguageModel,
    task: str,
    examples: int = 300,
    *,
    seed: int = 0,
    folders: Sequence[str | Path] = (),
) -> tuple[ProbeScore, ...]:
    """Probe a model's hidden states, layer by layer, for what it still knows of a task.

    Args:
        model: from `load_model` or `load_forgotten`.
        task: one of `forget tasks`, or of `folders`.
        examples: questions of the test split, in five folds, each asked of a fit on the others.
        seed: decides which examples are drawn.
        folders: where your own tasks lie.

    Raises:
        BadInput: an unknown task, or one without the splits that a probe needs.
    """
    places = tuple(str(Path(folder).absolute()) for folder in folders)
    like = Trial(task=task, model=model.name, seed=seed, folders=places)
    return probes.probe_model(model, task, Probe(examples=examples), like)
