"""The trials of a store: where each leaves its files, and what those that have finished left.

Measures are computed of a trial's Rows by the code that reads them, not by the code that ran the
trial: a new metric shows up for trials of last year. outcome.json holds none; measures.json beside
it is a cache, taken where the same code wrote it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forget.errors import BadInput
from forget.results import measures
from forget.results.estimates import Estimate
from forget.results.files import read_frame, read_rows, write_rows
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.settings.parts import Part
from forget.settings.trial import Trial
from forget.storage import checksums
from forget.storage.folders import write_text
from forget.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MEASURES = "measures.json"


class Measures(Part):
    """The content of MEASURES."""

    code: str
    """Digest of the code that computed them (forget.results.measures.code)."""
    measures: dict[str, Estimate]
    xxh3: str = ""
    """Checksum over the trial's id, the code and the measures."""

    def signed(self, id: str) -> Measures:
        """Return a copy with the checksum that belongs to the trial."""
        text = id + self.model_copy(update={"xxh3": ""}).model_dump_json()
        return self.model_copy(update={"xxh3": checksums.of_text(text).xxh3})


def keep_measures(folder: Path, id: str, computed: dict[str, Estimate]) -> None:
    """Write to a trial's folder the measures that the present code has computed of its Rows."""
    kept = Measures(code=measures.code(), measures=computed).signed(id)
    write_text(folder / MEASURES, kept.model_dump_json(indent=1))


