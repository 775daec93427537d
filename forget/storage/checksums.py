"""Whether what lies in the store is still what was written there: sizes and checksums beside the files of an entry.

They tell what went wrong by itself (a loss of power, a disk, a file put in the wrong place), not
what somebody forged.
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
    bytes: int
    xxh3: str
    """xxHash3 of 128 bits. It keeps up with the disk; SHA-256 would take longer than loading a model
    does.
    """


class Sums(Part):
    """What FILE holds."""

    entry: str
    """Kind and key: the last two parts of the folder's path."""
    files: dict[str, Sum]
    """By path in the folder."""


def of_file(path: Path) -> Sum:
    with path.open("rb") as stream:
        return Sum(
            bytes=os.fstat(stream.fileno()).st_size,
            xxh3=hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest(),
        )


def of_text(text: str) -> Sum:
    content = text.encode()
    return Sum(bytes=len(content), xxh3=xxhash.xxh3_128(content).hexdigest())


def of_folder(folder: Path) -> dict[str, Sum]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / FILE]
    return {str(path.relative_to(folder)): of_file(path) for path in files}


def text(folder: Path, files: Mapping[str, Sum]) -> str:
    """What FILE in the folder is to hold."""
    return Sums(entry=_entry(folder), files=dict(files)).model_dump_json(indent=1)


def damage(folder: Path, names: Iterable[str] = (), *, quick: bool = False) -> str:
    """What of the folder is not as it was written, in words; empty where all is, and of what was written without sums.

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
    """Raises BadInput where `damage` finds some."""
    if found := damage(folder, names):
        raise BadInput(
            f"{folder} is damaged ({found}): remove the folder, and it is computed again"
        )


def _entry(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
