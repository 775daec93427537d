"""Trained examples of which it is known whose label is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from studies import KEEPS, finished, study_of

from forget.analyses import Study
from forget.analyses.noise import (
    AFTER,
    BEFORE,
    LOSS,
    RUNNING,
    WEIGHT,
    detection,
    detectors,
    running_mean,
)
from forget.report import noise as report
from forget.settings.trial import Trial


def test_separated_losses_tell_all_and_shuffled_flags_nothing() -> None:
    """Margins of wrong labels lie below those of right ones, as in training on 30 % wrong ones."""
    rng = np.random.default_rng(0)
    wrong = rng.random(400) < 0.3
    margin = np.where(wrong, -1.2, 0.6) + rng.normal(0, 0.35, 400)
    losses = {"loss": np.log1p(np.exp(-margin))}
    assert detection(losses, wrong, "margins")["loss"][0] > 0.99
    shuffled = detection(losses, rng.permutation(wrong), "margins")["loss"]
    low, high = np.quantile(shuffled[1:], (0.025, 0.975))
    assert low < 0.5 < high
    assert np.isnan(detection(losses, np.zeros(400, dtype=bool), "margins")["loss"]).all()


def test_the_running_mean_weighs_the_last_look_most() -> None:
    losses = np.array([[0.5, 1.0, 2.0], [0.3, 0.9, 2.2]])
    expected = (0.9 * losses[0] + losses[1]) / 1.9
    assert running_mean(losses) == pytest.approx(expected)


def trained(noise: float) -> Study:
    """Make a trial whose learned model knows the truth and whose forgotten one gives its label.

    In a quarter of the trained examples the label is wrong; at two looks half of these are given.
    """
    trial = Trial(task="a", model="tiny", noise=noise)
    outcome, rows = finished(trial, {"a": {**KEEPS, ("learned", ""): 1.0}}, n=80)
    kept = [row for row in rows if row.split != "train"]
    at = [("learned", None, 0), ("forget", 3, 1), ("forget", 6, 1), ("forgotten", None, 2)]
    for i in range(80):
        truth, wrong = i % 2, i % 4 == 0
        for phase, step, given in at:
            follows = wrong and (given == 2 or (given == 1 and i % 8 == 0))
            said = 1 - truth if follows else truth
            logprobs = (-0.1, -3.0) if said == 0 else (-3.0, -0.1)
            model = next(row for row in rows if row.split == "train")
            kept.append(
                replace(
                    model,
                    phase=phase,
                    example=f"train-{i:02}",
                    truth=truth,
                    logprobs=logprobs,
                    step=step,
                    drawn=1 - truth if wrong else truth,
                )
            )
    return study_of([outcome], {outcome.id: kept})


def test_wrong_labels_are_told_until_they_are_memorised(tmp_path: Path) -> None:
    study = trained(0.5)
    (one,) = detectors(study.cells[0])
    assert (one.wrong, one.n) == (20, 80)
    areas = {name: draws[0] for name, draws in one.found.items()}
    # Half of the wrong labels look like right ones on the way, all of them at the end.
    assert areas == pytest.approx({BEFORE: 1.0, RUNNING: 0.75, AFTER: 0.5})
    assert [one.lost[True][0], one.lost[False][0]] == pytest.approx([1, 0])
    section = report.section(study, tmp_path)
    assert section
    (row,) = section.tables[0].rows
    assert (row["share drawn"], row["wrong labels"]) == (0.5, 20)
    assert row["fall where wrong"].value == pytest.approx(1)
    assert section.pictures[0].path.stat().st_size > 10_000


def test_where_all_labels_are_drawn_there_is_no_section(tmp_path: Path) -> None:
    assert report.section(trained(1.0), tmp_path) is None


def test_weights_are_told_apart_by_whether_the_label_is_wrong(tmp_path: Path) -> None:
    """Half of the wrong labels weigh less than any right one, the others as much."""
    study = trained(0.5)
    (id,) = study.frames
    frame = study.frames[id]
    number = frame["example"].str.extract(r"(\d+)$", expand=False).astype(float)
    late = (frame["phase"] == "forget") & (frame["step"] == 6)
    frame["value"] = np.where(number % 8 == 0, 0.2, 1.0)
    # Of the last four, which are held out, nothing is known.
    frame.loc[~late | (number >= 76), "value"] = np.nan
    (one,) = detectors(study.cells[0])
    (look,) = one.weighed
    assert (look.step, look.wrong, look.n) == (6, 19, 76)
    assert look.mean[False][0] == pytest.approx(1)
    assert look.mean[True][0] == pytest.approx((10 * 0.2 + 9) / 19)
    assert look.found[WEIGHT][0] == pytest.approx((10 + 9 / 2) / 19)
    # At this look those that weigh less are those whose wrong label the model already gives.
    assert look.found[LOSS][0] == pytest.approx(9 / 19 + 10 / 19 / 2)
    section = report.section(study, tmp_path)
    assert section
    assert report.WEIGHED in section.text
    (row,) = section.tables[1].rows
    assert row["weight where right"].value == pytest.approx(1)
    assert section.pictures[1].path.stat().st_size > 10_000
