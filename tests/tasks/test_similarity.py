"""Similarity of examples and tasks, from their texts alone."""

import pytest

from forget.tasks import similarity
from forget.tasks.task import Example


def example(text: str, options: tuple[str, ...] = (" yes", " no"), suffix: str = "") -> Example:
    return Example(text, f"Question: {text}\nAnswer:", options, 0, suffix)


TRAINED = [
    example(text)
    for text in ("What melts in the sun?", "Who wrote the letter?", "How far is the moon?")
]


def test_the_nearest_trained_example_decides() -> None:
    same, near, far = similarity.nearest_similarity(
        [TRAINED[0], example("What melts in the warm sun?"), example("Do cats purr at night")],
        TRAINED,
    )
    assert same == pytest.approx(1)
    assert 0.5 < near < 1
    # The wording that all share weighs little, but something.
    assert far < 0.35


def test_options_are_part_of_an_example() -> None:
    asked = example("What melts in the sun?", (" ice", " iron"))
    (similar,) = similarity.nearest_similarity([asked], TRAINED)
    assert 0.3 < similar < 1


def test_wording_is_one_for_the_same_questions_and_less_for_others() -> None:
    other = [
        example(text) for text in ("Is this sentence grammatical?", "Is that sentence grammatical?")
    ]
    found = similarity.wording({"own": TRAINED, "same": TRAINED[::-1], "other": other})
    assert found["own"] == found["same"] == pytest.approx(1)
    assert 0 < found["other"] < 0.7


FORMATS = {
    # A label is its own format; half of the labels are shared.
    "the same labels": ((" yes", " no"), (" no", " yes"), 1.0),
    "other labels": ((" yes", " no"), (" True", " False"), 0.0),
    "half of the labels": ((" yes", " no"), (" yes", " maybe"), 0.5),
}


@pytest.mark.parametrize(("a", "b", "overlap"), FORMATS.values(), ids=FORMATS.keys())
def test_answers_of_the_same_labels_overlap(
    a: tuple[str, ...], b: tuple[str, ...], overlap: float
) -> None:
    first = [example(str(i), a) for i in range(20)]
    second = [example(str(i), b) for i in range(20)]
    assert similarity.answers(first, second) == pytest.approx(overlap)


def test_free_answers_overlap_by_their_shape() -> None:
    words = [example(str(i), (f" w{chr(97 + i)}", f" v{chr(97 + i)}")) for i in range(20)]
    others = [example(str(i), (f" x{chr(97 + i)}", f" y{chr(97 + i)}")) for i in range(20)]
    sentences = [
        example(str(i), (f" It is the {i}th answer of all.", f" No, {i} it is not, or so."))
        for i in range(20)
    ]
    assert similarity.answers(words, others) == 1
    assert similarity.answers(words, sentences) == 0
    labels = [example(str(i)) for i in range(20)]
    assert similarity.answers(words, labels) == 0


def test_a_suffix_belongs_to_the_answer() -> None:
    # "in the bag so it moved." against "in the bag": three words and a full stop more.
    plain = [example(str(i), (f" a{chr(97 + i)}", f" b{chr(97 + i)}")) for i in range(20)]
    ended = [
        example(str(i), (f" a{chr(97 + i)}", f" b{chr(97 + i)}"), " so it moved.")
        for i in range(20)
    ]
    assert similarity.answers(plain, ended) == 0
