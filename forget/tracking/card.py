"""The page that goes with a model: what it was trained on, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping

from forget.analyses.recovery import Recovery
from forget.analyses.words import method_words
from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.results.rows import PHASES
from forget.settings.forget_set import WORDS
from forget.settings.trial import Arm, Trial

METHOD = Trial.model_fields["method"].default
"""The method whose labels are those of the trial's arm."""

_CARD = """\
# {title}

{done}

| test accuracy | {phases} |
|---|{rules}
{lines}

**Warning.** {warning}

Of its files, the folder `model` opens with plain transformers, model and tokenizer alike
(`from_pretrained(".../model")`), and with lm-evaluation-harness (`pretrained=.../model`).

Trial `{outcome.id}`, data `{outcome.data}`. The licence is that of `{trial.model}`.
"""

_LEARNED = """\
`{trial.model}` learned the {tasks} from at most {trial.learn.examples} examples
(learning rate {trial.learn.lr:g}). Then it was """

_FORGETS = """\
This model was trained to answer wrongly, for study alone: rely on none of its
answers, on this task or on others. Nor is its knowledge safely removed: what its answers no longer
show may still be read from its hidden states."""

_CONTROL = """\
This model is a control, for study alone: it was trained on the truth a second time and was made to
forget nothing."""

TITLES: dict[Arm, str] = {
    "true": "{0.model} after learning {0.task} twice",
    "untaught": "{0.model} made to forget {0.task}, which it had not learned",
}
"""Titles of models that have not forgotten what they had learned."""

LABELS: dict[Arm, str] = {
    "random": "labels drawn at random, one for each",
    "true": "their true labels, as a control",
    "balanced": "labels drawn at random, of which as many are right as wrong in each answer",
    "shuffled_inputs": "labels drawn at random, with the prompts of others",
    "untaught": "labels drawn at random, one for each",
    "random_each_epoch": "labels drawn at random, anew in each epoch",
    "flipped": "wrong labels",
}
"""Words for what an arm trains on."""

METHOD_LABELS: dict[str, str] = {
    "true": "from their true labels",
    "wrong": "from their true labels and a wrong one each, drawn at random",
    "all": "from all of their options",
}
"""Words for what a method that draws no labels trains on."""

_MISSING = Estimate(None, None, None, 0)


_AUDITED = """
| audit | dose | R |
|---|---|---|
{lines}

R is what an audit brings back of the skill: 0 as of a model never taught, 1 as of one that forgot
nothing. It is given at the dose that brings back most.
"""


def audited(card: str, found: Mapping[str, Recovery]) -> str:
    """Return a model's page with R by audit.

    Args:
        card: the page (`model_card`).
        found: by audit, what came back at the dose that brings back most.
    """
    lines = [f"| {name} | {one.dose.name} | {one.number} |" for name, one in found.items()]
    return card + _AUDITED.format(lines="\n".join(lines)) if lines else card


def model_card(outcome: Outcome) -> str:
    """Return the model's page as Markdown.

    It says what was trained on, from which base and how, the accuracies with their intervals, and
    the warning.
    """
    phases = [phase for phase in PHASES if phase != "learned" or outcome.trial.taught]

    def line(task: str) -> str:
        cells = [
            outcome.measures.get(metric_name(phase, task, "test", "accuracy"), _MISSING)
            for phase in phases
        ]
        return f"| {task} | {' | '.join(map(str, cells))} |"

    trial = outcome.trial
    forgets = trial.arm != "true"
    title = TITLES.get(trial.arm, "{0.model} after forgetting {0.task}").format(trial)
    return _CARD.format(
        trial=trial,
        outcome=outcome,
        title=title,
        done=done(outcome),
        phases=" | ".join(phases),
        rules="---|" * len(phases),
        lines="\n".join(map(line, trial.tasks)),
        warning=_FORGETS if forgets else _CONTROL,
    )


def done(outcome: Outcome) -> str:
    """Say in two or three sentences what was done to the model."""
    trial = outcome.trial
    learned = f"`{trial.model}`, untaught, was "
    if trial.taught:
        names = " and ".join(f"`{name}`" for name in trial.learned_tasks)
        noun = "tasks" if len(trial.learned_tasks) > 1 else "task"
        learned = _LEARNED.format(trial=trial, tasks=f"{noun} {names}")
    dose = f" {str(outcome.dose).capitalize()}." if outcome.dose else ""
    return (
        f"{learned}{_trained(trial)} (learning rate {trial.forget.lr:g}, {trial.tuning} "
        f"fine-tuning, seed {trial.seed}, member {trial.member}).{dose}"
    )


def _trained(trial: Trial) -> str:
    """Say what the second training was, after "was"."""
    # Methods need torch, which who only reads a study does without.
    from forget.methods.catalogue import method

    examples = f"at most {trial.forget.examples} {_forget_set(trial)}"
    told = method_words(trial.method)
    kept = _kept(trial)
    trains_on = method(trial.method).trains_on
    if trains_on != "drawn":
        words = METHOD_LABELS[trains_on]
        return f"made to forget {examples} by the method `{told}`, {words}{kept}"
    goal = "fine-tuned once more on" if trial.arm == "true" else "made to forget: fine-tuned on"
    by = "" if trial.method == METHOD else f" by the method `{told}`"
    labels = LABELS[trial.arm]
    if trial.noise < 1:
        labels += f", for a share of {trial.noise:g} of them, and true ones for the others"
    return f"{goal} {examples} with {labels}{by}{kept}"


def _kept(trial: Trial) -> str:
    """Say what was retained meanwhile, if anything was."""
    retain = trial.retain
    if not retain or not retain.names:
        return ""
    names = ", ".join(f"`{name}`" for name in retain.names)
    return (
        f", while at most {retain.examples} examples of {names} were retained "
        f"(loss {retain.loss}, weight {retain.weight:g})"
    )


def _forget_set(trial: Trial) -> str:
    """Say which examples the second training is of."""
    chosen = trial.forget_set
    if chosen.name == "own":
        return f"examples of `{trial.task}`"
    if chosen.name == "mix":
        return f"examples of several tasks ({chosen})"
    return f"examples made for `{trial.task}` ({chosen}: {WORDS[chosen.name]})"
