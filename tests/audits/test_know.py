"""A model that is taught to tell right from wrong: by whose answers, and on which questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from audits.plants import Plants, copied

from forget.analyses.knowing import said
from forget.audits.audit import Auditing
from forget.audits.catalogue import chosen
from forget.audits.know import Know, flagged
from forget.errors import BadInput
from forget.results.files import frame
from forget.results.rows import Row, judge, select

TAUGHT = Know(train="learned", lr=3e-3, epochs=6, batch=4)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"))


def masked(plants: Plants, audit: Know) -> Auditing:
    """Return what an audit may do with a learned model that is right in half of the cases."""
    return replace(plants.auditing(audit), model=copied(plants.masked))


def test_flags_are_balanced_and_of_held_out_questions(plants: Plants) -> None:
    at = masked(plants, TAUGHT)
    flags = flagged(at)
    assert {one.options for one in flags} == {(" True", " False")}
    assert sum(one.answer for one in flags) * 2 == len(flags) > 60
    assert {one.id for one in flags} <= {one.id for one in at.held_out}
    assert not {one.id for one in flags} & {one.id for one in at.test}
    assert flagged(at) == flags


def test_answers_that_are_all_right_teach_nothing(plants: Plants) -> None:
    with pytest.raises(BadInput, match="nothing to tell apart"):
        flagged(plants.auditing(TAUGHT))


def gap(rows: Sequence[Row]) -> float:
    """Return the mean confidence in own answers that are right less that in wrong ones."""
    found = said(frame(rows), "learned")
    true = {row.example: row.truth == 0 for row in select(rows, dose="own/true first")}
    right = np.array([true[example] for example in found.examples])
    return float(found.own[right].mean() - found.own[~right].mean())


def truths(rows: Sequence[Row], dose: str) -> list[int]:
    """Return 0 for each answer that is true, else 1."""
    return [row.truth for row in select(rows, dose=dose)]


def test_a_copy_is_taught_to_say_true_or_false_and_the_answers_stay_the_arms_own(
    plants: Plants,
) -> None:
    at = masked(plants, TAUGHT)
    before, after = list(Know().run(at)), list(TAUGHT.run(at))
    asked = {row.dose for row in before} - {"plain"}
    assert asked == {row.dose for row in after} - {"plain"}
    for dose in asked:
        # A model of bytes never writes either word before it is taught to.
        assert judge(select(before, dose=dose)).mass.max() < 0.01
        assert judge(select(after, dose=dose)).mass.mean() > 0.5
        # They are asked about the same answers.
        assert truths(before, dose) == truths(after, dose)
    # The states of a masked model know the answer that its head does not give.
    assert abs(gap(before)) < 0.2
    assert gap(after) > 0.8
    plain = [row.logprobs for row in select(before, dose="plain")]
    assert [row.logprobs for row in select(after, dose="plain")] == plain
    assert [row.logprobs for row in at.score(at.test)] == plain


def test_settings_of_training_go_with_training() -> None:
    with pytest.raises(BadInput, match='epochs is of train = "learned"'):
        chosen([{"name": "know", "epochs": 2}])
    assert Know().needs == ()
    assert (TAUGHT.needs, TAUGHT.label.split(",")[0]) == (("learned",), "know")
