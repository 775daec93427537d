"""The world in which faults happen.

It has the servers of a cluster, and sweeps over them as a user starts them, watched from outside.
"""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

import psutil
import pytest
import servers
from servers import S3, Database, Tracking

from forget.settings.identity import digest
from forget.settings.reading import read_sweep
from forget.settings.sweep import Sweep

Moment = Literal["learning", "forgetting", "logging"]
T = TypeVar("T")
MOMENTS: tuple[Moment, ...] = get_args(Moment)

ROOT = Path(__file__).parents[2]
FORGET = Path(sys.executable).parent / "forget"

SECONDS = 600
"""A sweep that has not come to a moment, or to its end, by then has hung; undisturbed it takes 20
on two idle cores.
"""

POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0
"""Between two looks at what processes a sweep has: each goes through all of the machine's."""

DELAY_SECONDS = 0.3
"""A fault comes up to so much after its moment has begun, as the seed says."""

SPEC = """
name = "{name}"
description = "Three trials that share what they learned."

[base]
task = "sentiment"
model = "tiny"
evaluate_on = ["acceptability"]
learn = {{ examples = 8, epochs = 150, lr = 1e-3, batch = 4 }}
forget = {{ examples = 8, epochs = 100, batch = 4 }}
evaluation_examples = 8
probe = {{ examples = 10 }}
watch = {{ points = 1, examples = 8 }}
precision = "fp32"

[axes]
"forget.lr" = [1e-3, 1e-4, 1e-5]

[resources]
cpus = 1
concurrent = 2
checkpoint_minutes = 0.004
"""


class Skipped(Exception):
    """The machine lacks what the fault needs; the text says what."""


class Unexpected(Exception):
    """The sweep did not do what was expected of it; the text says what it did."""


@dataclass(frozen=True)
class World:
    """The servers, which all cells share.

    Each cell has a folder, an experiment and a store of its own.
    """

    folder: Path
    database: Database
    s3: S3
    tracking: Tracking

    def cell(self, name: str) -> "Cell":
        folder = self.folder / name
        folder.mkdir()
        (folder / "study.toml").write_text(SPEC.format(name=name))
        return Cell(self, name, folder, str(folder / "store"))


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start the servers, with this process as a user of the tracking server.

    What they keep lies in the folder.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.postgres(folder) as database,
        servers.seaweedfs(folder) as s3,
        servers.mlflow_server(folder, database, s3) as tracking,
    ):
        s3.make_bucket("forget")
        for name, value in tracking.environment.items():
            patch.setenv(name, value)
        yield World(folder, database, s3, tracking)


@dataclass
class Cell:
    """A sweep that something happens to."""

    world: World
    name: str
    folder: Path
    where: str
    """The store, a folder or a URL."""
    more: dict[str, str] = field(default_factory=dict)
    """Environment variables besides those of every sweep."""
    others: list["Running"] = field(default_factory=list)
    """Commands that run beside the one that is watched."""
    family: set[psutil.Process] = field(default_factory=set)
    """Every process seen of the sweep, those included that were started by others of it."""
    scratch: set[Path] = field(default_factory=set)
    """Folders outside the store in which they kept their own files."""

    @property
    def spec(self) -> Sweep:
        return read_sweep(str(self.folder / "study.toml"))

    @property
    def environment(self) -> dict[str, str]:
        tracking = self.world.tracking.environment
        s3 = self.world.s3.limited["forget"].environment if "://" in self.where else {}
        return {
            **servers.clean(self.folder),
            "PATH": f"{FORGET.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "FORGET_STORE": self.where,
            "FORGET_CACHE": str(self.folder / "cache"),
            **tracking,
            **s3,
            **self.more,
        }

    @property
    def root(self) -> Path:
        """The store's folder on this machine: itself, or the copies of what lies in the bucket."""
        return (
            self.folder / "cache" / digest(self.where) if "://" in self.where else Path(self.where)
        )

    def start(self, *words: str) -> "Running":
        """`forget` with these words, by default the sweep."""
        words = words or ("sweep", "study.toml")
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}-{words[0]}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [FORGET, *words],
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.folder,
            )
        return Running(self, process, log)

    def said(self) -> str:
        """By all commands so far."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def mount(self, size: str) -> None:
        """Give the store a disk of its own.

        Raises:
            Skipped: the system refuses.
        """
        self.root.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.root)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(f"no disk of {size} can be mounted: {done.stderr.strip()}")

    def end(self) -> None:
        """Kill what is left of the sweep, and take its disk away."""
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.root.is_mount():
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)

    def alive(self) -> list[psutil.Process]:
        """Return the sweep's processes that have not ended."""
        return [
            process
            for process in self.family
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]


