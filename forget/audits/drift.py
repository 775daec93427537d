"""Drift: how far did the hidden states move, and where to (after 2505.16831)?

States of the prompt's last token are compared layer by layer with the learned model's, of the same
items. Those of the arm that was never taught are as far off as the skill is, and are the control.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import torch

from forget.audits.audit import Audit, Auditing
from forget.audits.lens import spaced
from forget.evaluation.alignment import by_item
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial


class Drift(Audit):
    """Compare states by layer with those of the learned arm and of the one never taught."""

    asks: ClassVar[str] = "how far did the states move, and where to"
    cost: ClassVar[str] = "three passes for each task"

    name: Literal["drift"] = "drift"
    layers: Count = 6
    """Layers read, evenly spaced, the last among them; all where the model has no more."""
    tasks: Count = 2
    """Tasks whose test items are read: the trial's own, and others that it is measured on."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ("learned", "never")

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows as the arm is, and again with a number of each item by layer.

        The numbers are the item's parts in the CKA with both arms, its distance from the learned
        arm's state over that state's norm, and the cosine with it.
        """
        tasks = at.trial.tasks[: self.tasks]
        states = {arm: self._states(at, arm, tasks) for arm in self.needs}
        for task in tasks:
            examples = at.material.test[task][: self.examples]
            scores = at.read(at.model, examples)
            plain = at.rows(scores, examples, task=task)
            yield from plain
            own = scores.questions
            for layer in spaced(own.shape[1] - 1, self.layers):
                of_arms = {arm: found[task][:, layer] for arm, found in states.items()}
                for told, values in _numbers(own[:, layer], of_arms).items():
                    for row, value in zip(plain, values.tolist(), strict=True):
                        yield replace(row, dose=dose(told, layer=layer), value=value)

    def passes(self, trial: Trial) -> float:
        """Count a pass for each of three arms and each task."""
        return 3.0 * min(self.tasks, len(trial.tasks))

    def _states(self, at: Auditing, arm: str, tasks: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """Return another arm's states [items, layers + 1, width] by task; it is not kept loaded."""
        model = at.model if at.arm == arm else at.other(arm)
        found = {}
        for task in tasks:
            found[task] = at.read(model, at.material.test[task][: self.examples]).questions
        return found


def _numbers(own: torch.Tensor, of_arms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return numbers [items] by the words of their dose; CKA is left out where nothing varies.

    Args:
        own: states [items, width] of a layer.
        of_arms: those of the learned arm and of the one never taught.

    Raises:
        FloatingPointError: a state is not finite.
    """
    found = {}
    for arm, states in of_arms.items():
        if not (own.isfinite().all() and states.isfinite().all()):
            raise FloatingPointError("a hidden state is not finite")
        parts = by_item(own, states)
        if parts is not None:
            found[f"cka {arm}"] = parts
    learned = of_arms["learned"]
    norms = learned.norm(dim=1).clamp(min=1e-30)
    found["distance"] = (own - learned).norm(dim=1) / norms
    found["cosine"] = torch.cosine_similarity(own.double(), learned.double(), dim=1)
    return found
