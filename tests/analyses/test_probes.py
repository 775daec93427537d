"""Readings of probes: the middle layers, the same questions as the answers, another arm beside."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from studies import LOSES, STAYS, finish, study, study_of, sweep_of

from forget.analyses import arms, probes
from forget.analyses.resampling import estimate

STRENGTHS = {"base": 0.5, "learned": 1.0, "forgotten": 0.8}


def probed(
    strengths: Mapping[str, float], n: int = 200, skill: Mapping[tuple[str, str], float] = LOSES
) -> list[probes.Reading]:
    (cell,) = study(sweep_of("a"), {"a": skill}, layers=3, probed=strengths, n=n).cells
    return probes.readings(cell)


def test_probes_are_read_over_the_middle_layers() -> None:
    (found,) = probed(STRENGTHS)
    assert (found.position, found.layers, found.chance) == ("last", (1,), 0.5)
    # 0.5 + 0.35 of the strength; a fifth of the skill is lost; the control reads nothing.
    assert found.base is not None
    assert found.base.value == pytest.approx(0.675)
    assert found.learned.value == pytest.approx(0.85)
    assert found.forgotten.value == pytest.approx(0.78)
    assert found.control is not None
    assert found.control.value == 0.5
    assert found.pairs_learned is not None
    assert found.pairs_learned.value == pytest.approx(0.83)
    assert found.lost_share is not None
    value, low, high = found.lost_share.numbers
    assert value == pytest.approx(0.2)
    assert low < 0.2 < high


def test_answers_lose_more_than_probes_on_the_same_questions() -> None:
    (gone,), (kept,) = probed(STRENGTHS), probed(STRENGTHS, skill=STAYS)
    assert gone.lost_by_answers is not None
    # 0.9 falls to 0.52 of chance 0.5.
    assert gone.lost_by_answers[0] == pytest.approx(0.95)
    assert gone.spared is not None
    assert estimate(gone.spared, 200).numbers[1] > 0
    assert kept.spared is not None
    # 0.05 of the answers' skill, and 0.2 of the probes'.
    assert kept.spared[0] == pytest.approx(-0.15)
    assert estimate(kept.spared, 200).numbers[1] < 0


def test_intervals_are_wider_than_those_of_questions_alone() -> None:
    """Fits share questions: of five folds the variance is 2.25 times as large."""
    (found,) = probed(STRENGTHS, n=400)
    _, low, high = found.learned.numbers
    alone = 2 * 1.96 * (0.85 * 0.15 / 400) ** 0.5
    assert (high - low) / alone == pytest.approx(1.5, rel=0.1)


def test_a_probe_that_reads_nothing_has_nothing_to_lose() -> None:
    (found,) = probed({"base": 0.0, "learned": 0.05, "forgotten": 0.0})
    assert found.lost is None
    assert found.lost_share is None
    assert found.spared is None


def test_without_probes_there_are_no_readings() -> None:
    assert probes.readings(study(sweep_of("a"), {"a": LOSES}).cells[0]) == []


def test_questions_without_a_probe_are_left_out() -> None:
    """A trial may probe fewer questions than it measures."""
    (outcome,), rows = finish(sweep_of("a"), {"a": LOSES}, layers=3, probed=STRENGTHS)
    kept = [
        replace(row, probe=None) if int(row.example.rpartition("-")[2]) >= 100 else row
        for row in rows[outcome.id]
    ]
    (found,) = probes.readings(study_of([outcome], {outcome.id: kept}).cells[0])
    assert found.learned.n == 100
    shares = [row.probe for row in kept if row.phase == "learned" and row.probe is not None]
    assert found.learned.value == pytest.approx(np.mean(shares))


def test_a_guess_among_four_options_is_right_a_quarter_of_the_time() -> None:
    (outcome,), rows = finish(sweep_of("a"), {"a": LOSES}, layers=3, probed=STRENGTHS)
    four = [
        replace(row, logprobs=(*row.logprobs, -9.0, -9.0), lengths=(1,) * 4, weights=(1.0,) * 4)
        for row in rows[outcome.id]
    ]
    (found,) = probes.readings(study_of([outcome], {outcome.id: four}).cells[0])
    assert found.chance == 0.25
    assert found.lost is not None
    assert found.lost[0] == pytest.approx((0.85 - 0.78) / (0.85 - 0.25))


def test_what_further_training_takes_by_itself_is_taken_off() -> None:
    outcomes, rows = [], {}
    for arm, forgotten in (("random", 0.8), ("true", 0.9)):
        strengths = {**STRENGTHS, "forgotten": forgotten}
        made, of = finish(sweep_of("a", arm=[arm]), {"a": LOSES}, layers=3, probed=strengths)
        outcomes += made
        rows |= of
    cell = next(cell for cell in study_of(outcomes, rows).cells if cell.trial.arm == "random")
    beyond = arms.net(cell, probes.lost)
    assert beyond is not None
    assert beyond[0] == pytest.approx(0.1)
