"""The plan of audits counts what each arm costs, and arms that trials share once."""

from pathlib import Path

import pytest

from forget.planning import audits
from forget.preflight import expand
from forget.settings.sweep import Sweep
from forget.storage.store import Store


@pytest.mark.parametrize(
    ("tasks", "arms", "told"),
    [
        # Untouched, learned and forgotten, for each task.
        (["world"], ["random"], "1 trials to audit, 0 done; 3 arms"),
        (["world", "science"], ["random"], "2 trials to audit, 0 done; 6 arms"),
        # Trials that differ in the forget stage alone share the others; a control forgets nothing.
        (["world"], ["random", "flipped", "true"], "2 trials to audit, 0 done; 4 arms"),
    ],
)
def test_arms_are_counted_once_a_task(
    tasks: list[str], arms: list[str], told: str, tmp_path: Path
) -> None:
    base = {"model": "tiny", "evaluate_on": [], "probe": {"examples": 0}}
    sweep = Sweep(
        name="counted",
        base=base,
        axes={"task": tasks, "arm": arms},
        audits=[{"name": "quantise"}],
    )
    store = Store(tmp_path)
    ((name, line),) = audits.rows(expand(sweep, store), store)
    assert name == "audit quantise"
    assert line.startswith(told)
