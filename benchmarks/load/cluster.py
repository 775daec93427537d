"""Load on the head of a cluster: a sweep of trials of no work on many fake workers."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.load.page import TRIALS
from benchmarks.load.parts import CLIENT, SERVER, spec
from benchmarks.load.stack import Measurement
from tests import servers


def cluster(size: int, found: Measurement) -> None:
    """Run a sweep over so many fake workers (benchmarks.load.fakes).

    Args:
        size: number of workers, each a Ray node of one core.
        found: takes what is measured.
    """
    folder = found.stack.folder / "work"
    trials = TRIALS * size
    path = spec(folder, trials)
    output = found.stack.folder / "fakes.log"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "benchmarks.load.fakes", str(path), str(size)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        found.watch.add("workers", process.pid)
        while not (gcs := _said(output.read_text(errors="replace")).get("gcs")):
            if process.poll() is not None:
                raise RuntimeError(f"no fake workers:\n{servers.tail(output)}")
            time.sleep(1)
        found.say(f"{size} workers are there; {trials} trials")
        found.watch.add("driver", process.pid, alone=True)
        found.watch.add("Ray's head", int(gcs))
        with (
            found.profiled("server", found.stack.heads["server"], SERVER, 10),
            found.profiled("driver", process.pid, CLIENT, 10),
        ):
            process.wait()
    said = _said(output.read_text(errors="replace"))
    if process.returncode:
        raise RuntimeError(f"the sweep ended with {process.returncode}:\n{servers.tail(output)}")
    found.rates["trials a minute"] = 60 * trials / said["seconds"]
    ((runs,),) = found.stack.asked(
        "select count(*) from runs where status = 'FINISHED' and name not like 'load%'"
    )
    found.wrong = {
        "runs that are not finished": trials - min(trials, runs),
        "trials failed": int(said["failed"]),
    }


def _said(text: str) -> dict[str, float]:
    """Return all that the process said in JSON."""
    said: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("{"):
            said |= json.loads(line)
    return said
