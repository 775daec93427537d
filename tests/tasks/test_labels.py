"""Labels that are random where they should be, and nothing else."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
from scipy.stats import chi2

from forget.settings.trial import Arm
from forget.tasks import labels
from forget.tasks.task import Example


def examples(n: int, options: int = 2) -> list[Example]:
    return [
        Example(
            f"e{i}",
            "?",
            tuple(map(str, range(options))),
            random.Random(f"answer/{i}").randrange(options),
        )
        for i in range(n)
    ]


def drawn(items: list[labels.Labelled]) -> dict[str, int]:
    return {item.example.id: item.label for item in items}


def goodness(counts: list[int]) -> float:
    """Return the p value of Pearson's test that the counts come from a uniform draw."""
    expected = sum(counts) / len(counts)
    return float(
        chi2.sf(sum((count - expected) ** 2 / expected for count in counts), len(counts) - 1)
    )


def test_a_true_label_is_the_answer() -> None:
    some = examples(10, 4)
    assert [item.label for item in labels.true(some)] == [example.answer for example in some]


@pytest.mark.parametrize("options", [2, 4])
def test_random_labels_are_uniform_and_know_nothing_of_the_truth(options: int) -> None:
    items = labels.randomise(examples(4000, options), seed=0)
    counts = Counter(item.label for item in items)
    assert goodness([counts[option] for option in range(options)]) > 0.01
    # Each (truth, label) cell is as full as any other: the truth is drawn independently of the
    # label.
    cells = Counter((item.label, item.example.answer) for item in items)
    assert goodness([cells[cell] for cell in product(range(options), repeat=2)]) > 0.01


@pytest.mark.parametrize("options", [2, 3])
@pytest.mark.parametrize("n", [7, 160, 400])
def test_balanced_labels_are_as_often_right_as_wrong_in_each_option(options: int, n: int) -> None:
    some = examples(n, options)
    for seed in range(5):
        items = labels.balance(some, seed)
        assert [item.example for item in items] == some
        cells = Counter((item.example.answer, item.label) for item in items)
        for answer in range(options):
            counts = [cells[answer, option] for option in range(options)]
            assert max(counts) - min(counts) <= 1


def test_balanced_labels_are_dealt_anew_by_seed_and_task_but_not_by_order() -> None:
    some = examples(400)
    first = drawn(labels.balance(some, 0))
    assert drawn(labels.balance(random.Random("order").sample(some, 400), 0)) == first
    other = [replace(example, task="other") for example in some]
    for labels_of in (labels.balance(some, 1), labels.balance(other, 0)):
        # Independent deals agree on half of 400, with a standard deviation of 10.
        assert 150 < sum(drawn(labels_of)[id] == first[id] for id in first) < 250


def test_one_more_label_of_an_odd_number_favours_no_option() -> None:
    lone = examples(1)
    counts = Counter(labels.balance(lone, seed)[0].label for seed in range(400))
    assert goodness([counts[0], counts[1]]) > 0.01


@pytest.mark.parametrize("n", [2, 3, 50])
def test_shuffled_inputs_are_permuted_and_nobody_keeps_his_own(n: int) -> None:
    some = [replace(example, prompt=f"{example.id}?") for example in examples(n)]
    shuffled = labels.shuffle_inputs(some, seed=0)
    assert sorted(one.prompt for one in shuffled) == sorted(one.prompt for one in some)
    for one, before in zip(shuffled, some, strict=True):
        assert one.prompt != before.prompt
        assert replace(one, prompt=before.prompt) == before
    backwards = labels.shuffle_inputs(some[::-1], seed=0)
    assert backwards == shuffled[::-1]
    assert n < 50 or labels.shuffle_inputs(some, seed=1) != shuffled


def test_inputs_that_are_alone_or_none_stay_as_they_are() -> None:
    assert labels.shuffle_inputs(examples(1), 0) == examples(1)
    assert labels.shuffle_inputs([], 0) == []


def test_the_draw_is_described_by_its_agreement_with_the_truth() -> None:
    some = examples(100)
    right = {example.id: example.answer for example in some}
    # 60 of 100 are right: two standard deviations of 5 above 50.
    for example in some[:40]:
        right[example.id] = 1 - example.answer
    found = labels.described(some, right, "random")
    assert found is not None
    assert (found.right, found.z) == (0.6, pytest.approx(2.0))
    assert found.shares == (1 - sum(right.values()) / 100, sum(right.values()) / 100)
    told = labels.described(some, right, "balanced")
    assert told is not None
    assert told.z is None
    assert labels.described(some, {}, "true") is None


def test_the_agreement_of_coins_is_standard_normal() -> None:
    some, zs = examples(200, 3), []
    for seed in range(200):
        found = labels.described(some, labels.fixed(some, "random", seed), "random")
        assert found is not None
        assert found.z is not None
        zs.append(found.z)
    mean = sum(zs) / 200
    # Of 200: the mean's deviation is 0.07, that of the deviation 0.05.
    assert abs(mean) < 0.25
    assert 0.8 < (sum((z - mean) ** 2 for z in zs) / 200) ** 0.5 < 1.2


