"""The page that goes with a model: what it was trained on, and what it must not be used for."""

from __future__ import annotations

from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.results.rows import PHASES
from forget.settings.forget_set import WORDS
from forget.settings.trial import Arm, Trial
from forget.tracking.study import METHOD

_CARD = """\
# {title}

{learned}{trained} (learning rate {trial.forget.lr:g}, {trial.tuning} fine-tuning, seed
{trial.seed}, member {trial.member}).{dose}

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

_MISSING = Estimate(None, None, None, 0)


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
    learned = f"`{trial.model}`, untaught, was "
    if trial.taught:
        names = " and ".join(f"`{name}`" for name in trial.learned_tasks)
        noun = "tasks" if len(trial.learned_tasks) > 1 else "task"
        learned = _LEARNED.format(trial=trial, tasks=f"{noun} {names}")
    return _CARD.format(
        trial=trial,
        outcome=outcome,
        title=title,
        learned=learned,
        trained=_trained(trial),
        dose=f" {str(outcome.dose).capitalize()}." if outcome.dose else "",
        phases=" | ".join(phases),
        rules="---|" * len(phases),
        lines="\n".join(map(line, trial.tasks)),
        warning=_FORGETS if forgets else _CONTROL,
    )


def _trained(trial: Trial) -> str:
    """Say what the second training was, after "was"."""
    # Methods need torch, which who only reads a study does without.
    from forget.methods.catalogue import METHODS

    examples = f"at most {trial.forget.examples} {_forget_set(trial)}"
    if METHODS[trial.method].on == "true":
        return f"made to forget {examples} by the method `{trial.method}`, from their true labels"
    goal = "fine-tuned once more on" if trial.arm == "true" else "made to forget: fine-tuned on"
    by = "" if trial.method == METHOD else f" by the method `{trial.method}`"
    labels = LABELS[trial.arm]
    if trial.noise < 1:
        labels += f", for a share of {trial.noise:g} of them, and true ones for the others"
    return f"{goal} {examples} with {labels}{by}"


def _forget_set(trial: Trial) -> str:
    """Say which examples the second training is of."""
    chosen = trial.forget_set
    if chosen.name == "own":
        return f"examples of `{trial.task}`"
    if chosen.name == "mix":
        return f"examples of several tasks ({chosen})"
    return f"examples made for `{trial.task}` ({chosen}: {WORDS[chosen.name]})"
