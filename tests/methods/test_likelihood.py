"""Losses of the answers' likelihood: labels, precision and the way they go."""

import torch

from forget.methods.catalogue import METHODS
from forget.methods.likelihood import GradientAscent, RandomLabels
from forget.methods.objective import Said
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.tasks.task import Example
from forget.training.stages import labelled

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
TARGETS = torch.tensor([0, 2])

TRIAL = Trial(task="arc_easy", model="tiny")
EXAMPLES = [Example(str(i), "?", (" yes", " no"), answer=i % 2) for i in range(64)]


def said(logits: torch.Tensor) -> Said:
    """Return what two answers of one token each say."""
    each = torch.arange(2)
    return Said(logits=logits, targets=TARGETS, option=each, example=each, truth=each)


def test_cross_entropy_is_minus_the_log_probability_of_each_target() -> None:
    logprobs = LOGITS.log_softmax(-1)
    expected = -logprobs[torch.arange(2), TARGETS]
    torch.testing.assert_close(RandomLabels().loss(said(LOGITS)), expected)
    assert torch.equal(GradientAscent().loss(said(LOGITS)), -RandomLabels().loss(said(LOGITS)))


def test_a_step_of_ascent_makes_the_truth_less_likely() -> None:
    logits = LOGITS.clone().requires_grad_(True)
    GradientAscent().loss(said(logits)).sum().backward()
    assert logits.grad is not None
    after = logits.detach() - 0.1 * logits.grad
    assert (said(after).nll > said(LOGITS).nll).all()


def test_losses_of_half_precision_are_taken_in_single() -> None:
    assert RandomLabels().loss(said(LOGITS.bfloat16())).dtype == torch.float32
    assert said(LOGITS.bfloat16()).logprobs.dtype == torch.float32


def test_a_method_trains_on_the_labels_that_it_says() -> None:
    truth = [example.answer for example in EXAMPLES]
    for name, kind in METHODS.items():
        method = kind()
        found = [item.label for item in labelled(method, EXAMPLES, TRIAL)(0)]
        assert (found == truth) == (method.trains_on in ("true", "all")), name
        if method.trains_on == "wrong":
            assert all(label != answer for label, answer in zip(found, truth, strict=True))


def test_labels_change_with_the_epoch_where_they_are_drawn_anew() -> None:
    method = METHODS["random_labels"]()
    once = labelled(method, EXAMPLES, TRIAL)
    anew = labelled(method, EXAMPLES, overlay(TRIAL, {"arm": "random_each_epoch"}))
    assert once(0) == once(1) == anew(0)
    assert anew(0) != anew(1)
