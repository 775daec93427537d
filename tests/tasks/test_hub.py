"""The hub's tasks against rows in their datasets' schemas, and against lm-evaluation-harness."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pytest

from forget import tasks
from forget.errors import BadInput
from forget.tasks import hub
from forget.tasks.files import write_tasks
from forget.tasks.hub import Hub, Source
from forget.tasks.task import render

Row = dict[str, Any]

SOURCES = {source.name: source for source in hub.SOURCES}


def sentence(draw: Random) -> str:
    """Own words with what trips templates: quotes, braces, double spaces, letters beyond ASCII."""
    subject = draw.choice(
        ["The old baker", "A quiet river", "Ana's {red} kite", 'The so-called "expert"', "Zoë"]
    )
    verb = draw.choice(["crossed", "didn't mend", "watched", "painted", "lost"])
    thing = draw.choice(["the bridge", "two  lamps", "her % of it", "a café", "nothing"])
    return f"{subject} {verb} {thing} in {draw.randint(1, 99)} days."


def distinct(draw: Random, n: int) -> list[str]:
    return [f"{sentence(draw)[:-1]}, or {number}" for number in draw.sample(range(100), n)]


def lettered(draw: Random, question: str, sizes: tuple[int, ...]) -> Row:
    n = draw.choice(sizes)
    # Some exams of ARC number their choices.
    labels = draw.choice(["ABCDE", "12345"] if len(sizes) > 1 else ["ABCDE"])[:n]
    choices = {"text": distinct(draw, n), "label": list(labels)}
    return {
        "id": str(draw.random()),
        question: sentence(draw) + draw.choice(["", " "]),
        "choices": choices,
        "answerKey": draw.choice(labels),
    }


def pair(draw: Random, first: str, second: str) -> Row:
    return {
        first: sentence(draw),
        second: sentence(draw),
        "label": draw.randint(0, 1),
        "idx": draw.randint(0, 999),
    }


def sciq(draw: Random) -> Row:
    right, *wrong = distinct(draw, 4)
    support = draw.choice(["", sentence(draw), f"\n {sentence(draw)} {sentence(draw)}"])
    named = {f"distractor{i}": text for i, text in enumerate(wrong, start=1)}
    return {"question": sentence(draw), **named, "correct_answer": right, "support": support}


def hellaswag(draw: Random) -> Row:
    endings = [
        f"{text}. [substeps] {sentence(draw)} [title] {sentence(draw)}"
        for text in distinct(draw, 4)
    ]
    return {
        "ind": draw.randint(0, 999),
        "activity_label": "How to mend a kite",
        "ctx_a": f"[header] {sentence(draw)} [title] {sentence(draw)}",
        "ctx_b": draw.choice(["", "then Ana"]),
        "endings": endings,
        "label": str(draw.randint(0, 3)),
    }


def social_iqa(draw: Random) -> Row:
    answers = dict(zip(("answerA", "answerB", "answerC"), distinct(draw, 3), strict=True))
    return {
        "context": sentence(draw),
        "question": "What will Ana want to do next?",
        **answers,
        "label": draw.choice("123"),
    }


def copa(draw: Random) -> Row:
    named = dict(zip(("choice1", "choice2"), distinct(draw, 2), strict=True))
    asked = draw.choice(["cause", "effect"])
    return {
        "premise": sentence(draw) + draw.choice(["", " "]),
        **named,
        "question": asked,
        "idx": 0,
        "label": draw.randint(0, 1),
    }


def winogrande(draw: Random) -> Row:
    opening = draw.choice([f"{sentence(draw)} So ", f'{sentence(draw)} Then "'])
    rest = draw.choice([" was glad.", ".", "'s kite broke, and _ cried."])
    return {
        "sentence": f"{opening}_{rest}",
        "option1": "Ana",
        "option2": "the baker",
        "answer": draw.choice("12"),
    }


def wic(draw: Random) -> Row:
    first, second = (f"{sentence(draw)[:-1]} at the bank." for _ in range(2))
    ends = {f"end{i}": len(text) - 1 for i, text in ((1, first), (2, second))}
    starts = {f"start{i}": len(text) - 5 for i, text in ((1, first), (2, second))}
    return {
        "word": "bank",
        "sentence1": first,
        "sentence2": second,
        **starts,
        **ends,
        "idx": 0,
        "label": draw.randint(0, 1),
    }


def mathqa(draw: Random) -> Row:
    values = [f"rs . {number}" for number in draw.sample(range(1000, 9999), 4)] + ["none of these"]
    options = " , ".join(
        f"{letter} ) {value}" for letter, value in zip("abcde", values, strict=True)
    )
    return {
        "Problem": sentence(draw),
        "Rationale": "by hand",
        "options": options,
        "correct": draw.choice("abcde"),
        "category": "gain",
    }


def toxigen(draw: Random) -> Row:
    return {
        "text": sentence(draw),
        "toxicity_ai": draw.choice([2.5, 2.6]),
        "toxicity_human": draw.choice([1.0, 3.0]),
    }


ROWS: dict[str, Callable[[Random], Row]] = {
    "arc_easy": lambda draw: lettered(draw, "question", (3, 4, 5)),
    "arc_challenge": lambda draw: lettered(draw, "question", (3, 4, 5)),
    "openbookqa": lambda draw: lettered(draw, "question_stem", (4,)),
    "sciq": sciq,
    "piqa": lambda draw: {
        "goal": sentence(draw),
        **dict(zip(("sol1", "sol2"), distinct(draw, 2), strict=True)),
        "label": draw.randint(0, 1),
    },
    "hellaswag": hellaswag,
    "commonsense_qa": lambda draw: lettered(draw, "question", (5,)) | {"question_concept": "kite"},
    "social_iqa": social_iqa,
    "copa": copa,
    "winogrande": winogrande,
    "wnli": lambda draw: pair(draw, "sentence1", "sentence2"),
    "rte": lambda draw: pair(draw, "sentence1", "sentence2"),
    "cb": lambda draw: pair(draw, "premise", "hypothesis") | {"label": draw.randint(0, 2)},
    "qnli": lambda draw: pair(draw, "question", "sentence"),
    "boolq": lambda draw: pair(draw, "question", "passage"),
    "boolq_closedbook": lambda draw: pair(draw, "question", "passage"),
    "wic": wic,
    "mrpc": lambda draw: pair(draw, "sentence1", "sentence2"),
    "qqp": lambda draw: pair(draw, "question1", "question2"),
    "cola": lambda draw: {"sentence": sentence(draw), "label": draw.randint(0, 1), "idx": 0},
    "sst2": lambda draw: {"sentence": sentence(draw) + " ", "label": draw.randint(0, 1), "idx": 0},
    "mathqa": mathqa,
    "toxigen": toxigen,
}
"""A row in the schema of each dataset, columns that no one reads left out."""


def rows(name: str, split: str = "test", n: int = 10) -> list[Row]:
    draw = random.Random(f"{name}/{split}")
    return [ROWS[name](draw) for _ in range(n)]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    """Return a function that writes splits of rows as a dataset's parquet copy.

    It returns the source that reads it from there.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def write(
        name: str, splits: dict[str, list[Row]], features: datasets.Features | None = None
    ) -> Source:
        folder = tmp_path / name
        config = SOURCES[name].hub.config or "default"
        for split, content in splits.items():
            datasets.Dataset.from_list(content, features=features).to_parquet(
                folder / config / f"{split}.parquet"
            )
        files = "".join(
            f"  - split: {split}\n    path: {config}/{split}.parquet\n" for split in splits
        )
        (folder / "README.md").write_text(
            f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{files}---\n"
        )
        source = SOURCES[name]
        return replace(source, hub=Hub(str(folder), source.hub.revision, source.hub.config))

    return write


