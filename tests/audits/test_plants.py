"""Planted arms decide if an audit is one: it sees what is hidden, and nothing that is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from audits.plants import Plants, copied

from forget.analyses.recovery import split_of
from forget.audits import formats
from forget.audits.arms import Arm
from forget.audits.audit import Audit
from forget.audits.catalogue import audits
from forget.audits.few_shot import FewShot
from forget.audits.few_shot import _chosen as chosen_shots
from forget.audits.generate import Generate, matched
from forget.audits.lens import Lens, cut
from forget.audits.quantise import FP4, NF4, Quantise, blockwise, errors, int8, matrices, noise
from forget.audits.relearn import Relearn
from forget.audits.rtt import Rtt
from forget.audits.run import audit_arm
from forget.audits.steer import Steer, without
from forget.models import language_model
from forget.models.language_model import LanguageModel
from forget.results.rows import Row, judge, select
from forget.tasks.task import Example

BRIEF: dict[str, Audit] = {
    "relearn": Relearn(n=(8, 16), sources=("forget", "held_out"), lr=(1e-3,)),
    "quantise": Quantise(draws=1),
    "rtt": Rtt(examples=30, lr=(1e-3,), epochs=1),
    "lens": Lens(layers=2),
    "steer": Steer(blocks=1),
    "generate": Generate(examples=20, more=1),
}
"""Settings in which an audit of `tiny` says what it says of a large model; else its defaults."""


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"))


def accuracy(rows: Sequence[Row], arm: str, split: str = "test", **fields: str) -> float:
    return float(np.mean(judge(select(rows, phase=arm, split=split, **fields)).correct))


def recoveries(rows: Sequence[Row]) -> dict[str, float]:
    """Return R by dose, where the learned arm is above the one never taught."""
    found = {}
    split = split_of(rows[0].audit)
    for dose in dict.fromkeys(row.dose for row in rows):
        forgotten, learned, never = (
            accuracy(rows, arm, split, dose=dose) for arm in ("forgotten", "learned", "never")
        )
        if learned - never >= 0.05:
            found[dose] = (forgotten - never) / (learned - never)
    return found


@pytest.mark.parametrize("name", [name for name in audits() if name != "text"])
def test_what_was_never_taught_is_gone_and_what_was_not_forgotten_is_there(
    name: str, plants: Plants
) -> None:
    audit = BRIEF.get(name) or audits()[name]()
    gone, there = (recoveries(plants.audit(audit, plant)) for plant in ("never", "learned"))
    assert gone
    assert set(gone.values()) == {0.0}
    assert set(there.values()) == {1.0}


def test_relearning_tells_a_mask_from_a_loss(plants: Plants) -> None:
    """The one comes back with eight examples; the other has to be taught anew."""
    audit = Relearn(n=(8, 16), sources=("forget",), lr=(1e-3,))
    masked, scrubbed = (plants.audit(audit, plant) for plant in ("masked", "scrubbed"))
    eight, sixteen = (f"forget/n={n}/lr=0.001" for n in (8, 16))
    assert recoveries(masked)["forget/n=0"] < 0.1
    assert recoveries(masked)[eight] > 0.9
    assert recoveries(scrubbed)[eight] == 0
    assert accuracy(scrubbed, "forgotten", dose=eight) < 0.8
    # With sixteen the skill is taught anew, and nothing can be told of a return.
    assert sixteen not in recoveries(masked)


@pytest.mark.parametrize("audit", [Quantise(draws=1), FewShot(k=(2,))], ids=["quantise", "shots"])
def test_what_only_asks_does_not_see_behind_a_mask(audit: Audit, plants: Plants) -> None:
    rows = select(plants.audit(audit, "masked"), phase="forgotten", split="test")
    # The two rows of the head that are equal stay equal, up to rounding in the product.
    assert max(abs(row.logprobs[0] - row.logprobs[1]) for row in rows) < 1e-4


def test_relearning_starts_from_the_arm_each_time(plants: Plants) -> None:
    audit = Relearn(n=(8,), sources=("forget",), lr=(1e-3, 1e-2))
    alone = Relearn(n=(8,), sources=("forget",), lr=(1e-2,))
    dose = "forget/n=8/lr=0.01"
    found = []
    for one in (audit, alone):
        rows = select(plants.audit(one, "masked"), dose=dose, split="test")
        found.append([row.logprobs for row in rows])
    assert found[0] == found[1]


def test_of_several_rates_each_is_scored_on_validation(plants: Plants) -> None:
    audit = Relearn(n=(8,), sources=("forget",), lr=(1e-3, 1e-2))
    rows = select(plants.audit(audit, "masked"), split="validation")
    assert {row.dose for row in rows} == {"forget/n=8/lr=0.001", "forget/n=8/lr=0.01"}
    assert not {row.example for row in rows} & {example.id for example in plants.material.learn}


def test_shots_are_balanced_and_never_the_question_itself(plants: Plants) -> None:
    at = plants.auditing(FewShot(k=(2, 4)))
    for example in at.test[:20]:
        shots = chosen_shots(at, example, 4)
        assert sorted(shot.answer for shot in shots) == [0, 0, 1, 1]
        assert example.id not in {shot.id for shot in shots}
        trained = {one.id for one in (*plants.material.learn, *plants.material.forget)}
        assert not trained & {shot.id for shot in shots}
        assert chosen_shots(at, example, 4) == shots


def test_without_shots_a_question_is_the_trials(plants: Plants) -> None:
    at = plants.auditing(FewShot())
    rows = at.score(at.test)
    plain = select(plants.audit(FewShot(k=(2,)), "never"), phase="learned", dose="plain")
    assert [row.logprobs for row in rows] == [row.logprobs for row in plain]


WEIGHTS = torch.tensor([0.10, -0.32, 0.05, 0.64, -0.01, 0.2, -0.5, 0.33], dtype=torch.float64)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (
            partial(blockwise, codes=NF4),
            [0.102995, -0.336047, 0.050931, 0.64, 0, 0.216266, -0.445563, 0.360075],
        ),
        (
            partial(blockwise, codes=FP4),
            [0.106667, -0.32, 0.003333, 0.64, -0.003333, 0.213333, -0.426667, 0.32],
        ),
        (
            lambda weights: int8(weights[None])[0],
            [0.100787, -0.32252, 0.050394, 0.64, -0.010079, 0.201575, -0.498898, 0.327559],
        ),
    ],
    ids=["nf4", "fp4", "int8"],
)
def test_a_block_is_rounded_as_published(
    rounding: Callable[[torch.Tensor], torch.Tensor], expected: list[float]
) -> None:
    np.testing.assert_allclose(rounding(WEIGHTS).numpy(), expected, atol=5e-6)


def test_noise_is_as_large_as_the_error_of_rounding() -> None:
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    rounded = partial(blockwise, codes=NF4)
    error = (rounded(weights) - weights).norm()
    assert error / weights.norm() == pytest.approx(0.0921, abs=0.001)
    added = noise([error, 2 * error], draw=1)
    for size in (1, 2):
        assert (added(weights) - weights).norm() == pytest.approx(size * float(error), rel=1e-3)

    model = language_model.tiny()
    sizes = errors(model, rounded)
    for (matrix, transposed), size in zip(matrices(model), sizes, strict=True):
        own = matrix.T if transposed else matrix
        assert (rounded(own) - own).norm() == size


LISTED = Example("1", "What?\nA. x\nB. y\nC. z\nAnswer:", (" A", " B", " C"), 2)


def test_lettered_choices_change_their_letters_with_the_answer() -> None:
    orders = formats._orders([LISTED], 6, 0)
    assert len(orders) == 5
    for order in orders:
        asked = formats._permuted(LISTED, order)
        letter = asked.options[asked.answer].strip()
        assert f"{letter}. z" in asked.prompt
        assert asked.prompt != LISTED.prompt
    assert formats._orders([Example("1", "What?", (" x", " y"), 0)], 6, 0) == []


def test_label_words_are_others_where_all_are_known() -> None:
    (asked,) = formats._renamed([Example("1", "Is it?", (" yes", " no"), 1)]) or ()
    assert asked.options == (" true", " false")
    assert formats._renamed([Example("1", "Is it?", (" yes", " maybe"), 1)]) is None


def test_the_lens_sees_through_a_masked_head(plants: Plants) -> None:
    audit = Lens(layers=2)
    masked, scrubbed = (plants.audit(audit, plant) for plant in ("masked", "scrubbed"))
    last = "layer=2"
    assert recoveries(masked)[f"learned head/{last}"] == 1.0
    assert recoveries(masked)[f"own head/{last}"] < 0.2
    assert recoveries(scrubbed)[f"learned head/{last}"] == 0.0
    # What is decoded by the learned head is the arm's own states: never taught, they know nothing.
    assert accuracy(scrubbed, "forgotten", dose=f"learned head/{last}") < 0.7


def test_the_last_layer_says_what_the_model_says(plants: Plants) -> None:
    at = plants.auditing(Lens())
    network = at.model.network
    with torch.no_grad():
        # With weights of 1 a norm that is applied twice would go unseen.
        network.base_model.norm.weight.uniform_(0.5, 2.0)
    plain = [row.logprobs for row in at.score(at.test)]
    with cut(at.model, len(at.model.answers.blocks)):
        last = [row.logprobs for row in at.score(at.test)]
    np.testing.assert_allclose(last, plain, atol=1e-6)
    with cut(at.model, 1):
        first = [row.logprobs for row in at.score(at.test)]
    states = network(
        torch.tensor([at.model.tokenizer(at.test[0].prompt)["input_ids"]]),
        output_hidden_states=True,
    ).hidden_states[1]
    head = network.get_output_embeddings()
    logits = head(network.base_model.norm(states))[0, -1].log_softmax(-1)
    options = [at.model.tokenizer(option)["input_ids"][0] for option in at.test[0].options]
    # Of the sums, that of the blank before the letter is the same for both.
    expected = float((logits[options[0]] - logits[options[1]]).detach())
    assert first[0][0] - first[0][1] == pytest.approx(expected, abs=1e-4)
    assert [row.logprobs for row in at.score(at.test)] == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" yes.", (0, True)),
        ("Yes, because", (0, True)),
        (" yesterday", (None, False)),
        (" no yes", (1, False)),
        ("I say no", (1, False)),
        ("", (None, False)),
    ],
)
def test_text_is_matched_at_the_ends_of_words(text: str, expected: tuple[int | None, bool]) -> None:
    assert matched(text, (" yes", " no")) == expected


def test_what_is_written_is_what_is_scored(plants: Plants) -> None:
    at = plants.auditing(Generate(examples=30, more=1))
    ending = []
    for example in plants.material.learn:
        ending.append(replace(example, options=tuple(f"{one}\n" for one in example.options)))
    with at.fresh() as model:
        # A model of bytes has to be taught that an answer ends.
        at.train(model, ending, lr=3e-3, epochs=3, batch=16)
        rows = list(at.audit.run(at))
    assert accuracy(rows, "learned", dose="written") > 0.9
    assert accuracy(rows, "learned", dose="plain") > 0.9
    untouched = select(plants.audit(BRIEF["generate"], "never"), phase="base", dose="written")
    assert np.mean(judge(untouched).mass < 0.5) > 0.5


def test_a_direction_is_taken_out_of_states() -> None:
    edit = without(torch.tensor([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(edit(torch.tensor([3.0, 4.0, 0.0])), [-0.5, 0.5, 0.0], atol=5e-6)


def test_a_constant_shift_is_undone_by_steering_and_by_no_random_direction(plants: Plants) -> None:
    generator = torch.Generator().manual_seed(3)
    shift = 40 * torch.randn(64, generator=generator)

    def pushed() -> LanguageModel:
        model = copied(plants.learned)
        block = model.answers.blocks[0]
        block.register_forward_hook(lambda module, args, out: out + shift)
        return model

    shared = plants.arms("learned")
    arms = {**shared, "forgotten": Arm("pushed", pushed)}
    audit = Steer(blocks=1, draws=2)
    rows = []
    for name, arm in arms.items():
        given = (plants.trial, plants.material, plants.store)
        rows += audit_arm(audit, arms, name, arm.load, *given)
    own, at = select(rows, phase="forgotten", split="test"), "block=0"
    learned = [row.logprobs for row in select(rows, phase="learned", dose="plain")]
    undone = [row.logprobs for row in select(own, dose=f"steered/by=-1/{at}")]
    np.testing.assert_allclose(undone, learned, atol=1e-2)
    assert accuracy(own, "forgotten", dose=f"steered/by=-1/{at}") == accuracy(
        rows, "learned", dose="plain"
    )
    assert accuracy(own, "forgotten", dose="plain") < 0.8
    for draw in range(2):
        assert accuracy(own, "forgotten", dose=f"random/draw={draw}/{at}") < 0.8
