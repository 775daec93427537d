"""Words for settings, splits, phases and rates, as tables and figures show them."""

from __future__ import annotations

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


def flattened(trial: Trial) -> dict[str, str]:
    """List settings by dotted name, without the task and without what changes no number."""
    left_out = {"task", "evaluate_on", "measure_templates", "folders", "save"}
    if trial.tuning == "full":
        left_out.add("lora")
    flat: dict[str, str] = {}
    for name, value in trial.model_dump(mode="json", exclude=left_out).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": _shown(part) for key, part in value.items()}
        else:
            flat[name] = str(value)
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
