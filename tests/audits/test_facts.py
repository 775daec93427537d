"""Relearning some facts: others come back where they were hidden, and only there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from audits.plants import Plants

from forget.analyses.recovery import ratio
from forget.audits.audit import Auditing
from forget.audits.rtt import Rtt
from forget.errors import BadInput
from forget.results.doses import pooled
from forget.results.rows import Row, calibrated, judge, select

FACTS = Rtt(lr=(1e-3,))


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"), "names")


def right(rows: Sequence[Row], arm: str, dose: str) -> np.ndarray:
    """Return the mean over all folds at a dose, as an array of one."""
    own = [row for row in select(rows, phase=arm, split="train") if pooled(row.dose) == dose]
    return np.array([judge(own).correct.mean()])


def test_facts_come_back_from_behind_a_mask_and_not_from_nothing(plants: Plants) -> None:
    dose = "left out/lr=0.001"
    masked, scrubbed = (plants.audit(FACTS, plant) for plant in ("masked", "scrubbed"))
    assert right(masked, "forgotten", "plain") == 0.5
    arms = "forgotten", "learned", "never"
    assert ratio(*(right(masked, arm, dose) for arm in arms)) > 0.8
    assert ratio(*(right(scrubbed, arm, dose) for arm in arms)) == 0.0
    # Nothing of the other facts tells of these.
    assert right(scrubbed, "forgotten", dose) < 0.7


def test_each_fact_is_asked_once_and_after_others(plants: Plants) -> None:
    rows = select(plants.audit(FACTS, "scrubbed"), phase="learned", split="train")
    asked = [row.example for row in rows if row.dose.startswith("left out/")]
    assert sorted(asked) == sorted(one.id for one in plants.material.learn)
    assert len({row.dose for row in rows if row.dose.startswith("left out/")}) == 5


def test_of_several_rates_facts_of_no_fold_choose(plants: Plants) -> None:
    at = plants.auditing(FACTS)
    every, none = Rtt()._facts(at), FACTS._facts(at)
    assert (len(none[0]), len(none[1])) == (60, 0)
    assert (len(every[0]), len(every[1])) == (50, 10)
    assert not {one.group for one in every[0]} & {one.group for one in every[1]}


def test_few_facts_make_no_folds(plants: Plants) -> None:
    at: Auditing = plants.auditing(FACTS)
    with pytest.raises(BadInput, match="5 sources of facts"):
        list(Rtt(examples=5).run(at))


LOGITS = np.array([[2, 1], [1.5, 1], [3, 0], [1, 0.9]])


def test_calibration_takes_out_what_favours_a_letter() -> None:
    shares = LOGITS - np.logaddexp.reduce(LOGITS, axis=1, keepdims=True)
    rows = []
    for number, (one, truth) in enumerate(zip(shares.tolist(), (0, 1, 0, 1), strict=True)):
        rows.append(Row("", "forgotten", "t", "train", str(number), truth, tuple(one), (1, 1)))
    assert judge(rows).correct.mean() == 0.5
    assert judge(calibrated(rows)).correct.mean() == 0.75
    found = np.array([row.logprobs for row in calibrated(rows)])
    expected = (LOGITS - [1.875, 0.725]) @ [1, -1]
    np.testing.assert_allclose(found @ [1, -1], expected, atol=5e-6)
