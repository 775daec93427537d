"""Losses against numbers that were computed apart from them, in fp64, from the formulas alone."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from forget.methods.discriminating import Discrim, Sigmas
from forget.methods.distributions import Dual, Instead, Pdu, Undial, flatness
from forget.methods.likelihood import CrossEntropy, GradientAscent, SatImp, Unlikelihood, Wga
from forget.methods.objective import Objective, Reference, Said
from forget.methods.options import DfMcq, Uniform
from forget.methods.preference import Dpo, Npo, SimNpo
from forget.methods.representations import misdirection
from forget.methods.retaining import RetainCrossEntropy, RetainJs, RetainKl
from forget.methods.selecting import collapsed
from forget.training.meta import weight_slopes

Z = torch.tensor(
    [[1, 2, 0, -1, 0.5], [0, 0.5, -0.5, 1.5, 0], [2, 0, 1, 0, -1]], dtype=torch.float64
)
Z_REF = torch.tensor([[0, 3, 0, -1, 0], [0, 0, 0, 2, 0], [3, 0, 0, 0, 0]], dtype=torch.float64)
TARGETS = torch.tensor([1, 3, 0])
OPTION = torch.tensor([0, 0, 1])
"""Two answers, of which the first has two tokens."""

close = partial(torch.testing.assert_close, rtol=0, atol=5e-6)


def said(z: torch.Tensor = Z, reference: torch.Tensor = Z_REF) -> Said:
    """Return the two answers as a model and a reference say them."""
    answers = torch.arange(2)
    fields = {"targets": TARGETS, "option": OPTION, "example": answers, "truth": answers}
    other = Said(logits=reference, **fields)
    return Said(logits=z, reference=Reference(sums=other.sums, logits=reference), **fields)


def of(objective: Objective, z: torch.Tensor = Z, reference: torch.Tensor = Z_REF) -> torch.Tensor:
    return objective.loss(said(z, reference)).mean()


def slope(
    objective: Objective, z: torch.Tensor = Z, reference: torch.Tensor = Z_REF
) -> torch.Tensor:
    z = z.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(of(objective, z, reference), z)
    return found


class Flat(Objective):
    def loss(self, said: Said) -> torch.Tensor:
        return flatness(said.logits)


LOSSES: dict[str, tuple[Objective, float, float, float]] = {
    "cross-entropy": (CrossEntropy(), 0.588581, 0.295801, -0.145660),
    "gradient_ascent": (GradientAscent(), -0.588581, 0.295801, 0.145660),
    "npo 0.1": (Npo(beta=0.1), 13.371527, 0.431200, 0.211344),
    "npo 1": (Npo(beta=1), 0.955215, 0.323628, 0.149453),
    "simnpo 4.5": (SimNpo(beta=4.5), 0.033299, 0.046555, 0.012590),
    "simnpo 2.5": (SimNpo(beta=2.5, delta=1), 1.092501, 0.454363, 0.157446),
    "wga": (Wga(), -0.325355, 0.163623, 0.082009),
    "satimp": (SatImp(), -0.013771, 0.007058, 0.003601),
    "unlikelihood": (Unlikelihood(), 0.814833, 0.371539, 0.187674),
    "undial": (Undial(beta=10), 2.309519, 0.365647, 0.187584),
    "pdu": (Flat(), 2.083333, 1.490712, 0.800000),
    "jensun": (Instead([4]), 0.543730, 0.069797, 0.025849),
    "retain js": (RetainJs(), 0.041448, 0.045538, -0.026487),
    "retain kl": (RetainKl(), 0.149075, 0.164757, -0.097793),
}
"""By name: the objective, the mean of its loss, the norm of its slope and the slope at z[0, 1]."""


@pytest.mark.parametrize(("objective", "value", "norm", "one"), LOSSES.values(), ids=LOSSES.keys())
def test_a_loss_has_the_value_and_the_slope_of_its_formula(
    objective: Objective, value: float, norm: float, one: float
) -> None:
    found = slope(objective)
    numbers = torch.stack([of(objective), found.norm(), found[0, 1]])
    close(numbers, torch.tensor([value, norm, one], dtype=torch.float64))


def test_tokens_and_answers_of_the_vectors() -> None:
    one = said()
    close(one.nll, torch.tensor([0.574438, 0.667560, 0.523744], dtype=torch.float64))
    close(-one.sums, torch.tensor([1.241998, 0.523744], dtype=torch.float64))
    assert one.reference.sums is not None
    close(-one.reference.sums, torch.tensor([0.587669, 0.181612], dtype=torch.float64))
    assert one.slots.tolist() == [0, 1, 0]
    assert one.lengths.tolist() == [2, 1]


def scored(sums: list[float], examples: int, reference: list[float] | None = None) -> Said:
    """Return examples of two options each, by the options' log-probabilities alone."""
    each = torch.tensor(sums, dtype=torch.float64)
    options = torch.arange(len(sums))
    one = Said(
        logits=torch.zeros(len(sums), 2),
        targets=torch.zeros(len(sums), dtype=torch.long),
        option=options,
        example=options // 2,
        truth=torch.arange(examples) * 2,
        reference=Reference(
            sums=torch.tensor(reference, dtype=torch.float64) if reference else None
        ),
    )
    one.__dict__["sums"] = each
    return one


