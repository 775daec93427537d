"""Memory, processor time and profiles of processes while something else happens.

Memory is the proportional set size: a page that several processes share counts once in their sum.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from forget.settings.parts import Part

SECONDS = 2.0
"""Seconds between two looks."""

RATE = 20
"""Samples of a profile a second."""

LINES = 10
"""Number of lines of a profile."""


class Used(Part):
    """Memory and processor time that a group of processes took."""

    megabytes: float
    """Memory of all processes together, at its peak."""
    early: float
    """Megabytes after a tenth of the time: what comes later has grown."""
    processor: float
    """Seconds of the processor."""
    processes: int
    """Most processes at a time. PostgreSQL has one for each connection, and six of its own."""


class Watch(threading.Thread):
    """A thread that looks at groups of processes until it is stopped.

    A group has a name and a process whose descendants belong to it. Of two groups that hold a
    process, the one that was named later has it.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        super().__init__(name="watch", daemon=True)
        self._heads = dict(heads)
        self._alone: set[str] = set()
        self._held: dict[str, list[float]] = {name: [] for name in heads}
        self._numbers: Counter[str] = Counter()
        self._clocks: dict[tuple[int, float], tuple[str, float]] = {}
        self._before: dict[tuple[int, float], float] = {}
        self._done = threading.Event()
        self._whole, self._began = _busy(), time.monotonic()
        self._look()
        # Processor time from before this watch does not count.
        self._before = {process: seconds for process, (_, seconds) in self._clocks.items()}

    def add(self, name: str, head: int, alone: bool = False) -> None:
        """Add a group that begins now; `alone`, it is this process without its descendants."""
        self._held[name] = []
        self._heads[name] = head
        if alone:
            self._alone.add(name)

    def run(self) -> None:
        while not self._done.wait(SECONDS):
            self._look()

    def stop(self) -> dict[str, Used]:
        """Stop, and return what each group took; the share of other processes is in `others`."""
        self._done.set()
        self.join()
        self._look()
        seconds: dict[str, float] = dict.fromkeys(self._held, 0.0)
        for process, (name, clock) in self._clocks.items():
            seconds[name] += clock - self._before.get(process, 0.0)
        self.wall = time.monotonic() - self._began
        cores = len(os.sched_getaffinity(0))
        self.others = max(0.0, _busy() - self._whole - sum(seconds.values())) / (cores * self.wall)
        """Share of the processor that processes outside the groups had: nearly 0 on a machine that
        does nothing else.
        """
        return {
            name: Used(
                megabytes=max(held),
                early=held[len(held) // 10],
                processor=seconds[name],
                processes=self._numbers[name],
            )
            for name, held in self._held.items()
        }

    def _look(self) -> None:
        held: Counter[str] = Counter()
        # Of two groups that hold a process the later one has it.
        owner: dict[psutil.Process, str] = {}
        for name, head in list(self._heads.items()):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(head)
                others = () if name in self._alone else process.children(recursive=True)
                owner |= dict.fromkeys((process, *others), name)
        for process, name in owner.items():
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                times = process.cpu_times()
                self._clocks[process.pid, process.create_time()] = (name, times.user + times.system)
                held[name] += _shared_out(process.pid)
        for name, number in Counter(owner.values()).items():
            self._numbers[name] = max(self._numbers[name], number)
        for name, kilobytes in held.items():
            self._held[name].append(kilobytes / 1024)


def _shared_out(pid: int) -> int:
    """Return the kilobytes of a process, pages that several share counted in part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _busy() -> float:
    """Return the seconds that the machine's processors have worked, all together."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


@contextmanager
def profiled(head: int, folder: Path, after: float, seconds: float) -> Iterator[Path]:
    """Profile a process and its descendants, and yield the file of the profile.

    The file stays empty where there is no py-spy (benchmarks/requirements.txt), or the block ends
    before the profile begins.

    Args:
        head: the process.
        folder: folder of the file.
        after: seconds from now at which it begins.
        seconds: its length.
    """
    path = folder / f"profile-{head}.txt"
    path.touch()
    spy = shutil.which(
        "py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    command = [
        spy or "",
        "record",
        "--subprocesses",
        "--nonblocking",
        "--format=raw",
        f"--rate={RATE}",
    ]
    command += [f"--duration={seconds:.0f}", f"--pid={head}", f"--output={path}"]
    ended = threading.Event()

    def spying() -> None:
        if ended.wait(after):
            return
        with (folder / "py-spy.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            while process.poll() is None and not ended.wait(0.5):
                pass
            # Ctrl-C makes it write what it has.
            if process.poll() is None:
                process.send_signal(2)
            process.wait(60)

    thread = threading.Thread(target=spying)
    if spy:
        thread.start()
    try:
        yield path
    finally:
        ended.set()
        if spy:
            thread.join()


def hottest(path: Path, rooms: str) -> list[str]:
    """Return the functions of a profile that `rooms` (a pattern) matches, with their shares.

    A share of the samples counts what the function calls as well, so that shares add up to more
    than the whole.
    """
    shares: Counter[str] = Counter()
    whole = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        stack, _, samples = line.rpartition(" ")
        # A process with a line break in its command line leaves half a stack.
        if not samples.isdigit():
            continue
        whole += int(samples)
        # A frame that is no function names the process by its command line.
        frames = {
            re.sub(r":\d+\)$", ")", frame)
            for frame in stack.split(";")
            if not frame.startswith("process ")
        }
        for frame in frames:
            if re.search(rooms, frame):
                shares[frame] += int(samples)
    return [f"{samples / whole:6.1%} {frame}" for frame, samples in shares.most_common(LINES)]
