"""A finished trial is read as it was written, but for its measures: today's code computes them."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forget.errors import BadInput
from forget.results import measures
from forget.results.estimates import Estimate, mean
from forget.results.measures import Measure
from forget.results.outcome import Outcome, ProbeScore
from forget.results.rows import Row
from forget.settings.trial import Trial
from forget.storage import checksums
from forget.storage.finished import MEASURES, Trials
from forget.storage.folders import whole_folder
from forget.storage.store import Store


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {checksums.FILE}


def rows_of(phase: str) -> list[Row]:
    return [
        Row("id", phase, "a", "test", f"e{i}", i % 2, (-1.25 - i / 3, -2.5), (3, 4))
        for i in range(8)
    ]


ROWS = rows_of("learned") + rows_of("forgotten")


def outcome() -> Outcome:
    return Outcome(
        trial=Trial(task="a", model="tiny", probe={"layers": [0, -1]}),  # type: ignore[arg-type]
        id="id",
        learned_id="learned",
        data="data",
        measures=measures.measures(ROWS)
        | {"learned/a/test/variability": Estimate(1 / 3, None, None, 8)},
        probes=(
            ProbeScore(
                phase="base", task="a", layer=1, accuracy=Estimate(0.5, 0.25, 0.75, 8), l2=0.01
            ),
        ),
        parameters=90_496,
        seconds=0.1 + 0.2,
    )


def test_a_finished_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert Trials(store).outcome("id") is None
    (Trials(store).folder("id") / "checkpoint").mkdir(parents=True)
    Trials(store).finish(outcome(), ROWS)
    assert Trials(store).outcome("id") == outcome()
    assert Trials(store).rows("id") == ROWS
    assert names(Trials(store).folder("id")) == {"outcome.json", "rows.parquet", "measures.json"}


def flip(path: Path) -> None:
    """Flip the lowest bit of a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["outcome.json", "rows.parquet"])
def test_a_flipped_bit_in_a_finished_trial_is_refused(file: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    Trials(store).finish(outcome(), ROWS)
    flip(Trials(store).folder("id") / file)
    with pytest.raises(
        BadInput,
        match=rf"trials/id is damaged \({file} is not what was written there\): remove the folder",
    ):
        Trials(store).outcome("id") if file == "outcome.json" else Trials(store).rows("id")


def test_a_trial_whose_model_lost_something_has_not_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with whole_folder(Trials(store).folder("id") / "model") as draft:
        (draft / "weights").write_bytes(bytes(100))
    Trials(store).finish(outcome(), ROWS)
    assert Trials(store).done(["id"]) == ["id"]
    os.truncate(Trials(store).folder("id") / "model" / "weights", 50)
    assert Trials(store).done(["id"]) == []
    assert Trials(store).outcome("id") is None


MARGIN = "forgotten/a/test/margin"


def margin(rows: Sequence[Row]) -> Estimate:
    return mean([max(row.logprobs) - min(row.logprobs) for row in rows])


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    """Return the trials of a store in which one has finished, with a measure that no Row gives."""
    found = Trials(Store(tmp_path / "store"))
    found.finish(outcome(), ROWS)
    return found


@pytest.fixture
def newer(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the margin, too, after the trial has finished."""
    monkeypatch.setattr(
        measures, "MEASURES", (*measures.MEASURES, Measure("margin", "margin", margin))
    )
    monkeypatch.setattr(measures, "code", lambda: "another")


def test_measures_by_the_same_code_are_not_computed_again(trials: Trials) -> None:
    (trials.folder("id") / "rows.parquet").unlink()
    assert trials.outcome("id") == outcome()
    assert trials.settings("id") == outcome().trial


def test_a_new_measure_shows_up_for_a_trial_that_had_finished(trials: Trials, newer: None) -> None:
    found = trials.outcome("id")
    assert found
    assert found.measures == measures.measures(ROWS)
    assert found.measures[MARGIN] == margin(ROWS[8:])
    assert found.model_copy(update={"measures": {}}) == outcome().model_copy(
        update={"measures": {}}
    )
    # What was computed is kept for the next reader.
    (trials.folder("id") / "rows.parquet").unlink()
    assert trials.outcome("id") == found


def test_rows_that_are_needed_and_damaged_are_refused(trials: Trials, newer: None) -> None:
    rows = trials.folder("id") / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"trials/id is damaged \(rows.parquet has [0-9]+ bytes of"):
        trials.outcome("id")
    rows.unlink()
    with pytest.raises(BadInput, match=r"rows.parquet: not a file of Rows, or damaged"):
        trials.outcome("id")
    assert trials.settings("id") == outcome().trial


def forged(path: Path) -> None:
    kept = json.loads(path.read_text())
    kept["measures"]["learned/a/test/accuracy"]["value"] = 1.0
    path.write_text(json.dumps(kept))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another_trial(path: Path) -> None:
    store = Store(path.parents[3] / "other")
    Trials(store).finish(outcome().model_copy(update={"id": "other"}), ROWS)
    shutil.copy(Trials(store).folder("other") / MEASURES, path)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        forged,
        as_folder,
        of_another_trial,
        lambda path: os.truncate(path, 100),
        lambda path: path.write_text("{}"),
        lambda path: path.write_bytes(b"\xff" * 9),
    ],
)
def test_kept_measures_that_cannot_be_trusted_are_computed_again(
    harm: Callable[[Path], None], trials: Trials
) -> None:
    path = trials.folder("id") / MEASURES
    written = path.read_text()
    harm(path)
    found = trials.outcome("id")
    assert found
    assert found.measures == measures.measures(ROWS)
    # A folder in the file's place stands for one that cannot be written: it is none the worse.
    if path.is_file():
        assert path.read_text() != written
        assert trials.outcome("id") == found


def test_an_outcome_that_holds_measures_is_read(trials: Trials) -> None:
    folder = trials.folder("id")
    older = outcome().model_copy(update={"measures": {"a/b/c/d": Estimate(0.5, 0.4, 0.6, 8)}})
    text = older.model_dump_json(indent=1)
    for file in (checksums.FILE, MEASURES):
        (folder / file).unlink()
    (folder / "outcome.json").write_text(text)
    assert trials.outcome("id") == older.model_copy(update={"measures": measures.measures(ROWS)})
    assert (folder / "outcome.json").read_text() == text


def test_another_machine_takes_kept_measures_or_computes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = []
    for name in ("one", "other", "newer"):
        monkeypatch.setenv("FORGET_CACHE", str(tmp_path / name))
        machines.append(Trials(Store(f"file://{tmp_path}/shared")))
    one, other, newer = machines
    one.finish(outcome(), ROWS)
    assert other.outcome("id") == outcome()
    assert not (other.folder("id") / "rows.parquet").exists()
    monkeypatch.setattr(measures, "code", lambda: "another")
    found = newer.outcome("id")
    assert found
    assert found.measures == measures.measures(ROWS)
    shared = tmp_path / "shared" / "trials" / "id" / MEASURES
    assert shared.read_text() == (newer.folder("id") / MEASURES).read_text()


def test_the_code_of_measures_is_the_text_of_their_rooms() -> None:
    assert measures.code() == measures.code()
    assert len(measures.code()) == 16
