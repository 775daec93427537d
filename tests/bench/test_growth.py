"""Planning, resuming and reporting grow no faster than the trials, and take seconds to a minute.

Budgets are of the processor's time and three times what a laptop needs, since others may use the
machine.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.growth import Curve, Growth, exponent, measure, plot, sizes
from benchmarks.storage import stores
from forget.planning.standing import finished, standings
from forget.preflight import expand
from forget.results.files import read_rows, write_rows
from forget.settings.reading import read_sweep
from forget.storage.finished import Trials
from forget.storage.store import Store


def growth_of(what: str, folder: Path, *values: int) -> Growth:
    return replace(
        next(growth for growth in sizes(False, folder) if growth.what == what), values=values
    )


def test_the_exponent_is_that_of_the_power() -> None:
    assert exponent((10, 100, 1000), (3e-2, 3e-1, 3.0)) == pytest.approx(1)
    assert exponent((2, 4, 8), (1.0, 4.0, 16.0)) == pytest.approx(2)


def test_a_store_that_was_made_up_reads_as_one_that_trials_left(tmp_path: Path) -> None:
    sweep = stores.finish(stores.spec(tmp_path, stores.A_SEED))
    store = Store(sweep.store)
    expansion = expand(read_sweep(tmp_path / f"growth-{stores.A_SEED}.toml"))
    outcomes = finished(standings(expansion, store), store)
    assert len(outcomes) == stores.A_SEED == 200
    first, *_, last = outcomes
    rows = Trials(store).rows(first.id)
    assert 1500 < len(rows) < 2500
    assert {(row.trial, row.task) for row in rows} == {(first.id, task) for task in stores.TASKS}
    write_rows(rows, tmp_path / "again.parquet")
    assert read_rows(tmp_path / "again.parquet") == rows
    # At another rate the same learned model says the same of every example, and the forgotten one
    # does not.
    other = next(o for o in outcomes if o.learned_id == last.learned_id and o.id != last.id)
    first_rows, second_rows = Trials(store).rows(last.id), Trials(store).rows(other.id)
    for phase in stores.RIGHT:
        first_said = [row.logprobs for row in first_rows if row.phase == phase]
        second_said = [row.logprobs for row in second_rows if row.phase == phase]
        assert (first_said == second_said) == (phase not in ("forgotten", "forget"))


def test_a_curve_is_drawn(tmp_path: Path) -> None:
    growth = growth_of("planning", tmp_path, 200, 400)
    (path,) = plot([Curve(growth, growth.values, (1.0, 2.0), (3.0, 4.0), 1.0)], tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "values", "budget"),
    [
        ("planning", (1000, 10_000), 10),
        ("resuming", (1000, 4000), 10),
        ("the report", (200, 600), 180),
    ],
)
def test_time_grows_no_faster_than_the_trials(
    what: str, values: tuple[int, ...], budget: float, tmp_path: Path
) -> None:
    curve = measure(growth_of(what, tmp_path, *values))
    assert curve.accepted
    assert curve.seconds[-1] < budget


@pytest.mark.slow
def test_what_fails_while_it_is_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="planning of 1 trials failed"):
        measure(growth_of("planning", tmp_path, 1))
