"""Identity of settings and data: what each field of a trial changes, said once.

An identity is a digest of the protocol, the data and those settings that differ from their
defaults. So a new field whose default is what trials did before leaves every identity as it was,
and a changed default, like any change of what a trial computes, needs another `PROTOCOL`.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from forget.settings.trial import Trial

PROTOCOL = 7
"""Version of what a trial does. Raised when a change of the code or of a default changes a trial's
numbers, so that they are computed anew.
"""

Part = Literal["learning", "forgetting", "scoring", "measuring"]
"""Part of a trial: the learned weights and what is watched on the way to them; the forgotten ones;
what a model says of an example; which examples and hidden states a phase looks at.
"""

CHANGES: dict[str, tuple[Part, ...]] = {
    "task": ("learning", "measuring"),
    "model": ("learning",),
    "method": ("forgetting",),
    "arm": ("forgetting",),
    "forget_set": ("forgetting",),
    "noise": ("forgetting",),
    "learn": ("learning",),
    "forget": ("forgetting",),
    "tuning": ("learning",),
    "lora": ("learning",),
    "precision": ("learning",),
    "evaluate_on": ("measuring",),
    "evaluation_examples": ("measuring",),
    "options": ("learning", "scoring"),
    "normalise": ("learning", "scoring"),
    "template": ("learning", "scoring"),
    "measure_templates": ("measuring",),
    "probe": ("measuring",),
    "watch": ("learning",),
    "seed": ("learning", "measuring"),
    "member": ("learning", "measuring"),
    "folders": (),
    "save": (),
}
"""By field of `Trial`, the parts that it changes by itself; what comes later in a trial follows.

`folders` changes none: the fingerprint of the data tells what lies in them, as it does of a model's
folder, and as it does of the tasks that a mixture learns beside its own. What bears on how a
model is watched while it learns (`watch`, `normalise`) counts as learning, for those Rows are kept
with the learned checkpoint.
"""


def digest(value: object) -> str:
    """Return 16 hex digits over the JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def settings_of(trial: Trial, *parts: Part) -> dict[str, Any]:
    """Return the fields that change one of the parts and differ from their defaults, for JSON.

    Raises:
        KeyError: a field of the trial is missing in `CHANGES`.
    """
    names = {name for name in type(trial).model_fields if set(CHANGES[name]) & set(parts)}
    if trial.tuning == "full":
        names.discard("lora")
    if not trial.taught:
        names.discard("learn")
    fields = trial.model_dump(mode="json", include=names, exclude_defaults=True)
    if os.path.isabs(fields.get("model", "")):
        # Of a folder, as of `folders`, the fingerprint tells what lies in it, wherever it is.
        del fields["model"]
    return fields


def trial_id(trial: Trial, data: str) -> str:
    """Return the identity of a trial's answer.

    Args:
        data: the fingerprint of its model and all its tasks.
    """
    settings = settings_of(trial, "learning", "forgetting", "scoring", "measuring")
    return digest([PROTOCOL, data, settings])


def learned_id(trial: Trial, data: str) -> str:
    """Return the identity of a learned checkpoint, which trials share; "" of one that learns none.

    Args:
        data: the fingerprint of the trial's model and its own task.
    """
    if not trial.taught:
        return ""
    return digest([PROTOCOL, data, settings_of(trial, "learning")])
