"""The display that a person sees while a sweep runs."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from forget.events import StageStarted, Step
from forget.results.estimates import Estimate, metric_name
from forget.results.outcome import Outcome
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.store import Store
from pipelines import progress
from pipelines.progress import Progress, label, numbers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the sweep began; tests set them."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def shown(terminal: bool) -> tuple[io.StringIO, Console]:
    out = io.StringIO()
    return out, Console(file=out, force_terminal=terminal, width=120, highlight=False)


def test_without_a_terminal_each_change_is_a_line(
    finished: tuple[Store, Outcome], clock: list[float]
) -> None:
    out, console = shown(terminal=False)
    _, outcome = finished
    with Progress(3, slots=2, console=console) as live:
        live.started("a", "vowels lr=1")
        live.started("b", "vowels lr=2")
        live.started("a", "vowels lr=1")
        live.again("b", "its process died")
        clock[0] = 100
        live.finished("a", outcome)
        live.failed("b", "the loss is nan")
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "started  vowels lr=1",
        "started  vowels lr=2",
        "again    vowels lr=2: its process died",
    ]
    assert lines[3].startswith("finished vowels lr=1: learned ")
    # Of 3 trials of 100 s in 2 slots, one is left and one has run its 100 s.
    assert lines[3].endswith("[1/3, about 0:00:50 left]")
    assert lines[4] == "failed   vowels lr=2: the loss is nan [2/3, about 0:00:50 left]"


def test_probes_that_were_left_out_are_missed(finished: tuple[Store, Outcome]) -> None:
    out, console = shown(terminal=False)
    with Progress(2, console=console) as live:
        for id, why in (("a", ()), ("b", ("too few examples",))):
            live.started(id, id)
            live.finished(id, finished[1].model_copy(update={"unprobed": why}))
    # The page is 120 letters wide, and a long line goes on in the next.
    first, second = out.getvalue().split("started  b")
    assert "left out" not in first
    assert "probes left out: too few examples" in " ".join(second.split())


def test_a_trial_of_flipped_labels_has_its_own_ratio(finished: tuple[Store, Outcome]) -> None:
    _, outcome = finished
    ratios = {
        metric_name("forgotten", "vowels", "test", name): Estimate(value, value, value, 40)
        for name, value in (("forget_ratio", 0.25), ("flipped_forget_ratio", 0.75))
    }
    for labels, ratio in (("random", 0.25), ("flipped", 0.75)):
        trial = overlay(outcome.trial, {"arm": labels})
        mine = outcome.model_copy(update={"trial": trial, "measures": ratios})
        assert numbers(mine)["forget ratio"] == ratio


def test_a_terminal_shows_stage_step_and_loss(clock: list[float]) -> None:
    out, console = shown(terminal=True)
    with Progress(1, console=console) as live:
        live.started("a", "vowels")
        live.event("a", StageStarted(stage="learn", steps=8))
        live.event("a", Step(stage="learn", step=3, steps=8, loss=0.25, lr=1e-3))
        live.event("gone", Step(stage="learn", step=4, steps=8, loss=9.0, lr=1e-3))
        live._live.refresh()
    text = out.getvalue()
    for word in ("vowels", "learn", "3/8", "0.250"):
        assert word in text
    assert "9.000" not in text


def test_the_time_left_is_unknown_before_the_first_has_finished(clock: list[float]) -> None:
    _, console = shown(terminal=False)
    with Progress(2, console=console) as live:
        live.started("a", "vowels")
        clock[0] = 60
        assert live.left() is None


def test_a_label_names_what_varies() -> None:
    sweep = Sweep(
        name="s",
        base={"model": "tiny"},
        axes={"task": ["world", "science"], "forget.lr": [1e-4], "seed": [0, 1]},
    )
    assert label(sweep.trials()[1], sweep) == "world forget.lr=0.0001 seed=1"
    assert label(Trial(task="world", model="tiny")) == "world"


def test_without_a_terminal_a_line_a_minute_says_where_the_trials_are(
    finished: tuple[Store, Outcome], clock: list[float]
) -> None:
    out, console = shown(terminal=False)
    _, outcome = finished
    with Progress(9, slots=6, console=console) as live:
        live.started("done", "vowels lr=0")
        clock[0] = 20
        live.finished("done", outcome)
        for id in "abcdef":
            live.started(id, f"vowels lr={id}")
        # One that goes on from a checkpoint begins in the middle.
        live.event("a", Step(stage="forget", step=100, steps=400))
        clock[0] = 50
        live.event("a", Step(stage="forget", step=200, steps=400))
        live.event("b", StageStarted(stage="score learned", steps=8))
        before = out.getvalue()
        clock[0] = 60
        live.tick()
        clock[0] = 119
        live.tick()
    (line,) = out.getvalue().removeprefix(before).splitlines()
    assert line.startswith(
        "running  vowels lr=a: forget 200/400, 0:01:20 left of it; vowels lr=b: score learned; "
        "vowels lr=c: starting; vowels lr=d: starting; 2 more [1/9, about "
    )


def test_a_terminal_needs_no_lines(clock: list[float]) -> None:
    out, console = shown(terminal=True)
    with Progress(1, console=console) as live:
        live.started("a", "vowels")
        clock[0] = 3600
        live.tick()
    assert "running " not in out.getvalue()
