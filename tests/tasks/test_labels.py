"""Labels that are random where they should be, and nothing else."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from scipy.stats import chi2

from forget.settings.trial import LabelKind
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
def test_tasks_that_number_their_examples_share_no_coin(kind: LabelKind) -> None:
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


def test_the_truth_is_kept_beside_the_label() -> None:
    some = examples(50)
    for kind in ("random", "random_each_epoch", "flipped"):
        assert [item.example for item in labels.draw(some, kind, 0, 1)] == some  # type: ignore[arg-type]
