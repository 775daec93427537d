"""A user's tasks: folders of JSONL, an item a line; a mistake is refused with its file and line.

    <folder>/<task>/{train,validation,test,near,similar}.jsonl
        {"id": ..., "question": ..., "choices": [...], "answer": 0}
    <folder>/<task>/task.toml
        prompt, option, family, instruction; the file and each key may be left out

A folder may also be one task itself. A task has the splits whose files are there; a trial needs
train and test.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, model_validator

from forget.errors import BadInput, nearest, shown, validated
from forget.settings.identity import digest
from forget.settings.parts import Part
from forget.settings.reading import decoded, parsed
from forget.tasks.task import SPLITS, TEMPLATES, Record, Task

CHOICES = len(string.ascii_uppercase)
"""Most choices that an item may have: a prompt may name them by letters."""

SPLIT_FILES = "[!.]*.jsonl"
"""Pattern of a task's files. What begins with a dot was left by a file manager (._train.jsonl)."""

LINE = 1_000_000
"""Most bytes that a line may have: hundreds of times what a model reads."""

ITEMS = 1_000_000
"""Most lines that a file may have: they are all held in memory."""


def _whole_letters(text: str) -> str:
    # JSON can write half of a letter that UTF-16 has in two, and tokenizers have no word for it.
    if re.search(r"[\ud800-\udfff]", text):
        raise ValueError(f"{shown(text)} holds half a letter")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


AnyText = Annotated[str, AfterValidator(_whole_letters)]
Text = Annotated[AnyText, AfterValidator(_not_blank)]


class Item(Part):
    """An item of a task: a line of a JSONL file."""

    # Strict: the answer "1" or true is a mistake in the file, not the number 1.
    model_config = ConfigDict(strict=True)

    id: Text
    question: AnyText
    """May be empty only where the task's prompt does not ask it."""
    choices: list[Text]
    answer: int
    """Index of the true choice."""
    passage: AnyText = ""
    suffix: AnyText = ""
    """Text that follows the choice; where there is any, it is what gets scored."""
    source: AnyText = ""
    """Id of the train item that this one paraphrases, in near.jsonl."""
    group: AnyText = ""
    """Name of what this item was made of, where others were made of the same."""
    template: AnyText = ""
    """Name of the template that asks it."""

    @model_validator(mode="after")
    def _has_an_answer(self) -> Item:
        if len(self.choices) < 2:
            raise ValueError(f"choices: {len(self.choices)} where at least 2 are needed")
        if len(self.choices) > CHOICES:
            raise ValueError(f"choices: {len(self.choices)} where at most {CHOICES} have a letter")
        for choice in self.choices:
            if self.choices.count(choice) > 1:
                raise ValueError(f"choices: {shown(choice)} stands there more than once")
        if not 0 <= self.answer < len(self.choices):
            raise ValueError(
                f"answer: {shown(self.answer)} is not the index of one of {len(self.choices)} "
                "choices (the first is 0)"
            )
        return self


class Wording(Part):
    """Wording of a task: the fields of task.toml."""

    prompt: str = TEMPLATES["qa"]
    """Format string over {question}, {passage} and {listed} (the choices as lettered lines; an
    option is then its letter).
    """
    option: str = " {choice}"
    """Format string over {choice}, of the text that follows the prompt."""
    family: Text = "own"
    """Kind of task, by which reports group."""
    instruction: AnyText = ""
    """Sentence that says what is to be done, for templates that ask by one."""

    @model_validator(mode="after")
    def _fills(self) -> Wording:
        _check_placeholders(
            "prompt", self.prompt, ("question", "passage", "listed"), ("question", "passage")
        )
        _check_placeholders("option", self.option, ("choice",), ("choice",))
        return self