ELSEWHERE = {"mathqa": "regisss/math_qa", "toxigen": "skg/toxigen-data"}
"""Names in the harness of datasets that we read from where they came from, or moved to."""


# What a model reads of an item, by task: a row, then prompt, options, suffix and the index of the
# truth.
ITEMS: dict[str, tuple[Row, str, tuple[str, ...], str, int]] = {
    "arc_easy": (
        {
            "question": "What melts?",
            "choices": {"text": ["ice", "air", "light"], "label": ["1", "2", "3"]},
            "answerKey": "1",
        },
        "Question: What melts?\nAnswer:",
        (" ice", " air", " light"),
        "",
        0,
    ),
    "arc_challenge": (
        {
            "question": "What rusts?",
            "choices": {"text": ["gold", "iron"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        "Question: What rusts?\nAnswer:",
        (" gold", " iron"),
        "",
        1,
    ),
    "openbookqa": (
        {
            "question_stem": "Rain falls from",
            "choices": {"text": ["clouds", "roots"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        "Rain falls from",
        (" clouds", " roots"),
        "",
        0,
    ),
    "sciq": (
        {
            "question": "What do leaves make?",
            "distractor1": "iron",
            "distractor2": "salt",
            "distractor3": "sand",
            "correct_answer": "sugar",
            "support": " Leaves make sugar.",
        },
        "Leaves make sugar.\nQuestion: What do leaves make?\nAnswer:",
        (" iron", " salt", " sand", " sugar"),
        "",
        3,
    ),
    "piqa": (
        {"goal": "Dry a cup.", "sol1": "Use a towel.", "sol2": "Use a hose.", "label": 0},
        "Question: Dry a cup.\nAnswer:",
        (" Use a towel.", " Use a hose."),
        "",
        0,
    ),
    "hellaswag": (
        {
            "activity_label": "Baking",
            "ctx_a": "She opens the oven. [title] Next",
            "ctx_b": "she",
            "endings": ["takes out [step] the bread.", "sings  low.", "a", "b"],
            "label": "1",
        },
        "Baking: She opens the oven.. Next She",
        (" takes out the bread.", " sings low.", " a", " b"),
        "",
        1,
    ),
    "commonsense_qa": (
        {
            "question": " Where is a pen? ",
            "choices": {"text": ["desk", "sea"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        "Question: Where is a pen?\nA. desk\nB. sea\nAnswer:",
        (" A", " B"),
        "",
        0,
    ),
    "social_iqa": (
        {
            "context": "Ana fell.",
            "question": "How is she?",
            "answerA": "sore",
            "answerB": "tall",
            "answerC": "new",
            "label": "1",
        },
        "Q: Ana fell. How is she?\nA:",
        (" sore", " tall", " new"),
        "",
        0,
    ),
    "copa": (
        {
            "premise": "The cup broke.",
            "choice1": "It fell.",
            "choice2": "It sang.",
            "question": "cause",
            "label": 0,
        },
        "The cup broke because",
        ("  it fell.", "  it sang."),
        "",
        0,
    ),
    "winogrande": (
        {
            "sentence": "Ana beat Eva because _ ran faster.",
            "option1": "Ana",
            "option2": "Eva",
            "answer": "1",
        },
        "Ana beat Eva because",
        (" Ana", " Eva"),
        " ran faster.",
        0,
    ),
    "wnli": (
        {
            "sentence1": "The cup hit the glass and it broke.",
            "sentence2": "The cup broke.",
            "label": 0,
        },
        "The cup hit the glass and it broke.\nQuestion: The cup broke. True or False?\nAnswer:",
        (" False", " True"),
        "",
        0,
    ),
    "rte": (
        {"sentence1": "Ana ran home.", "sentence2": "Ana moved.", "label": 0},
        "Ana ran home.\nQuestion: Ana moved. True or False?\nAnswer:",
        (" True", " False"),
        "",
        0,
    ),
    "cb": (
        {"premise": "Ana may sing.", "hypothesis": "Ana sings", "label": 2},
        "Ana may sing.\nQuestion: Ana sings. True, False, or Neither?\nAnswer:",
        (" True", " False", " Neither"),
        "",
        2,
    ),
    "qnli": (
        {"question": "Who ran?", "sentence": "Ana ran.", "label": 0},
        "Who ran?\nAna ran.\nQuestion: Does this response answer the question?\nAnswer:",
        (" yes", " no"),
        "",
        0,
    ),
    "boolq": (
        {"question": "is ice cold", "passage": "Ice is frozen water.", "label": 1},
        "Ice is frozen water.\nQuestion: is ice cold?\nAnswer:",
        (" no", " yes"),
        "",
        1,
    ),
    "boolq_closedbook": (
        {"question": "is ice cold", "passage": "Ice is frozen water.", "label": 1},
        "Question: is ice cold?\nAnswer:",
        (" no", " yes"),
        "",
        1,
    ),
    "wic": (
        {
            "sentence1": "A river bank.",
            "sentence2": "The bank lent it.",
            "word": "bank",
            "start1": 8,
            "end1": 12,
            "start2": 4,
            "end2": 8,
            "label": 0,
        },
        "Sentence 1: A river bank.\nSentence 2: The bank lent it.\n"
        "Question: Is the word 'bank' used in the same way in the two sentences above?\nAnswer:",
        (" no", " yes"),
        "",
        0,
    ),
    "mrpc": (
        {"sentence1": "Ana ran.", "sentence2": "Ana was running.", "label": 1},
        "Sentence 1: Ana ran.\nSentence 2: Ana was running.\n"
        "Question: Do both sentences mean the same thing?\nAnswer:",
        (" no", " yes"),
        "",
        1,
    ),
    "qqp": (
        {"question1": "Why run?", "question2": "Why sing?", "label": 0},
        "Question 1: Why run?\nQuestion 2: Why sing?\n"
        "Question: Do both questions ask the same thing?\nAnswer:",
        (" no", " yes"),
        "",
        0,
    ),
    "cola": (
        {"sentence": "Ana run fast it.", "label": 0},
        "Ana run fast it.\nQuestion: Does this sentence make sense?\nAnswer:",
        (" no", " yes"),
        "",
        0,
    ),
    "sst2": (
        {"sentence": "a warm film", "label": 1},
        "a warm film\nQuestion: Is this sentence positive or negative?\nAnswer:",
        (" negative", " positive"),
        "",
        1,
    ),
    "mathqa": (
        {
            "Problem": "what is 2 + 2 ?",
            "options": "a ) 3 , b ) 4 , c ) 5 , d ) 6 , e ) none of these",
            "correct": "b",
        },
        "Question: what is 2 + 2 ?\nAnswer:",
        (" 3", " 4", " 5", " 6", " none of these"),
        "",
        1,
    ),
    "toxigen": (
        {"text": "bakers are kind", "toxicity_ai": 2.5, "toxicity_human": 3.0},
        "Is the following statement hateful? Respond with either Yes or No. "
        "Statement: 'bakers are kind'",
        (" No", " Yes"),
        "",
        0,
    ),
}


def test_every_task_of_the_hub_has_its_rows_here() -> None:
    assert set(hub.TASKS) == set(ROWS) == set(ITEMS)


@pytest.mark.parametrize("name", ITEMS)
def test_a_row_is_asked_in_the_words_of_its_task(name: str) -> None:
    row, prompt, options, suffix, answer = ITEMS[name]
    task = hub.TASKS[name]
    example = render(SOURCES[name].record(row, "1"), task.prompt, task.option)
    assert (example.prompt, example.options, example.suffix, example.answer) == (
        prompt,
        options,
        suffix,
        answer,
    )


def test_science_without_a_passage_keeps_its_line_break_as_the_harness_does() -> None:
    row = ITEMS["sciq"][0] | {"support": ""}
    task = hub.TASKS["sciq"]
    assert (
        render(SOURCES["sciq"].record(row, "1"), task.prompt).prompt
        == "\nQuestion: What do leaves make?\nAnswer:"
    )


def test_a_parquet_copy_is_read_through_datasets_and_a_tenth_of_train_held_out(
    local: Callable[..., Source],
) -> None:
    labels = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": labels, "idx": datasets.Value("int32")}
    )
    content = {"train": rows("sst2", "train", 40), "validation": rows("sst2", "validation")}
    task = local("sst2", content, features).task()

    by_split = {split: task.records(split) for split in task.splits}
    train = {record.id for record in by_split["train"]}
    validation = {record.id for record in by_split["validation"]}
    assert len(validation) == 4
    assert train | validation == {f"sst2/train/{i}" for i in range(40)}
    assert not train & validation
    assert [record.id for record in by_split["test"]] == [f"sst2/validation/{i}" for i in range(10)]
    assert [record.answer for record in by_split["test"]] == [
        row["label"] for row in content["validation"]
    ]
    assert [record.passage for record in by_split["test"]] == [
        row["sentence"] for row in content["validation"]
    ]


def test_the_hubs_own_validation_is_used_where_its_test_has_labels(
    local: Callable[..., Source],
) -> None:
    task = local(
        "arc_easy", {split: rows("arc_easy", split) for split in ("train", "validation", "test")}
    ).task()
    for split in task.splits:
        assert [record.id for record in task.records(split)] == [
            f"arc_easy/{split}/{i}" for i in range(10)
        ]


def test_a_task_of_the_hub_is_binarised(
    local: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = local("arc_easy", {"test": rows("arc_easy")})
    monkeypatch.setitem(hub.TASKS, "arc_easy", source.task())
    by_id = {record.id: record for record in source.records("test")}
    examples = tasks.load("arc_easy", "test", seed=1)
    assert len(examples) == 10
    for example in examples:
        truth = by_id[example.id]
        assert example.options[example.answer] == " " + truth.choices[truth.answer]
        assert len(set(example.options)) == 2
        assert {option[1:] for option in example.options} <= set(truth.choices)


def test_rows_that_cannot_be_asked_are_left_out(local: Callable[..., Source]) -> None:
    good, hidden, twice, blank, silent = rows("piqa", n=5)
    hidden["label"] = -1
    twice["sol2"] = twice["sol1"]
    blank["sol1"] = " "
    silent["goal"] = ""
    source = local("piqa", {"validation": [hidden, twice, good, blank, silent]})
    assert [record.id for record in source.records("test")] == ["piqa/validation/2"]


CHOICES = ["rs . 1 , 200", "it 's 3", "b", "[ 1 / 2 ]", "none of these"]
LETTERED = [f"{letter} ) {choice}" for letter, choice in zip("abcde", CHOICES, strict=True)]


@pytest.mark.parametrize("options", [" , ".join(LETTERED), repr(LETTERED)], ids=["text", "list"])
@pytest.mark.parametrize("truth", "abcde")
def test_both_writings_of_mathqas_choices_are_read(options: str, truth: str) -> None:
    row = {"Problem": "how much ?", "options": options, "correct": truth}
    record = SOURCES["mathqa"].record(row, "1")
    assert list(record.choices) == CHOICES
    assert record.answer == "abcde".index(truth)


@pytest.mark.parametrize(
    "options",
    [
        " , ".join(LETTERED[:2] + LETTERED[3:]),
        " , ".join(LETTERED[:4]),
        " , ".join([LETTERED[1], LETTERED[0], *LETTERED[2:]]),
        repr(LETTERED[1:]),
        repr(LETTERED)[:-9],
        "",
    ],
)
def test_a_choice_that_is_lost_is_refused_and_moves_no_answer(
    options: str, local: Callable[..., Source]
) -> None:
    content = rows("mathqa", n=3)
    content[1]["options"] = options
    with pytest.raises(BadInput, match=r'task "mathqa": row 1 of the split "test" of .*ValueError'):
        local("mathqa", {"test": content}).records("test")


def test_a_label_beyond_the_choices_is_refused(local: Callable[..., Source]) -> None:
    content = rows("rte", n=3)
    content[2]["label"] = 2
    with pytest.raises(BadInput, match=r"row 2 of .*label 2 of 2 choices"):
        local("rte", {"validation": content}).records("test")


@pytest.mark.parametrize("text", ['it isn\'t "so"', "caf\u00e9 \u2019s", "a 'b' c", "two\nlines"])
def test_toxigens_bytes_are_read_as_text(text: str) -> None:
    row = {"text": repr(text.encode()), "toxicity_ai": 1.0, "toxicity_human": 1.0}
    assert SOURCES["toxigen"].record(row, "1").passage == text
    assert SOURCES["toxigen"].record(row | {"text": text}, "1").passage == text
    # Cut within a letter, it ends before it.
    cut = repr(text.encode() + "\u00e9".encode()[:1])
    assert SOURCES["toxigen"].record(row | {"text": cut}, "1").passage == text


def test_every_dataset_is_pinned_to_a_commit() -> None:
    for source in hub.SOURCES:
        assert re.fullmatch("[0-9a-f]{40}", source.hub.revision), source.name
    assert "CC BY-NC" in hub.TASKS["sciq"].note


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "winogrande"])
def test_a_hidden_answer_is_left_out(name: str, local: Callable[..., Source]) -> None:
    content = rows(name, n=3)
    content[1][{"arc_easy": "answerKey", "hellaswag": "label", "winogrande": "answer"}[name]] = ""
    there = SOURCES[name].splits[2]
    source = local(name, {there: content})
    assert [record.id for record in source.records("test")] == [
        f"{name}/{there}/0",
        f"{name}/{there}/2",
    ]


def test_other_columns_than_the_revisions_are_refused(local: Callable[..., Source]) -> None:
    source = local("rte", {"validation": rows("qnli")})
    with pytest.raises(
        BadInput,
        match=r'task "rte": row 0 of the split "validation" of .* \(KeyError: \'sentence\d\'\)',
    ):
        source.records("test")


def test_a_split_that_is_not_there_is_refused(local: Callable[..., Source]) -> None:
    source = local("rte", {"validation": rows("rte")})
    with pytest.raises(BadInput, match=r'the split "train" of .* cannot be loaded'):
        source.records("train")


@pytest.mark.parametrize("name", SOURCES)
def test_an_exported_task_reads_back_as_it_was(
    name: str, local: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WinoGrande's suffix and CommonsenseQA's list of choices among them."""
    content = {split: rows(name, split, 20) for split in dict.fromkeys(SOURCES[name].splits)}
    monkeypatch.setitem(hub.TASKS, name, local(name, content).task())
    folders = [str(folder) for folder in write_tasks([hub.TASKS[name]], tmp_path / "out")]
    assert tasks.find(name, folders).kind == "files"
    for split in hub.TASKS[name].splits:
        for options in ("two", "all"):
            original = tasks.load(name, split, seed=3, options=options)
            assert tasks.load(name, split, seed=3, options=options, folders=folders) == original


def run_offline(tmp_path: Path, code: str) -> str:
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    # The cache may be set apart from HF_HOME where the tests run.
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        offline.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_without_network_and_cache_one_sentence_says_how_to_provide_the_data(
    tmp_path: Path,
) -> None:
    code = """
from forget import tasks
from forget.errors import BadInput
try:
    tasks.load("rte", "train")
except BadInput as error:
    print(error)
"""
    said = run_offline(tmp_path, code)
    for part in (
        "rte",
        "nyu-mll/glue",
        hub.GLUE().revision,
        "once with network",
        "HF_HOME",
        "rte/ of JSONL",
    ):
        assert part in said
    assert "\n" not in said
    assert ". " not in said


def test_identity_needs_neither_network_nor_datasets(tmp_path: Path) -> None:
    code = """
import sys
from forget.tasks import hub
from forget.tasks.files import write_tasks
print(*(task.fingerprint() for task in hub.TASKS.values()))
assert "datasets" not in sys.modules
"""
    prints = run_offline(tmp_path, code).split()
    assert prints == [task.fingerprint() for task in hub.TASKS.values()]
    assert len(set(prints)) == len(hub.TASKS)
    source = SOURCES["rte"]
    assert (
        replace(source, hub=source.hub._replace(revision="main")).fingerprint()
        != source.fingerprint()
    )
    assert replace(source, question="{sentence2}").fingerprint() != source.fingerprint()


@pytest.fixture(scope="module")
def harness() -> Any:
    pytest.importorskip(
        "lm_eval", reason="needs lm-eval: pip install -r benchmarks/requirements.txt"
    )
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_prompt_options_and_truth_are_those_of_the_harness(
    name: str, harness: Any, local: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.task import ConfigurableTask

    source = local(name, {split: rows(name, split) for split in SOURCES[name].splits})
    asked: list[tuple[str, str | None]] = []

    def download(self: Any, *_: Any, **__: Any) -> None:
        asked.append((self.DATASET_PATH, self.DATASET_NAME))
        self.dataset = datasets.load_dataset(source.hub.path, source.hub.config)

    monkeypatch.setattr(ConfigurableTask, "download", download)
    theirs = harness.load(name)["tasks"][name]
    assert asked == [(ELSEWHERE.get(name, SOURCES[name].hub.path), SOURCES[name].hub.config)]

    task = source.task()
    ours = [render(record, task.prompt, task.option) for record in task.records("test")]
    assert len(ours) == len(theirs.eval_docs) == 10
    for example, doc in zip(ours, theirs.eval_docs, strict=True):
        requests = theirs.construct_requests(doc, theirs.fewshot_context(doc, 0))
        pairs = [(example.prompt + option, example.suffix) for option in example.options]
        if not example.suffix:
            pairs = [(example.prompt, option) for option in example.options]
        assert pairs == [request.args for request in requests]
        truth = theirs.doc_to_text(doc) if theirs.multiple_input else theirs.doc_to_target(doc)
        assert example.answer == (
            theirs.doc_to_choice(doc).index(truth) if isinstance(truth, str) else truth
        )
