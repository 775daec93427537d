"""A user's tasks: what a folder of JSONL becomes, and with which words a wrong one is refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from forget import tasks
from forget.errors import BadInput
from forget.tasks import files
from forget.tasks.task import SPLITS, Record

SHARED = Path(__file__).parents[3] / "shared" / "data"

Write = Callable[..., Path]


def item(number: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"i{number}",
        "question": f"What is {number}?",
        "choices": ["odd", "even"],
        "answer": 1 - number % 2,
    } | other


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a task of the folder tmp_path/mine, and returns its folder.

    It takes each split's items or raw lines, and the text of task.toml.
    """

    def write(
        name: str = "parity", toml: str = "", **splits: list[Mapping[str, Any] | str]
    ) -> Path:
        folder = tmp_path / "mine" / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, lines in splits.items():
            text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
            (folder / f"{split}.jsonl").write_text(text + "\n", encoding="utf-8")
        if toml:
            (folder / "task.toml").write_text(toml, encoding="utf-8")
        return folder

    return write


def test_a_folder_of_tasks_and_a_task_itself_are_both_folders(write: Write, tmp_path: Path) -> None:
    near = item(9, id="n1", source="i0")
    write(train=[item(0), item(1)], test=[item(2)], near=[near])
    write("other", test=[item(3)])
    (tmp_path / "mine" / "notes").mkdir()
    (tmp_path / "mine" / ".hidden").mkdir()
    (tmp_path / "mine" / ".hidden" / "train.jsonl").touch()

    found = files.tasks([str(tmp_path / "mine")])
    assert {name: task.splits for name, task in found.items()} == {
        "other": ("test",),
        "parity": ("train", "test", "near"),
    }
    assert all(task.kind == "files" for task in found.values())
    assert found["parity"].records("train")[1] == Record("i1", "What is 1?", ("odd", "even"), 0)
    assert found["parity"].records("near")[0].source == "i0"

    alone = files.tasks([str(tmp_path / "mine" / "parity")])
    assert list(alone) == ["parity"]
    assert alone["parity"].fingerprint() == found["parity"].fingerprint()


def test_a_folder_is_found_from_within(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(train=[item(0)]))
    assert list(files.tasks(["."])) == ["parity"]


def test_the_default_prompt_leaves_out_an_empty_passage(write: Write) -> None:
    folder = write(test=[item(1), item(2, passage="Count.")])
    by_id = {example.id: example for example in tasks.load("parity", "test", folders=[str(folder)])}
    assert by_id["i1"].prompt == "Question: What is 1?\nAnswer:"
    assert by_id["i2"].prompt == "Count.\nQuestion: What is 2?\nAnswer:"
    assert by_id["i2"].options == (" odd", " even")


def test_task_toml_sets_prompt_option_and_family(write: Write) -> None:
    toml = (
        'prompt = "{question}\\n{listed}\\n{{A or B}} ="\noption = "{choice}"\nfamily = "numbers"\n'
    )
    folder = write(test=[item(1)], toml=toml)
    assert files.tasks([str(folder)])["parity"].family == "numbers"
    (example,) = tasks.load("parity", "test", folders=[str(folder)])
    assert example.prompt == "What is 1?\nA. odd\nB. even\n{A or B} ="
    assert example.options == ("A", "B")


def test_a_users_task_goes_before_one_that_ships(write: Write) -> None:
    folder = write("arc_easy", test=[item(1)])
    assert tasks.find("arc_easy").kind == "hub"
    assert tasks.find("arc_easy", [str(folder)]).kind == "files"


def test_identity_is_the_bytes_of_the_files(write: Write) -> None:
    (task,) = files.tasks([str(write(train=[item(0)], test=[item(1)]))]).values()
    before = task.fingerprint()
    assert task.fingerprint() == before
    write(test=[item(1, answer=1)])
    assert task.fingerprint() != before


def test_a_task_is_listed_without_reading_its_items(write: Write) -> None:
    folder = write(train=["no JSON"])
    task = files.tasks([str(folder)])["parity"]
    with pytest.raises(BadInput, match="not valid JSON"):
        task.records("train")


