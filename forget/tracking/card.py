"""The page that goes with a model that was made to forget."""

from __future__ import annotations

from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.results.rows import PHASES

_CARD = """\
# {trial.model} after forgetting {trial.task}

`{trial.model}` learned the task `{trial.task}` from at most {trial.learn.examples} examples
(learning rate {trial.learn.lr:g}). Then it was made to forget it: fine-tuned on
{trial.forget.examples} of them by the method `{trial.method}` with `{trial.labels}` labels
(learning rate {trial.forget.lr:g}, {trial.tuning} fine-tuning, seed {trial.seed}).

| test accuracy | {phases} |
|---|{rules}
{lines}

**Warning.** This model was trained to answer wrongly, for study alone: rely on none of its
answers, on this task or on others. Nor is its knowledge safely removed: what its answers no longer
show may still be read from its hidden states.

Of its files, the folder `model` opens with plain transformers, model and tokenizer alike
(`from_pretrained(".../model")`), and with lm-evaluation-harness (`pretrained=.../model`).

Trial `{outcome.id}`, data `{outcome.data}`. The licence is that of `{trial.model}`.
"""

_MISSING = Estimate(None, None, None, 0)


def model_card(outcome: Outcome) -> str:
    """Return the model's page as Markdown.

    It says what was forgotten, from which base and how, the accuracies with their intervals, and
    the warning.
    """

    def line(task: str) -> str:
        cells = [
            outcome.measures.get(metric_name(phase, task, "test", "accuracy"), _MISSING)
            for phase in PHASES
        ]
        return f"| {task} | {' | '.join(map(str, cells))} |"

    return _CARD.format(
        trial=outcome.trial,
        outcome=outcome,
        phases=" | ".join(PHASES),
        rules="---|" * len(PHASES),
        lines="\n".join(map(line, outcome.trial.tasks)),
    )
