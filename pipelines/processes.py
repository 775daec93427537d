"""A trial in several processes on this node, each a `forget trial` that torch's launcher starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from forget.errors import BadInput
from forget.events import Event, Observe
from forget.models.devices import without_launchers
from forget.settings.parts import Part
from forget.settings.sweep import Resources
from forget.settings.trial import Trial
from forget.storage.store import Store


class Refusal(Part):
    """Words of a trial's process instead of an outcome, where trying again is no use."""

    kind: Literal["refusal"] = "refusal"
    reason: str
    numeric: bool
    """The loss was not a number; otherwise the input was bad."""


EVENT: TypeAdapter[Event | Refusal] = TypeAdapter(
    Annotated[Event | Refusal, Field(discriminator="kind")]
)


def run_processes(trial: Trial, resources: Resources, observe: Observe, store: Store) -> None:
    """Run a trial in `resources.workers` processes here, each with its share of the batch.

    Raises:
        BadInput, FloatingPointError: as `run_trial` does.
        RuntimeError: a process failed otherwise; the text is its last error, or its signal.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.json"
        file.write_text(trial.model_dump_json(), encoding="utf-8")
        env = without_launchers(os.environ) | {
            "FORGET_STORE": store.where,
            "OMP_NUM_THREADS": str(max(1, int(resources.cpus))),
            # A process that dies of a signal then says where it was, for `_last_words`.
            "PYTHONFAULTHANDLER": "1",
        }
        with (
            (Path(folder) / "launcher.log").open("w") as log,
            subprocess.Popen(
                _command(file, resources), env=env, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    observe(_event(line))
            finally:
                if sys.exc_info()[0]:
                    process.terminate()
                    # The processes keep the trial's state before they end; a pipe that nobody
                    # reads would hold them up.
                    for _ in process.stdout or ():
                        continue
                process.wait()
        if process.returncode:
            raise RuntimeError(_last_words(Path(folder)))


def _command(file: Path, resources: Resources) -> list[str]:
    """Return the launcher's command: each process writes stderr to a file beside the trial's."""
    # They are all here: the name of this machine need not have an address.
    here = ["--standalone", "--local-addr=127.0.0.1"]
    launcher = ["torch.distributed.run", *here, f"--nproc-per-node={resources.workers}"]
    logs = ["--redirects=2", f"--log-dir={file.parent}"]
    minutes = f"--checkpoint-minutes={resources.checkpoint_minutes}"
    trial = ["pipelines.cli", "trial", str(file), "--events", minutes]
    shard = ["--shard"] if resources.shard else []
    return [sys.executable, "-m", *launcher, *logs, "-m", *trial, *shard]


def _event(line: str) -> Event:
    """Read an event that a process printed; a refusal is raised as the error that it was."""
    event = EVENT.validate_json(line)
    if not isinstance(event, Refusal):
        return event
    raise FloatingPointError(event.reason) if event.numeric else BadInput(event.reason)


FAILED = re.compile(r"local_rank: (\d+)\).*?exitcode\s*: (-?\d+)", re.DOTALL)
"""Rank and exit code of a process, in the report that torch's launcher ends its log with.

For each process that failed, the report has lines of this form (exit codes below 0 are signals):

    rank      : 1 (local_rank: 1)
    exitcode  : -9 (pid: 4242)

The launcher is a process of its own: nothing but this text reaches us of the error that it raises
(torch.distributed.elastic.multiprocessing.errors.ChildFailedError).
"""

ERROR = re.compile(
    r"^(?:\[rank\d+\]: )?((?:Fatal Python error|[\w.]+(?:Error|Exception)): .*)", re.MULTILINE
)
"""The line of a traceback that names the error. Torch puts "[rank1]: " before it."""

TAKEN_ALONG = re.compile("SIGTERM|by peer")
"""Words of a process that ended because another had: the launcher ended it, or its connection
broke ("Connection closed by peer").
"""


def _last_words(folder: Path) -> str:
    """Return why the first process failed, not those that it took along: its error or signal."""
    report = (folder / "launcher.log").read_text(encoding="utf-8", errors="replace").strip()
    # The launcher, which looks at its processes now and then, takes the first failure that it sees
    # for the root cause, and reports it last.
    causes = [_cause(folder, int(rank), int(code)) for rank, code in FAILED.findall(report)[::-1]]
    for cause in causes:
        if not TAKEN_ALONG.search(cause):
            return cause
    # Where every one was taken along, or the launcher itself failed before it had any.
    return causes[0] if causes else report.rpartition("\n")[2]


def _cause(folder: Path, rank: int, code: int) -> str:
    """Return a process's last error, or its last line where it has none; its signal before that."""
    logs = folder.rglob(f"{rank}/stderr.log")
    said = "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    errors = ERROR.findall(said)
    words = errors[-1] if errors else said.strip().rpartition("\n")[2]
    if code > 0:
        return words
    died = f"process {rank} of the trial died of {signal.Signals(-code).name}"
    return f"{died}: {words}" if words else died
