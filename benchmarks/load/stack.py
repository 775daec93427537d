"""The servers of a cluster as processes of this machine, and measurements while they are loaded."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from benchmarks import machine
from benchmarks.load import watching, wire
from benchmarks.load.page import Grown, Load
from tests import servers

WORKERS, CONNECTIONS = 2, 100
"""Workers of the tracking server (mlflow/base/server.yaml), PostgreSQL's default connections."""


@dataclass(frozen=True)
class Stack:
    """The servers, the processes they are, and the folder of everything."""

    folder: Path
    database: str
    s3: servers.S3
    tracking: servers.Tracking
    heads: dict[str, int]
    """Processes that the others of a server descend from, by the server's name."""
    environment: dict[str, str]
    """Variables of a process that speaks to them and is recorded."""

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database in SQL."""
        with contextlib.closing(
            psycopg2.connect(self.database.replace("+psycopg2", ""))
        ) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return cursor.fetchall()

    def sizes(self) -> dict[str, float]:
        """Return the bytes of whatever grows, by name."""
        ((database,),) = self.asked("select pg_database_size(current_database())")
        store = sum(
            path.stat().st_size for path in (self.folder / "work").rglob("*") if path.is_file()
        )
        return {
            "database": database,
            "artifacts": sum(self.s3.keys("mlflow").values()),
            "store": store,
        }


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """Start servers as in a cluster, in a folder that is thrown away.

    This process speaks to them meanwhile, and is recorded.
    """
    heads: dict[str, int] = {}
    with contextlib.ExitStack() as still:
        folder = Path(still.enter_context(tempfile.TemporaryDirectory(prefix="forget-load-")))

        def started(name: str, server: contextlib.AbstractContextManager[Any]) -> Any:
            known = set(psutil.Process().children())
            found = still.enter_context(server)
            (heads[name],) = (child.pid for child in set(psutil.Process().children()) - known)
            return found

        database = started(
            "database", servers.postgres(folder, fsync=True, connections=CONNECTIONS)
        )
        s3 = started("object store", servers.seaweedfs(folder))
        server = started("server", servers.mlflow_server(folder, database, s3, workers=WORKERS))
        for name in ("wire", "site", "work"):
            (folder / name).mkdir()
        (folder / "site" / "sitecustomize.py").write_text(wire.SITE)
        path = os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[2])])
        environment = server.environment | {wire.FOLDER: str(folder / "wire"), "PYTHONPATH": path}
        # Children inherit what is set, and the forget room reads it.
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder / "work"):
            for name, value in environment.items():
                patch.setenv(name, value)
            wire.record()
            yield Stack(folder, database.address, s3, server, heads, environment)


@dataclass
class Measurement:
    """Findings of a part while it runs."""

    stack: Stack
    watch: watching.Watch
    say: Callable[[str], None]
    wrong: dict[str, int] = field(default_factory=dict)
    """Number of times that a thing went wrong, by its name."""
    rates: dict[str, float] = field(default_factory=dict)
    grown: tuple[Grown, ...] = ()
    profiles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Lines of a profile, by group of processes."""

    @contextlib.contextmanager
    def profiled(self, group: str, head: int, rooms: str, after: float) -> Iterator[None]:
        """Profile a minute of a group of processes.

        Args:
            group: name of the group.
            head: process that the others descend from.
            rooms: pattern of the frames of interest.
            after: seconds from now at which the minute begins.
        """
        with watching.profiled(head, self.stack.folder, after, 60) as profile:
            yield
        self.profiles[group] = tuple(watching.hottest(profile, rooms))


def measured(
    part: str, size: int, load: Callable[[int, Measurement], None], say: Callable[[str], None]
) -> Load:
    """Start servers, load them, and return what it took; growth is by unit of the size.

    Args:
        part: name of the part.
        size: its size.
        load: function that loads the servers.
        say: is told how far it is.
    """
    say("starting PostgreSQL, SeaweedFS and MLflow")
    with stack() as servers:
        watch = watching.Watch({"benchmark": os.getpid(), **servers.heads})
        found = Measurement(servers, watch, say)
        before = servers.sizes()
        began = time.monotonic()
        watch.start()
        load(size, found)
        seconds = time.monotonic() - began
        used = watch.stop()
        calls = wire.read(servers.folder / "wire")
        now = servers.sizes()
        return Load(
            part=part,
            size=size,
            machine=machine.describe(),
            seconds=seconds,
            others=watch.others,
            rates=found.rates | {"requests a second": len(calls) / seconds},
            wrong={
                **found.wrong,
                "answers 5xx": sum(call.status >= 500 for call in calls),
                "requests without an answer": sum(call.status == 0 for call in calls),
                "retries": sum(call.retries for call in calls),
            },
            kinds=wire.kinds(calls),
            used=used,
            growth={name: (now[name] - before[name]) / size for name in before},
            profiles=found.profiles,
            grown=found.grown,
        )
