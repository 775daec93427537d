"""Audits of hidden states, on planted arms: their numbers at both ends are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits.plants import Plants
from studies import LOSES, finish, study_of, sweep_of

from forget.analyses.drift import drifts, erasure
from forget.analyses.study import Cell
from forget.audits.drift import Drift
from forget.report import recovery
from forget.results.rows import Row, select


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"))


def cell_of(found: Sequence[Row]) -> Cell:
    """Return the cell of a study, in the place of whose audits are those of planted arms."""
    outcomes, rows = finish(sweep_of("colours", forget__lr=[1e-4]), {"colours": LOSES})
    (id,) = rows
    audited = [replace(row, trial=id) for row in found]
    (cell,) = study_of(outcomes, {id: [*rows[id], *audited]}).cells
    return cell


def test_an_erasure_lies_between_the_learned_arm_and_the_one_never_taught() -> None:
    for forgotten, expected in ((0.2, 0.0), (0.6, 0.5), (1.0, 1.0), (0.1, 0.0)):
        found = erasure(np.array([forgotten]), np.array([0.2]))
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(erasure(np.array([1.0]), np.array([0.995]))).all()


def test_drift_is_none_where_nothing_moved_and_whole_where_nothing_was_taught(
    plants: Plants,
) -> None:
    for plant, expected in (("learned", 0.0), ("masked", 0.0), ("never", 1.0)):
        found = drifts(cell_of(plants.audit(Drift(), plant)))
        assert [(one.task, one.layer) for one in found] == [
            ("own", 1), ("own", 2), ("other", 1), ("other", 2)
        ]  # fmt: skip
        for one in found:
            assert one.alike["learned"].value == pytest.approx(1, abs=1e-9)
            assert one.distance["learned"].value == 0
            assert one.cosine["learned"].value == pytest.approx(1, abs=1e-6)
        own = [one for one in found if one.task == "own"]
        assert [one.erasure.value for one in own] == [expected] * 2
        for one in own:
            assert one.alike["never"].numbers[2] < 1
            same = "never" if plant == "never" else "learned"
            assert one.alike["forgotten"] == one.alike[same]
            assert one.distance["forgotten"] == one.distance[same]


def test_the_page_shows_drift_by_layer(plants: Plants, tmp_path: Path) -> None:
    cell = cell_of(plants.audit(Drift(), "never"))
    section = recovery.section(cell.study, tmp_path)
    assert section
    (table,) = [table for table in section.tables if table.name == "drift"]
    assert [row["layer"] for row in table.rows] == [1, 2, 1, 2]
    assert "Drift compares" in section.text
    assert [picture.title for picture in section.pictures] == ["drift"]
    assert (tmp_path / "drift.png").stat().st_size > 1000


def test_a_number_of_an_item_is_kept_with_its_row(plants: Plants) -> None:
    rows = plants.audit(Drift(), "never")
    assert all(row.value is None for row in select(rows, dose="plain"))
    noted = select(rows, dose="distance/layer=2", phase="never", task="colours")
    assert len(noted) == len(plants.material.test["colours"])
    assert min(row.value or 0 for row in noted) > 0