@dataclass
class Running:
    """A command that runs."""

    cell: Cell
    process: subprocess.Popen[bytes]
    log: Path

    def reach(self, moment: Moment) -> str:
        """Wait until a trial is at the moment, and a little longer; the trial's id.

        Raises:
            Unexpected: the command ended first.
        """
        draw = random.Random(f"{self.cell.name} {moment}")

        def one() -> str | None:
            return next((id for id in self.trials() if self.moment(id) == moment), None)

        while True:
            id = self.until(one, f"no trial was {moment}")
            time.sleep(draw.uniform(0, DELAY_SECONDS))
            # It may have passed meanwhile; the next trial comes to it, too.
            if self.moment(id) == moment:
                self.look()
                return id

    def trials(self) -> list[str]:
        return sorted(path.name for path in (self.cell.root / "trials").glob("*"))

    def moment(self, id: str) -> Moment | None:
        """Tell a trial's moment by its files; learning and forgetting begin with a checkpoint."""
        folder = self.cell.root / "trials" / id
        if (folder / "outcome.json").exists():
            return None if (folder / "published.json").exists() else "logging"
        if (folder / "checkpoint").exists():
            return "forgetting"
        learns = (folder / "journal.jsonl").exists() and b'"stage": "learn"' in (
            folder / "journal.jsonl"
        ).read_bytes()
        return "learning" if learns and list((self.cell.root / "learning").glob("[!.]*")) else None

    def until(self, ready: Callable[[], T | None], otherwise: str) -> T:
        """Wait until `ready` finds something, and return it.

        Raises:
            Unexpected: it found nothing in time, or before the command ended.
        """
        until = time.monotonic() + SECONDS
        while (found := ready()) is None:
            if (code := self.process.poll()) is not None:
                raise Unexpected(f"{otherwise} before exit {code}: {self.last()}")
            if time.monotonic() > until:
                raise Unexpected(f"{otherwise} after {SECONDS} s: {self.last()}")
            time.sleep(POLL_SECONDS)
        return found

    def look(self) -> None:
        """Remember the sweep's processes, and where those of Ray keep their files."""
        with contextlib.suppress(psutil.NoSuchProcess):
            mine = psutil.Process(self.process.pid)
            for process in {mine, *mine.children(recursive=True)} - self.cell.family:
                self.cell.family.add(process)
                with contextlib.suppress(psutil.Error):
                    words = (word for word in process.cmdline() if word.startswith("--temp-dir="))
                    self.cell.scratch |= {Path(word.partition("=")[2]) for word in words}

    def holder(self, id: str) -> psutil.Process:
        """Return the process that runs the trial: it has the trial's lock open."""
        lock = str(self.cell.root / "trials" / id / "running.lock")
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if lock in (file.path for file in process.open_files()):
                    return process
        raise Unexpected(f"no process runs trial {id}")

    def child(self, name: str) -> psutil.Process:
        """Return the command's process of that name."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name() == name:
                    return process
        raise Unexpected(f"no process {name}")

    def ends(self, *codes: int, seconds: float | None = None) -> None:
        """Wait for the end.

        Raises:
            Unexpected: another exit code, or a traceback.
        """
        seconds = seconds or SECONDS
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise Unexpected(f"no end after {seconds:g} s: {self.last()}")
            self.look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOK_SECONDS)
        if (code := self.process.returncode) not in codes:
            raise Unexpected(f"exit {code}, not {' or '.join(map(str, codes))}: {self.last()}")
        if "Traceback" in self.log.read_text():
            raise Unexpected(f"a traceback: {self.last()}")

    def says(self, words: str) -> None:
        """Raise Unexpected where the command did not say the words."""
        if words not in self.log.read_text():
            raise Unexpected(f'it did not say "{words}", but: {self.last()}')

    def last(self) -> str:
        """Return the last line that the command wrote."""
        return (self.log.read_text().strip() or "(it wrote nothing)").splitlines()[-1]
