"""Words for settings, splits, phases and rates, as tables and figures show them."""

from __future__ import annotations

from forget.settings.parts import Choice, Retain, shown_value
from forget.settings.trial import Trial

ARM_WORDS = {
    "random": "random labels",
    "true": "true labels",
    "balanced": "balanced random labels",
    "shuffled_inputs": "random labels of shuffled inputs",
    "untaught": "random labels, untaught",
    "random_each_epoch": "random labels drawn anew each epoch",
    "flipped": "flipped labels",
}

REPLICATED = ("seed", "member")
"""Settings that tell the replicates of a task apart."""

SPLIT_WORDS = {
    "train": "trained examples",
    "near": "near-duplicates",
    "similar": "similar examples",
    "unlike": "examples of other templates",
    "test": "held-out examples",
}

PHASE_WORDS = {"base": "untouched", "learned": "learned", "forgotten": "forgotten"}


def method_words(method: Choice) -> str:
    """Write a method with its parameters, e.g. "npo, beta 0.05"."""
    given = [f"{name} {shown_value(value)}" for name, value in method.parameters.items()]
    return ", ".join([method.name, *given])


def retain_words(retain: Retain | None) -> str:
    """Write what a trial retains while it forgets, e.g. "cola (at most 1000, nll, weight 1)"."""
    if not retain or not retain.names:
        return "nothing"
    names = ", ".join(retain.names)
    return f"{names} (at most {retain.examples}, {retain.loss}, weight {retain.weight:g})"


def flattened(trial: Trial) -> dict[str, str]:
    """List settings by dotted name, without the task and without what changes no number."""
    left_out = {
        "task",
        "evaluate_on",
        "measure_templates",
        "folders",
        "save",
        "method",
        "retain",
    }
    if trial.tuning == "full":
        left_out.add("lora")
    flat: dict[str, str] = {}
    for name, value in trial.model_dump(mode="json", exclude=left_out).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": _shown(part) for key, part in value.items()}
        else:
            flat[name] = str(value)
    # Each in one piece, so that trials of two methods differ in that alone.
    flat["method"] = method_words(trial.method)
    flat["retain"] = retain_words(trial.retain)
    return flat


def _shown(value: object) -> str:
    """Write a setting; of a table its keys with their values."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return str(value)


def rate_name(rate: float) -> str:
    """Write a learning rate as short as it can be: 0.00025 becomes 2.5e-4."""
    mantissa, exponent = f"{rate:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
