"""Checksums that detect store entries which were truncated, corrupted or swapped.

They lie beside the files of an entry, with the files' sizes. They tell what went wrong by itself (a
loss of power, a disk, a file put in the wrong place), not what somebody forged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from forget.errors import BadInput
from forget.settings.parts import Part

FILE = "sums.json"


class Sum(Part):
    """Size and checksum of a file."""

    bytes: int
    xxh3: str
    """xxHash3 of 128 bits. It keeps up with the disk; SHA-256 would take longer than to load a
    model does.
    """


class Sums(Part):
    """The content of FILE."""

    entry: str
    """Kind and key: the last two parts of the folder's path."""
    files: dict[str, Sum]
    """By path in the folder."""


def of_file(path: Path) -> Sum:
    """Return the sum of a file's content."""
    with path.open("rb") as stream:
        return Sum(
            bytes=os.fstat(stream.fileno()).st_size,
            xxh3=hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest(),
        )


def of_text(text: str) -> Sum:
    """Return the sum of a file that holds the text."""
    content = text.encode()
    return Sum(bytes=len(content), xxh3=xxhash.xxh3_128(content).hexdigest())


def of_folder(folder: Path) -> dict[str, Sum]:
    """Return the sums of all files in a folder, by their paths in it; FILE aside."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / FILE]
    return {str(path.relative_to(folder)): of_file(path) for path in files}


def text(folder: Path, files: Mapping[str, Sum]) -> str:
    """Return the content for FILE in the folder."""
    return Sums(entry=_entry(folder), files=dict(files)).model_dump_json(indent=1)


def damage(folder: Path, names: Iterable[str] = (), *, quick: bool = False) -> str:
    """Say in words what in the folder is not as it was written; empty where nothing is damaged.

    A folder that was written without sums counts as whole.

    Args:
        names: the files to look at; all of them by default.
        quick: look at sizes alone, which tell what was cut short.
    """
    if not os.path.lexists(folder / FILE):
        return "it is no folder" if os.path.lexists(folder) and not folder.is_dir() else ""
    try:
        if not (folder / FILE).is_file():  # A pipe would be waited for without end.
            raise ValueError
        known = Sums.model_validate_json((folder / FILE).read_bytes())
        wanted = {name: known.files[name] for name in names} or known.files
    except (OSError, ValueError, LookupError):
        return f"{FILE} cannot be read"
    if known.entry != _entry(folder):
        return f"it belongs to {known.entry:.80}"
    for name, one in wanted.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing, or not a file"
        if (size := path.stat().st_size) != one.bytes:
            return f"{name} has {size} bytes of {one.bytes}"
        if not quick and of_file(path) != one:
            return f"{name} is not what was written there"
    return ""


def check(folder: Path, names: Iterable[str] = ()) -> None:
    """Raise BadInput where `damage` finds some."""
    if found := damage(folder, names):
        raise BadInput(
            f"{folder} is damaged ({found}): remove the folder, and it is computed again"
        )


def _entry(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