def tasks(folders: Sequence[str]) -> dict[str, Task]:
    """Return the tasks of the folders by name. Items are read only by a task's `records`.

    Raises:
        BadInput: a folder is missing or holds no task, two tasks have one name, or a task.toml is
            wrong.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        # abspath: "." has no name, and a link keeps its own.
        for path in _task_folders(Path(os.path.abspath(Path(folder).expanduser()))):
            if found.get(path.name, path) != path:
                raise BadInput(
                    f'task "{path.name}" is in {found[path.name].parent} and in {path.parent}; '
                    "rename one of them"
                )
            found[path.name] = path
    return {name: _task(path) for name, path in found.items()}


def _task_folders(folder: Path) -> list[Path]:
    """Return the folder itself where it is a task, otherwise the folders in it that are."""
    if not os.path.isdir(folder):
        raise BadInput(
            f"the task folder {folder} does not exist; "
            "give a folder with <task>/train.jsonl and <task>/test.jsonl"
        )
    if any(folder.glob(SPLIT_FILES)):
        return [folder]
    within = sorted({path.parent for path in folder.glob(f"[!.]*/{SPLIT_FILES}")})
    if not within:
        raise BadInput(
            f"the task folder {folder} holds no task; "
            "it or the folders in it need train.jsonl and test.jsonl"
        )
    return within


def _task(folder: Path) -> Task:
    # The name becomes part of metric names and of file names.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", folder.name):
        raise BadInput(
            f'{folder}: "{folder.name}" cannot name a task; use letters, digits, "_", "-" and "."'
        )
    for path in sorted(folder.glob(SPLIT_FILES)):
        if path.stem not in SPLITS:
            raise BadInput(f'{path}: "{path.stem}" is not a split{nearest(path.stem, SPLITS)}')
    # lexists: a link that leads nowhere is a mistake, which reading reports; no file is no mistake.
    splits = tuple(split for split in SPLITS if os.path.lexists(_file(folder, split)))
    wording = _wording(folder / "task.toml")
    return Task(
        folder.name,
        wording.family,
        wording.prompt,
        partial(_records, folder, wording.prompt),
        lambda: digest({split: _sha256(_file(folder, split)) for split in splits}),
        splits=splits,
        kind="files",
        option=wording.option,
        instruction=wording.instruction,
        note=str(folder),
    )


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl"


def _wording(path: Path) -> Wording:
    if not os.path.lexists(path):
        return Wording()
    with _opened(path) as file:
        fields = parsed(decoded(file.read(), str(path)), path)
    return validated(Wording, fields, str(path))


def _records(folder: Path, prompt: str, split: str) -> list[Record]:
    train = {item.id for _, item in _items(_file(folder, "train"))} if split == "near" else set()
    records = []
    for where, item in _items(_file(folder, split)):
        _check_asked(item, prompt, where)
        if split == "near" and item.source not in train:
            raise BadInput(
                f'{where}: source: "{item.source:.80}" is not the id of an item of train.jsonl'
            )
        choices = tuple(item.choices)
        records.append(
            Record(
                item.id,
                item.question,
                choices,
                item.answer,
                item.passage,
                item.suffix,
                item.source,
                item.group,
                item.template,
            )
        )
    return records


def _check_asked(item: Item, prompt: str, where: str) -> None:
    """Refuse an empty question that the prompt asks."""
    if "{question}" in prompt and not item.question.strip():
        raise BadInput(f"{where}: question: is empty")


def _items(path: Path) -> Iterator[tuple[str, Item]]:
    """Yield where each item stands, for messages, and the item. Blank lines are passed over."""
    seen: dict[str, int] = {}
    for where, number, line in _lines(path):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            if line.strip() in ("{", "[") or line.lstrip().startswith("[{"):
                raise _not_lines(path, where, line) from None
            raise BadInput(
                f"{where}: not valid JSON: {error.msg} at column {error.colno}"
            ) from None
        # Thousands of digits in a number, or brackets so deep that the reader gives up.
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: not valid JSON: {error}") from None
        if isinstance(fields, list) and any(isinstance(one, Mapping) for one in fields):
            raise _not_lines(path, where, line)
        if not isinstance(fields, Mapping):
            raise BadInput(f"{where}: not a JSON object with id, question, choices and answer")
        item = validated(Item, fields, where)
        if item.id in seen:
            raise BadInput(f'{where}: id: "{item.id:.80}" is that of line {seen[item.id]} already')
        seen[item.id] = number
        yield where, item


def _not_lines(path: Path, where: str, line: str) -> BadInput:
    """Return the error for a file of JSON whose items are not lines, with the command for it."""
    each, kind = ("'.[]'", "an array") if line.lstrip()[0] == "[" else (".", "over several lines")
    return BadInput(
        f"{where}: JSON {kind}, where each line holds an item; mend it with: "
        f"jq -c {each} {path.name} > lines && mv lines {path.name}"
    )


def _lines(path: Path) -> Iterator[tuple[str, int, str]]:
    """Yield where each line is, for messages, its number from 1, and its text."""
    with _opened(path) as file:
        number = 0
        # A limit, because a line of gigabytes would fill the memory before it can be refused.
        while line := file.readline(LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if number > ITEMS:
                raise BadInput(
                    f"{where}: a file has {ITEMS:,} lines at most; share it out over several tasks"
                )
            if len(line) > LINE:
                raise BadInput(f"{where}: longer than {LINE:,} bytes, which no model reads")
            yield where, number, decoded(line.removesuffix(b"\n"), str(path), number)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open the file.

    Raises:
        BadInput: there is none, or something that is no file.
    """
    try:
        # Opening a pipe would wait for its other end for ever.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise BadInput(f"{path}: the file cannot be read (not a file)")
        file = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    with file:
        yield file


