"""Whether what lies in the store is still what was written there: checksums beside the files of an entry.

They tell what went wrong by itself (a disk, a copy that broke off, a file put in the wrong place), not what somebody forged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from forget.settings import BadInput

FILE = "sums.json"


def sum_of(file: Path | str) -> str:
    """xxHash3 of a file or a text. It keeps up with the disk; SHA-256 would take longer than loading a model does."""
    if isinstance(file, str):
        return str(xxhash.xxh3_128(file.encode()).hexdigest())
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


def text(entry: str, sums: Mapping[str, str]) -> str:
    """What FILE holds: the entry's name in the store, and the sum of each file by its path in the folder."""
    return json.dumps({"entry": entry, "files": dict(sums)}, indent=1)


def of_folder(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sum_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def check(folder: Path, entry: str, names: Iterable[str] = ()) -> None:
    """Of a folder that was written without sums, as before there were any, nothing is known.

    Args:
        names: the files to look at; all of them by default.

    Raises:
        BadInput: a file is missing, is not what was written, or was written for another entry.
    """
    if not os.path.lexists(folder / FILE):
        return
    cure = "remove the folder, and it is computed again"
    try:
        if not (folder / FILE).is_file():
            raise OSError
        found = json.loads((folder / FILE).read_bytes())
        owner, files = str(found["entry"]), {str(name): str(known) for name, known in found["files"].items()}
        wanted = {name: files[name] for name in names} or files
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{folder / FILE}: damaged; {cure}") from None
    if owner != entry:
        raise BadInput(f"{folder} holds what belongs to {owner:.80}; {cure}")
    for name, known in wanted.items():
        # A pipe would be waited for without end.
        if not (folder / name).is_file():
            raise BadInput(f"{folder / name}: missing, or not a file; {cure}")
        if sum_of(folder / name) != known:
            raise BadInput(f"{folder / name}: not what was written there; {cure}")
