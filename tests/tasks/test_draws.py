"""Draws: what a trial takes of each split is said once, and gathered as it is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from forget import tasks
from forget.errors import BadInput
from forget.settings.parts import Probe
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.tasks.draws import SCORED, draws, gather, take, too_few_to_probe
from forget.tasks.labels import shuffle_inputs
from forget.tasks.prose import CHUNK, prose
from forget.tasks.task import Record, binarise, render


def test_everything_that_is_drawn_is_said(quick: Trial) -> None:
    said = {(draw.use, draw.task, draw.split): draw.n for draw in draws(quick)}
    assert said == {
        ("learn", "vowels", "train"): 64,
        ("forget", "vowels", "train"): 48,
        ("trained", "vowels", "train"): 48,
        ("near", "vowels", "near"): 800,
        ("similar", "vowels", "similar"): 800,
        ("probe", "vowels", "test"): 24,
        ("test", "vowels", "test"): 800,
        ("test", "upper", "test"): 800,
        ("watch", "vowels", "test"): 100,
        ("watch_learn", "vowels", "train"): 64,
        ("watch_forget", "vowels", "train"): 48,
    }
    unprobed = overlay(quick, {"probe.examples": 0})
    assert "probe" not in {draw.use for draw in draws(unprobed)}
    unwatched = overlay(quick, {"watch.points": 0})
    assert not [draw for draw in draws(unwatched) if draw.use.startswith("watch")]


def test_a_dose_asks_for_the_same_trained_examples_at_every_look(quick: Trial) -> None:
    for points in (0, 4):
        trial = overlay(quick, {"watch.points": points, "forget.until.examples": 20})
        found = {draw.use: draw.n for draw in draws(trial)}
        assert found["watch_forget"] == 20
        # What learning shows is kept with what was learned, which other trials share.
        assert found.get("watch_learn") == (64 if points else None)


def test_what_learns_nothing_draws_nothing_to_learn(quick: Trial) -> None:
    taught, untaught = gather(quick), gather(overlay(quick, {"arm": "untaught"}))
    assert (untaught.learn, untaught.watch_learn) == ((), ())
    assert replace(taught, learn=(), watch_learn=()) == untaught


def test_shuffled_inputs_are_trained_on_and_scored_as_they_were(quick: Trial) -> None:
    plain, shuffled = gather(quick), gather(overlay(quick, {"arm": "shuffled_inputs"}))
    assert replace(shuffled, forget=plain.forget) == plain
    assert shuffled.forget == tuple(shuffle_inputs(plain.forget, seed=quick.seed))
    other = gather(overlay(quick, {"arm": "shuffled_inputs", "member": 1}))
    assert replace(other, forget=plain.forget) == plain
    assert other.forget != shuffled.forget


def test_members_of_a_seed_are_given_the_same_examples(quick: Trial) -> None:
    assert gather(overlay(quick, {"member": 1})) == gather(quick)
    assert gather(overlay(quick, {"seed": 1})) != gather(quick)


def test_what_is_gathered_is_what_was_said(quick: Trial) -> None:
    material = gather(overlay(quick, {"evaluation_examples": 12}))
    assert list(map(len, (material.learn, material.forget, material.trained))) == [64, 48, 12]
    assert material.trained == material.forget[:12]
    assert material.forget == material.learn[:48]
    assert {task: len(part) for task, part in material.test.items()} == {"vowels": 12, "upper": 12}
    assert len(material.near) == 12


def test_near_duplicates_are_of_examples_that_are_trained_on(quick: Trial) -> None:
    few = overlay(quick, {"forget.examples": 10})
    material = gather(few)
    trained = {example.id for example in material.forget}
    sources = {example.source for example in tasks.load("vowels", "near", folders=few.folders)}
    assert {example.source for example in material.near} == trained & sources
    assert 0 < len(material.near) < 10


def test_a_task_may_lack_near_duplicates_and_similar_examples(quick: Trial) -> None:
    material = gather(overlay(quick, {"task": "upper", "evaluate_on": []}))
    assert material.near == material.similar == ()


def test_a_split_that_is_needed_is_missed_by_name(quick: Trial, tmp_path: Path) -> None:
    (tmp_path / "lone").mkdir()
    line = '{"id": "1", "question": "?", "choices": ["a", "b"], "answer": 0}\n'
    (tmp_path / "lone" / "train.jsonl").write_text(line)
    lone = overlay(quick, {"task": "lone", "evaluate_on": [], "folders": [str(tmp_path)]})
    (missing,) = [draw for draw in draws(lone) if draw.use == "test"]
    with pytest.raises(BadInput, match='task "lone" has no split "test"'):
        take(lone, missing)


def test_what_is_scored_is_a_use(quick: Trial) -> None:
    asked = overlay(quick, {"forget_set": "half", "measure_templates": ["qa"]})
    assert {draw.use for draw in draws(asked)} >= set(SCORED)


def test_tasks_and_splits_that_number_their_records_share_no_distractor() -> None:
    choices = tuple(map(str, range(10)))
    records = [Record(str(number), "?", choices, number % 10) for number in range(400)]

    def kept(task: str, split: str) -> list[tuple[str, ...]]:
        return [binarise(record, task, split, seed=0).choices for record in records]

    own = kept("one", "train")
    assert own == kept("one", "train")
    for task, split in (("two", "train"), ("one", "test")):
        # The same one of nine distractors in the same order: 1 in 18 by chance, 22 of 400.
        agree = sum(a == b for a, b in zip(own, kept(task, split), strict=True))
        assert agree < 50


def test_a_paraphrase_draws_as_its_source() -> None:
    choices = tuple(map(str, range(10)))
    source = Record("7", "?", choices, 3)
    near = Record("7b", "So?", choices, 3, source="7")
    drawn = [binarise(source, "t", "train", seed) for seed in range(20)]
    assert [one.choices for one in drawn] == [
        binarise(near, "t", "near", seed).choices for seed in range(20)
    ]
    assert len({one.choices for one in drawn}) > 10


def test_what_is_probed_is_the_first_of_the_test_split(quick: Trial) -> None:
    for limit, probed in ((12, 24), (24, 12)):
        trial = overlay(quick, {"evaluation_examples": limit, "probe.examples": probed})
        material = gather(trial)
        assert len(material.probe) == probed
        assert material.test["vowels"][:12] == material.probe[:12]


def test_similar_examples_are_of_templates_that_are_trained_on(quick: Trial) -> None:
    world = overlay(quick, {"task": "world", "evaluate_on": [], "forget.examples": 12})
    material = gather(world)
    trained = {example.template for example in material.forget}
    assert 0 < len(trained) < 13
    every = tasks.load("world", "similar")
    assert {example.template for example in material.similar} == trained & {
        example.template for example in every
    }
    wanted = [example for example in every if example.template in trained]
    assert {example.id for example in material.similar} == {example.id for example in wanted}
    # Their facts are others.
    assert not {example.group for example in material.similar} & {
        example.group for example in tasks.load("world", "train")
    }


@pytest.mark.parametrize(
    ("n", "sources", "fields", "words"),
    [
        (10, 10, {}, None),
        (9, 9, {}, "9 held-out questions to fit them on where they take 10 at least"),
        (40, 40, {"examples": 9}, "9 held-out questions to fit them on"),
        (10, 5, {}, None),
        (12, 4, {}, "12 held-out questions of 4 sources to fit them on where they take 5 sources"),
        (40, 40, {"fit_on": "trained"}, "0 trained questions"),
        # None is asked for.
        (1, 1, {"examples": 0}, None),
    ],
)
def test_too_few_examples_for_probes_are_counted(
    quick: Trial, n: int, sources: int, fields: dict[str, object], words: str | None
) -> None:
    examples = [
        replace(example, group=str(number % sources))
        for number, example in enumerate(gather(quick).learn[:n])
    ]
    why = too_few_to_probe("vowels", Probe(**fields), (), examples)
    assert (why is None) == (words is None)
    assert (words or "") in (why or "")
    if not fields:
        assert too_few_to_probe("vowels", Probe(fit_on="trained"), examples, ()) == (
            why and why.replace("held-out", "trained")
        )


@pytest.mark.parametrize(
    ("record", "group"),
    [
        (Record("1", "who?", ("a", "b"), 0), "who?"),
        (Record("1", "who?", ("a", "b"), 0, passage="Once."), "Once."),
        (Record("1", "who?", ("a", "b"), 0, passage="Once.", group="tale"), "tale"),
    ],
)
def test_examples_of_one_passage_are_of_one_source(record: Record, group: str) -> None:
    assert render(record, "{passage}{question}").group == group


def test_neutral_text_is_gathered_in_chunks_that_are_no_task(quick: Trial) -> None:
    few = gather(overlay(quick, {"retain.text": True, "retain.examples": 5}))
    every = gather(overlay(quick, {"retain.text": True}))
    assert every.test.keys() == gather(quick).test.keys()
    assert every.retain[:5] == few.retain
    assert len({example.id for example in every.retain}) == len(every.retain) > 300
    words = prose().split()
    for example in every.retain:
        start = int(example.id.removeprefix("text-"))
        (rest,) = example.options
        assert f"{example.prompt}{rest}".split() == words[start : start + CHUNK]
