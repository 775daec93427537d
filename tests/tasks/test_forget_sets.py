"""Forget sets of a trial: which examples it learns, forgets and looks at, and what is refused."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from forget import tasks
from forget.errors import BadInput
from forget.preflight import check, identify
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.tasks import builtin
from forget.tasks.draws import Material, draws, gather
from forget.tasks.forget_sets import shared_out

BUILTIN = Trial(
    task="world",
    model="tiny",
    learn={"examples": 60},
    forget={"examples": 40},
    evaluation_examples=30,
    precision="fp32",
)


def of(name: object, base: Trial = BUILTIN, **fields: object) -> Trial:
    return overlay(base, {"forget_set": name, **fields})


def mix(**shares: float) -> dict[str, Any]:
    return {"name": "mix", "tasks": shares}


def counts(material: Material) -> Mapping[str, int]:
    return Counter(example.task for example in material.forget)


@pytest.mark.parametrize(
    ("n", "shares", "counts"),
    [
        (10, [0.5, 0.5], [5, 5]),
        (11, [0.5, 0.5], [6, 5]),
        (10, [0.25, 0.75], [3, 7]),
        (10, [0.75, 0.25], [8, 2]),
        (100, [0.29, 0.71], [29, 71]),
        (10, [1 / 3] * 3, [4, 3, 3]),
        (7, [0.0, 1.0], [0, 7]),
        (1, [0.4, 0.3, 0.3], [1, 0, 0]),
    ],
)
def test_shares_are_of_the_largest_remainder(
    n: int, shares: list[float], counts: list[int]
) -> None:
    assert shared_out(n, shares) == counts


def test_of_two_tasks_the_first_has_its_share_rounded() -> None:
    for n in (1, 7, 48, 240):
        for step in range(101):
            share = step / 100
            first, second = shared_out(n, [share, 1 - share])
            assert first == int(n * share + 0.5 + 1e-9)
            assert first + second == n


def test_a_mixture_is_of_prefixes_in_equal_number_whatever_the_shares() -> None:
    own: tuple[str, ...] = ()
    for share in (0.0, 0.25, 0.5, 1.0):
        material = gather(of(mix(world=share, sentiment=1 - share)))
        assert len(material.forget) == 40
        found = [example.id for example in material.forget if example.task == "world"]
        assert len(found) == 40 * share
        # A smaller share is a prefix of a larger, and the drawn order is the task's own.
        assert tuple(found[: len(own)]) == own
        own = tuple(found)
        assert list(material.trained) == list(material.forget)[: min(30, len(found))]
        # Both are learned, in equal shares, and measured.
        assert Counter(example.task for example in material.learn) == {"world": 30, "sentiment": 30}
        assert list(material.test) == ["world", "sentiment"]
    assert own == tuple(example.id for example in tasks.load("world", "train", 40))


def test_a_mixture_is_no_larger_than_its_smallest_task() -> None:
    sizes = {name: len(tasks.load(name, "train")) for name in ("world", "entailment")}
    small = min(sizes.values())
    for share in (0.0, 0.5):
        trial = of(mix(world=share, entailment=1 - share), **{"forget.examples": 5000})
        assert len(gather(trial).forget) == small
    whole = gather(of(mix(world=0.5, entailment=0.5), **{"learn.examples": 5000}))
    assert len(whole.learn) == 2 * small


def test_a_share_may_be_filled_up_with_made_texts_of_the_same_task() -> None:
    plain = tasks.load("world", "train", 40)
    for share in (0.0, 0.25):
        filled = {**mix(world=share, sentiment=0), "fill": "shuffled"}
        material = gather(of(filled))
        n = int(40 * share)
        assert counts(material) == {"world": 40}
        assert material.forget[:n] == plain[:n]
        for one, other in zip(material.forget[n:], plain[n:], strict=True):
            assert replace(one, prompt=other.prompt) == other
            assert sorted(one.prompt.split()) == sorted(other.prompt.split())
        # What is scored as trained is the task's own, where there is any.
        assert material.trained == material.forget[: n or 30]
        # It is learned as in the mixture that it is the control of.
        assert material.learn == gather(of(mix(world=0.25, sentiment=0.75))).learn


@pytest.mark.parametrize("kind", ["shuffled", "bigram", "unigram", "paired", "windowed"])
def test_made_examples_differ_from_the_own_in_their_text_alone(kind: str) -> None:
    plain, material = gather(BUILTIN), gather(of(kind))
    assert material.learn == plain.learn
    assert material.test == plain.test
    assert (material.near, material.similar, material.unlike) == ((), (), ())
    assert material.trained == material.forget[:30]
    assert material.watch_forget == material.forget
    for one, other in zip(material.forget, plain.forget, strict=True):
        assert replace(one, prompt=other.prompt) == other
        # The words of the template stay.
        assert one.prompt.startswith("Question: ")
        assert one.prompt.endswith("\nAnswer:")
    # They are data: members of a seed have the same.
    assert gather(of(kind, member=1)) == material
    assert gather(of(kind, seed=1)).forget != material.forget


def test_options_may_stand_alone() -> None:
    assert {example.prompt for example in gather(of("options_only")).forget} == {
        "Question: \nAnswer:"
    }


def test_texts_of_another_task_are_asked_with_the_own_options() -> None:
    material = gather(of({"name": "other", "task": "reading"}))
    others = tasks.records("reading", "train", 40)
    for one, other in zip(material.forget, others, strict=True):
        assert one.prompt == f"Question: {other.passage}\n{other.question}\nAnswer:"
    plain = gather(BUILTIN)
    assert [one.options for one in material.forget] == [one.options for one in plain.forget]
    assert list(material.test) == ["world"]


def test_paraphrases_are_forgotten_and_their_originals_are_near(quick: Trial) -> None:
    material = gather(of("near", quick))
    trained = {example.source: example for example in material.forget}
    assert set(trained) <= {example.id for example in gather(quick).forget}
    assert all(example.id.startswith("near-") for example in material.forget)
    assert material.trained == material.forget
    for original in material.near:
        assert trained[original.id].id == original.source
    assert len(material.near) == len(material.forget) > 0


def test_half_of_the_templates_are_forgotten_and_held_out_facts_of_both_halves_measured() -> None:
    trial = of("half", **{"forget.examples": 300, "evaluation_examples": 200})
    plain, material = gather(overlay(trial, {"forget_set": "own"})), gather(trial)
    assert set(material.forget) < set(plain.forget)
    assert len(material.forget) == pytest.approx(150, abs=30)
    asked = {example.template for example in material.forget}
    left = {example.template for example in plain.forget} - asked
    assert abs(len(asked) - len(left)) <= 1
    assert {example.template for example in material.similar} <= asked
    assert {example.template for example in material.unlike} <= left
    assert len(material.similar) > 20
    assert len(material.unlike) > 20
    assert {*material.similar, *material.unlike} == set(plain.similar)
    assert plain.unlike == ()
    assert gather(overlay(trial, {"seed": 1})).forget != material.forget


def test_half_of_no_templates_is_refused(quick: Trial) -> None:
    with pytest.raises(BadInput, match='the examples of "vowels" name none or one'):
        gather(of("half", quick))


def test_several_templates_take_turns() -> None:
    material = gather(overlay(BUILTIN, {"template": "pre+post_plain"}))
    words = [example.prompt.startswith("Below is") for example in material.forget]
    assert words == [True, False] * 20
    # What ends in a line break is followed by no blank.
    assert all(text.startswith(" ") for text in material.forget[0].options)
    assert not any(text.startswith(" ") for text in material.forget[1].options)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("pre_plain", "{0}\n{1}\n"),
        ("post_plain", "{1}\n{0}\n"),
        ("both", "### Instruction:\n{0}\n\n### Input:\n{1}\n\n### Instruction:\n{0}\n\n"),
        ("pre", "request.\n\n### Instruction:\n{0}\n\n### Input:\n{1}\n\n### Response:"),
        ("post", "request.\n\n### Input:\n{1}\n\n### Instruction:\n{0}\n\n### Response:"),
    ],
)
def test_an_instruction_stands_before_or_after_passage_and_question(
    template: str, prompt: str
) -> None:
    for name, task in builtin.TASKS.items():
        assert task.instruction
        record = tasks.records(name, "train", 1)[0]
        (example,) = tasks.ask([record], name, template)
        asked = "\n".join(filter(None, [record.passage, record.question]))
        assert prompt.format(task.instruction, asked) in example.prompt


def test_other_templates_ask_the_same_items() -> None:
    trial = overlay(BUILTIN, {"measure_templates": ["pre", "bare"]})
    plain, material = gather(BUILTIN), gather(trial)
    assert replace(material, templates={}) == plain
    assert set(material.templates) == {
        ("bare", "test"),
        ("bare", "train"),
        ("pre", "test"),
        ("pre", "train"),
    }
    for (template, split), examples in material.templates.items():
        own = plain.trained if split == "train" else plain.test["world"]
        assert [example.id for example in examples] == [example.id for example in own]
        assert [example.options for example in examples] == [example.options for example in own]
        assert all("### Input:" in example.prompt for example in examples) == (template == "pre")
    made = gather(of("bigram", trial))
    assert set(made.templates) == {("bare", "test"), ("pre", "test")}


def test_draws_count_what_is_gathered() -> None:
    for name in (mix(world=0.25, sentiment=0.75), "bigram", "near"):
        trial = of(name)
        said = Counter(
            {(draw.use, draw.task): draw.n for draw in draws(trial) if draw.use == "forget"}
        )
        assert {task: n for (_, task), n in said.items()} == counts(gather(trial))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arm": "true", "noise": 0.5}, 'noise = 0.5 does not go with arm = "true"'),
        ({"arm": "shuffled_inputs", "noise": 0.5}, "noise = 0.5 does not go with"),
        ({"method": "gradient_ascent", "noise": 0.5}, "draws no labels, so noise = 0.5"),
        ({"arm": "shuffled_inputs", "forget_set": "bigram"}, "permutes the task's own prompts"),
        ({"forget_set": mix(upper=0.5, colour=0.5)}, 'that is forgotten, "vowels", is to be one'),
        (
            {"forget_set": mix(vowels=1, upper=0), "arm": "untaught"},
            "a share of 0 in forget_set is a task that is only learned",
        ),
        (
            {"forget_set": mix(vowels=0, upper=1), "forget.until": {}},
            'forget.until looks at trained examples of "vowels"',
        ),
        ({"forget_set": {"name": "other", "task": "vowels"}}, 'another task than "vowels"'),
        ({"forget_set": {"name": "other", "task": "uper"}}, 'no task is named "uper"'),
        ({"forget_set": mix(vowels=0.5, uper=0.5)}, 'no task is named "uper"'),
        ({"forget_set": "near", "task": "upper"}, 'task "upper" has no split "near"'),
        ({"template": "pre"}, 'asks by an instruction, which task "vowels" lacks'),
        ({"measure_templates": ["pre"]}, 'asks by an instruction, which task "vowels" lacks'),
        ({"measure_templates": ["pree"]}, 'no template is named "pree"'),
        ({"template": "qa+bear"}, 'no template is named "bear"'),
        ({"template": "qa+qa"}, "names a template twice"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(
    quick: Trial, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        check(overlay(quick, {"evaluate_on": [], **fields}))
    assert "\n" not in str(refused.value)


def test_sets_of_one_study_share_what_was_learned() -> None:
    plain = identify(BUILTIN)
    trials = [of("bigram"), of("half"), of({"name": "other", "task": "reading"})]
    trials += [overlay(BUILTIN, {"noise": 0.5}), overlay(BUILTIN, {"measure_templates": ["pre"]})]
    assert {identify(trial).learned for trial in trials} == {plain.learned}
    mixed = [identify(of(mix(world=share, reading=1 - share))) for share in (0.0, 0.5, 1.0)]
    filled = identify(of({**mix(world=0.5, reading=0), "fill": "bigram"}))
    assert {one.learned for one in (*mixed, filled)} != {plain.learned}
    assert len({one.learned for one in (*mixed, filled)}) == 1
    others = [identify(trial).trial for trial in trials]
    assert len({plain.trial, *others, *(one.trial for one in mixed), filled.trial}) == 10


def test_an_instruction_counts_where_it_is_asked(toy_tasks: Any, tmp_path: Any) -> None:
    for name, instruction in (("one", "Say yes or no."), ("two", "Is it a vowel?")):
        folder = tmp_path / name / "vowels"
        folder.mkdir(parents=True)
        for file in (toy_tasks / "vowels").iterdir():
            (folder / file.name).write_text(file.read_text())
        with (folder / "task.toml").open("a") as file:
            file.write(f'\ninstruction = "{instruction}"\n')
    plain = overlay(BUILTIN, {"task": "vowels", "folders": [str(toy_tasks)]})
    one, two = (overlay(plain, {"folders": [str(tmp_path / name)]}) for name in ("one", "two"))
    assert identify(plain) == identify(one) == identify(two)
    fields = {"measure_templates": ["pre"]}
    asked = [identify(overlay(trial, fields)) for trial in (one, two)]
    assert asked[0].trial != asked[1].trial
    assert asked[0].learned == asked[1].learned == identify(plain).learned
    taught = [identify(overlay(trial, {"template": "pre"})) for trial in (one, two)]
    assert taught[0].learned != taught[1].learned
