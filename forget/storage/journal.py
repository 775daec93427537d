"""The journal of a trial: every event is on disk before it is sent, so that none is lost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TextIO

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from forget.errors import BadInput
from forget.events import StageStarted, Step
from forget.results.outcome import Outcome
from forget.settings.parts import Part
from forget.settings.trial import RecordedTrial
from forget.storage.folders import clear_drafts
from forget.storage.store import Store

FILE = "journal.jsonl"
HELD_BACK_SECONDS = 10.0
"""The time that a checkpoint waits for the journal to hold the steps before it."""
LOCK_SECONDS = 10
"""The time that a trial which starts again waits for its earlier process to die."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Started(Part):
    """A process takes the trial up, for the first time or again."""

    kind: Literal["started"] = "started"
    trial: RecordedTrial
    id: str
    tags: dict[str, str]
    """Versions and commit of the code that runs it. Another may run when the journal is sent."""
    datasets: dict[str, str]
    """Fingerprint by task."""


class Ended(Part):
    """The process is done with the trial."""

    kind: Literal["ended"] = "ended"
    status: Status
    error: str = ""


Line = Started | StageStarted | Step | Outcome | Ended
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    time: int
    """Milliseconds since 1970."""
    elapsed: int
    """Milliseconds since the line before."""
    event: Line


class Journal:
    """Append-only JSON lines {"time": ms, **event}.

    One process writes; any process may read, also meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._time: int | None = None

    def append(self, event: Line) -> Entry:
        """Write the event through to the operating system."""
        self._file = self._file or self._opened()
        now = time.time_ns() // 1_000_000
        self._file.write(json.dumps({"time": now, **event.model_dump(mode="json")}) + "\n")
        self._file.flush()
        entry = Entry(now, now - (self._time or now), event)
        self._time = now
        return entry

    def entries(self) -> list[Entry]:
        """Return the events in order. Of a step that ran twice, only the later run is kept.

        Raises:
            BadInput: a whole line is no event. Half a line at the end, left by a crash, is
                dropped.
        """
        if not self.path.exists():
            return []
        entries: dict[object, Entry] = {}
        last: int | None = None
        for number, line in enumerate(_whole_lines(self.path.read_bytes()).splitlines(), start=1):
            try:
                fields = json.loads(line)
                now = int(fields.pop("time"))
                event = _LINE.validate_python(fields)
            # A line of brackets alone is too deep for the reader.
            except (
                ValueError,
                KeyError,
                AttributeError,
                TypeError,
                ValidationError,
                RecursionError,
            ):
                raise BadInput(
                    f"{self.path}, line {number}: not an event of a trial; "
                    "remove the line or the file"
                ) from None
            key = (event.stage, event.step) if isinstance(event, Step) else number
            entries.pop(key, None)
            entries[key] = Entry(now, now - (now if last is None else last), event)
            last = now
        return list(entries.values())

    def started(self) -> Started | None:
        """Return the event by which a process took the trial up last; None before any did."""
        return next(
            (e.event for e in reversed(self.entries()) if isinstance(e.event, Started)), None
        )

    def failure(self) -> str | None:
        """Return why the trial failed when it ran last; None where it did not fail."""
        entries = self.entries()
        last = entries[-1].event if entries else None
        return last.error if isinstance(last, Ended) and last.status == "FAILED" else None

    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """Return (step, loss) in order, by stage."""
        losses: dict[str, list[tuple[int, float]]] = {}
        for entry in self.entries():
            if isinstance(entry.event, Step) and entry.event.loss is not None:
                losses.setdefault(entry.event.stage, []).append(
                    (entry.event.step, entry.event.loss)
                )
        return losses

    def close(self) -> None:
        """Close the file; another event opens it again."""
        file, self._file = self._file, None
        if file:
            # On a full disk this raises, and closes the file all the same.
            file.close()

    def _opened(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            # What a crash left of its last line would glue to the next one.
            os.truncate(self.path, len(_whole_lines(self.path.read_bytes())))
            self._time = max((entry.time for entry in self.entries()), default=None)
        return self.path.open("a", encoding="utf-8")


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


def share_journal(store: Store, id: str, step: int) -> None:
    """Let other machines have a trial's journal up to a step, ahead of the step's checkpoint.

    Whoever goes on from the checkpoint repeats no step before it, so what is lost of those with
    this machine is lost. Another process may write the journal, from the events of this one, and
    be a little behind; it is waited for. Without a journal, or where no other machine sees the
    store, nothing is done.

    Args:
        store: has the journal.
        id: the trial's identity.
        step: the last one whose event was sent.
    """
    name = f"trials/{id}/{FILE}"
    if not store.remote or not store.path(name).exists():
        return
    end = time.monotonic() + HELD_BACK_SECONDS
    while _last_step(store.path(name)) < step and time.monotonic() < end:
        time.sleep(0.05)
    store.publish_file(name)


def _last_step(path: Path) -> int:
    """Return the step of the journal's last line; -1 where it is no step's."""
    last = _whole_lines(path.read_bytes()).rstrip(b"\n").rpartition(b"\n")[2]
    return int(json.loads(last).get("step", -1)) if last else -1


@contextmanager
def alone(folder: Path, id: str) -> Iterator[None]:
    """Hold the trial's lock, so that no other process runs the trial.

    The system frees it when the process dies: whoever can take it knows that no process runs it.

    Raises:
        BadInput: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "running.lock").acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BadInput(
            f"trial {id} is being run by another process; wait for it, or stop it"
        ) from None
    with lock:
        # Whoever was making something in this folder is dead.
        clear_drafts(folder)
        yield
