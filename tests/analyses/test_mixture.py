"""Losses of known course over the shares of a mixture."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import finished, study_of

from forget.analyses import Study
from forget.analyses.mixture import excess, mixtures
from forget.report import mixture as report
from forget.results.outcome import Likeness
from forget.settings.trial import Trial

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def lines(*values: float) -> np.ndarray:
    return np.repeat(np.array(values)[:, None], 3, axis=1)


def test_the_excess_is_the_mean_distance_from_the_line() -> None:
    found, part = excess(SHARES, lines(0.10, 0.55, 0.60, 0.62, 0.65))
    assert found == pytest.approx([0.215] * 3, abs=5e-6)
    assert part == pytest.approx([0.390909] * 3, abs=5e-6)


def test_a_loss_linear_in_the_share_has_none_and_a_step_has_half_of_the_whole() -> None:
    found, part = excess(SHARES, lines(0.25, 0.375, 0.5, 0.625, 0.75))
    assert found.tolist() == part.tolist() == [0, 0, 0]
    assert excess(SHARES, lines(0, 1, 1, 1, 1))[1] == pytest.approx([0.5] * 3)
    # There is no part of nothing.
    assert np.isnan(excess(SHARES, lines(0.5, 0.6, 0.5, 0.5, 0.5))[1]).all()


def mixed(a: Callable[[float], float], b: Callable[[float], float], **filled: float) -> Study:
    """Mix "a" in SHARES with "b", each of which loses what its function of the share says.

    Args:
        a: of the share of "a".
        b: of the share of "b".
        filled: what "a" loses where made texts take the place of half of "b", by their kind.
    """
    sets: list[tuple[dict[str, Any], float, float]] = []
    for share in SHARES:
        sets.append(({"a": share, "b": 1 - share}, a(share), b(1 - share)))
    made = [({"name": "mix", "tasks": tasks}, *lost) for tasks, *lost in sets]
    for kind, lost in filled.items():
        made.append(({"name": "mix", "tasks": {"a": 0.5, "b": 0}, "fill": kind}, lost, 0.0))
    done = []
    for (chosen, *lost), seed in product(made, (0,)):
        trial = Trial(task="a", model="tiny", evaluate_on=("b", "c"), forget_set=chosen, seed=seed)
        begin = {("base", ""): 0.5, ("learned", ""): 0.9}
        skills = {
            task: {**begin, ("forgotten", ""): 0.9 - 0.4 * one}
            for task, one in zip("abc", (*lost, 0.1), strict=True)
        }
        likeness = [Likeness(task="b", answers=0.5, wording=0.1, states=None)]
        done.append(finished(trial, skills, n=200, near=False, likeness=likeness))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_mixtures_are_read_of_rows_with_what_made_texts_take(tmp_path: Path) -> None:
    study = mixed(lambda w: 0.1 + 0.7 * (w > 0), lambda w: 0.5 * w, unigram=0.6)
    (one,) = mixtures(study)
    assert one.tasks == ("a", "b")
    first, second, other = one.lines
    assert (first.task, second.task, other.task, other.mixed) == ("a", "b", "c", False)
    assert first.excess
    assert second.excess
    assert first.excess[1][0] == pytest.approx(0.5)
    assert second.excess[0][0] == pytest.approx(0)
    assert first.by_others is not None
    assert first.by_others[0] == pytest.approx(0.8 - 0.6)
    section = report.section(study, tmp_path)
    assert section
    table, values = section.tables
    assert [row["task"] for row in table.rows] == ["a", "b"]
    assert {row["likeness of the answers"] for row in table.rows} == {0.5}
    assert len(values.rows) == 3 * len(SHARES)
    assert section.pictures[0].path.stat().st_size > 10_000


def test_without_mixtures_there_is_no_section(tmp_path: Path) -> None:
    trial = Trial(task="a", model="tiny")
    outcome, rows = finished(
        trial, {"a": {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.5}}
    )
    assert report.section(study_of([outcome], {outcome.id: rows}), tmp_path) is None
