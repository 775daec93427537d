"""The folder that trials share: learned checkpoints, scores, finished trials. Every entry appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from forget.events import Outcome
from forget.metrics import Row, read_rows, write_rows


def default_root() -> Path:
    """$FORGET_STORE, or .forget in the working directory."""
    return Path(os.environ.get("FORGET_STORE", ".forget")).absolute()


class Store:
    """Content-addressed: a name says how the entry was computed; whoever needs it first computes it, the others read it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def trial(self, id: str) -> Path:
        """Its folder: journal.jsonl and checkpoint/ while it runs; outcome.json, rows.parquet and model/ once finished."""
        return self.root / "trials" / id

    def outcome(self, id: str) -> Outcome | None:
        """The finished trial, or None."""
        path = self.trial(id) / "outcome.json"
        return Outcome.model_validate_json(path.read_text()) if path.exists() else None

    def rows(self, id: str) -> list[Row]:
        """The Rows of a finished trial."""
        return read_rows(self.trial(id) / "rows.parquet")

    def finish(self, outcome: Outcome, rows: Sequence[Row]) -> None:
        """Record a finished trial; outcome.json, written last, is what says so."""
        folder = self.trial(outcome.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(rows, folder / "rows.parquet")
        write_text(folder / "outcome.json", outcome.model_dump_json(indent=1))
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)

    def shared(self, kind: str, key: str, make: Callable[[Path | None], None]) -> Path:
        """Folder `kind/key`, made by `make(empty folder)` unless it exists. Others who ask meanwhile wait.

        All processes of a trial ask together: the main one looks and writes, the others help to make what is missing, with
        `make(None)`.
        """
        folder = self.root / kind / key
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            self._make_once(folder, make)
            return folder
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        process = PartialState()
        told = False

        def tell(missing: bool) -> bool:
            nonlocal told
            told = True
            return broadcast_object_list([missing])[0]

        def make_together(draft: Path) -> None:
            tell(True)
            make(draft)

        if process.is_main_process:
            self._make_once(folder, make_together)
            if not told:
                tell(False)
        elif tell(False):
            make(None)
        process.wait_for_everyone()
        return folder

    def _make_once(self, folder: Path, make: Callable[[Path], None]) -> None:
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                with whole_folder(folder) as draft:
                    make(draft)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft folder that becomes `folder` when the block ends without an error, and vanishes otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (folder.with_name(f".{folder.name}-{uuid.uuid4().hex}") for _ in range(2))
    draft.mkdir()
    try:
        yield draft
        if folder.exists():
            # Not deleted in place: whoever is killed meanwhile would leave half of it.
            folder.rename(old)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one piece."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
