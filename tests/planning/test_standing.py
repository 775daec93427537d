"""Standing of a sweep: what of it has finished, and what is left to run."""

from pathlib import Path
from typing import Any

import pytest
from conftest import letters, write_task

from forget.planning.plan import plan
from forget.planning.standing import finished_ids, standings
from forget.preflight import expand, identify
from forget.results.outcome import Outcome
from forget.settings.sweep import Search, Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store

RATES = (1e-4, 1e-3, 1e-2)


def sweep_of(trial: Trial, search: Any = None, **axes: list[object]) -> Sweep:
    return Sweep(name="study", base=trial.model_dump(), axes=axes, search=search)


def between(low: float, high: float, trials: int = 3, **keys: Any) -> dict[str, Any]:
    return {"trials": trials, "settings": {"forget.lr": {"low": low, "high": high, **keys}}}


@pytest.fixture
def tried(quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path) -> Store:
    """Return a store in which `quick` has finished at three rates."""
    store = Store(tmp_path / "store")
    for rate in RATES:
        trial = overlay(quick, {"forget.lr": rate})
        mine = finished[1].model_copy(update={"trial": trial, "id": identify(trial).trial})
        Trials(store).finish(mine, [])
    return store


@pytest.mark.parametrize(
    ("search", "done", "left"),
    [
        (between(1e-5, 0.1), RATES, 0),
        # Bounds belong to the range.
        (between(1e-3, 1e-2), (1e-3, 1e-2), 1),
        (between(2e-3, 5e-3), (), 3),
        # Evenly or by the logarithm: the same space.
        (between(1e-5, 5e-3, log=True), (1e-4, 1e-3), 1),
        (between(1e-5, 0.1, trials=5), RATES, 2),
        (between(1e-5, 0.1, trials=1), RATES, 0),
        # Another setting is searched as well, within whose bounds the old trials lie, or do not.
        (
            {
                "settings": {
                    "forget.lr": {"low": 1e-5, "high": 0.1},
                    "forget.weight_decay": {"low": 0, "high": 0.1},
                }
            },
            RATES,
            5,
        ),
        ({"settings": {"forget.weight_decay": {"low": 0, "high": 0.1}}}, RATES[-1:], 7),
        (
            {
                "trials": 4,
                "settings": {
                    "forget.lr": {"low": 1e-5, "high": 0.1},
                    "forget.clip": {"low": 2, "high": 3},
                },
            },
            (),
            4,
        ),
    ],
)
def test_a_search_counts_the_trials_that_lie_within_it(
    quick: Trial, tried: Store, search: dict[str, Any], done: tuple[float, ...], left: int
) -> None:
    expansion = expand(sweep_of(quick, search))
    (standing,) = standings(expansion, tried)
    expected = [identify(overlay(quick, {"forget.lr": rate})).trial for rate in done]
    assert list(standing.done) == finished_ids(expansion, tried) == expected
    assert standing.left == left
    planned = plan(expansion, tried)
    assert (planned.done, planned.todo) == (len(done), left)


def test_an_axis_that_was_searched_finds_its_trials(quick: Trial, tried: Store) -> None:
    sweep = sweep_of(quick, **{"forget.lr": [1e-3, 5e-3]})
    assert [one.left for one in standings(expand(sweep), tried)] == [0, 1]


def test_a_setting_that_is_searched_does_not_count_in_its_cell(quick: Trial, tried: Store) -> None:
    sweep = sweep_of(overlay(quick, {"forget.lr": 0.5}), between(1e-5, 0.1))
    assert [one.left for one in standings(expand(sweep), tried)] == [0]


def test_each_cell_has_its_own(quick: Trial, tried: Store) -> None:
    sweep = sweep_of(quick, between(1e-5, 0.1), seed=[0, 1])
    assert [one.left for one in standings(expand(sweep), tried)] == [0, 3]


def test_trials_on_other_data_do_not_count(quick: Trial, tried: Store, tmp_path: Path) -> None:
    for task, sizes in {"vowels": (64, 40), "upper": (64, 41)}.items():
        splits = {"train": letters("train", sizes[0]), "test": letters("test", sizes[1])}
        write_task(tmp_path / "tasks" / task, 'prompt = "{question}"', **splits)
    other = overlay(quick, {"folders": [str(tmp_path / "tasks")]})
    assert [one.left for one in standings(expand(sweep_of(other, between(1e-5, 0.1))), tried)] == [
        3
    ]


def test_what_changes_no_number_makes_no_trial_missing(quick: Trial, tried: Store) -> None:
    base = overlay(quick, {"save": not quick.save, "forget.lr": 1e-3})
    for search in (None, between(1e-4, 1e-2)):
        assert [one.left for one in standings(expand(sweep_of(base, search)), tried)] == [0]


def test_a_search_that_cannot_be_one_is_refused(quick: Trial) -> None:
    with pytest.raises(ValueError, match=r"forget\.lr is an axis as well"):
        sweep_of(quick, between(1e-5, 0.1), **{"forget.lr": [1e-3]})
    dropout = Search.model_validate({"settings": {"lora.dropout": {"low": 0, "high": 0.1}}})
    with pytest.raises(ValueError, match=r"lora\.dropout changes nothing in a trial with tuning"):
        sweep_of(quick, dropout)
    sweep_of(overlay(quick, {"tuning": "lora"}), dropout)
    stages = [quick.forget.model_dump() | {"lr": rate} for rate in (1e-4, 1e-3)]
    with pytest.raises(ValueError, match=r"forget\.lr is an axis as well"):
        sweep_of(quick, between(1e-5, 0.1), forget=stages)
