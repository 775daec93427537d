"""Paths of forgetting are planted look by look, and what is lost at a matched dose is read off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from studies import answer, finished, study_of, sweep_of

from forget.analyses import Study, generalisation
from forget.analyses.dose import DOSE, areas, matched, paths, reached
from forget.report.dose import section
from forget.results.rows import Row

N = 200
SKILL = {("base", ""): 0.6, ("learned", ""): 0.9, ("forgotten", ""): 0.5}
STEPS = (10, 20, 30)


def looked_at(
    seen: dict[str, tuple[float, ...]], rate: float = 1e-4, arm: str = "random", seed: int = 0
) -> tuple:
    """Finish a trial that was looked at, with the accuracy of each split by step and at the end."""
    (trial,) = sweep_of("a", forget__lr=[rate], arm=[arm], seed=[seed]).trials()
    skill = {**SKILL, **{("forgotten", split): values[-1] for split, values in seen.items()}}
    outcome, rows = finished(trial, {"a": skill}, n=N, near=False)
    for split, values in seen.items():
        for step, accuracy in zip(STEPS, values, strict=False):
            rows += _look(outcome.id, split, step, accuracy)
    return outcome, rows


def _look(trial: str, split: str, step: int, accuracy: float) -> list[Row]:
    """Score a split after a step; in each case of truth and label the same share is right."""
    found = []
    for i in range(N):
        row = answer(trial, "forget", "a", split, i, _spread(i, accuracy))
        drawn = i // 2 % 2 if split == "train" else None
        found.append(replace(row, step=step, drawn=drawn))
    return found


def _spread(i: int, accuracy: float) -> bool:
    """Answer evenly: of the fifty items of each case of truth and label the first are right."""
    return i // 4 < round(accuracy * (N // 4))


def study(*done: tuple) -> Study:
    return study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})


def test_the_area_in_each_resample_is_that_of_items_repeated() -> None:
    draw = np.random.default_rng(0)
    scores, true = draw.integers(0, 5, 40).astype(float), draw.random(40) < 0.4
    counts = draw.integers(0, 4, (6, 40)).astype(float)
    for found, times in zip(areas(scores, true, counts), counts.astype(int), strict=True):
        known = roc_auc_score(np.repeat(true, times), np.repeat(scores, times))
        assert found == pytest.approx(known)


def test_the_held_out_loss_is_read_where_the_dose_is_lost() -> None:
    # The skill is 0.4 held out. By looks 0.9, 0.8, 0.6 and 0.5 of it is left.
    (cell,) = study(looked_at({"train": (0.8, 0.6, 0.5, 0.5), "test": (0.88, 0.8, 0.7, 0.7)})).cells
    (path,) = paths(cell, "test").values()
    assert path.steps == (0, 10, 20, 30, 40)
    assert path.lost[:, 0] == pytest.approx([0, 0.05, 0.25, 0.5, 0.5], abs=0.001)
    (trained,) = paths(cell, "train").values()
    # The trained examples are those whose draw was right, by their discrimination.
    assert trained.n == N // 2
    step = reached(trained)
    assert step is not None
    assert 20 < step <= 30
    found = matched(cell)
    assert found
    share = (step - 20) / 10
    assert found.number.value == pytest.approx(0.25 + share * 0.25, abs=0.001)
    excess = generalisation.excess(cell)
    assert excess is not None
    assert excess[0] == pytest.approx(found.held_out[0] - DOSE / 2)


def test_a_dose_that_no_look_reaches_is_missing() -> None:
    (cell,) = study(looked_at({"train": (0.9, 0.85, 0.8, 0.8), "test": (0.9, 0.9, 0.9, 0.9)})).cells
    assert matched(cell) is None
    excess = generalisation.excess(cell)
    assert excess is not None
    # At the end, by accuracy: nothing held out, less half of a quarter.
    assert excess[0] == pytest.approx(0 - 0.25 / 2, abs=0.01)


def test_memory_of_wrong_labels_is_no_dose() -> None:
    """Every drawn label is given: half of the accuracy is gone, and no skill where it was right."""
    outcome, rows = looked_at({"train": (0.9, 0.9, 0.9, 0.9), "test": (0.9, 0.9, 0.9, 0.9)})
    given = []
    for row in rows:
        if row.split == "train" and row.phase in ("forget", "forgotten"):
            lead = (-1.0, -3.0) if row.drawn == 0 else (-3.0, -1.0)
            row = replace(row, logprobs=lead)
        given.append(row)
    (cell,) = study((outcome, given)).cells
    accuracy = cell.get("forgotten", "train", "accuracy")
    assert accuracy is not None
    assert accuracy.value == pytest.approx(0.5)
    (path,) = paths(cell, "train").values()
    assert path.lost[-1, 0] < 0.05
    assert matched(cell) is None


def test_two_rates_on_one_line_give_one_reading() -> None:
    slow = looked_at({"train": (0.8, 0.6, 0.5, 0.5), "test": (0.85, 0.75, 0.7, 0.7)}, 1e-4)
    fast = looked_at({"train": (0.6, 0.5, 0.5, 0.5), "test": (0.75, 0.7, 0.7, 0.7)}, 3e-4)
    one, other = (matched(cell) for cell in study(slow, fast).cells)
    assert one
    assert other
    assert one.number.value == pytest.approx(other.number.value, abs=0.01)
    assert other.step < one.step


def test_what_true_labels_took_by_that_step_is_taken_off() -> None:
    seen = {"train": (0.8, 0.6, 0.5, 0.5), "test": (0.85, 0.75, 0.7, 0.7)}
    anyhow = {"train": (0.9, 0.9, 0.9, 0.9), "test": (0.88, 0.84, 0.8, 0.8)}
    alone = matched(study(looked_at(seen)).cells[0])
    whole = study(looked_at(seen), looked_at(anyhow, arm="true"))
    both = matched(next(cell for cell in whole.cells if cell.trial.arm == "random"))
    assert alone
    assert both
    share = (alone.step - 20) / 10
    assert alone.number.numbers[0] - both.number.numbers[0] == pytest.approx(
        0.15 + share * 0.1, abs=0.002
    )


def test_the_page_draws_the_path_and_reads_it(tmp_path: Path) -> None:
    seen = {"train": (0.8, 0.6, 0.5, 0.5), "test": (0.85, 0.75, 0.7, 0.7)}
    low = {"train": (0.9, 0.88, 0.86, 0.86), "test": (0.9, 0.9, 0.9, 0.9)}
    made = section(study(looked_at(seen, 3e-4), looked_at(low, 1e-4)), tmp_path)
    assert made
    (table,) = made.tables
    read = [row["held out at dose 0.9"] for row in table.rows]
    assert [one is None for one in read] == [False, True]
    (picture,) = made.pictures
    assert Image.open(picture.path).width > 300
    unseen, rows = looked_at(seen)
    settled = [row for row in rows if row.step is None]
    assert section(study((unseen, settled)), tmp_path) is None
