"""Comparisons of two sides that are timed in turn once found equal, and shares, of one side."""

from __future__ import annotations

import cProfile
import io
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import Field
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import give_memory_back
from forget.models.kernels import keep_memory
from forget.settings.parts import Part

T = TypeVar("T")

OPERATORS = 12
"""Number of lines of a profile."""


@dataclass(frozen=True)
class Comparison(Generic[T]):
    """Work that is done here and by what a user would pick instead."""

    work: str
    against: str
    """The other side, with what it was set to."""
    ours: Callable[[], T]
    theirs: Callable[[], T]
    check: Callable[[T, T], str]
    """Function of both results that says in one sentence how equal they are.

    It raises AssertionError where they are not.
    """
    target: float | None
    """The least ratio of their time to ours that is good; None: the row is there to be read."""
    tokens: int = 0
    """Tokens of the work, padding left out, for rows that are also read as a speed."""
    kept: bool = False
    """The other side keeps its memory as ours does: it is another way to do our own work."""
    once: bool = False
    """The first pass is the only round, for work of minutes, in which warming up is lost."""
    profile: Callable[[], str] | None = None
    """Function that returns a table of our time, for work that other processes do; by default the
    table has the operators of torch.
    """


@dataclass(frozen=True)
class Share:
    """A number that is read by itself: how much of one thing another takes."""

    work: str
    of: str
    """The whole that it is a share of."""
    measure: Callable[[], tuple[float, str]]
    """The share, and one sentence on what it was computed from."""
    target: float
    at_most: bool = False
    """The target is the largest share that is good, not the least."""
    profile: Callable[[], str] | None = None
    """Function that returns a table of our time, as in `Comparison`."""


class Result(Part):
    """A line of the table."""

    room: str = ""
    """The module of benchmarks that the row comes from."""
    work: str
    against: str
    ours: tuple[float, ...] = ()
    """Seconds by round."""
    theirs: tuple[float, ...] = ()
    share: float | None = None
    """Value of a `Share`; a comparison has rounds instead."""
    target: float | None
    at_most: bool = False
    tokens: int = 0
    equal: bool = True
    """False where the check failed; nothing was timed then."""
    note: str
    """Sentence on how equal the two sides are, or differ, or on what a share was computed from."""
    profile: str = ""
    """Table of our time, for a row that missed its target."""
    machine: dict[str, str] = Field(default_factory=dict)
    """Machine and commit of a row that an earlier run measured, where they are not the record's."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Their time over ours, round by round.

        Whatever else slows the machine down slows both sides of a round.
        """
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def value(self) -> float | None:
        """The share, or the median of the ratios; None where nothing was timed."""
        return statistics.median(self.ratios) if self.ratios else self.share

    @property
    def met(self) -> bool | None:
        """The value reaches the target; None where there is no target."""
        if not self.equal:
            return False
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def once(row: Comparison[Any] | Share) -> bool:
    """Return whether the first pass is the only one."""
    return isinstance(row, Share) or row.once


def turns(row: Comparison[Any] | Share, rounds: int) -> int:
    """Return how often `run` calls one side or the other, which a progress bar counts."""
    sides = 1 if isinstance(row, Share) else 2
    return sides if once(row) else sides * (1 + rounds)


def run(row: Comparison[Any] | Share, rounds: int) -> Result:
    """Check a row, then time its sides strictly in turn.

    A row whose sides differ is not timed any further: its ratio would mean nothing. Our side runs
    as a sweep's trials and `forget trial` do, in a process that keeps its memory; the other side
    does not, unless the row says so.

    Args:
        row: the row.
        rounds: timed rounds after the first pass, which warms both sides up and is checked.
    """
    if isinstance(row, Share):
        keep_memory()
        share, note = row.measure()
        return Result(
            work=row.work,
            against=row.of,
            share=share,
            target=row.target,
            at_most=row.at_most,
            note=note,
        )

    def turn(side: Callable[[], Any]) -> tuple[Any, float]:
        (keep_memory if side == row.ours or row.kept else give_memory_back)()
        began = time.perf_counter()
        found = side()
        return found, time.perf_counter() - began

    mine, first = turn(row.ours)
    other, second = turn(row.theirs)
    result = Result(
        work=row.work, against=row.against, target=row.target, tokens=row.tokens, note=""
    )
    try:
        note = row.check(mine, other)
    except AssertionError as difference:
        return result.model_copy(update={"equal": False, "note": f"not equal: {difference}"})
    del mine, other
    timed = [(first, second)]
    if not row.once:
        timed = [(turn(row.ours)[1], turn(row.theirs)[1]) for _ in range(rounds)]
    ours, theirs = zip(*timed, strict=True)
    return result.model_copy(update={"ours": ours, "theirs": theirs, "note": note})


def profiled(row: Comparison[Any] | Share) -> str:
    """Run our side again and return a table of its time."""
    if row.profile:
        return row.profile()
    work = row.measure if isinstance(row, Share) else row.ours
    keep_memory()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    return operators(seen)


def functions(work: Callable[[], object]) -> str:
    """Return the functions that took most of the time themselves, for work that is not torch's."""
    seen = cProfile.Profile()
    seen.runcall(work)
    text = io.StringIO()
    pstats.Stats(seen, stream=text).strip_dirs().sort_stats("tottime").print_stats(OPERATORS)
    return text.getvalue().strip()


def operators(seen: profile) -> str:
    """Return the operators that took most of the time themselves."""
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"{'operator':40} {'share':>6} {'seconds':>8} {'calls':>8}"]
    for event in events[:OPERATORS]:
        share, seconds = event.self_cpu_time_total / total, event.self_cpu_time_total / 1e6
        lines.append(f"{event.key[:40]:40} {share:6.1%} {seconds:8.2f} {event.count:8}")
    return "\n".join(lines)
