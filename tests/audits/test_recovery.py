"""R and K: both ends exact, missing where nothing is to be told, old analyses untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audits.studies_of_audits import audited, spread
from studies import KEEPS, LOSES, answer, finish, study_of, sweep_of

from forget.analyses import Study, knowing
from forget.analyses.claims import verdicts
from forget.analyses.depth import depths
from forget.analyses.dose import areas
from forget.analyses.membership import leakage
from forget.analyses.recovery import (
    BEST,
    WORST,
    labels,
    least,
    missing,
    ratio,
    recoveries,
    strongest,
)
from forget.report import recovery
from forget.results.doses import dose, read
from forget.results.files import read_frame, read_rows, write_rows
from forget.results.rows import Row
from forget.tracking.recovery import curves, headline

ARMS = ("forgotten", "learned", "never")


def three(forgotten: float, learned: float, never: float) -> dict[str, float]:
    return dict(zip(ARMS, (forgotten, learned, never), strict=True))


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [((0.84, 0.96, 0.60), 2 / 3), ((0.60, 0.96, 0.60), 0.0), ((0.62, 0.63, 0.60), np.nan)],
)
def test_recovery_lies_between_the_arm_never_taught_and_the_learned_one(
    accuracies: tuple[float, float, float], expected: float
) -> None:
    found = ratio(*(np.array([value]) for value in accuracies))
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_a_resample_without_skill_has_no_recovery() -> None:
    third = 0.1 + 0.2  # is not 0.3 for a machine
    found = ratio(*(np.array(two) for two in ((0.5, 0.4), (0.6, third), (0.3, 0.3))))
    np.testing.assert_allclose(found, [2 / 3, np.nan], atol=5e-6)


def test_a_dose_is_taken_apart_as_it_was_written() -> None:
    found = read(dose("forget", n=10, lr=1e-4))
    assert (found.group, found.numbers, found.chosen) == ("forget", {"n": 10.0}, {"lr": 1e-4})
    assert found.name == "forget/n=10"
    assert not found.control
    assert read("unrelated/n=10").control
    assert read("nf4 noise/draw=1").control
    assert read("plain").plain
    assert read("forget/n=0").plain


def study_with(more: dict[str, dict[str, float]], audit: str = "relearn", n: int = 200):
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = rows
    found = []
    for told, accuracy in more.items():
        found += audited(id, "world", audit, told, accuracy, n)
    return study_of(outcomes, spread(rows, {id: found})), study_of(outcomes, rows)


def test_rows_of_audits_are_no_rows_of_phases() -> None:
    study, plain = study_with({"forget/n=10": three(0.9, 0.95, 0.5)})
    assert study.samples.keys() == plain.samples.keys()
    for (id, frame), before in zip(study.frames.items(), plain.frames.values(), strict=True):
        assert len(frame) == len(before)
        assert len(study.audited[id]) == 600
    (told,), (told_after,) = verdicts(plain).values(), verdicts(study).values()
    before = {one.claim: one for one in told}
    after = {one.claim: one for one in told_after}
    assert before.pop("hidden") != after.pop("hidden")
    assert {name: one.number for name, one in before.items()} == {
        name: one.number for name, one in after.items()
    }


def test_recovery_is_exact_at_both_ends() -> None:
    doses = {
        "forget/n=0": three(0.5, 0.9, 0.5),
        "forget/n=10": three(0.7, 0.9, 0.5),
        "forget/n=100": three(0.9, 0.9, 0.5),
    }
    (cell,) = study_with(doses)[0].cells
    found = {one.dose.name: one for one in recoveries(cell)}
    assert [round(one.number.value, 6) for one in found.values()] == [0.0, 0.5, 1.0]
    low, high = found["forget/n=10"].number.numbers[1:]
    assert 0.2 < low < 0.5 < high < 0.8
    assert least(list(found.values()), "relearn") == {"forget": 10.0}
    assert strongest(cell)["relearn"].dose.name == "forget/n=100"


def test_equal_rows_give_an_interval_of_no_width() -> None:
    study, _ = study_with({"plain": three(0.9, 0.9, 0.5)}, "quantise")
    ((id, rows),) = study.audited.items()
    others = rows[rows["phase"] != "forgotten"]
    same = rows[rows["phase"] == "learned"].assign(phase="forgotten")
    study.audited[id] = pd.concat([others, same], ignore_index=True)
    (cell,) = study.cells
    (one,) = recoveries(cell)
    assert one.number.numbers == (1.0, 1.0, 1.0)


def test_the_rate_is_chosen_on_validation_arm_by_arm() -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = rows
    more = []
    # The forgotten arm is best at the second rate, the others at the first.
    for lr, test, held_out in (
        (1e-4, three(0.5, 0.9, 0.5), three(0.5, 0.9, 0.6)),
        (1e-3, three(0.8, 0.6, 0.7), three(0.7, 0.7, 0.5)),
    ):
        told = dose("forget", n=10, lr=lr)
        more += audited(id, "world", "relearn", told, test)
        more += audited(id, "world", "relearn", told, held_out, split="validation")
    (cell,) = study_of(outcomes, spread(rows, {id: more})).cells
    (one,) = recoveries(cell)
    assert one.number.value == pytest.approx((0.8 - 0.5) / (0.9 - 0.5))


def test_folds_are_read_as_one_and_on_trained_facts() -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = rows
    more = []
    for fold, p in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        for lr in (1e-5, 1e-4):
            told = dose("left out", fold=fold, lr=lr)
            # The second rate is the better one on validation, for each arm.
            found = three(p, 0.9, 0.5) if lr > 5e-5 else three(0.5, 0.5, 0.5)
            own = audited(id, "world", "rtt", told, found, 40, "train")
            more += [replace(row, example=f"{fold}/{row.example}") for row in own]
            better = three(0.9, 0.9, 0.9) if lr > 5e-5 else three(0.5, 0.5, 0.5)
            more += audited(id, "world", "rtt", told, better, 20, "validation")
    (cell,) = study_of(outcomes, spread(rows, {id: more})).cells
    (one,) = recoveries(cell)
    assert (one.dose.name, one.n) == ("left out", 200)
    assert one.accuracy["forgotten"].value == pytest.approx(0.7)
    assert one.number.value == pytest.approx(0.5)


def test_the_depth_of_return_is_the_first_layer_with_half_of_the_skill(tmp_path: Path) -> None:
    learned, never = (0.5, 0.72, 0.9), 0.5
    layers = {}
    for head, forgotten in (("own head", (0.5, 0.6, 0.65)), ("learned head", (0.5, 0.68, 0.7))):
        for layer, accuracies in enumerate(zip(forgotten, learned, strict=True), 1):
            layers[dose(head, layer=layer)] = three(*accuracies, never)
    study, _ = study_with(layers, "lens")
    (cell,) = study.cells
    own, other = depths(cell)
    assert (own.decoder, other.decoder) == ("own head", "learned head")
    # Half of the skill is an accuracy of 0.7.
    assert own.first == {"forgotten": None, "learned": 2, "never": None}
    assert other.first == {"forgotten": 3, "learned": 2, "never": None}
    assert other.most
    assert other.most.dose.at == 2
    assert other.most.number.value == pytest.approx(0.18 / 0.22)
    table = written(study, tmp_path, "depth")
    assert "own head,,2,," in table
    assert "learned head,3,2,," in table


def test_what_was_hardly_learned_has_no_depth() -> None:
    (cell,) = study_with({dose("own head", layer=1): three(0.5, 0.52, 0.5)}, "lens")[0].cells
    (one,) = depths(cell)
    assert (one.first, one.most) == ({}, None)


def written(study: Study, folder: Path, name: str) -> str:
    """Return a table of the section as a CSV file."""
    section = recovery.section(study, folder)
    assert section
    (table,) = [table for table in section.tables if table.name == name]
    return table.write(folder).read_text()


def test_the_overview_has_the_examples_that_bring_half_back_and_the_worst_format(
    tmp_path: Path,
) -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = rows
    more = []
    for told, p in (("n=0", 0.5), ("n=10", 0.72), ("n=100", 0.9)):
        more += audited(id, "world", "relearn", f"forget/{told}", three(p, 0.9, 0.5))
        more += audited(id, "world", "relearn", f"unrelated/{told}", three(0.5, 0.9, 0.5))
    for number in range(3):
        more += audited(id, "world", "formats", f"format {number}", three(0.5, 1.0, 0.5))
    study = study_of(outcomes, spread(rows, {id: more}))
    overview = written(study, tmp_path, "recovery")
    assert "n½, relearn" in overview
    assert '"forget 10, unrelated never"' in overview
    assert f'"R, {WORST}, formats"' in overview
    found = dict(headline(study.cells[0]))
    assert found["half_back_relearn_forget"] == 10
    assert found["recovery_relearn"] == pytest.approx(1.0)
    # Also where the model never taught is not needed: of 0.9 - 0.5, 0.72 - 0.5 came back.
    assert found["undone_relearn"] == pytest.approx(1.0)
    undone = {one.dose.name: one.undone for one in recoveries(study.cells[0])}
    assert undone["forget/n=10"][0] == pytest.approx(0.55, abs=0.03)
    assert undone["unrelated/n=100"][0] == pytest.approx(0.0, abs=0.03)
    assert "loss undone, relearn" in overview
    assert abs(found["recovery_worst_formats"] or 0) < 0.1
    assert not [name for name in found if "unrelated" in name]
    points = {(name, step): value for name, value, step in curves(study.cells[0])}
    relearned = "relearn.forget/world/test/accuracy"
    for n, accuracy in ((0, 0.5), (10, 0.72), (100, 0.9)):
        assert points[f"forgotten.{relearned}", n] == pytest.approx(accuracy, abs=0.01)
    assert points[f"never.{relearned}", 100] == pytest.approx(0.5, abs=0.01)


def test_the_worst_of_several_formats_is_item_by_item() -> None:
    formats = {f"format {i}": three(0.5, 1.0, 0.5) for i in range(5)}
    (cell,) = study_with(formats, "formats", n=400)[0].cells
    found = {one.dose.name: one for one in recoveries(cell)}
    # A guesser is right in all of five formats with 1/32, in any with 31/32.
    assert found[WORST].accuracy["never"].value == pytest.approx(1 / 32, abs=0.03)
    assert found[BEST].accuracy["never"].value == pytest.approx(31 / 32, abs=0.03)
    assert found[WORST].accuracy["learned"].value == pytest.approx(1)
    assert found[WORST].number.value == pytest.approx(0, abs=0.04)


def test_the_claim_holds_where_an_audit_brings_most_back() -> None:
    back = {"forget/n=10": three(0.88, 0.9, 0.5), "unrelated/n=10": three(0.5, 0.9, 0.5)}
    gone = {"forget/n=10": three(0.51, 0.9, 0.5), "unrelated/n=10": three(0.9, 0.9, 0.5)}
    said = []
    for doses in (back, gone):
        study, _ = study_with(doses, n=400)
        (found,) = verdicts(study).values()
        said.append({one.claim: one.verdict for one in found}["hidden"])
    assert said == ["holds in this run", "contradicted in this run"]


def test_what_still_answers_is_not_asked_if_it_comes_back() -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": KEEPS})
    (id,) = rows
    more = audited(id, "world", "relearn", "forget/n=10", three(0.9, 0.9, 0.5))
    study = study_of(outcomes, spread(rows, {id: more}))
    (found,) = verdicts(study).values()
    assert {one.claim: one.number for one in found}["hidden"] is None


def test_the_page_says_what_is_missing(tmp_path: Path) -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4, 3e-4]), {"world": LOSES})
    first = outcomes[0].id
    more = audited(first, "world", "quantise", "nf4", three(0.7, 0.9, 0.5))
    study = study_of(outcomes, spread(rows, {first: more}))
    assert labels(study.cells[0]) == ["quantise"]
    assert len(missing(study)) == 1
    section = recovery.section(study, tmp_path)
    assert section
    assert "Missing: quantise" in section.text
    assert recovery.section(study_of(outcomes, rows), tmp_path) is None


def test_old_files_are_read_as_of_no_audit(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    _, rows = finish(sweep_of("world"), {"world": LOSES})
    (found,) = rows.values()
    write_rows(found, tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["audit", "dose"])
    pq.write_table(table, tmp_path / "old.parquet")
    assert read_rows(tmp_path / "old.parquet") == found
    assert set(read_frame(tmp_path / "old.parquet")["audit"]) == {""}


CONFIDENCE = np.array([0.95, 0.9, 0.8, 0.75, 0.6, 0.55, 0.4, 0.35, 0.2, 0.1])
RIGHT = np.array([1.0, 1, 1, 0, 1, 0, 0, 1, 0, 0])


def test_calibration_and_discrimination_of_a_stated_confidence() -> None:
    assert knowing.calibration_error(CONFIDENCE, RIGHT) == pytest.approx(0.34, abs=5e-6)
    by_mass = knowing.calibration_error_by_mass(CONFIDENCE, RIGHT)
    assert by_mass == pytest.approx(0.14, abs=5e-6)
    assert knowing.squares(CONFIDENCE, RIGHT).mean() == pytest.approx(0.171, abs=5e-6)
    equal = np.full((1, 10), 0.1)
    assert areas(CONFIDENCE, RIGHT > 0, equal)[0] == pytest.approx(0.84, abs=5e-6)


def of_know(id: str, arm: str, label: str = "know") -> Iterator[Row]:
    """Yield Rows of an arm with those confidences in its own answers, right or not."""
    for item, (stated, right) in enumerate(zip(CONFIDENCE, RIGHT, strict=True)):
        yield replace(
            answer(id, arm, "world", "test", item, bool(right)), audit=label, dose="plain"
        )
        said = {"own": (stated, right), "truth": (0.6, 1.0), "other": (0.4, 0.0)}
        for about, (confidence, true) in said.items():
            logprobs = log(confidence), log(1 - confidence)
            row = Row(id, arm, "world", "test", f"test-{item}", int(not true), logprobs, (1, 1))
            yield replace(row, audit=label, dose=f"{about}/true first")


def test_the_page_has_the_calibration_of_each_audit_that_asks_if_it_knows(tmp_path: Path) -> None:
    outcomes, rows = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = rows
    more: list[Row] = []
    for label in ("know, train learned", "know"):
        for arm in ARMS:
            more += of_know(id, arm, label)
    study = study_of(outcomes, spread(rows, {id: more}))
    plain, taught = knowing.known(study.cells[0])
    assert (plain.label, taught.label) == ("know", "know, train learned")
    one = plain.calibration["forgotten"]
    assert (one.by_width, one.by_mass) == pytest.approx((0.34, 0.14), abs=5e-6)
    assert one.brier.value == pytest.approx(0.171, abs=5e-6)
    table = written(study, tmp_path, "calibration")
    assert table.count("never taught") == 2
    assert "calibration error by mass" in table


def test_a_model_knows_as_much_as_its_confidence_falls() -> None:
    fell, lost = np.array([0.90 - 0.85]), np.array([0.95 - 0.52])
    assert knowing.ratio(fell, lost)[0] == pytest.approx(0.116279, abs=5e-6)
    assert knowing.ratio(lost, lost)[0] == 1.0
    assert knowing.ratio(np.zeros(1), lost)[0] == 0.0
    assert np.isnan(knowing.ratio(fell, np.array([0.04])))[0]


def test_members_are_told_by_the_truths_probability() -> None:
    members, others = [0.2, 0.3, 0.4, 0.9], [0.5, 0.6, 0.7, 0.8, 1.0]
    likely = -np.array([*members, *others])  # losses: a member has the smaller one
    of_members = np.array([True] * 4 + [False] * 5)
    assert areas(likely, of_members, np.full((1, 9), 1 / 9))[0] == pytest.approx(0.8, abs=5e-6)
    half = np.array([0.5])
    assert leakage(np.array([0.85]), half)[0] == pytest.approx(-70, abs=5e-6)
    assert leakage(np.array([0.30]), half)[0] == pytest.approx(40, abs=5e-6)
