"""Words for settings and rates, as tables and figures show them."""

from __future__ import annotations

from forget.settings.trial import Trial

LABELS = {
    "random": "random labels",
    "random_each_epoch": "random labels drawn anew each epoch",
    "flipped": "flipped labels",
}

NAMES = {"train": "trained examples", "near": "near-duplicates", "test": "held-out examples"}
"""Splits in words."""


def flattened(trial: Trial) -> dict[str, str]:
    """Settings by dotted name, without the task and what changes no number."""
    unused = {"lora"} if trial.tuning == "full" else set()
    flat: dict[str, str] = {}
    for name, value in trial.model_dump(
        mode="json", exclude={"task", "evaluate_on", "folders", "save"} | unused
    ).items():
        inner = (
            {f"{name}.{key}": part for key, part in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        flat |= {full: str(part) for full, part in inner.items()}
    return flat


def rate_name(rate: float) -> str:
    """0.00025 -> 2.5e-4."""
    mantissa, exponent = f"{rate:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
