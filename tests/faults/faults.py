"""Faults, a function each, and the play of faults on a sweep.

"Learning" is while the checkpoint that the trials share is made, "forgetting" while a trial
forgets, "logging" from when a trial's numbers are in the store until they are whole on the server,
its model registered.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray._private.utils import get_system_memory, get_used_memory
from servers import Server

from .check import Undisturbed, broken, clear
from .world import LOOK_SECONDS, ROOT, Cell, Moment, Running, Skipped, Unexpected, World

SOON_SECONDS = 180
"""Within so much a sweep whose Ray or disk is gone ends by itself, and the processes of one that
was killed.
"""

SPARE_BYTES = 8 * 10**9
"""Memory that Ray lets a sweep and its neighbours take; the sweep takes about a third."""

GLUTTON = """
import time
kept = []
while True:
    kept.append(b"x" * 2**26)
    time.sleep(0.02)
"""
"""A process that takes 3 GB a second."""

DOOM = """
import os, signal, sys, threading, time
def die():
    while "pipelines.sweep.worker" not in sys.modules:
        time.sleep(0.01)
    try:
        os.remove({file!r})
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
if any(word.endswith("default_worker.py") for word in sys.orig_argv):
    threading.Thread(target=die, daemon=True).start()
"""
"""Code that a process runs when it starts: one of Ray's ends where it reads what a trial is, if the
file is there, which is there no more then.
"""


@dataclass(frozen=True)
class Met:
    """A sweep at the moment when something happens to it."""

    cell: Cell
    sweep: Running
    moment: Moment
    trial: str
    """The trial that has reached the moment."""


Harm = Callable[[Met], Running]
"""Does harm to a sweep; returns the command that is expected to end well then: the same, or the one
that goes on.
"""


def worker_killed(met: Met) -> Running:
    """Send SIGKILL to a trial's process, as when the memory runs out.

    The trial goes on from its last checkpoint.
    """
    met.sweep.holder(met.trial).kill()
    return met.sweep


def worker_preempted(met: Met) -> Running:
    """SIGTERM of a trial's process."""
    met.sweep.holder(met.trial).terminate()
    return met.sweep


def worker_killed_starting(met: Met) -> Running:
    """Send SIGKILL to a trial's process, and to the next one while it starts."""
    _doomed(met.cell).touch()
    met.sweep.holder(met.trial).kill()
    met.sweep.until(
        lambda: None if _doomed(met.cell).exists() else True, "no process started for the trial"
    )
    return met.sweep


def memory_short(met: Met) -> Running:
    """Fill the memory until Ray ends a process of a trial for it, then make room."""
    with subprocess.Popen([sys.executable, "-c", GLUTTON]) as neighbour:
        try:
            met.sweep.until(
                lambda: "memory ran short" in met.sweep.log.read_text() or None, "memory sufficed"
            )
        finally:
            neighbour.kill()
    return met.sweep


def driver_killed(met: Met) -> Running:
    """SIGKILL of the command. Its processes end with it, and the same command goes on."""
    _kill(met)
    return met.cell.start()


def head_killed(met: Met) -> Running:
    """Send SIGKILL to the process of Ray that knows where everything is.

    The command ends and says so; the same command goes on.
    """
    met.sweep.child("gcs_server").kill()
    met.sweep.ends(1, seconds=SOON_SECONDS)
    met.sweep.says("the same command goes on")
    _gone(met)
    return met.cell.start()


def tracking_away(met: Met) -> Running:
    """Take the tracking server down for a minute.

    What a sweep that ends meanwhile could not send, the same command sends.
    """
    return _away(met, met.cell.world.tracking.server, 60)


def tracking_gone(met: Met) -> Running:
    """Take the tracking server down until after the sweep; `forget sync` sends everything."""
    server = met.cell.world.tracking.server
    server.stop()
    try:
        met.sweep.ends(0)
    finally:
        server.start()
    met.sweep.says("send what it lacks with: forget sync")
    return met.cell.start("sync", "study.toml")


