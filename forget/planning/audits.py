"""The cost of a sweep's audits, before it is spent."""

from __future__ import annotations

from forget.audits.arms import arms
from forget.audits.audit import Audit
from forget.audits.catalogue import chosen
from forget.audits.run import file
from forget.models.devices import throughput
from forget.planning.amounts import duration
from forget.planning.cost import cost, tokens
from forget.planning.plan import EFFICIENCY, TRIAL_SECONDS
from forget.preflight import Expansion
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store


def rows(expansion: Expansion, store: Store) -> list[tuple[str, str]]:
    """Return a line for each audit of a sweep: how many arms it looks at, and how long it takes.

    Arms that trials share count once. A forget stage that is repeated for the audits counts with
    the first of them.

    Raises:
        BadInput: an unknown audit, or a setting of another one.
    """
    sweep = expansion.sweep
    trials = [
        (trial, identity.trial) for identity, trial in expansion.distinct.items() if trial.audited
    ]
    found = []
    repeats = True
    for audit in chosen(sweep.audits):
        seconds, looked_at = 0.0, set[tuple[str, str]]()
        todo = 0
        for trial, id in trials:
            known = arms(trial, store, sweep.never, sweep.more_arms)
            if file(audit, known) in Trials(store).audits(id):
                continue
            todo += 1
            # The untouched model is audited on each task.
            new = {(trial.task, arm.weights) for arm in known.values()} - looked_at
            looked_at |= new
            seconds += len(new) * (_seconds(audit, trial) + TRIAL_SECONDS)
            seconds += repeats * _flops_of_repeat(trial) / _speed(trial)
        repeats = repeats and not todo
        told = f"{todo} trials to audit, {len(trials) - todo} done"
        if todo:
            told += f"; {len(looked_at)} arms, about {duration(seconds)} one after another"
        found.append((f"audit {audit.label}", told))
    return found


def _seconds(audit: Audit, trial: Trial) -> float:
    """Estimate the seconds that an arm takes."""
    one = cost(trial)
    trained, scored = tokens(trial)
    examples = min(audit.examples, trial.evaluation_examples)
    flops = 2 * one.parameters * scored * audit.passes(trial) * examples
    flops += 6 * one.parameters * trained * audit.trained(trial)
    return flops / _speed(trial)


def _flops_of_repeat(trial: Trial) -> float:
    one = cost(trial)
    return 6.0 * one.parameters * one.forget


def _speed(trial: Trial) -> float:
    bf16 = cost(trial).bf16
    return EFFICIENCY[bf16] * throughput(bf16)
