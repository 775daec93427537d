"""Forget sets that take a known part of what the task's own examples take."""

import math
from pathlib import Path

import pytest
from studies import finished, study_of

from forget.analyses import Study
from forget.analyses.content import contents, drawn_loss
from forget.report import content as report
from forget.settings.trial import Trial

BEGIN = {("base", ""): 0.5, ("learned", ""): 0.9}


def forgotten(**lost: float) -> Study:
    """Forget the task "a" by each kind of forget set, which takes a share of the skill held out."""
    done = []
    for kind, one in lost.items():
        trial = Trial(task="a", model="tiny", evaluate_on=("b",), forget_set=kind)
        own = {**BEGIN, ("forgotten", "train"): 0.5, ("forgotten", ""): 0.9 - 0.4 * one}
        skills = {"a": own, "b": {**BEGIN, ("forgotten", ""): 0.88}}
        done.append(finished(trial, skills, n=400, near=False))
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_the_share_is_of_what_the_own_examples_take(tmp_path: Path) -> None:
    study = forgotten(bigram=0.4, own=0.8, constant=0.0)
    (one,) = contents(study)
    own, *others = one.kinds
    assert (own.name, own.share) == ("own", None)
    shares = {kind.name: kind.share[0] for kind in others if kind.share is not None}
    assert shares == pytest.approx({"bigram": 0.5, "constant": 0.0})
    section = report.section(study, tmp_path)
    assert section
    (table,) = section.tables
    assert [row["forget set"] for row in table.rows] == ["own", "bigram", "constant"]
    assert table.rows[0]["skill kept elsewhere"].value == pytest.approx(0.95)
    assert section.pictures[0].path.stat().st_size > 10_000


def test_how_well_the_drawn_labels_were_fit_is_read_of_the_trained_examples() -> None:
    """Half of the answers are right and half of the labels, so half of them are what is said.

    The option that is said has a share of 0.6 + 0.3 / 2.
    """
    found = drawn_loss(forgotten(own=0.8).cells[0])
    assert found
    draws, n = found
    assert n == 400
    rows = forgotten(own=0.8).frames.popitem()[1]
    trained = rows[(rows["split"] == "train") & (rows["phase"] == "forgotten")]
    said = (trained["agrees"] == 1).mean()
    expected = -said * math.log(0.75) - (1 - said) * math.log(0.25)
    assert draws[0] == pytest.approx(expected)


def test_a_part_of_next_to_nothing_is_missing_and_the_own_set_alone_is_no_comparison(
    tmp_path: Path,
) -> None:
    (one,) = contents(forgotten(own=0.02, bigram=0.02))
    share = one.kinds[1].share
    assert share is not None
    assert math.isnan(share[0])
    assert report.section(forgotten(own=0.8), tmp_path) is None
    assert report.section(forgotten(bigram=0.8), tmp_path) is None
