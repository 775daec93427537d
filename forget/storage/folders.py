"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forget.storage import checksums

HEX = "[0-9a-f]" * 32
"""The end of a draft's name, as a pattern."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a draft folder, which becomes `folder` when the block ends without an error.

    The sums of its files are written to it first. After an error the draft is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (folder.with_name(f".{folder.name}-{uuid.uuid4().hex}") for _ in range(2))
    draft.mkdir()
    try:
        yield draft
        write_text(draft / checksums.FILE, checksums.text(folder, checksums.of_folder(draft)))
        if folder.exists():
            # Not deleted in place: whoever is killed meanwhile would leave half of it.
            folder.rename(old)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def clear_drafts(folder: Path, name: str = "*") -> None:
    """Remove the drafts that killed processes left of a folder's entries, or of one of them."""
    for draft in folder.glob(f".{name}-{HEX}"):
        shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one piece."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
