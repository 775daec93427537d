"""Progress of a sweep: a live table in a terminal; elsewhere a line a change and a minute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forget.events import Event, StageStarted, Step
from forget.results.estimates import metric_name
from forget.results.measures import ratio_name
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

LINE_SECONDS = 60.0
"""Seconds between two lines about the trials that run, where no table shows them."""

LISTED = 4
"""Trials that such a line names; on a cluster hundreds may run."""


def label(trial: Trial, sweep: Sweep | None = None) -> str:
    """Name what tells a trial from its siblings, e.g. "science forget.lr=0.0001 seed=1"."""
    keys = [
        *(sweep.axes if sweep else ()),
        *(sweep.search.settings if sweep and sweep.search else ()),
    ]
    shown = []
    for key in keys:
        if key not in ("task", "folders"):
            value: object = trial
            for name in key.split("."):
                value = getattr(value, name)
            shown.append(f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}")
    return " ".join([trial.task, *shown])


def numbers(outcome: Outcome) -> dict[str, float | None]:
    """Return the four numbers a trial is known by; None where one is undefined or not measured."""
    task = outcome.trial.task
    names = {
        "learned": metric_name("learned", task, "test", "accuracy"),
        "forgotten": metric_name("forgotten", task, "test", "accuracy"),
        "on train": metric_name("forgotten", task, "train", "accuracy"),
        "forget ratio": metric_name("forgotten", task, "test", ratio_name(outcome.trial.arm)),
    }
    return {
        name: outcome.measures[key].value if key in outcome.measures else None
        for name, key in names.items()
    }


@dataclass
class _Running:
    """A trial that runs, as the table shows it."""

    name: str
    since: float
    """When it started, on the monotonic clock."""
    stage: str = "starting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    begin: tuple[int, float] = (0, 0.0)
    """The first step seen of the stage, and when: a trial that goes on does not begin at 1."""

    def move(self, stage: str, step: int, steps: int) -> None:
        """Set the stage and the step in it."""
        if stage != self.stage or step < self.step:
            self.begin, self.loss = (step, time.monotonic()), None
        self.stage, self.step, self.steps = stage, step, steps

    def __str__(self) -> str:
        if not self.step:
            return f"{self.name}: {self.stage}"
        first, since = self.begin
        said = f"{self.name}: {self.stage} {self.step}/{self.steps}"
        if self.step == first:
            return said
        pace = (time.monotonic() - since) / (self.step - first)
        return f"{said}, {_duration(pace * (self.steps - self.step))} left of it"


def _duration(seconds: float) -> timedelta:
    """Return seconds as a person reads them, e.g. 0:01:30."""
    return timedelta(seconds=round(seconds))


class Progress:
    """A view of trials as they start, move and end.

    It is a context manager, since a terminal's live table has to be closed.
    """

    def __init__(self, total: int, slots: int = 1, console: Console | None = None) -> None:
        """Show nothing yet.

        Args:
            total: trials to run.
            slots: trials that run at once, by which the time left is divided.
            console: where to show them; by default standard output.
        """
        self.total = total
        self.slots = slots
        self.done = 0
        self.console = console or Console(highlight=False)
        self._running: dict[str, _Running] = {}
        self._seconds: list[float] = []
        self._line_at = time.monotonic() + LINE_SECONDS
        self._live = Live(
            console=self.console, get_renderable=self._table, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, markup=False, soft_wrap=True)

    def started(self, id: str, name: str) -> None:
        """Show a trial that starts; one that starts again is shown already."""
        if id not in self._running:
            self._running[id] = _Running(name, time.monotonic())
            self.say(f"started  {name}")

    def event(self, id: str, event: Event) -> None:
        """Show where a trial is; a late event of a trial that has ended is dropped."""
        running = self._running.get(id)
        if running and isinstance(event, StageStarted):
            running.move(event.stage, 0, event.steps)
        elif running and isinstance(event, Step):
            running.move(event.stage, event.step, event.steps)
            # A step that only measures has no loss: the last one stays.
            running.loss = event.loss if event.loss is not None else running.loss
        self.tick()

    def tick(self) -> None:
        """Print where the trials are, once a minute, where no table shows it."""
        now = time.monotonic()
        if self.console.is_terminal or not self._running or now < self._line_at:
            return
        self._line_at = now + LINE_SECONDS
        trials = list(self._running.values())
        said = "; ".join(map(str, trials[:LISTED]))
        more = f"; {len(trials) - LISTED} more" if len(trials) > LISTED else ""
        self.say(f"running  {said}{more} [{self.done}/{self.total}{self._left()}]")

    def finished(self, id: str, outcome: Outcome) -> None:
        """Show the numbers of a trial that has finished."""
        found = "  ".join(
            f"{name} {value:.3f}" for name, value in numbers(outcome).items() if value is not None
        )
        if outcome.unprobed:
            found += f"  probes left out: {'; '.join(outcome.unprobed)}"
        self._ended(id, "finished", found)

    def audited(self, id: str, what: str) -> None:
        """Show that the audits of a trial have ended, and how."""
        self._ended(id, "audited", what)

    def failed(self, id: str, reason: str) -> None:
        """Show why a trial failed."""
        self._ended(id, "failed", reason)

    def again(self, id: str, reason: str) -> None:
        """Show why a trial starts again from its last checkpoint."""
        running = self._running[id]
        running.move("starting again", 0, 0)
        self.say(f"again    {running.name}: {reason}")

    def left(self) -> float | None:
        """Estimate the seconds left by the mean of finished trials; None before the first has."""
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        now = time.monotonic()
        spent = sum(min(now - running.since, mean) for running in self._running.values())
        return ((self.total - self.done) * mean - spent) / self.slots

    def _ended(self, id: str, how: str, what: str) -> None:
        running = self._running.pop(id)
        self.done += 1
        if how != "failed":
            self._seconds.append(time.monotonic() - running.since)
        self.say(f"{how:<8} {running.name}: {what} [{self.done}/{self.total}{self._left()}]")

    def _left(self) -> str:
        left = self.left()
        return f", about {_duration(left)} left" if left else ""

    def _table(self) -> Table:
        title = f"{self.done}/{self.total} trials{self._left()}"
        table = Table("trial", "stage", "step", "loss", box=None, title=title)
        for running in self._running.values():
            step = f"{running.step}/{running.steps}" if running.steps else ""
            loss = "" if running.loss is None else f"{running.loss:.3f}"
            table.add_row(Text(running.name), running.stage, step, loss)
        return table
