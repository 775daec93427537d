"""The trials of a store: where each leaves its files, and what those that have finished left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forget.errors import BadInput
from forget.results.files import read_frame, read_rows, write_rows
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.storage import checksums
from forget.storage.folders import write_text
from forget.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of a store, by id."""

    store: Store

    def folder(self, id: str) -> Path:
        """Return the folder of a trial, which may not exist yet.

        While the trial runs it holds journal.jsonl and checkpoint/; once it has finished,
        outcome.json, rows.parquet and, until it is registered, model/.
        """
        return self.store.path(f"trials/{id}")

    def outcome(self, id: str) -> Outcome | None:
        """Return what the trial left; None unless it has finished.

        A trial whose model was cut short before it was registered has not finished.

        Raises:
            BadInput: its file is damaged, or another trial's.
        """
        path = self._checked(id, "outcome.json")
        if not path.exists() or self._lacks_model(id):
            return None
        try:
            outcome = Outcome.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise BadInput(
                f"{path}: not the outcome of a trial; remove its folder, and it is computed again"
            ) from None
        if outcome.id != id:
            raise BadInput(
                f"{path}: the outcome of trial {outcome.id:.80}; "
                "remove its folder, and it is computed again"
            )
        return outcome

    def done(self, ids: Iterable[str]) -> list[str]:
        """Return those of the trials that have finished, each once; no outcome is read.

        A remote store is asked once for all of them.
        """
        there = self._names_elsewhere()
        found = []
        for id in dict.fromkeys(ids):
            name = f"trials/{id}/outcome.json"
            # A string is joined faster than a Path, of which a large sweep would make thousands.
            recorded = os.path.exists(f"{self.store.root}/{name}") or name in there
            if recorded and not self._lacks_model(id):
                found.append(id)
        return found

    def outcomes(self, ids: Iterable[str]) -> dict[str, Outcome]:
        """Return the outcomes, by id, of those of the trials that have finished."""
        return {id: outcome for id in self.done(ids) if (outcome := self.outcome(id))}

    def finished(self) -> list[Outcome]:
        """Return the outcome of every trial that has finished."""
        names = self._names_elsewhere()
        for path in self.store.root.glob("trials/*/outcome.json"):
            names.add(str(path.relative_to(self.store.root)))
        ids = [Path(name).parent.name for name in sorted(names)]
        return [outcome for id in ids if (outcome := self.outcome(id))]

    def rows(self, id: str) -> list[Row]:
        """Return the Rows of a finished trial."""
        return read_rows(self._checked(id, "rows.parquet"))

    def frame(self, id: str) -> pd.DataFrame:
        """Return the Rows of a finished trial as columns (forget.results.files.read_frame)."""
        return read_frame(self._checked(id, "rows.parquet"))

    def finish(self, outcome: Outcome, rows: Sequence[Row]) -> None:
        """Record a finished trial; outcome.json, written last, is what says so."""
        name = f"trials/{outcome.id}"
        folder = self.folder(outcome.id)
        folder.mkdir(parents=True, exist_ok=True)
        text = outcome.model_dump_json(indent=1)
        write_rows(rows, folder / "rows.parquet")
        known = {
            "rows.parquet": checksums.of_file(folder / "rows.parquet"),
            "outcome.json": checksums.of_text(text),
        }
        write_text(folder / checksums.FILE, checksums.text(folder, known))
        write_text(folder / "outcome.json", text)
        for file in ("rows.parquet", checksums.FILE, "outcome.json"):
            self.store.publish_file(f"{name}/{file}")
        self.store.delete(f"{name}/checkpoint")

    def _names_elsewhere(self) -> set[str]:
        """Return the names of the outcomes that the remote store has."""
        remote = self.store.remote
        return remote.files("trials/*/outcome.json") if remote else set()

    def _lacks_model(self, id: str) -> bool:
        """Tell whether the trial's model was cut short; one that was registered is not missed."""
        return bool(checksums.damage(self.folder(id) / "model", quick=True))

    def _checked(self, id: str, file: str) -> Path:
        """Fetch a file of a finished trial, and make sure that it is as it was written.

        Raises:
            BadInput: it is not.
        """
        path = self.store.fetch_file(f"trials/{id}/{file}")
        if path.exists():
            self.store.fetch_file(f"trials/{id}/{checksums.FILE}")
            checksums.check(path.parent, [file])
        return path