def database_restarted(met: Met) -> Running:
    """Stop the database behind the tracking server at once, and start it."""
    return _away(met, met.cell.world.database.server, 0)


def artifacts_away(met: Met) -> Running:
    """Take the tracking server's object store down for half a minute: nothing can be uploaded."""
    return _away(met, met.cell.world.s3.server, 30)


def store_away(met: Met) -> Running:
    """Take the object store, in which the sweep's own store lies as well, down for 30 s."""
    return _away(met, met.cell.world.s3.server, 30)


def disk_full(met: Met) -> Running:
    """Fill the disk of the store, then make room.

    The sweep ends and says so; the same command goes on.
    """
    filler = met.cell.root / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while file.write(bytes(size)) == size:
                    continue
            except OSError:
                continue
    try:
        met.sweep.ends(1, seconds=SOON_SECONDS)
        met.sweep.says("No space left on device")
        _gone(met)
    finally:
        filler.unlink()
    return met.cell.start()


def checkpoint_truncated(met: Met) -> Running:
    """Kill the command and lose half of the newest weights, as after a loss of power.

    They are made again. What a trial that is logging has in the store is its forgotten model.
    """
    # Before the command: else it might send the model and throw it away.
    met.sweep.holder(met.trial).kill()
    _kill(met)
    places = {
        "learning": "learning/[!.]*/weights.safetensors",
        "forgetting": f"trials/{met.trial}/checkpoint/weights.safetensors",
        "logging": f"trials/{met.trial}/model/model.safetensors",
    }
    weights = next(met.cell.root.glob(places[met.moment]), None)
    if weights is None:
        # The moment passed before the kill. The next trial comes to it, too.
        again = met.cell.start()
        return checkpoint_truncated(Met(met.cell, again, met.moment, again.reach(met.moment)))
    os.truncate(weights, weights.stat().st_size // 2)
    again = met.cell.start()
    again.until(
        lambda: "is damaged" in again.log.read_text() or None, "no word of the damage was said"
    )
    return again


def journal_truncated(met: Met) -> Running:
    """Kill the command and lose the end of a journal, from the middle of a line on."""
    met.sweep.holder(met.trial).kill()
    _kill(met)
    journal = met.cell.root / "trials" / met.trial / "journal.jsonl"
    text = journal.read_bytes()
    os.truncate(
        journal, len(text) - random.Random(met.cell.name).randint(2, len(text.splitlines()[-1]))
    )
    return met.cell.start()


def two_sweeps(met: Met) -> Running:
    """Run the same command twice: one waits for the other, and then has nothing to do."""
    other = met.cell.others[0] if met.cell.others else met.cell.start()
    met.sweep.ends(0)
    if "waiting for its end" not in met.cell.said():
        raise Unexpected("neither waited for the other")
    return other


def clock_jumps(met: Met) -> Running:
    """Set the clock of the sweep's machine back a day, or an hour ahead."""
    with _clock(met.cell).open("r+b") as file:
        file.write(struct.pack("=q", random.Random(met.cell.name).choice((-86400, 3600))))
    return met.sweep


def _in_bucket(cell: Cell, moment: Moment) -> None:
    cell.where = f"s3://forget/{cell.name}"


def _on_small_disk(cell: Cell, moment: Moment) -> None:
    cell.mount("96m")


def _with_little_memory(cell: Cell, moment: Moment) -> None:
    has, used = get_system_memory(), get_used_memory()
    if used + SPARE_BYTES > 0.9 * has:
        raise Skipped(f"less than {SPARE_BYTES / 1e9:.0f} GB of memory are free")
    cell.more = {"RAY_memory_usage_threshold": f"{(used + SPARE_BYTES) / has:.3f}"}


def _with_doom(cell: Cell, moment: Moment) -> None:
    (cell.folder / "sitecustomize.py").write_text(DOOM.format(file=str(_doomed(cell))))
    cell.more = {"PYTHONPATH": f"{cell.folder}:{ROOT}"}


def _doomed(cell: Cell) -> Path:
    return cell.folder / "doomed"


def _with_clock(cell: Cell, moment: Moment) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        raise Skipped("no C compiler: apt-get install gcc")
    library = cell.folder / "clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock.c"), "-ldl"],
        check=True,
    )
    _clock(cell).write_bytes(bytes(8))
    cell.more = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(_clock(cell))}