def _sha256(path: Path) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_placeholders(key: str, text: str, known: Sequence[str], needed: Sequence[str]) -> None:
    """Check that a text is a format string over bare names.

    Args:
        key: the key of the text, for messages.
        text: the format string.
        known: names that may stand in it.
        needed: names of which at least one must stand in it.

    Raises:
        ValueError: it is none, or has a name, conversion or format too many, or no name needed.
    """
    try:
        # The text after the last placeholder comes with no name.
        places = [
            (name, form or conversion)
            for _, name, form, conversion in string.Formatter().parse(text)
            if name is not None
        ]
    except ValueError as error:
        raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces") from None
    for name, extra in places:
        if name not in known:
            raise ValueError(f"{key}: {{{name}}} is not a placeholder{nearest(name, known)}")
        if extra:
            raise ValueError(f"{key}: {{{name}}} takes neither a conversion nor a format")
    if not any(name in needed for name, _ in places):
        raise ValueError(f"{key}: lacks {' or '.join(f'{{{name}}}' for name in needed)}")


def write_tasks(tasks: Sequence[Task], folder: Path) -> list[Path]:
    """Write tasks in the form that this room reads: all of them, or none.

    Returns:
        The folder of each task.

    Raises:
        BadInput: a task's data cannot be had or do not have that form, its folder is there already,
            or nothing can be written there.
    """
    places = [folder / task.name for task in tasks]
    for place in places:
        if os.path.lexists(place):
            raise BadInput(f"{place} is there already; remove it, or name another folder")
    texts = [_texts(task) for task in tasks]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside its place and moved there: whoever reads the folder finds whole tasks.
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as name:
            for place, files in zip(places, texts, strict=True):
                draft = Path(name) / place.name
                draft.mkdir()
                for file, text in files.items():
                    (draft / file).write_text(text, encoding="utf-8", newline="\n")
            for place in places:
                (Path(name) / place.name).rename(place)
    except OSError as error:
        raise BadInput(f"{folder}: the tasks cannot be written ({error.strerror})") from None
    return places


def _texts(task: Task) -> dict[str, str]:
    """Return a task's files, by name."""
    wording = {"prompt": task.prompt, "option": task.option, "family": task.family}
    if task.instruction:
        wording["instruction"] = task.instruction
    # TOML's strings are JSON's, but for the character DEL, which it wants escaped.
    lines = [f"{key} = {_json(text)}\n".replace("\x7f", "\\u007f") for key, text in wording.items()]
    files = {"task.toml": "".join(lines)}
    for split in task.splits:
        files[f"{split}.jsonl"] = "".join(_line(task, record) for record in task.records(split))
    return files


def _line(task: Task, record: Record) -> str:
    """Return a record as a line that reads back as the record."""
    fields = {
        "id": record.id,
        "question": record.question,
        "choices": list(record.choices),
        "answer": record.answer,
        "passage": record.passage,
        "suffix": record.suffix,
        "source": record.source,
        "group": record.group,
        "template": record.template,
    }
    where = f'task "{task.name}", item {record.id}'
    item = validated(Item, fields, where)
    _check_asked(item, task.prompt, where)
    return _json(item.model_dump(exclude_defaults=True)) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
