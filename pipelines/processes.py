"""A trial in several processes on this node, each a `forget trial` that torch's launcher starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from forget.events import Event, Observe
from forget.settings import BadInput, Resources, Trial
from forget.store import Store
from pipelines.progress import Refusal

EVENT: TypeAdapter[Event | Refusal] = TypeAdapter(Annotated[Event | Refusal, Field(discriminator="kind")])


def run_processes(trial: Trial, resources: Resources, observe: Observe, store: Store) -> None:
    """One trial in `resources.workers` processes on this node, each with its share of the batch.

    Raises:
        BadInput, FloatingPointError: as `run_trial` does.
        RuntimeError: a process failed otherwise; the text is the last line it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.json"
        file.write_text(trial.model_dump_json(), encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={resources.workers}"]
        logs = ["--redirects=2", f"--log-dir={folder}"]
        minutes = f"--checkpoint-minutes={resources.checkpoint_minutes}"
        shard = ["--shard"] if resources.shard else []
        command = [sys.executable, *launcher, *logs, "-m", "pipelines.cli", "trial", str(file), "--events", minutes, *shard]
        threads = str(max(1, int(resources.cpus)))
        env = os.environ | {"FORGET_STORE": store.where, "OMP_NUM_THREADS": threads}
        with (
            (Path(folder) / "launcher.log").open("w") as log,
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                for line in process.stdout or ():
                    event = EVENT.validate_json(line)
                    if isinstance(event, Refusal):
                        raise FloatingPointError(event.reason) if event.numeric else BadInput(event.reason)
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
    """The last line of the process that failed. Those that it took along were stopped by the launcher and wrote no error."""
    logs = [*sorted(folder.rglob("stderr.log")), folder / "launcher.log"]
    lines = [log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2] for log in logs]
    return next((line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])
