"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import os
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


def unwritable(path: Path) -> Path | None:
    """Return what the user may not write of a file or folder, there or to be made; None if all.

    Of a folder it is looked at what lies directly in it, too, since others may have made that.
    """
    if not path.exists():
        path = next(above for above in path.absolute().parents if above.exists())
        return None if os.access(path, os.W_OK | os.X_OK) else path
    inside = list(path.iterdir()) if path.is_dir() and os.access(path, os.R_OK) else []
    # What another process has removed meanwhile is not in the way.
    return next(
        (one for one in (path, *inside) if not os.access(one, os.W_OK) and one.exists()), None
    )


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
