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
from forget.settings.parts import Part
from forget.settings.sweep import Resources
from forget.settings.trial import Trial
from forget.storage.store import Store


class Refusal(Part):
    """What a trial in a process of its own says instead of an outcome where trying again is no use."""

    kind: Literal["refusal"] = "refusal"
    reason: str
    numeric: bool
    """The loss was not a number; otherwise the input was bad."""


EVENT: TypeAdapter[Event | Refusal] = TypeAdapter(
    Annotated[Event | Refusal, Field(discriminator="kind")]
)


def run_processes(trial: Trial, resources: Resources, observe: Observe, store: Store) -> None:
    """One trial in `resources.workers` processes on this node, each with its share of the batch.

    Raises:
        BadInput, FloatingPointError: as `run_trial` does.
        RuntimeError: a process failed otherwise; the text is its last error, or its signal.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.json"
        file.write_text(trial.model_dump_json(), encoding="utf-8")
        launcher = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={resources.workers}",
        ]
        logs = ["--redirects=2", f"--log-dir={folder}"]
        minutes = f"--checkpoint-minutes={resources.checkpoint_minutes}"
        shard = ["--shard"] if resources.shard else []
        command = [
            sys.executable,
            *launcher,
            *logs,
            "-m",
            "pipelines.cli",
            "trial",
            str(file),
            "--events",
            minutes,
            *shard,
        ]
        threads = str(max(1, int(resources.cpus)))
        env = os.environ | {
            "FORGET_STORE": store.where,
            "OMP_NUM_THREADS": threads,
            "PYTHONFAULTHANDLER": "1",
        }
        with (
            (Path(folder) / "launcher.log").open("w") as log,
            subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    event = EVENT.validate_json(line)
                    if isinstance(event, Refusal):
                        raise (
                            FloatingPointError(event.reason)
                            if event.numeric
                            else BadInput(event.reason)
                        )
                    observe(event)
            finally:
                if sys.exc_info()[0]:
                    process.terminate()
                    # They keep the trial's state first, and what they say meanwhile needs a reader.
                    for _ in process.stdout or ():
                        continue
                process.wait()
        if process.returncode:
            raise RuntimeError(_last_words(Path(folder)))


def _last_words(folder: Path) -> str:
    """The last error of the process that failed first, or its signal; not of those that it took along."""
    report = (folder / "launcher.log").read_text(encoding="utf-8", errors="replace").strip()
    failed = re.findall(r"local_rank: (\d+)\).*?exitcode\s*: (-?\d+)", report, re.DOTALL)
    # The root cause by the launcher, which looks now and then, comes last.
    causes = [_cause(folder, int(rank), int(code)) for rank, code in reversed(failed)]
    return next(
        (cause for cause in causes if not re.search(r"SIGTERM|by peer", cause)),
        [*causes, report.rpartition("\n")[2]][0],
    )


def _cause(folder: Path, rank: int, code: int) -> str:
    said = "\n".join(
        log.read_text(encoding="utf-8", errors="replace")
        for log in folder.rglob(f"{rank}/stderr.log")
    )
    errors = re.findall(
        r"^(?:\[rank\d+\]: )?((?:Fatal Python error|[\w.]+(?:Error|Exception)): .*)",
        said,
        re.MULTILINE,
    )
    words = errors[-1] if errors else said.strip().rpartition("\n")[2]
    if code > 0:
        return words
    return f"process {rank} of the trial died of {signal.Signals(-code).name}" + (
        f": {words}" if words else ""
    )