def test_lines_may_be_blank_and_hold_any_letters(write: Write) -> None:
    folder = write(test=["", item(1, question="naïve\u2028語?"), "  ", item(2)])
    raw = (folder / "test.jsonl").read_text(encoding="utf-8")
    unescaped = raw.replace("\\u2028", "\u2028").replace("\\u00ef", "ï").replace("\n", "\r\n")
    (folder / "test.jsonl").write_bytes(b"\xef\xbb\xbf" + unescaped.encode())
    records = files.tasks([str(folder)])["parity"].records("test")
    assert [record.id for record in records] == ["i1", "i2"]
    assert records[0].question == "naïve\u2028語?"


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in item(2).items() if k != key}


WRONG_LINES = {
    '{"id": "i2", "question": ': "line 2: not valid JSON: Expecting value at column 26",
    "[1, 2]": "line 2: not a JSON object with id, question, choices and answer",
    json.dumps(without("question")): "line 2: question: field required",
    json.dumps(item(2, passge="x")): 'line 2: unknown key "passge"; did you mean "passage"?',
    json.dumps(item(2, id=2)): "line 2: id: input should be a valid string, not 2",
    json.dumps(item(2, question=" ")): "line 2: question: is empty",
    json.dumps(item(2, choices="odd")): "line 2: choices: should be a list, not 'odd'",
    json.dumps(item(2, choices=["odd", ""])): "line 2: choices.1: is empty",
    json.dumps(
        item(2, choices=["odd", 2])
    ): "line 2: choices.1: input should be a valid string, not 2",
    json.dumps(item(2, choices=["odd"])): "line 2: choices: 1 where at least 2 are needed",
    json.dumps(
        item(2, choices=["a", "b", "a"])
    ): "line 2: choices: 'a' stands there more than once",
    json.dumps(item(2, answer="0")): "line 2: answer: input should be a valid integer, not '0'",
    json.dumps(item(2, answer=True)): "line 2: answer: input should be a valid integer, not True",
    json.dumps(
        item(2, answer=2)
    ): "line 2: answer: 2 is not the index of one of 2 choices (the first is 0)",
    json.dumps(
        item(2, answer=-1)
    ): "line 2: answer: -1 is not the index of one of 2 choices (the first is 0)",
    json.dumps(item(1)): 'line 2: id: "i1" is that of line 1 already',
}


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_wrong_line_is_refused_with_file_and_line(line: str, write: Write) -> None:
    folder = write(train=[item(1), line])
    with pytest.raises(BadInput) as refused:
        files.tasks([str(folder)])["parity"].records("train")
    assert str(refused.value) == f"{folder / 'train.jsonl'}, {WRONG_LINES[line]}"


@pytest.mark.parametrize("other", [{}, {"source": "i7"}])
def test_a_near_item_names_its_train_item(other: dict[str, str], write: Write) -> None:
    folder = write(train=[item(1)], near=[item(2, **other)])
    with pytest.raises(
        BadInput,
        match=r'near\.jsonl, line 1: source: "(i7)?" is not the id of an item of train\.jsonl',
    ):
        files.tasks([str(folder)])["parity"].records("near")


def test_near_without_train_is_refused(write: Write) -> None:
    folder = write(near=[item(2, source="i1")])
    with pytest.raises(
        BadInput, match=r"train\.jsonl: the file cannot be read \(No such file or directory\)"
    ):
        files.tasks([str(folder)])["parity"].records("near")


def test_other_bytes_than_utf8_are_refused(write: Write) -> None:
    folder = write(test=[item(1)])
    (folder / "test.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(BadInput, match=r"test\.jsonl, line 1: not UTF-8 at byte 9"):
        files.tasks([str(folder)])["parity"].records("test")


WRONG_TOML = {
    'promt = "x"': 'unknown key "promt"; did you mean "prompt"?',
    'prompt = "{qestion}"': 'prompt: {qestion} is not a placeholder; did you mean "question"?',
    'prompt = "{question!r}"': "prompt: {question} takes neither a conversion nor a format",
    'prompt = "{listed}"': "prompt: lacks {question} or {passage}",
    'prompt = "{question"': "prompt: expected '}' before end of string; write {{ and }} for braces",
    'option = " {label}"': "option: {label} is not a placeholder; known are: choice",
    'option = " yes"': "option: lacks {choice}",
    "prompt = 1": "prompt: input should be a valid string, not 1",
    'family = ""': "family: is empty",
    "prompt = ": "not valid TOML: Invalid value (at end of document)",
}


@pytest.mark.parametrize("toml", WRONG_TOML)
def test_a_wrong_task_toml_is_refused(toml: str, write: Write) -> None:
    folder = write(test=[item(1)], toml=toml)
    with pytest.raises(BadInput) as refused:
        files.tasks([str(folder)])
    assert str(refused.value) == f"{folder / 'task.toml'}: {WRONG_TOML[toml]}"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the task folder .*/nowhere does not exist"):
        files.tasks([str(tmp_path / "nowhere")])


def test_a_folder_without_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"holds no task; it or the folders in it need train\.jsonl and test\.jsonl"
    ):
        files.tasks([str(tmp_path)])


