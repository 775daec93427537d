"""Tasks written as folders of JSONL, and read back."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Forget

from forget import tasks
from forget.errors import BadInput
from forget.tasks import builtin, files
from forget.tasks.task import Record, Task


def reads_back(task: Task, folder: Path) -> None:
    """Each split of the written task gives the Examples of the original, in its order."""
    files.write_tasks([task], folder)
    (copy,) = files.tasks([str(folder)]).values()
    assert (copy.name, copy.family, copy.splits) == (task.name, task.family, task.splits)
    for split in task.splits:
        assert list(copy.records(split)) == list(task.records(split))
    for options in ("two", "all"):
        for split in task.splits:
            mine = tasks.load(task.name, split, 50, 3, folders=[str(folder)], options=options)
            assert mine == tasks.load(task.name, split, 50, 3, options=options)


@pytest.mark.parametrize("name", builtin.TASKS)
def test_a_task_that_ships_reads_back_as_it_was(name: str, tmp_path: Path) -> None:
    reads_back(builtin.TASKS[name], tmp_path / "out")


def test_any_wording_survives(tmp_path: Path) -> None:
    records = [
        Record("é😀\x7f", 'a "quoted" \\ line\n\u2028\x7f', ("{b}", "\tc"), 1, "p\r\n", "s\x00")
    ]
    task = Task(
        "odd",
        "😀 \x7f",
        '{passage}\n"""\\ {{x}} 😀 \x7f {question}\n{listed}',
        lambda split: records,
        str,
        splits=("test",),
        option="\t{choice}",
    )
    files.write_tasks([task], tmp_path)
    (copy,) = files.tasks([str(tmp_path)]).values()
    assert copy.records("test") == records
    assert (copy.prompt, copy.option, copy.family) == (task.prompt, task.option, task.family)


def test_a_task_that_is_not_whole_is_not_written(tmp_path: Path) -> None:
    good = builtin.TASKS["world"]
    bad = replace(good, name="bad", records=lambda split: [Record("1", "q", ("a", "a"), 0)])
    with pytest.raises(BadInput, match=r'^task "bad", item 1: choices: .a. stands there more than'):
        files.write_tasks([good, bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(BadInput, match=r"file: the tasks cannot be written \(File exists\)"):
        files.write_tasks([builtin.TASKS["world"]], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"


def test_the_command_writes_tasks_that_a_study_finds(
    forget: Forget, toy_tasks: Path, tmp_path: Path
) -> None:
    code, out, error = forget(
        "tasks", "--export", "data/own", "world", "vowels", "--folder", str(toy_tasks)
    )
    assert (code, out.splitlines(), error) == (0, ["data/own/world", "data/own/vowels"], "")
    assert sorted(files.tasks([str(tmp_path / "data/own")])) == ["vowels", "world"]
    assert sorted(path.name for path in (tmp_path / "data/own/world").iterdir()) == [
        "near.jsonl",
        "similar.jsonl",
        "task.toml",
        "test.jsonl",
        "train.jsonl",
    ]
    own = tasks.load("vowels", "near", folders=[str(tmp_path / "data/own")])
    assert own == tasks.load("vowels", "near", folders=[str(toy_tasks)])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out", "world", "wrld"], 'no task is named "wrld"; did you mean "world"?'),
        (["there", "science", "world"], "there/world is there already; remove it, or name another"),
        (["out"], "to export tasks, give a folder and names"),
    ],
)
def test_a_mistake_costs_one_sentence_and_writes_nothing(
    words: list[str], sentence: str, forget: Forget, tmp_path: Path
) -> None:
    (tmp_path / "there" / "world").mkdir(parents=True)
    code, _, error = forget("tasks", "--export", *words)
    assert (code, error.count("\n")) == (2, 1)
    assert sentence in error
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "world"]
    code, _, error = forget("tasks", "world")
    assert (code, "give a folder and names" in error) == (2, True)


def test_a_hub_that_cannot_be_reached_costs_one_sentence(tmp_path: Path) -> None:
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        offline.pop(name, None)
    command = [sys.executable, "-m", "pipelines.cli", "tasks", "--export", str(tmp_path / "out")]
    done = subprocess.run([*command, "world", "rte"], env=offline, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('forget: task "rte": the split "train" of nyu-mll/glue')
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
