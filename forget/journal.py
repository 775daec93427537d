"""The journal of a trial: every event is on disk before anyone is told of it, so that a server that is away loses nothing."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TextIO
from urllib.parse import quote, quote_plus, unquote

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from forget.events import Outcome, StageStarted, Step
from forget.settings import BadInput, Part, Trial
from forget.store import clear_drafts

FILE = "journal.jsonl"
PACKAGES = ("torch", "transformers", "accelerate", "peft", "ray", "mlflow")
LOCK_SECONDS = 10
"""How long a trial that starts again waits for its earlier process to die."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Started(Part):
    """A process takes the trial up, for the first time or again."""

    kind: Literal["started"] = "started"
    trial: Trial
    id: str
    tags: dict[str, str]
    """Versions and commit of the code that runs it: whoever sends the journal later may run another."""
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
    """Append-only JSON lines {"time": ms, **event}. One process writes; any process reads, also meanwhile."""

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
        """What was observed, in order. A step that ran again after a crash stands for its first run, too.

        Raises:
            BadInput: a whole line is not an event. (Half a line at the end, left by a crash, is dropped.)
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
            except (ValueError, KeyError, AttributeError, TypeError, ValidationError, RecursionError):
                raise BadInput(f"{self.path}, line {number}: not an event of a trial; remove the line or the file") from None
            key = (event.stage, event.step) if isinstance(event, Step) else number
            entries.pop(key, None)
            entries[key] = Entry(now, now - (now if last is None else last), event)
            last = now
        return list(entries.values())

    def started(self) -> Started | None:
        """Who took the trial up last."""
        return next((e.event for e in reversed(self.entries()) if isinstance(e.event, Started)), None)

    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """(step, loss) in order, by stage."""
        losses: dict[str, list[tuple[int, float]]] = {}
        for entry in self.entries():
            if isinstance(entry.event, Step) and entry.event.loss is not None:
                losses.setdefault(entry.event.stage, []).append((entry.event.step, entry.event.loss))
        return losses

    def close(self) -> None:
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


@contextmanager
def alone(folder: Path, id: str) -> Iterator[None]:
    """Holds the trial's lock, which the system frees when the process dies: whoever can take it knows that no process runs it.

    Raises:
        BadInput: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "running.lock").acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BadInput(f"trial {id} is being run by another process; wait for it, or stop it") from None
    with lock:
        # Whoever was making something in this folder is dead.
        clear_drafts(folder)
        yield


@functools.cache
def environment() -> dict[str, str]:
    """Tags that say what code runs: versions of the packages that matter, and the git commit where there is one."""
    tags = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            tags[f"version.{package}"] = importlib.metadata.version(package)
    with suppress(FileNotFoundError):
        describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        answer = subprocess.run(describe, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            tags["mlflow.source.git.commit"] = answer.stdout.strip()
    return tags


def without_secrets(text: str) -> str:
    """The text without passwords: those in the environment, also as URLs write them, and those of whatever URL."""
    found = set()
    for name, value in os.environ.items():
        found |= {value} if _SECRET.search(name) else set()
        for password in _PASSWORD.findall(value):
            found |= {password, unquote(password)}
    # The longest first: another may be a part of it.
    for secret in sorted(found, key=len, reverse=True):
        if len(secret) > 3:
            for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
                text = text.replace(form, "***")
    return _ASSIGNED.sub(r"\1=***", _USER.sub("***@", text))


_SECRET = re.compile("(PASSWORD|PASSWD|TOKEN|SECRET|KEY|CONNECTION_STRING)$", re.IGNORECASE)
"""What the names of variables end in that hold one, e.g. AWS_SECRET_ACCESS_KEY, HF_TOKEN, PGPASSWORD."""
_PASSWORD = re.compile(r"//[^/\s:@]*:([^/\s]+)@")
"""Of a URL."""
_USER = re.compile(r"""(?<=//)[^/\s"'<>]+@""")
"""User and password of a URL; a password that was not quoted may hold an @."""
_ASSIGNED = re.compile(r"""\b(password|passwd)=[^\s&;,"']+""", re.IGNORECASE)
"""In the query of a database's URL, and in what libpq says."""
