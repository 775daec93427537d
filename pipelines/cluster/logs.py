"""The output of a sweep on a cluster, each line once."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipelines.cluster.kubectl import ANSWER_SECONDS, POLL_SECONDS, Cluster, Refused
from pipelines.cluster.states import say, speaking

RAYS_OWN = re.compile(
    r"\d{4}-\d\d-\d\d [\d:,]+\s+[A-Z]+ (cli|sdk|job_manager)\.py:\d+ -- "
    r"|Running entrypoint for job "
)
"""The beginning of a line that `ray job submit` adds to what the sweep writes."""

CHAIN = (
    "Traceback (most recent call last):",
    "During handling of the above",
    "The above exception ",
)
"""The beginnings of the lines of a traceback that are not indented, its last line apart."""

RAYS_COMMAND = '/bin/ray", line '
"""Part of a traceback that the submitter itself ends in, as where the head is lost."""

API_AWAY = re.compile(r"HTTPSConnectionPool|ConnectTimeout|timed out|refused|unreachable")
"""Words of a container that does not reach the Kubernetes API."""
CLOSED = (
    "it cannot reach the Kubernetes API, so that no worker comes or goes; the NetworkPolicy head "
    "lets it out to TCP 443, 6443, 8443 and 16443, k8s/components/cilium does under Cilium"
)
"""The meaning of such words, and the cure."""

STARTED = "started  "
"""The beginning of a line by which the sweep says that a trial starts (pipelines.progress)."""


class Logs(threading.Thread):
    """A thread that prints what the sweep writes, each line once.

    It follows the logs of the pods that submit the sweep.

    A stream that breaks is read again from its start, as is the sweep's log by a submitter that
    takes over from one that died: both repeat what was printed, which is left out.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.name = name
        self.started: float | None = None
        """When the first trial started, on the monotonic clock; None before."""
        self._ending = threading.Event()
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None
        self._printed: dict[str, list[str]] = {}
        """Lines by the Job whose pods submit: the next try of a sweep has a new Job and log."""

    def run(self) -> None:
        """Read the logs until they are told to stop, or have been read whole after `finish`."""
        while not self._stopped:
            last, whole = self._ending.is_set(), False
            with suppress(Refused):
                whole = all(self._stream(pod) for pod in self._pods())
            if last and whole:
                return
            self._ending.wait(POLL_SECONDS / 3)

    def finish(self, seconds: float = ANSWER_SECONDS) -> None:
        """Print what is left of a sweep that has ended."""
        self._ending.set()
        self.join(seconds)

    def stop(self) -> None:
        """Stop reading at once."""
        self._stopped = True
        self._ending.set()
        if process := self._process:
            process.kill()
        self.join(1)

    def _pods(self) -> list[dict[str, Any]]:
        """Return the newest submitting pod that may have written, if any."""
        pods = self.cluster.find("pod", f"--selector=job-name={self.name}")
        started = [
            pod
            for pod in pods
            if pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")
        ]
        return sorted(started, key=lambda pod: pod["metadata"]["creationTimestamp"])[-1:]

    def _stream(self, pod: Mapping[str, Any]) -> bool:
        """Print a pod's log as it grows; return whether it was read to its end."""
        labels = pod["metadata"].get("labels", {})
        printed = self._printed.setdefault(labels.get("batch.kubernetes.io/controller-uid", ""), [])
        with self.cluster.start("logs", "--follow", pod["metadata"]["name"]) as process:
            self._process = process
            if self._stopped:
                process.kill()
            written = _without_submitters_end(_of_sweep(process.stdout or ()))
            for line in unseen(written, printed):
                say(line)
                if self.started is None and line.startswith(STARTED):
                    self.started = time.monotonic()
        return process.returncode == 0


def _of_sweep(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that the sweep wrote, out of all that `ray job submit` writes."""
    repeats = False
    for line in lines:
        own = RAYS_OWN.match(line)
        # What follows these words is the end of the log once more.
        repeats |= bool(own) and " -- Status message: " in line
        if not own and not repeats:
            yield line.rstrip("\n")


def _without_submitters_end(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines without the traceback that `ray job submit` ends in where its head is lost.

    It says nothing of the sweep, and its last line is said as the trouble of its pod.
    """
    held: list[str] = []
    for line in lines:
        if not _goes_on(held, line):
            yield from _not_submitters(held)
            held = []
        if held or line.startswith(CHAIN[0]):
            held.append(line)
        else:
            yield line
    yield from _not_submitters(held)


def _goes_on(held: Sequence[str], line: str) -> bool:
    """Return whether a line goes on with the tracebacks that are held."""
    return bool(held) and (
        not line or line.startswith((" ", *CHAIN)) or held[-1].startswith((" ", CHAIN[0]))
    )


def _not_submitters(held: Sequence[str]) -> Sequence[str]:
    """Return tracebacks that are the sweep's own, none where they are the submitter's."""
    return [] if any(RAYS_COMMAND in line for line in held) else held


def unseen(lines: Iterator[str], printed: list[str]) -> Iterator[str]:
    """Yield the lines that do not repeat, in order, those printed, and add them to these."""
    at = 0
    for line in lines:
        try:
            at = printed.index(line, at) + 1
        except ValueError:
            printed.append(line)
            at = len(printed)
            yield line


def last_words(cluster: Cluster, pods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (container of a pod, last line of its log) where it has failed or is waited for."""
    for pod in pods:
        name = pod["metadata"]["name"]
        for container, how in speaking(pod):
            words = ("logs", f"pod/{name}", f"--container={container}", "--tail=20")
            try:
                lines = cluster.kubectl(*words).strip().splitlines()
            except Refused as error:
                # The log of a container that is just being made or deleted.
                lines = [str(error)]
            last = lines[-1] if lines else "it said nothing"
            if container == "autoscaler" and API_AWAY.search(last):
                last = f"{CLOSED}: {last}"
            yield f"{name}, {container}", f"{how}: {last}" if how else last
