"""A real cluster that the project's own commands are run against, and what they leave there."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import servers
from faults.world import Cell, Moment, Unexpected, World
from servers import S3, Database, Tracking

from pipelines.cluster.kubectl import Cluster, Refused
from pipelines.cluster.manifests import NAMESPACE, job_name

ROOT = Path(__file__).parents[2]

BIN = Path(sys.executable).parent

SECONDS = 1200
"""A command that has not come to its end by then has hung."""

POLL_SECONDS = 1.0

ADDRESS_SECONDS = 30
"""Seconds that a port-forward may take."""

T = TypeVar("T")

SPEC = """
name = "{name}"
description = "Two trials that share what they learned, each long enough to be hit in the middle."
store = "s3://forget/{name}"

[base]
task = "sentiment"
model = "tiny"
evaluate_on = ["acceptability"]
learn = {{ examples = 8, epochs = {learn}, lr = 1e-3, batch = 4 }}
forget = {{ examples = 8, epochs = {forget}, batch = 4 }}
evaluation_examples = 8
probe = {{ examples = 8 }}
watch = {{ points = 1, examples = 8 }}
precision = "fp32"

[axes]
"forget.lr" = [1e-3, 1e-4]

[resources]
cpus = 1
concurrent = 1
checkpoint_minutes = 0.05
"""

LEARN_EPOCHS, FORGET_EPOCHS = 400, 1000


@dataclass
class Real:
    """A cluster, and the images that it runs."""

    cluster: Cluster
    image: str
    tag: str
    overlay: str
    folder: Path
    seen: dict[str, str] = field(default_factory=dict)
    """Rows of that which was seen to work, and how: those of the table."""

    def make(self, *words: str) -> Command:
        """Start `make` with these words, as a user does."""
        log = self.folder / f"{len(list(self.folder.glob('*.log'))):02}-{words[0]}.log"
        images = [f"IMAGE={self.image}", f"TAG={self.tag}", "DIRTY=1"]
        # The environment is the one in which these tests run.
        quiet = ["--silent", "--no-print-directory", "--old-file=setup"]
        context = [f"CONTEXT={self.cluster.context}", f"BIN={BIN}"]
        with log.open("w") as output:
            process = subprocess.Popen(
                ["make", *quiet, *context, *images, *words],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        return Command(" ".join(["make", *words]), process, log)

    def sweep(self, spec: str | Path, **more: str) -> Command:
        """Start `make sweep` of a spec."""
        options = {"OVERLAY": self.overlay} | more
        return self.make("sweep", f"SPEC={spec}", *(f"{k}={v}" for k, v in options.items()))

    def secret(self, name: str, key: str) -> str:
        """Return a value of a Secret."""
        path = f"--output=jsonpath={{.data.{key}}}"
        return base64.b64decode(self.cluster.kubectl("get", "secret", name, path)).decode()

    @contextlib.contextmanager
    def forward(self, what: str, port: int) -> Iterator[int]:
        """Forward a free port of this machine to one of a service or pod; yield it."""
        (mine,) = servers.free_ports(1)
        process = self.cluster.start("port-forward", what, f"{mine}:{port}")
        try:
            _until_open(mine, process)
            yield mine
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def world(self) -> Iterator[World]:
        """Reach database, store and tracking server from here, as the checks of faults do."""
        with (
            self.forward("service/postgres", 5432) as postgres,
            self.forward("service/seaweedfs", 8333) as s3,
            self.forward("service/mlflow", 5000) as mlflow,
        ):
            password = self.secret("mlflow-server", "PGPASSWORD")
            database = Database(
                f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{postgres}/mlflow",
                server=None,  # type: ignore[arg-type] # of the cluster
            )
            keys = (
                self.secret("seaweedfs", "AWS_ACCESS_KEY_ID"),
                self.secret("seaweedfs", "AWS_SECRET_ACCESS_KEY"),
            )
            tracking = Tracking(
                f"http://127.0.0.1:{mlflow}",
                self.secret("forget-client", "MLFLOW_TRACKING_USERNAME"),
                self.secret("forget-client", "MLFLOW_TRACKING_PASSWORD"),
                backend={},
            )
            store = S3(f"http://127.0.0.1:{s3}", *keys)
            before = dict(os.environ)
            os.environ.update(tracking.environment, MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false")
            try:
                yield World(self.folder, database, store, tracking)
            finally:
                os.environ.clear()
                os.environ.update(before)

    def study(self, name: str) -> Path:
        """Write the spec of a study that is disturbed; return its file."""
        spec = self.folder / f"{name}.toml"
        text = SPEC.format(name=name, learn=LEARN_EPOCHS, forget=FORGET_EPOCHS)
        spec.write_text(text)
        return spec

    def pods(self, role: str) -> list[dict[str, Any]]:
        """Return the pods of a role that run."""
        found = self.cluster.find("pod", f"--selector=forget/role={role}")
        return [pod for pod in found if pod.get("status", {}).get("phase") == "Running"]

    def pod(self, role: str) -> str:
        """Return the name of the newest pod of a role."""
        found = sorted(self.pods(role), key=lambda pod: pod["metadata"]["creationTimestamp"])
        if not found:
            raise Unexpected(f"no pod of the role {role} runs")
        return str(found[-1]["metadata"]["name"])

    def delete_job(self, spec: Path) -> None:
        """Delete the RayJob of a study, and wait until its pods are gone."""
        name = job_name(spec.stem)
        path = "--output=jsonpath={.status.rayClusterName}"
        made = self.cluster.kubectl("get", "rayjob", name, "--ignore-not-found", path)
        words = ("delete", "rayjob", name, "--ignore-not-found", "--wait")
        self.cluster.kubectl(*words, seconds=180)
        if made:
            words = ("wait", "pod", f"--selector=ray.io/cluster={made}", "--for=delete")
            self.cluster.kubectl(*words, "--timeout=180s", seconds=200)


@dataclass
class Command:
    """A command that runs, and what it has said."""

    words: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """Return everything that it has written."""
        return self.log.read_text(errors="replace")

    def until(self, ready: Callable[[], T | None], otherwise: str, seconds: float = SECONDS) -> T:
        """Wait until `ready` finds something, and return it.

        Raises:
            Unexpected: it found nothing in time, or before the command ended.
        """
        until = time.monotonic() + seconds
        while not (found := ready()):
            if (code := self.process.poll()) is not None:
                if found := ready():
                    return found
                raise Unexpected(f"{self.words}: {otherwise} before exit {code}:\n{self.tail()}")
            if time.monotonic() > until:
                raise Unexpected(f"{self.words}: {otherwise} after {seconds} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)
        return found

    def says(self, *words: str, seconds: float = SECONDS) -> None:
        """Wait until it has written a line with all these words."""

        def there() -> bool:
            return any(has(line, words) for line in self.said().splitlines())

        self.until(there, f"did not say {words}", seconds)

    def ends(self, *codes: int, seconds: float = SECONDS) -> str:
        """Wait for the end, and return what it said.

        Raises:
            Unexpected: it did not end, or with another code, or with a traceback.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"{self.words}: no end after {seconds} s:\n{self.tail()}") from None
        if code not in codes or "Traceback" in self.said():
            raise Unexpected(f"{self.words}: exit {code}, not {codes}:\n{self.tail()}")
        return self.said()

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self) -> None:
        """Kill it, should it still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self) -> str:
        """Return its last lines."""
        return "\n".join(self.said().splitlines()[-25:])


@dataclass
class RealCell(Cell):
    """A study on the cluster, as the checks of faults look at one."""

    @property
    def root(self) -> Path:
        """Return a folder with copies of what its trials left in the bucket, models apart."""
        folder = self.folder / "copies"
        if not folder.exists():
            for key in self.world.s3.keys("forget", f"{self.name}/trials/"):
                if "/model/" not in key:
                    path = folder / key.removeprefix(f"{self.name}/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(self.world.s3.read("forget", key))
        return folder

    def end(self) -> None:
        """Leave it: the cluster's own end of a sweep is part of what is tested."""


