"""The list of measures: whoever adds one entry finds it everywhere."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from studies import KEEPS, LOSES, finish, study_of, sweep_of

from forget import report
from forget.analyses.compare import compare
from forget.report import tables
from forget.results import estimates, files, measures
from forget.results.estimates import Estimate, probe_name
from forget.results.measures import Measure
from forget.results.rows import Row, judge


def likely(rows: Sequence[Row]) -> Estimate:
    """Share of examples whose options have more than half of all probability."""
    return estimates.mean(judge(rows).mass > 0.5)


def test_one_entry_reaches_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Measure("likely", "options likely", likely)
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, entry))
    sweep = sweep_of("a", "b")
    outcomes, rows = finish(sweep, {"a": KEEPS, "b": LOSES}, n=20, mass=0.4, measured=True)
    others, other_rows = finish(
        sweep_of("a", "b", model=["other"]), {"a": KEEPS, "b": LOSES}, n=20, mass=0.9, measured=True
    )
    # Each row after forgetting has the option mass that it was planted with.
    assert outcomes[0].measures["forgotten/a/test/likely"].value == 0
    assert others[0].measures["forgotten/a/test/likely"].value == 1

    frames = {id: files.frame(found) for id, found in rows.items()}
    page = report.write(
        sweep, dict.fromkeys(sweep.trials(), 0), outcomes, frames, tmp_path
    ).page.read_text()
    assert "<th>Options likely learned</th><th>forgotten</th></tr>" in page
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        values = [line["value"] for line in csv.DictReader(file) if line["measure"] == "likely"]
    # Of each trial three phases of four splits.
    assert values == ["0.0"] * 24

    found = compare(study_of(outcomes, rows), study_of(others, other_rows))
    lines = [line for line in found.lines if line.measure == "likely"]
    places = {(line.phase, line.split) for line in lines}
    assert places == {("forgotten", "train"), ("forgotten", "near"), ("forgotten", "test")}
    for line in lines:
        assert line.difference
        assert line.difference.numbers == (1, 1, 1)
        # Only the trials' own estimates are known, and these are of different models.
        assert not line.paired


def test_a_measure_that_no_trial_has_yet_is_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, rows = finish(sweep_of("a"), {"a": LOSES}, n=20, measured=True)
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, Measure("likely", "", likely)))
    (cell,) = study_of(outcomes, rows).cells
    assert cell.get("forgotten", "test", "likely") is None
    assert all(line["values"][-1][0] is None for line in tables.lines([cell]))
    with pytest.raises(KeyError, match="unlikely"):
        cell.get("forgotten", "test", "unlikely")


def test_a_measure_without_a_column_has_the_interval_of_its_trial() -> None:
    outcomes, rows = finish(sweep_of("a"), {"a": LOSES}, n=200, measured=True)
    (cell,) = study_of(outcomes, rows).cells
    own = outcomes[0].measures["forgotten/a/test/calibration_error"]
    found = cell.get("forgotten", "test", "calibration_error")
    assert found
    assert found.value == own.value
    assert found.n == own.n == 200
    value, low, high = found.numbers
    # A normal one of the same width; of 1000 resamples its bounds are known to 4 x 0.0018 / 0.022.
    assert high - low == pytest.approx(own.numbers[2] - own.numbers[1], rel=0.3)
    assert low + high == pytest.approx(2 * value, abs=0.3 * (high - low))


def test_the_ratio_fits_the_labels() -> None:
    assert measures.ratio_name("flipped") == "flipped_forget_ratio"
    assert {measures.ratio_name(labels) for labels in ("random", "random_each_epoch")} == {
        "forget_ratio"
    }


@pytest.mark.parametrize(
    ("control", "measure"), [(False, "probe_accuracy_mean"), (True, "probe_control_mean")]
)
def test_a_name_comes_apart_as_it_was_put_together(control: bool, measure: str) -> None:
    name = probe_name("learned", "super/glue", "mean", control)
    assert estimates.name_parts(name) == ("learned", "super/glue", "test", measure)


def test_the_digest_follows_the_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for source in Path(measures.__file__).parent.glob("*.py"):
        (tmp_path / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    before = measures.code()
    monkeypatch.setattr(measures, "__file__", str(tmp_path / "measures.py"))
    assert measures.code.__wrapped__() == before
    for changed in ("metrics.py", "rows.py"):
        path = tmp_path / changed
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "#\n", encoding="utf-8")
        assert measures.code.__wrapped__() != before
        path.write_text(text, encoding="utf-8")