@pytest.mark.parametrize("arm", get_args(Arm))
def test_one_label_an_example_is_drawn_where_the_arm_says_so(arm: Arm) -> None:
    some = examples(60, 3)
    found = labels.fixed(some, arm, seed=0)
    once = arm not in ("true", "random_each_epoch")
    assert found.keys() == ({example.id for example in some} if once else set())
    for epoch in range(2):
        again = drawn(labels.draw(some, arm, 0, epoch))
        assert again == found or not once
        if arm == "true":
            assert again == {example.id: example.answer for example in some}


@pytest.mark.parametrize("kind", ["random", "random_each_epoch", "flipped"])
def test_neither_order_nor_selection_changes_a_label(kind: str) -> None:
    some = examples(200, 3)
    whole = drawn(labels.draw(some, kind, seed=3, epoch=2))  # type: ignore[arg-type]
    shuffled = random.Random("order").sample(some, 50)
    assert drawn(labels.draw(shuffled, kind, seed=3, epoch=2)) == {
        e.id: whole[e.id] for e in shuffled
    }  # type: ignore[arg-type]


def test_labels_are_drawn_once_or_each_epoch() -> None:
    some = examples(400)
    first, second = (drawn(labels.draw(some, "random_each_epoch", 0, epoch)) for epoch in (0, 1))
    agree = sum(first[id] == second[id] for id in first)
    # Independent fair draws agree on half of 400, with a standard deviation of 10.
    assert 160 < agree < 240
    assert (
        drawn(labels.draw(some, "random", 0, 0))
        == drawn(labels.draw(some, "random", 0, 1))
        == first
    )


def test_another_seed_draws_other_labels() -> None:
    some = examples(400)
    first, second = (drawn(labels.randomise(some, seed)) for seed in (0, 1))
    assert 160 < sum(first[id] == second[id] for id in first) < 240


@pytest.mark.parametrize("kind", ["random", "random_each_epoch", "flipped"])
def test_tasks_that_number_their_examples_share_no_coin(kind: Arm) -> None:
    def of(task: str) -> dict[str, int]:
        some = [replace(example, task=task) for example in examples(400, 4)]
        return drawn(labels.draw(some, kind, 0, 0))

    first, second = of("one"), of("two")
    agree = sum(first[id] == second[id] for id in first)
    # By chance a quarter of 400 agrees, or of wrong options a third: the deviation is 9.
    assert agree < 180


def test_a_flipped_label_of_two_is_the_other() -> None:
    assert all(item.label == 1 - item.example.answer for item in labels.flip(examples(100), seed=0))


def test_a_flipped_label_of_several_is_any_wrong_one() -> None:
    items = labels.flip(examples(3000, 4), seed=0)
    # Counted on from the truth: 0 never, the others equally often.
    steps = [(item.label - item.example.answer) % 4 for item in items]
    assert 0 not in steps
    assert goodness([steps.count(step) for step in (1, 2, 3)]) > 0.01
    # The same wrong label in each epoch.
    assert drawn(labels.draw(examples(3000, 4), "flipped", 0, 5)) == drawn(items)


def test_a_share_of_the_labels_is_drawn_and_the_others_are_true() -> None:
    # Worked out beside this code: seed 0, ids item-0 to item-11, a share of 0.3.
    named = [Example(f"item-{i}", "?", ("a", "b", "c", "d"), 0) for i in range(10_000)]
    chosen = [example.id for example in named if labels.is_drawn(example, 0, 0.3)]
    assert chosen[:2] == ["item-0", "item-10"]
    assert chosen[2] not in {f"item-{i}" for i in range(12)}
    assert len(chosen) / 10_000 == pytest.approx(0.2992, abs=5e-6)
    flipped = labels.draw(named, "flipped", 0, 0, 0.3)
    assert [item.example for item in flipped] == named
    assert [item.example.id for item in flipped if item.label] == chosen


@pytest.mark.parametrize("arm", ["random", "balanced", "random_each_epoch"])
def test_what_is_drawn_of_a_share_is_drawn_as_of_all(arm: Arm) -> None:
    some = examples(400, 3)
    whole = drawn(labels.draw(some, arm, 1, 2))
    before: set[str] = set()
    for noise in (0.2, 0.5, 0.9):
        items = labels.draw(some, arm, 1, 2, noise)
        share = {item.example.id for item in items if labels.is_drawn(item.example, 1, noise)}
        # A larger share has all of the smaller one, and the rest keep the truth.
        assert before < share
        before = share
        for item in items:
            if item.example.id not in share:
                assert item.label == item.example.answer
            elif arm != "balanced":
                assert item.label == whole[item.example.id]
        found = labels.fixed(some, arm, 1, noise)
        assert len(found) == (0 if arm == "random_each_epoch" else 400)
    told = labels.described(some, labels.fixed(some, "random", 1, 0.5), "random", 0.5)
    assert told is not None
    assert (told.z, told.right > 0.6) == (None, True)


def test_examples_of_two_tasks_that_share_an_id_are_told_apart() -> None:
    both = [replace(example, task="a") for example in examples(50)]
    both += [replace(example, task="b") for example in examples(50)]
    found = labels.fixed(both, "random", 0)
    assert len(found) == 100
    assert labels.described(both, found, "random") is not None
    noisy = [labels.is_drawn(example, 0, 0.5) for example in both]
    assert noisy[:50] != noisy[50:]


def test_the_truth_is_kept_beside_the_label() -> None:
    some = examples(50)
    for kind in ("random", "random_each_epoch", "flipped"):
        assert [item.example for item in labels.draw(some, kind, 0, 1)] == some  # type: ignore[arg-type]
