"""Probes: can the answer still be read off the states, by one that learned it or that looks anew?

A probe learns the task itself from its examples, so an arm that was never taught is read alike, and
R is taken between the two. Probes are fit on examples that no stage trained on (cf. 2505.02884).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch

from forget.audits.audit import Audit, Auditing, Several
from forget.audits.lens import spaced
from forget.errors import BadInput
from forget.evaluation import probing
from forget.evaluation.probing import ASKED_ALONE, Questions
from forget.evaluation.variants import network_margins, online_code, preferences
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.parts import Count
from forget.settings.trial import Trial
from forget.tasks.task import Example

log = logging.getLogger(__name__)

Kind = Literal["held_out", "frozen", "mlp", "mdl"]

FEWEST = 20
"""Held-out questions without which no probe is fit."""

CHOSEN_BY = 100
"""Held-out questions by which a layer is chosen, at most, and at most a third of them."""


class Probes(Audit):
    """Fit probes of several kinds on held-out questions, and ask them others."""

    asks: ClassVar[str] = "can it be read off the states"
    cost: ClassVar[str] = "about six passes, and the fits"

    name: Literal["probes"] = "probes"
    kinds: Annotated[tuple[Kind, ...], Several] = ("held_out", "frozen", "mlp", "mdl")
    """held_out: a linear probe of the arm's own states; frozen: one that was fit on the learned
    arm's states and reads this arm's, and the other way round; mlp: a network of one hidden layer;
    mdl: the bits that the labels cost, coded by the states.
    """
    layers: Count = 6
    """Layers probed, evenly spaced, the last among them; all where the model has no more."""
    fit_on: Count = 300
    """Held-out questions that probes are fit on, at most."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that it takes beside the one it audits."""
        return ("learned",)

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows as the arm is, and of what each probe prefers, by layer.

        Each arm is also read at the layer that is best for it on validation questions. The number
        noted with codes is what the labels of a question cost, in bits.
        """
        held = at.held_out[: self.fit_on + CHOSEN_BY]
        chosen_by = held[-min(CHOSEN_BY, len(held) // 3) :]
        fit_on = held[: len(held) - len(chosen_by)]
        if len(fit_on) < FEWEST:
            raise BadInput(
                f'probes: {len(held)} questions of "{at.trial.task}" are held out, which are too '
                f"few to fit on {FEWEST} and to choose a layer by the others"
            )
        material = _Material(at, (*at.test, *chosen_by), fit_on)
        yield from material.plain
        layers = spaced(material.own.shape[1] - 1, self.layers)
        for kind, questions, labels in self._fits(at, material, layers):
            by_layer = _margins(kind, questions, labels, at.trial.seed)
            for layer, margins in zip(layers, by_layer, strict=True):
                if margins is None:
                    log.warning("probes: %s of layer %d has not converged", kind, layer)
                    continue
                rows = material.rows(margins)
                for row in rows[: len(at.test)]:
                    yield replace(row, dose=dose(kind, layer=layer))
                for row in rows:
                    yield replace(row, dose=dose(f"best {kind}", block=layer))
        if "mdl" in self.kinds:
            yield from material.codes(layers, at.trial.seed)

    def passes(self, trial: Trial) -> float:
        """Count a pass of two models over what is asked and over what is fit on."""
        return 2 * (1 + (self.fit_on + CHOSEN_BY) / self.examples)

    def _fits(
        self, at: Auditing, material: _Material, layers: Sequence[int]
    ) -> Iterator[tuple[str, Questions, np.ndarray]]:
        """Yield the words, the questions and the labels of each kind of fit but codes."""
        own, learned = material.own[:, layers], material.learned[:, layers]
        alike = material.questions(own, own)
        dealt = alike.dealt(at.trial.training_seed, by_fold=True)
        if "held_out" in self.kinds:
            yield "held_out", alike, alike.right
            yield "held_out random", alike, dealt
        if "frozen" in self.kinds:
            yield "frozen", material.questions(own, learned), alike.right
            yield "frozen back", material.questions(learned, own), alike.right
        if "mlp" in self.kinds:
            yield "mlp", alike, alike.right
            yield "mlp random", alike, dealt


class _Material:
    """States of the arm and of the learned one, of questions asked and of others to fit on."""

    def __init__(
        self, at: Auditing, asked: tuple[Example, ...], fit_on: tuple[Example, ...]
    ) -> None:
        self.examples = (*asked, *fit_on)
        self.asked, self.tested = len(asked), len(at.test)
        self.options = [len(example.options) for example in self.examples]
        position = at.trial.probe.positions[0]
        scores = at.read(at.model, self.examples, (position,))
        self.own = scores.answers[position]
        """[options of all examples, layers + 1, width]"""
        self.learned = self.own
        if at.arm != "learned":
            other = at.read(at.other("learned"), self.examples, (position,))
            self.learned = other.answers[position]
        every = at.rows(scores, self.examples)
        self.plain = every[: self.tested]
        chosen = [replace(row, split="validation") for row in every[self.tested : self.asked]]
        self._asked = [*self.plain, *chosen]
        groups = [example.group for example in fit_on]
        truths = [example.options[example.answer] for example in fit_on]
        dealt = probing.folds(groups, truths, at.trial.seed)
        self._folds = np.concatenate([np.full(len(asked), ASKED_ALONE), dealt])

    def questions(self, asked: torch.Tensor, fit_on: torch.Tensor) -> Questions:
        """Return all questions, with the states of one arm where they are asked.

        Args:
            asked: [options of all examples, layers, width], taken of questions asked.
            fit_on: likewise, taken of the others.
        """
        pairs = sum(self.options[: self.asked])
        states = torch.cat([asked[:pairs], fit_on[pairs:]])
        answers = [example.answer for example in self.examples]
        return probing.pairs(states, answers, self.options, self._folds)

    def rows(self, margins: np.ndarray) -> list[Row]:
        """Return Rows of the questions asked, whose options share as their margins [pairs] say."""
        shares = preferences(margins, self.options[: self.asked])
        return [_said(row, said) for row, said in zip(self._asked, shares, strict=True)]

    def codes(self, layers: Sequence[int], seed: int) -> Iterator[Row]:
        """Yield Rows of the codes of test questions, by layer."""
        options = self.options[: self.tested]
        answers = [example.answer for example in self.examples[: self.tested]]
        for layer in layers:
            states = self.own[: sum(options), layer]
            test = probing.pairs(states[:, None], answers, options, self._folds[: self.tested])
            found = online_code(states, test.right, test.starts, seed)
            if found is None:
                log.warning("probes: mdl of layer %d has not converged", layer)
                continue
            margins, bits = found
            shares = preferences(margins, options)
            costs = np.add.reduceat(bits, test.starts).tolist()
            for row, said, cost in zip(self.plain, shares, costs, strict=True):
                yield replace(_said(row, said), dose=dose("mdl", layer=layer), value=cost)


def _margins(
    kind: str, questions: Questions, labels: np.ndarray, seed: int
) -> list[np.ndarray | None]:
    """Return the margins [pairs asked] of each layer's probe; None where it has not converged.

    Args:
        kind: words of the dose.
        questions: what is asked, and what is fit on.
        labels: [pairs] to fit on.
        seed: seed of a network's first weights.
    """
    if kind.startswith("mlp"):
        layers = range(questions.states.shape[1])
        return [network_margins(questions, layer, labels, seed) for layer in layers]
    (by_layer,) = probing.probe_labelings(questions, [labels])
    return [probed.margins if probed else None for probed in by_layer]


def _said(row: Row, shares: tuple[float, ...]) -> Row:
    """Return a Row in which the options have the logarithms of shares given."""
    ones = (1,) * len(shares)
    return replace(row, logprobs=shares, lengths=ones, weights=(1.0,) * len(shares))
