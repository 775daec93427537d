"""Items asked in several wordings, forgotten in one or in all."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from studies import finished, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.templates import carries, carry
from forget.report import templates as report
from forget.results.outcome import Outcome
from forget.results.rows import Row

NAMES = ("task", "pre")


def test_the_carry_is_what_is_lost_off_the_diagonal_over_what_is_lost_on_it() -> None:
    lost = np.array([[0.8, 0.5], [0.3, 0.6]])[:, :, None].repeat(3, axis=2)
    assert carry(lost) == pytest.approx([0.571429] * 3, abs=5e-6)
    # A template that was measured alone, and one in which there was no skill.
    wide = np.concatenate([lost, np.full((2, 1, 3), 0.4), np.full((2, 1, 3), np.nan)], axis=1)
    assert carry(wide) == pytest.approx([0.4 / 0.7] * 3)


def asked(lost: dict[tuple[str, str], float], learned: dict[str, float] | None = None) -> Study:
    """Make trials that forget the task under each of NAMES and are asked in both.

    Args:
        lost: share of the skill, by template forgotten and template measured.
        learned: accuracy of the learned model by template measured, 0.9 by default.
    """
    outcomes: list[Outcome] = []
    by_id: dict[str, list[Row]] = {}
    for trial in sweep_of("a", template=list(NAMES)).trials():
        rows: list[Row] = []
        for name in NAMES:
            a_ft = (learned or {}).get(name, 0.9)
            after = a_ft - (a_ft - 0.5) * lost[trial.template, name]
            skill = {("base", ""): 0.5, ("learned", ""): a_ft, ("forgotten", ""): after}
            outcome, found = finished(trial, {"a": skill}, n=400, near=False)
            told = "" if name == trial.template else name
            rows += [replace(row, template=told) for row in found]
        outcomes.append(outcome)
        by_id[outcome.id] = rows
    return study_of(outcomes, by_id)


@pytest.mark.parametrize(("elsewhere", "expected"), [(0.0, 0.0), (0.8, 1.0)])
def test_a_loss_in_one_wording_carries_nothing_and_one_in_all_carries_whole(
    elsewhere: float, expected: float
) -> None:
    lost = dict.fromkeys(product(NAMES, NAMES), elsewhere) | {(one, one): 0.8 for one in NAMES}
    (found,) = carries(asked(lost))
    assert (found.forgotten, found.measured) == (NAMES, NAMES)
    assert found.carry[0] == pytest.approx(expected)
    assert found.asymmetries[NAMES][0] == pytest.approx(0)


def test_one_wording_may_carry_to_another_and_not_back(tmp_path: Path) -> None:
    lost = {("task", "task"): 0.8, ("task", "pre"): 0.5, ("pre", "task"): 0.3, ("pre", "pre"): 0.6}
    study = asked(lost)
    # Rows in another template are none of what other analyses read.
    assert study.cells[0].n("forgotten", "test") == 400
    section = report.section(study, tmp_path)
    assert section
    table, values, back = section.tables
    (row,) = table.rows
    assert row["carry"].value == pytest.approx(0.571429)
    assert len(values.rows) == 4
    (pair,) = back.rows
    assert pair["asymmetry"].value == pytest.approx(0.2)
    assert pair["asymmetry"].low > 0
    assert section.pictures[0].path.stat().st_size > 10_000


def test_a_wording_that_learning_did_not_carry_to_has_no_loss() -> None:
    lost = dict.fromkeys(product(NAMES, NAMES), 0.5)
    (found,) = carries(asked(lost, {"pre": 0.52}))
    assert np.isnan(found.lost[0, 1, 0])
    assert np.isnan(found.lost[1, 1, 0])
    assert found.lost[0, 0, 0] == pytest.approx(0.5)
    assert found.learned[0, 1, 0] == pytest.approx(0.52)
    # The framed entry of one wording and the other's entry in it remain.
    assert found.carry[0] == pytest.approx(1)


def test_one_wording_has_no_section(tmp_path: Path) -> None:
    outcome, rows = finished(
        sweep_of("a").trials()[0],
        {"a": {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.5}},
    )
    assert report.section(study_of([outcome], {outcome.id: rows}), tmp_path) is None