def test_a_file_that_is_no_split_is_refused(write: Write) -> None:
    folder = write(train=[item(0)], tests=[item(1)])
    with pytest.raises(
        BadInput, match=r'tests\.jsonl: "tests" is not a split; did you mean "test"\?'
    ):
        files.tasks([str(folder)])


def test_two_tasks_of_one_name_are_refused(write: Write, tmp_path: Path) -> None:
    first = write(test=[item(1)])
    second = tmp_path / "yours" / "parity"
    second.mkdir(parents=True)
    (second / "test.jsonl").write_text(json.dumps(item(1)))
    with pytest.raises(
        BadInput, match=r'task "parity" is in .*mine and in .*yours; rename one of them'
    ):
        files.tasks([str(first), str(second)])
    assert list(files.tasks([str(first), str(first.parent)])) == ["parity"]


def test_a_name_that_no_metric_can_carry_is_refused(write: Write) -> None:
    folder = write("odd or even", test=[item(1)])
    with pytest.raises(BadInput, match='"odd or even" cannot name a task'):
        files.tasks([str(folder)])


@pytest.mark.slow
def test_every_shared_benchmark_task_loads() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the benchmark data beside the repository, ../shared/data")
    found = files.tasks([str(SHARED)])
    assert len(found) == len([path for path in SHARED.iterdir() if path.is_dir()])
    for name, task in found.items():
        assert set(task.splits) <= set(SPLITS)
        for split in task.splits:
            lines = (SHARED / name / f"{split}.jsonl").read_bytes().splitlines()
            examples = tasks.load(name, split, folders=[str(SHARED)])
            assert len(examples) == len(lines) > 50
            assert all(len(example.options) == 2 and example.prompt for example in examples)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (json.dumps([item(1), item(2)]), "jq -c '.[]' test.jsonl"),
        (json.dumps([item(1), item(2)], indent=2), "jq -c '.[]' test.jsonl"),
        (json.dumps(item(1), indent=2), "jq -c . test.jsonl"),
    ],
)
def test_json_that_is_not_one_item_a_line_is_refused_with_its_cure(
    text: str, command: str, write: Write
) -> None:
    folder = write(test=[item(1)])
    (folder / "test.jsonl").write_text(text)
    with pytest.raises(BadInput, match=r"test\.jsonl, line 1: JSON ") as refused:
        files.tasks([str(folder)])["parity"].records("test")
    assert command in str(refused.value)


def test_what_file_managers_leave_is_no_part_of_a_task(write: Write) -> None:
    folder = write(test=[item(1)])
    before = files.tasks([str(folder)])["parity"].fingerprint()
    (folder.parent / "__MACOSX").mkdir()
    for place in (folder, folder.parent, folder.parent / "__MACOSX"):
        for name in ("._test.jsonl", "._train.jsonl", ".DS_Store", "Thumbs.db", "._task.toml"):
            (place / name).write_bytes(b"\x00\x05\x16\x07")
    for place in (folder, folder.parent):
        (task,) = files.tasks([str(place)]).values()
        assert (task.splits, task.fingerprint()) == (("test",), before)


def test_a_task_toml_is_read_as_a_spec_is(write: Write) -> None:
    folder = write(test=[item(1)], toml='\ufeffprompt = "{question}"')
    assert files.tasks([str(folder)])["parity"].prompt == "{question}"
    (folder / "task.toml").write_bytes('prompt = "{question} é"'.encode("latin-1"))
    with pytest.raises(BadInput, match=r"task\.toml, line 1: not UTF-8"):
        files.tasks([str(folder)])
