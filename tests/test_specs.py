"""Every spec that ships is a study that could run."""

from pathlib import Path

import pytest

from forget.plan import plan
from forget.settings import SPECS, read_sweep
from forget.store import Store
from forget.trial import check

NAMES = sorted(path.stem for path in SPECS.glob("*.toml"))


def test_the_promised_specs_ship() -> None:
    assert {"smoke", "quickstart", "paper", "sizes"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_is_valid_planned_and_costs_something(name: str, tmp_path: Path) -> None:
    sweep = read_sweep(name)
    assert sweep.description
    for trial in sweep.trials():
        check(trial)
    rows = dict(plan(sweep, Store(tmp_path)).rows())
    assert str(len(sweep.trials())) in " ".join(rows.values())


def test_quickstart_crosses_sizes_tasks_and_rates() -> None:
    trials = read_sweep("quickstart").trials()
    assert len({trial.model for trial in trials}) == 2
    assert len({trial.task for trial in trials}) >= 3
    assert len({trial.forget.lr for trial in trials}) == 2
    assert all(set(trial.evaluate_on) == {trial.task for trial in trials} for trial in trials)


def test_paper_is_the_papers_study() -> None:
    trials = read_sweep("paper").trials()
    assert len(trials) == 21
    for trial in trials:
        assert (trial.model, trial.forget.lr, trial.forget.examples) == ("llama-2-7b", 1e-4, 1000)
        assert (trial.options, trial.labels, len(trial.tasks)) == ("two", "random", 21)