def cell(world: World, spec: Path) -> RealCell:
    """Return the cell of a study whose spec that is."""
    folder = spec.with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(spec.read_text())
    return RealCell(world, spec.stem, folder, f"s3://forget/{spec.stem}")


def reach(real: Real, command: Command, spec: Path, moment: Moment, trials: int) -> None:
    """Wait until so many trials have finished and the next one is at the moment.

    A stage is at its middle when its trial has a checkpoint in the store, which it writes every
    three seconds.
    """
    draw = random.Random(f"{spec.stem} {moment}")
    prefix = f"{spec.stem}/"

    def there() -> bool:
        try:
            with real.forward("service/seaweedfs", 8333) as port:
                keys = (
                    real.secret("seaweedfs", "AWS_ACCESS_KEY_ID"),
                    real.secret("seaweedfs", "AWS_SECRET_ACCESS_KEY"),
                )
                names = S3(f"http://127.0.0.1:{port}", *keys).keys("forget", prefix)
        except (Refused, OSError, Unexpected):
            return False
        done = sum(name.endswith("/outcome.json") for name in names)
        return done >= trials and any(SIGN[moment](name) for name in names)

    command.until(there, f"no trial was {moment}")
    time.sleep(draw.uniform(0, 2))


SIGN: dict[Moment, Callable[[str], bool]] = {
    "learning": lambda name: "/learning/" in name,
    "forgetting": lambda name: "/trials/" in name and "/checkpoint." in name,
}
"""Tells whether a key of the store is that of a trial at a moment."""


def _until_open(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until a port of this machine takes connections."""
    until = time.monotonic() + ADDRESS_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise Unexpected(f"no port-forward: {process.communicate()[1].strip()}")
        time.sleep(0.2)


def has(line: str, words: Sequence[str]) -> bool:
    """Return whether a line has all of the words."""
    return all(word in line for word in words)


def nodes(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the cluster's nodes."""
    return cluster.find("node")


__all__ = ["NAMESPACE", "Command", "Real", "RealCell", "cell", "nodes", "reach"]