def measured(
    outcome: Outcome,
    folder: Path,
    rows: Callable[[], Sequence[Row]],
    kept: Callable[[], None] = lambda: None,
) -> Outcome:
    """Return the outcome with the measures that the present code computes of its Rows.

    Args:
        outcome: of a finished trial; its own measures are passed over.
        folder: may hold MEASURES. A file that is damaged, another trial's or by other code is
            replaced, if the folder can be written.
        rows: reads the trial's Rows; called only where they are needed.
        kept: called after MEASURES was replaced.
    """
    with suppress(OSError, ValueError):
        found = Measures.model_validate_json((folder / MEASURES).read_bytes())
        if found.code == measures.code() and found == found.signed(outcome.id):
            return outcome.model_copy(update={"measures": found.measures})
    computed = measures.measures(rows(), flipped=outcome.trial.arm == "flipped")
    # A store that may only be read is none the worse: the next reader computes them again.
    with suppress(OSError):
        keep_measures(folder, outcome.id, computed)
        kept()
    return outcome.model_copy(update={"measures": computed})


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of a store, by id."""

    store: Store

    def folder(self, id: str) -> Path:
        """Return the folder of a trial, which may not exist yet.

        While the trial runs it holds journal.jsonl and checkpoint/, or twin/; once it has finished,
        outcome.json, rows.parquet and, if it is kept, model/.
        """
        return self.store.path(f"trials/{id}")

    def outcome(self, id: str) -> Outcome | None:
        """Return what the trial left; None unless it has finished.

        A trial whose model was cut short before it was registered has not finished.

        Raises:
            BadInput: a file of it is damaged, or another trial's.
        """
        found = self._recorded(id)
        if found is None:
            return None
        name = f"trials/{id}/{MEASURES}"
        folder = self.store.fetch_file(name).parent
        return measured(found, folder, lambda: self.rows(id), lambda: self.store.publish_file(name))

    def settings(self, id: str) -> Trial | None:
        """Return the settings of a finished trial, as `outcome` does, without its measures."""
        found = self._recorded(id)
        return found.trial if found else None

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

    def finished(self) -> list[str]:
        """Return the id of every trial that has finished; no outcome is read."""
        names = self._names_elsewhere()
        for path in self.store.root.glob("trials/*/outcome.json"):
            names.add(str(path.relative_to(self.store.root)))
        return self.done(Path(name).parent.name for name in sorted(names))

    def rows(self, id: str) -> list[Row]:
        """Return the Rows of a finished trial."""
        return read_rows(self._checked(id, "rows.parquet"))

    def frame(self, id: str) -> pd.DataFrame:
        """Return the Rows of a finished trial as columns (forget.results.files.read_frame)."""
        return read_frame(self._checked(id, "rows.parquet"))

    def audits(self, id: str) -> dict[str, str]:
        """Return the audits that a trial has: the names of their files, by stem."""
        pattern = f"trials/{id}/audits/*.parquet"
        names = {str(path.relative_to(self.store.root)) for path in self.store.root.glob(pattern)}
        if self.store.remote:
            names |= self.store.remote.files(pattern)
        return {Path(name).stem: name for name in sorted(names)}

    def keep_audit(self, id: str, stem: str, rows: Sequence[Row]) -> None:
        """Leave an audit's Rows beside a trial, whole or not at all.

        They replace what the same audit found of other arms, or by an earlier version of it.
        """
        name = f"trials/{id}/audits/{stem}.parquet"
        path = self.store.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        write_rows(rows, draft)
        draft.replace(path)
        self.store.publish_file(name)
        labels = {row.audit for row in rows}
        for other, before in self.audits(id).items():
            told = read_rows(self.store.fetch_file(before)) if other != stem else []
            if labels & {row.audit for row in told}:
                self.store.delete_file(before)

    def audited(self, id: str) -> list[Row]:
        """Return the Rows of every audit that a trial has."""
        rows: list[Row] = []
        for name in self.audits(id).values():
            rows += read_rows(self.store.fetch_file(name))
        return rows

    def whole_frame(self, id: str) -> pd.DataFrame:
        """Return the Rows of a finished trial and of its audits as columns."""
        import pandas as pd

        audits = [read_frame(self.store.fetch_file(name)) for name in self.audits(id).values()]
        own = self.frame(id)
        return pd.concat([own, *audits], ignore_index=True) if audits else own

    def finish(self, outcome: Outcome, rows: Sequence[Row]) -> None:
        """Record a finished trial; outcome.json, written last, is what says so."""
        name = f"trials/{outcome.id}"
        folder = self.folder(outcome.id)
        folder.mkdir(parents=True, exist_ok=True)
        text = outcome.model_dump_json(indent=1, exclude={"measures"})
        write_rows(rows, folder / "rows.parquet")
        known = {
            "rows.parquet": checksums.of_file(folder / "rows.parquet"),
            "outcome.json": checksums.of_text(text),
        }
        write_text(folder / checksums.FILE, checksums.text(folder, known))
        keep_measures(folder, outcome.id, outcome.measures)
        write_text(folder / "outcome.json", text)
        for file in ("rows.parquet", checksums.FILE, MEASURES, "outcome.json"):
            self.store.publish_file(f"{name}/{file}")
        self.store.delete(f"{name}/checkpoint")

    def _recorded(self, id: str) -> Outcome | None:
        """Return the outcome as outcome.json has it, without measures; None unless it finished."""
        path = self._checked(id, "outcome.json")
        if not path.exists() or self._lacks_model(id):
            return None
        try:
            found = Outcome.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise BadInput(
                f"{path}: not the outcome of a trial; remove its folder, and it is computed again"
            ) from None
        if found.id != id:
            raise BadInput(
                f"{path}: the outcome of trial {found.id:.80}; "
                "remove its folder, and it is computed again"
            )
        return found

    def mend(self) -> None:
        """Throw away folders of the store that were cut short, with a word about each.

        A trial whose model was cut short before it was registered runs again, which replaces the
        model. Results of finished trials stay: whoever reads them is told.
        """
        root = self.store.root
        for path in sorted(root.glob(f"[!.]*/[!.]*/{checksums.FILE}")):
            if path.parts[-3] != "trials":
                self.store.cut_short(path.parent)
        for path in sorted(root.glob(f"trials/*/[!.]*/{checksums.FILE}")):
            folder = path.parent
            found = self.store.cut_short(folder, drop=folder.name != "model")
            if found and folder.name == "model":
                log.warning("%s is damaged (%s): its trial runs again", folder, found)

    def _names_elsewhere(self) -> set[str]:
        """Return the names of the outcomes that the remote store has."""
        remote = self.store.remote
        return remote.files("trials/*/outcome.json") if remote else set()

    def _lacks_model(self, id: str) -> bool:
        """Tell whether the trial's model was cut short; one that is not kept is not missed."""
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
