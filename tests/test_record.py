"""No number has changed since the record was written.

One that was meant to raises PROTOCOL, too, and the record is written anew.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from record.keeping import kept, machine, run
from record.trials import FOLDER, TRIALS

from forget.results.rows import Row

SAME_MACHINE = json.loads((FOLDER / "machine.json").read_text()) == json.loads(machine())

FAST = ("plain", "flipped-all-tokens", "lora", "two-processes")
"""Those that the plain tests run; together they pass through every function that the others do."""


def anonymous(rows: list[Row]) -> list[Row]:
    """Return the Rows without the trial's id, which names the version of the protocol."""
    return [replace(row, trial="") for row in rows]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TRIALS]
)
def test_a_trial_gives_the_numbers_on_record(name: str, tmp_path: Path) -> None:
    rows, numbers = run(name, tmp_path)
    rows_before, numbers_before = kept(name)
    if SAME_MACHINE:
        assert anonymous(rows) == anonymous(rows_before)
        assert numbers == numbers_before
        return
    # Another processor rounds in another way, and training carries that on; what is drawn stays as
    # it was.
    assert [
        replace(row, trial="", logprobs=(0.0,) * len(row.logprobs), spread=None, probe=None)
        for row in rows
    ] == [
        replace(row, trial="", logprobs=(0.0,) * len(row.logprobs), spread=None, probe=None)
        for row in rows_before
    ]
    untouched = [
        (a.logprobs, b.logprobs)
        for a, b in zip(rows, rows_before, strict=True)
        if a.phase == "base"
    ]
    for now, before in untouched:
        np.testing.assert_allclose(now, before, rtol=0.02 if "bf16" in name else 1e-4)
    assert numbers["measures"].keys() == numbers_before["measures"].keys()
