"""The section on a search."""

from pathlib import Path

from studies import KEEPS, LOSES, STAYS, finished

from forget.report import search
from forget.settings.sweep import Sweep

SWEEP = Sweep.model_validate(
    {
        "name": "searched",
        "base": {"task": "science", "model": "tiny", "evaluate_on": ["sentiment"]},
        "axes": {},
        "search": {"trials": 3, "settings": {"forget.weight_decay": {"low": 0.0, "high": 0.3}}},
    }
)


def test_a_trial_that_another_beats_in_both_is_not_on_the_front() -> None:
    pairs = [(0.9, 0.5), (0.8, 0.1), (0.7, 0.2), (0.8, 0.1)]
    assert search.pareto(pairs) == [True, True, False, True]


def test_a_search_has_its_settings_objectives_and_front(tmp_path: Path) -> None:
    base = SWEEP.trials()[0]
    outcomes = []
    fates = ((0.0, LOSES, LOSES), (0.1, LOSES, STAYS), (0.2, KEEPS, LOSES))
    for decay, here, elsewhere in fates:
        forget = base.forget.model_copy(update={"weight_decay": decay})
        trial = base.model_copy(update={"forget": forget})
        outcome, _ = finished(trial, {"science": here, "sentiment": elsewhere}, measured=True)
        outcomes.append(outcome)
    found = search.section(SWEEP, outcomes, tmp_path)
    assert found
    assert [row["forget.weight_decay"] for row in found.tables[0].rows] == [0.0, 0.1, 0.2]
    assert [row["front"] for row in found.tables[0].rows] == ["", "on it", ""]
    assert [picture.path.stat().st_size > 0 for picture in found.pictures] == [True]
    assert search.section(SWEEP.model_copy(update={"search": None}), outcomes, tmp_path) is None