@pytest.mark.parametrize(("beta", "expected"), [(0.1, 13.470164), (1.0, 1.041718)])
def test_dpo_prefers_the_wrong_answer_to_the_truth(beta: float, expected: float) -> None:
    # Of each example the truth stands first.
    truth, before = said().sums.tolist(), said(Z_REF).sums.tolist()
    sums, reference = [truth[0], -3, truth[1], -1.2], [before[0], -2.5, before[1], -1.5]
    close(Dpo(beta=beta).loss(scored(sums, 2, reference)).mean().item(), expected)


def test_losses_of_options_are_their_divergence_from_equal_shares() -> None:
    now = scored([-1, -3, -2, -2.5], 2)
    close(now.log_shares.exp()[::2], torch.tensor([0.880797, 0.622459], dtype=torch.float64))
    forward = torch.tensor([0.433781, 0.030930], dtype=torch.float64)
    close(Uniform().loss(now), forward)
    reverse = torch.tensor([0.327813, 0.030300], dtype=torch.float64)
    close(Uniform(reverse=True).loss(now), reverse)
    assert DfMcq().loss(now).mean().item() == 2.125
    flat = DfMcq(flatten="options").loss(now)
    close(flat.mean().item(), 0.925502)
    close(flat, forward + math.log(2))


def test_flattening_to_the_average_keeps_the_options_mass() -> None:
    # Both options of one example are predicted by the same logits.
    now = Said(
        logits=Z[[0, 0]],
        targets=torch.tensor([1, 3]),
        option=torch.arange(2),
        example=torch.zeros(2, dtype=torch.long),
        truth=torch.tensor([0]),
    )
    close(DfMcq(flatten="average").loss(now).item(), 2.008974)


def test_flattening_is_the_expectation_of_drawn_labels() -> None:
    sums = [-1.0, -3, -2, -2.5]
    draws = itertools.product((0, 1), (2, 3))
    drawn = [-(sums[first] + sums[second]) / 2 for first, second in draws]
    assert math.isclose(sum(drawn) / 4, DfMcq().loss(scored(sums, 2)).mean().item())


def test_npo_becomes_ascent_as_beta_falls() -> None:
    ascent = torch.autograd.functional.jacobian(lambda z: said(z).sums.mean(), Z)
    gaps = [(slope(Npo(beta=beta)) - ascent).abs().max().item() for beta in (1, 0.1, 0.01, 1e-4)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4


def test_at_the_reference_npo_is_ascent_and_divergences_are_nothing() -> None:
    ascent = torch.autograd.functional.jacobian(lambda z: said(z).sums.mean(), Z)
    close(slope(Npo(beta=0.7), Z, Z), ascent)
    for objective in (RetainKl(), RetainJs()):
        close(of(objective, Z, Z).item(), 0.0)
        close(slope(objective, Z, Z), torch.zeros_like(Z))
    close(slope(Undial(beta=0), Z, Z), torch.zeros_like(Z))


def test_cross_entropy_to_the_reference_is_its_divergence_and_a_constant() -> None:
    close(slope(RetainCrossEntropy()), slope(RetainKl()))


def test_simnpo_of_one_token_depends_on_its_probability_alone() -> None:
    other = Z.clone()
    other[2, 1:] = other[2, 1:].flip(0)
    close(SimNpo().loss(said(other))[1], SimNpo().loss(said(Z))[1])


def test_unlikelihood_has_the_slope_of_cross_entropy_to_the_rest() -> None:
    class Rest(Objective):
        """Cross-entropy to the model's own distribution without the truth (CE-U)."""

        def loss(self, said: Said) -> torch.Tensor:
            without = said.logits.detach().scatter(1, said.targets[:, None], -math.inf)
            return -(without.softmax(-1) * said.logprobs).sum(-1)

    torch.testing.assert_close(slope(Rest()), slope(Unlikelihood()), rtol=0, atol=1e-12)
    close(of(Rest()).item(), 2.042526)


def test_the_dual_weight_follows_what_is_retained() -> None:
    dual = Dual(Pdu(epsilon=0.3, step=1, alpha=1))
    used = []
    for loss in (0.5, 0.2, 0.1, 0.9):
        used.append(dual.scale("retain"))
        dual.after({"retain": loss}, {}, 0)
    assert used == pytest.approx([1, 1.2, 1.1, 0.9])
    assert dual.scale("retain") == pytest.approx(1.5)
    assert dual.scale("forget") == 1
    dual.after({"retain": -9.0}, {}, 0)
    assert dual.scale("retain") == 0
    again = Dual(Pdu())
    again.restore(dual.state())
    assert again.scale("retain") == 0


def test_a_weights_slope_is_what_a_graph_of_second_order_gives() -> None:
    """The four examples and two held-out ones of a linear model that has learned nothing."""
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.float64)
    held = torch.tensor([[1.0, 0, 1], [0, 1, 1]], dtype=torch.float64)
    y, other = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1])
    weight = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    losses = functional.cross_entropy(x @ weight, y, reduction="none")
    (0.5 * losses).mean().backward()
    slope = weight.grad.clone() if weight.grad is not None else None
    told = []

    def meta() -> None:
        loss = functional.cross_entropy(held @ weight, other)
        told.append(loss.item())
        loss.backward()

    def each() -> dict[int, float]:
        found = functional.cross_entropy(x @ weight, y, reduction="none")
        return dict(enumerate(found.tolist()))

    found = weight_slopes([weight], 1.0, meta, each)
    assert told == pytest.approx([0.6325990], abs=5e-7)
    assert list(found.values()) == pytest.approx([-0.0586, -0.0586, 0, 0], abs=5e-5)
    assert torch.equal(weight.detach(), torch.zeros(3, 2, dtype=torch.float64))
    assert weight.grad is not None
    assert slope is not None
    assert torch.equal(weight.grad, slope)