def _clock(cell: Cell) -> Path:
    return cell.folder / "clock"


def _at_once(cell: Cell, moment: Moment) -> None:
    """Later moments are for a second command that comes later."""
    if moment == "learning":
        cell.others.append(cell.start())


@dataclass(frozen=True)
class Fault:
    harm: Harm
    prepare: Callable[[Cell, Moment], None] = lambda cell, moment: None
    """Preparation that the sweep needs beforehand."""


FAULTS = {
    "worker-killed": Fault(worker_killed),
    "worker-killed-starting": Fault(worker_killed_starting, _with_doom),
    "memory-short": Fault(memory_short, _with_little_memory),
    "worker-preempted": Fault(worker_preempted),
    "driver-killed": Fault(driver_killed),
    "head-killed": Fault(head_killed),
    "tracking-away": Fault(tracking_away),
    "tracking-gone": Fault(tracking_gone),
    "database-restarted": Fault(database_restarted),
    "artifacts-away": Fault(artifacts_away),
    "store-away": Fault(store_away, _in_bucket),
    "disk-full": Fault(disk_full, _on_small_disk),
    "checkpoint-truncated": Fault(checkpoint_truncated),
    "journal-truncated": Fault(journal_truncated),
    "two-sweeps": Fault(two_sweeps, _at_once),
    "clock-jumps": Fault(clock_jumps, _with_clock),
}


@dataclass(frozen=True)
class Result:
    """End of a cell."""

    problems: tuple[str, ...]
    """Empty where everything was as expected."""
    seconds: float
    said: str
    """By the commands."""


def play(
    world: World, name: str, harms: Sequence[tuple[str, Moment]], expected: Undisturbed
) -> Result:
    """Put one fault after the other on a sweep, and compare its rest with the undisturbed one.

    Raises:
        Skipped: the machine lacks what a fault needs.
    """
    began = time.monotonic()
    cell = world.cell(name)
    try:
        for fault, moment in harms:
            FAULTS[fault].prepare(cell, moment)
        sweep = cell.start()
        for fault, moment in harms:
            sweep = FAULTS[fault].harm(Met(cell, sweep, moment, sweep.reach(moment)))
        sweep.ends(0)
        problems = tuple(broken(cell, expected))
    except (Unexpected, psutil.NoSuchProcess) as error:
        problems = (str(error),)
    finally:
        clear(cell)
    return Result(problems, time.monotonic() - began, cell.said())


def _kill(met: Met) -> None:
    met.sweep.process.kill()
    met.sweep.process.wait()
    _gone(met)


def _gone(met: Met) -> None:
    """Wait until the processes of a command that has ended are gone, too.

    Raises:
        Unexpected: they stay.
    """
    _, alive = psutil.wait_procs(met.cell.family, timeout=SOON_SECONDS)
    if alive:
        raise Unexpected(
            f"the command ended, but not {', '.join(sorted(process.name() for process in alive))}"
        )


def _away(met: Met, server: Server, seconds: float) -> Running:
    """Stop the server, and start it after so many seconds."""
    server.stop()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            met.sweep.look()
            time.sleep(LOOK_SECONDS)
    finally:
        server.start()
    met.sweep.ends(0)
    return met.cell.start() if "send what it lacks" in met.sweep.log.read_text() else met.sweep
