"""Every spec that ships is a study that could run."""

from pathlib import Path
from typing import get_args

import pytest

from forget import tasks
from forget.planning.plan import plan
from forget.preflight import check, expand
from forget.settings.forget_set import WORDS
from forget.settings.reading import SPECS, read_sweep
from forget.settings.sweep import overlay
from forget.settings.trial import Arm
from forget.storage.store import Store

NAMES = sorted(path.stem for path in SPECS.glob("*.toml"))

ABLATIONS = {
    "ablate-samples": ("forget.examples", [100, 1000]),
    "ablate-arms": ("arm", list(get_args(Arm))),
    "ablate-tuning": ("tuning", ["full", "lora"]),
    "ablate-rate": ("forget.lr", [3e-5, 1e-4, 3e-4, 1e-3]),
}
"""The one setting that varies beside the task, and its values."""


def test_the_promised_specs_ship() -> None:
    assert {"smoke", "quickstart", "laptop", "paper", "sizes", *ABLATIONS} <= set(NAMES)


def test_forget_sets_has_every_kind_and_the_controls_of_a_mixture() -> None:
    chosen = [trial.forget_set for trial in read_sweep("forget-sets").trials()]
    assert {one.name for one in chosen} == set(WORDS)
    mixed = {one.tasks for one in chosen if one.name == "mix" and not one.fill}
    shares = sorted(dict(tasks)["world"] for tasks in mixed)
    assert shares == [0, 0.25, 0.5, 0.75, 1]
    assert any(one.fill and dict(one.tasks)["world"] == 0.5 for one in chosen)


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_is_valid_planned_and_costs_something(name: str, tmp_path: Path) -> None:
    sweep = read_sweep(name)
    assert sweep.description
    folders = set().union(*(trial.folders for trial in sweep.trials()))
    absent = sorted(folder for folder in folders if not Path(folder).is_dir())
    if name == "laptop" and absent:
        pytest.skip(f"its tasks lie beside the repository, in {absent[0]}, which is not here")
    for trial in sweep.trials():
        check(trial)
    rows = dict(plan(expand(sweep), Store(tmp_path)).rows())
    assert str(len(sweep.trials())) in " ".join(rows.values())


@pytest.mark.parametrize("name", ["quickstart", "laptop", "paper"])
def test_each_trial_has_its_twin_on_true_labels(name: str) -> None:
    trials = read_sweep(name).trials()
    controls = {trial for trial in trials if trial.arm == "true"}
    for arm in {trial.arm for trial in trials} - {"true"}:
        assert {overlay(t, {"arm": "true"}) for t in trials if t.arm == arm} == controls


def test_methods_crosses_eight_methods_with_tasks_and_rates() -> None:
    trials = read_sweep("methods").trials()
    assert len({trial.method.name for trial in trials}) == 8
    assert len({trial.task for trial in trials}) == 3
    assert len(trials) == 8 * 3 * len({trial.forget.lr for trial in trials})
    assert not {trial.task for trial in trials} & set(trials[0].retained)


def test_quickstart_crosses_arms_and_tasks() -> None:
    trials = read_sweep("quickstart").trials()
    names = {trial.task for trial in trials}
    assert len(names) >= 3
    # What is forgotten must not be learned labels: those that are redrawn cannot be memorised.
    assert {trial.arm for trial in trials} == {"random_each_epoch", "true"}
    assert all(set(trial.evaluate_on) == names for trial in trials)


def test_paper_is_the_papers_study() -> None:
    trials = read_sweep("paper").trials()
    assert len(trials) == 42
    for trial in trials:
        assert (trial.model, trial.forget.lr, trial.forget.examples) == ("llama-2-7b", 1e-4, 1000)
        assert (trial.options, len(trial.tasks)) == ("two", 21)


@pytest.mark.parametrize(
    ("name", "field", "values"), [(name, *varied) for name, varied in ABLATIONS.items()]
)
def test_an_ablation_varies_one_setting_over_the_tasks_that_ship(
    name: str, field: str, values: list[object]
) -> None:
    sweep = read_sweep(name)
    trials = sweep.trials()
    assert sweep.axes[field] == values
    assert sweep.axes.keys() == {field, "task"}
    assert {trial.task for trial in trials} == {
        "science",
        "world",
        "physical",
        "entailment",
        "acceptability",
        "sentiment",
        "arithmetic",
        "reading",
    }
    assert len(trials) == 8 * len(values)
    assert len({overlay(trial, {field: values[0], "task": "any"}) for trial in trials}) == 1


def test_the_larger_sample_is_all_there_is() -> None:
    for trial in read_sweep("ablate-samples").trials():
        assert 100 < trial.learn.examples < len(tasks.load(trial.task, "train")) < 1000