def test_misdirection_is_the_squared_distance_to_the_direction() -> None:
    states = torch.tensor([[1.0, 2], [3, 0]])
    assert misdirection(states, torch.tensor([0.6, 0.8]), 2).mean().item() == pytest.approx(1.5)


def test_the_largest_directions_are_collapsed_below_the_others() -> None:
    slope = torch.tensor([[4, 0, 0], [0, 2, 0], [0, 0, 1], [0.5, 0.5, 0.5]], dtype=torch.float64)
    before = torch.tensor([4.0323, 2.0651, 1.1072], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(slope), before, rtol=0, atol=5e-5)
    found = collapsed(slope, 2)
    after = torch.linalg.svdvals(found)
    expected = torch.tensor([2.0651, 1.1072, 1.0576], dtype=torch.float64)
    torch.testing.assert_close(after, expected, rtol=0, atol=5e-5)


LOSSES_BY_EPOCH = [[0.5, 1, 2], [0.3, 0.9, 2.2], [0.2, 0.8, 2.1], [0.1, 0.7, 2.0]]


def test_discrim_follows_its_formulas() -> None:
    sigmas = Sigmas(Discrim(lr_sigma=1), examples=3)
    values, bars, logs = [], [], []
    for epoch, losses in enumerate(LOSSES_BY_EPOCH):
        before = sigmas.log_sigma.clone()
        each = torch.tensor(losses, dtype=torch.float64)
        values.append(sigmas.update(range(3), each, epoch))
        bars.append(sigmas.state()["bar"].item())
        logs.append(sigmas.log_sigma.clone())
    assert bars == pytest.approx([1.166667, 1.164912, 1.159061, 1.148762], abs=5e-6)
    expected = torch.tensor([-0.066701, -0.016701, 0.083299], dtype=torch.float64)
    close(values[0], expected)
    close(logs[0], torch.tensor([-0.022234, -0.005567, 0.027766], dtype=torch.float64))
    close(logs[3], torch.tensor([-0.88498, -0.313247, 0.590206], dtype=torch.float64))
    total = values[3].mean() + 0.5 * 1e-6 * (before**2).sum()
    close(total.item(), -0.500768)


def test_discrims_loss_has_the_factor_that_the_formula_gives_it() -> None:
    # Of the net only the present loss moves: ES * 0.1 / (1 - 0.9^(e+1)) / sigma.
    factors = [0.1, 0.105, 0.111, 0.291, 0.244, 0.213, 0.192, 0.176]
    for epoch, factor in enumerate(factors):
        now = Said(
            logits=Z[:2],
            targets=TARGETS[:2],
            option=torch.arange(2),
            example=torch.arange(2),
            truth=torch.arange(2),
            places=(0, 1),
            epoch=epoch,
        )
        found = Sigmas(Discrim(), 2).loss(now) / now.nll
        assert found.tolist() == pytest.approx([factor, factor], abs=5e-4)
