"""A user's tasks: folders of JSONL, one item a line, refused with file and line where something is wrong.

    <folder>/<task>/{train,validation,test,near}.jsonl      {"id": ..., "question": ..., "choices": [...], "answer": 0}
    <folder>/<task>/task.toml                               prompt, option, family; the file and each key may be left out

A folder may also be one task itself. Of the splits those are there whose files are; a trial needs train and test.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, model_validator

from forget.settings import BadInput, Part, digest, nearest, validated
from forget.tasks import SPLITS, TEMPLATES, Record, Task


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]


class Item(Part):
    """A line."""

    # Strict: the answer "1" or true is a mistake in the file, not the number 1.
    model_config = ConfigDict(strict=True)

    id: Text
    question: Text
    choices: list[Text]
    answer: int
    """Index of the true choice."""
    passage: str = ""
    source: str = ""
    """In near.jsonl: id of the train item that this one paraphrases."""

    @model_validator(mode="after")
    def _has_an_answer(self) -> Item:
        if len(self.choices) < 2:
            raise ValueError(f"choices: {len(self.choices)} where at least 2 are needed")
        for choice in self.choices:
            if self.choices.count(choice) > 1:
                raise ValueError(f"choices: {choice!r} stands there more than once")
        if not 0 <= self.answer < len(self.choices):
            raise ValueError(f"answer: {self.answer} is not the index of one of {len(self.choices)} choices (the first is 0)")
        return self


class Wording(Part):
    """task.toml."""

    prompt: str = TEMPLATES["qa"]
    """Format string over {question}, {passage} and {listed} (the choices as lettered lines; an option is then its letter)."""
    option: str = " {choice}"
    """What follows the prompt: a format string over {choice}."""
    family: Text = "own"
    """The kind of task, by which reports group."""

    @model_validator(mode="after")
    def _fills(self) -> Wording:
        _check_placeholders("prompt", self.prompt, ("question", "passage", "listed"), ("question", "passage"))
        _check_placeholders("option", self.option, ("choice",), ("choice",))
        return self


def tasks(folders: Sequence[str]) -> dict[str, Task]:
    """The tasks of the folders by name. Reads no item: that is for a task's `records`.

    Raises:
        BadInput: a folder is missing or holds no task, two tasks have one name, or a task.toml is wrong.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        # abspath: "." has no name, and a link keeps its own.
        for path in _task_folders(Path(os.path.abspath(Path(folder).expanduser()))):
            if found.get(path.name, path) != path:
                raise BadInput(f'task "{path.name}" is in {found[path.name].parent} and in {path.parent}; rename one of them')
            found[path.name] = path
    return {name: _task(path) for name, path in found.items()}


def _task_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"the task folder {folder} does not exist; give a folder with <task>/train.jsonl and <task>/test.jsonl")
    if any(folder.glob("*.jsonl")):
        return [folder]
    within = sorted({path.parent for path in folder.glob("[!.]*/*.jsonl")})
    if not within:
        raise BadInput(f"the task folder {folder} holds no task; it or the folders in it need train.jsonl and test.jsonl")
    return within


def _task(folder: Path) -> Task:
    # The name becomes part of metric names and of file names.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", folder.name):
        raise BadInput(f'{folder}: "{folder.name}" cannot name a task; use letters, digits, "_", "-" and "."')
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in SPLITS:
            raise BadInput(f'{path}: "{path.stem}" is not a split{nearest(path.stem, SPLITS)}')
    splits = tuple(split for split in SPLITS if _file(folder, split).exists())
    wording = _wording(folder / "task.toml")
    return Task(
        folder.name,
        wording.family,
        wording.prompt,
        partial(_records, folder),
        lambda: digest({split: hashlib.sha256(_file(folder, split).read_bytes()).hexdigest() for split in splits}),
        splits=splits,
        kind="files",
        option=wording.option,
        note=str(folder),
    )


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl"


def _wording(path: Path) -> Wording:
    if not path.exists():
        return Wording()
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid TOML: {error}") from None
    return validated(Wording, fields, str(path))


def _records(folder: Path, split: str) -> list[Record]:
    train = {item.id for _, item in _items(_file(folder, "train"))} if split == "near" else set()
    records = []
    for where, item in _items(_file(folder, split)):
        if split == "near" and item.source not in train:
            raise BadInput(f'{where}: source: "{item.source}" is not the id of an item of train.jsonl')
        choices = tuple(item.choices)
        records.append(Record(item.id, item.question, choices, item.answer, item.passage, source=item.source))
    return records


def _items(path: Path) -> Iterator[tuple[str, Item]]:
    """Where each item stands, and the item. Blank lines are passed over."""
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from None
        if not isinstance(fields, Mapping):
            raise BadInput(f"{where}: not a JSON object with id, question, choices and answer")
        item = validated(Item, fields, where)
        if item.id in seen:
            raise BadInput(f'{where}: id: "{item.id}" is that of line {seen[item.id]} already')
        seen[item.id] = number
        yield where, item


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines: a line of JSON may hold other characters that Unicode takes for line ends.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None


def _check_placeholders(key: str, text: str, known: Sequence[str], needed: Sequence[str]) -> None:
    """Raises: ValueError unless `text` is a format string over bare names of `known` with at least one of `needed`."""
    try:
        # The text after the last placeholder comes with no name.
        places = [
            (name, form or conversion) for _, name, form, conversion in string.Formatter().parse(text) if name is not None
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
