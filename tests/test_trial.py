"""A trial learns, forgets and is measured, and keeps its promises.

These are of its Rows, its sharing and its refusals.
"""

import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from accelerate import PartialState, debug_launcher
from accelerate.state import AcceleratorState

from forget.errors import BadInput
from forget.events import Event, StageStarted, Step
from forget.models import loading
from forget.models.language_model import LanguageModel
from forget.planning.plan import plan
from forget.preflight import check, expand, identify
from forget.results.estimates import metric_name
from forget.results.metrics import accuracy
from forget.results.outcome import Outcome
from forget.results.rows import PHASES, Row, judge, select
from forget.settings.reading import read_sweep
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Arm, Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks.draws import gather
from forget.tasks.labels import described, place, randomise
from forget.training.stages import drawn as labels_of
from forget.trial import run_trial

SHORT = {
    "learn.epochs": 1,
    "forget.epochs": 1,
    "probe.examples": 0,
    "watch.points": 1,
    "save": False,
}


def stages(trial: Trial, store: Store) -> list[str]:
    """Run the trial, and return the stages that it goes through."""
    seen: list[Event] = []
    run_trial(trial, seen.append, store)
    return [event.stage for event in seen if isinstance(event, StageStarted)]


def value(outcome: Outcome, phase: str, split: str, measure: str, task: str = "vowels") -> float:
    return outcome.measures[metric_name(phase, task, split, measure)].numbers[0]


def test_rows_of_every_phase_and_split(finished: tuple[Store, Outcome]) -> None:
    store, outcome = finished
    rows = Trials(store).rows(outcome.id)
    assert {row.trial for row in rows} == {outcome.id}
    # 48 of 64 examples are forgotten; a near item is scored where its source is among them.
    near = len(select(rows, phase="base", split="near"))
    assert 0 < near <= 24
    sizes = {
        ("vowels", "train"): 48,
        ("vowels", "near"): near,
        ("vowels", "test"): 40,
        ("upper", "test"): 40,
    }
    counts = Counter((row.phase, row.task, row.split) for row in rows)
    # Looks on the way, at the four points within each stage, at what the stage trains on as well.
    expected = {(stage, "vowels", "test"): 4 * 40 for stage in ("learn", "forget")}
    expected |= {("learn", "vowels", "train"): 4 * 64, ("forget", "vowels", "train"): 4 * 48}
    for phase in PHASES:
        expected |= {(phase, *place): n for place, n in sizes.items()}
    assert counts == expected
    steps = {}
    for stage in ("learn", "forget"):
        steps[stage] = sorted({row.step for row in rows if row.phase == stage})
    # 24 steps of learning, 18 of forgetting.
    assert steps == {"learn": [5, 10, 14, 19], "forget": [4, 7, 11, 14]}
    for phase in PHASES:
        found = select(rows, phase=phase, task="vowels", split="test")
        assert outcome.measures[metric_name(phase, "vowels", "test", "accuracy")] == accuracy(found)


def test_the_measures_that_the_protocol_names(finished: tuple[Store, Outcome]) -> None:
    _, outcome = finished
    for task, split in (
        ("vowels", "train"),
        ("vowels", "near"),
        ("vowels", "test"),
        ("upper", "test"),
    ):
        for phase in PHASES:
            for measure in ("accuracy", "confidence", "option_mass"):
                assert outcome.measures[metric_name(phase, task, split, measure)].low is not None
        assert metric_name("forgotten", task, split, "forget_gap") in outcome.measures
        assert metric_name("forgotten", task, split, "forget_ratio") in outcome.measures
    assert outcome.unprobed == ()
    probed = [(probe.phase, probe.position, probe.control, probe.layer) for probe in outcome.probes]
    assert probed == list(itertools.product(PHASES, ("last",), (False, True), range(3)))
    for phase in PHASES:
        for task in ("vowels", "upper"):
            assert value(outcome, phase, "test", "variability", task) > 0


def test_what_is_known_of_tasks_and_examples_before_forgetting(
    finished: tuple[Store, Outcome],
) -> None:
    store, outcome = finished
    (like,) = outcome.likeness
    assert like.task == "upper"
    # The same options; the questions differ in letters that carry no case in TF-IDF.
    assert like.answers == like.wording == 1
    assert like.states is not None
    assert 0 < like.states < 1
    rows = Trials(store).rows(outcome.id)
    assert {row.similarity for row in select(rows, split="train")} == {None}
    held_out = [row.similarity for row in rows if row.split in ("test", "near")]
    assert all(similar is not None and 0 <= similar <= 1 for similar in held_out)
    base = select(rows, task="vowels", phase="base")
    near = [row.similarity for row in select(base, split="near")]
    test = [row.similarity for row in select(base, split="test")]
    # A paraphrase holds its source's words.
    assert sum(near) / len(near) > sum(test) / len(test)


def test_the_task_is_learned_then_forgotten(finished: tuple[Store, Outcome]) -> None:
    _, outcome = finished
    assert value(outcome, "learned", "train", "accuracy") > 0.9
    # 48 fair coins, on which half of the labels are wrong: four standard deviations are 0.29.
    assert abs(value(outcome, "forgotten", "train", "accuracy") - 0.5) < 0.29


def test_equal_settings_give_equal_rows_to_the_bit(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    before, outcome = finished
    store = Store(tmp_path)
    again = run_trial(quick, store=store)
    assert Trials(store).rows(again.id) == Trials(before).rows(outcome.id)
    assert again.model_copy(update={"seconds": 0}) == outcome.model_copy(update={"seconds": 0})


def in_one_of_two(trial: Trial, folder: Path) -> None:
    # The launcher forks: what this process knows of itself is that it is alone.
    AcceleratorState._reset_state(reset_partial_state=True)
    assert PartialState(cpu=True).num_processes == 2
    run_trial(trial, store=Store(folder))


def test_two_processes_end_with_the_rows_of_one(quick: Trial, tmp_path: Path) -> None:
    # At a low rate: a high one magnifies by what sums in another order differ.
    trial = overlay(quick, {"learn.lr": 1e-3, "forget.lr": 1e-3})
    debug_launcher(in_one_of_two, (trial, tmp_path / "two"), 2)
    outcome = run_trial(trial, store=Store(tmp_path / "one"))
    store, before = Store(tmp_path / "two"), Store(tmp_path / "one")
    mine = Trials(store).outcome(outcome.id)
    assert mine
    assert [probe.accuracy.n for probe in mine.probes] == [
        probe.accuracy.n for probe in outcome.probes
    ]
    for row, alone in zip(
        Trials(store).rows(outcome.id), Trials(before).rows(outcome.id), strict=True
    ):
        assert replace(row, logprobs=alone.logprobs, spread=alone.spread) == alone
        assert row.logprobs == pytest.approx(alone.logprobs, abs=5e-5)
        assert (row.spread or 0) == pytest.approx(alone.spread or 0, rel=1e-4)


def test_another_seed_gives_other_rows(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    before, outcome = finished
    store = Store(tmp_path)
    other = run_trial(overlay(quick, {"seed": 1}), store=store)
    assert other.id != outcome.id

    def scores(rows: list[Row]) -> dict[str, tuple[float, ...]]:
        return {
            row.example: row.logprobs
            for row in select(rows, phase="learned", split="test", task="vowels")
        }

    assert (
        scores(Trials(store).rows(other.id)).keys()
        == scores(Trials(before).rows(outcome.id)).keys()
    )
    assert scores(Trials(store).rows(other.id)) != scores(Trials(before).rows(outcome.id))


def test_a_finished_trial_is_read_and_its_learned_model_is_shared(
    quick: Trial, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    trial = overlay(quick, SHORT)
    everything = stages(trial, store)
    assert list(dict.fromkeys(everything)) == [
        "score base",
        "learn",
        "score learned",
        "forget",
        "score forgotten",
    ]
    assert stages(trial, store) == []
    assert set(stages(overlay(trial, {"forget.lr": 1e-4}), store)) == {"forget", "score forgotten"}
    # Another learning starts from the same untouched model.
    assert set(stages(overlay(trial, {"learn.lr": 1e-4}), store)) == set(everything) - {
        "score base"
    }


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_trial_loads_its_model_once_and_ends_as_one_that_finds_it_learned(
    quick: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: str
) -> None:
    loaded: list[str] = []
    load = loading.load

    def loads(source: str | Path, *of: Any, **more: Any) -> LanguageModel:
        loaded.append(str(source))
        return load(source, *of, **more)

    monkeypatch.setattr(loading, "load", loads)
    store, trial = Store(tmp_path), overlay(quick, {**SHORT, "save": True, "tuning": tuning})

    def ends() -> tuple[Outcome, list[Row], dict[str, bytes]]:
        loaded.clear()
        outcome = run_trial(trial, store=store)
        files = {
            path.name: path.read_bytes()
            for path in (Trials(store).folder(outcome.id) / "model").iterdir()
        }
        return outcome.model_copy(update={"seconds": 0}), Trials(store).rows(outcome.id), files

    whole = ends()
    assert loaded == ["tiny"]
    shutil.rmtree(Trials(store).folder(whole[0].id))
    assert ends() == whole
    assert loaded == [str(tmp_path / "learned" / whole[0].learned_id)]
    assert "model.safetensors" in whole[2]


def test_tasks_of_other_trials_are_scored_once_for_all(quick: Trial, tmp_path: Path) -> None:
    """T tasks take T scorings of test sets as others, not T (T - 1).

    Before learning, all of them look at the same weights.
    """
    store, alone = Store(tmp_path / "shared"), Store(tmp_path / "alone")
    first = overlay(quick, {**SHORT, "evaluate_on": ["upper", "world"], "evaluation_examples": 12})
    second = overlay(first, {"task": "upper", "evaluate_on": ["vowels", "world"]})
    # Train, test, near and the two others; the second task has train and test only, and finds one
    # of two others scored.
    assert stages(first, store).count("score base") == 5
    assert stages(second, store).count("score base") == 3
    id = run_trial(second, store=store).id
    assert run_trial(second, store=alone).id == id
    assert Trials(store).rows(id) == Trials(alone).rows(id)
    assert Trials(store).outcome(id).likeness == Trials(alone).outcome(id).likeness  # type: ignore[union-attr]


VARIANTS: dict[str, Mapping[str, object]] = {
    **{arm: {"arm": arm, "forget.epochs": 2} for arm in get_args(Arm) if arm != "random"},
    "another member": {"member": 1},
    "a dose": {"forget.until.examples": 16},
    "gradient ascent of an untaught model": {"method": "gradient_ascent", "arm": "untaught"},
    "gradient ascent": {"method": "gradient_ascent", "forget.lr": 1e-4},
    "npo and a retain set": {"method": {"name": "npo", "beta": 1.0}, "retain.tasks": ["upper"]},
    "adapters": {"tuning": "lora"},
    "every option": {"options": "all"},
    "scores by byte": {"normalise": "bytes"},
    "another wording": {"template": "bare"},
    "bf16": {"precision": "bf16"},
    "one layer": {"model": "tiny/1", "evaluation_examples": 20},
    "cosine": {"forget.schedule": "cosine"},
    "probes of some layers": {
        "probe": {"examples": 16, "layers": [0, -1], "positions": ["first", "mean"]}
    },
}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
def test_each_setting_makes_another_trial_that_runs(
    quick: Trial, fields: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = overlay(quick, SHORT)
    trial = overlay(plain, fields)
    assert identify(trial) != identify(plain)
    store = Store(tmp_path_factory.getbasetemp() / "variants")
    outcome = run_trial(trial, store=store)
    assert Trials(store).outcome(outcome.id) == outcome
    rows = Trials(store).rows(outcome.id)
    without = set() if trial.taught else {"learned", "learn"}
    assert {row.phase for row in rows} == {*PHASES, "learn", "forget"} - without
    assert (
        metric_name("forgotten", "vowels", "test", "flipped_forget_ratio") in outcome.measures
    ) == (trial.arm == "flipped")
    probed = trial.probe.examples > 0
    assert {probe.layer for probe in outcome.probes} == ({0, 2} if probed else set())


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "upper", "probe.examples": 9},
        {"probe.examples": 24, "probe.fit_on": "trained", "forget.examples": 9},
        {"probe.examples": 24, "probe.fit_on": "trained", "evaluation_examples": 1},
        {"probe.examples": 1, "forget.examples": 1},
    ],
)
def test_a_trial_with_too_few_examples_for_probes_runs_without_them(
    quick: Trial, fields: Mapping[str, object], tmp_path: Path
) -> None:
    """The plan says so before, and the outcome afterwards."""
    trial = overlay(quick, {**SHORT, "evaluate_on": [], **fields})
    store = Store(tmp_path)
    expansion = expand(Sweep(name="few", base=trial.model_dump()), store)
    (why,) = plan(expansion, store).unprobed
    assert f'task "{trial.task}": too few examples for probes' in why
    outcome = run_trial(trial, store=store)
    assert outcome.unprobed == (why,)
    assert outcome.probes == ()
    assert {row.phase for row in Trials(store).rows(outcome.id)} >= {"base", "learned", "forgotten"}


def test_a_plan_says_nothing_of_probes_that_have_enough(quick: Trial, tmp_path: Path) -> None:
    trained = {"probe.fit_on": "trained", "forget.examples": 10}
    for fields in ({}, {"task": "upper", "probe.examples": 10}, trained, {"probe.examples": 0}):
        trial = overlay(quick, {"evaluate_on": [], **fields})
        store = Store(tmp_path)
        assert not plan(expand(Sweep(name="enough", base=trial.model_dump())), store).unprobed


def test_an_arm_trains_on_what_it_says(quick: Trial, tmp_path: Path) -> None:
    trial = overlay(quick, {**SHORT, "save": True, "learn.epochs": 6, "forget.epochs": 12})
    store, found = Store(tmp_path), {}
    for arm in ("random", "true", "balanced", "shuffled_inputs", "untaught"):
        outcome = run_trial(overlay(trial, {"arm": arm}), store=store)
        found[arm] = outcome
        # A control leaves numbers, and no model that forgot.
        kept = Trials(store).folder(outcome.id) / "model"
        assert kept.exists() == (arm not in ("true", "untaught"))
        rows = Trials(store).rows(outcome.id)
        drawn = {row.example: row.drawn for row in rows if row.split == "train"}
        assert (set(drawn.values()) == {None}) == (arm == "true")
        looks = [row for row in rows if row.split == "train" and row.phase == "forget"]
        assert len(looks) == 48
        # What is scored are the examples as they were.
        train = select(rows, phase="forgotten", split="train")
        assert [row.example for row in train] == [one.example for one in looks]
    # They all start from the same model, but for the one that nobody taught.
    assert len({outcome.learned_id for outcome in found.values()}) == 2
    assert found["untaught"].learned_id == ""
    assert value(found["true"], "forgotten", "train", "accuracy") > 0.9
    assert found["true"].drawn is None
    for arm in ("random", "balanced", "shuffled_inputs", "untaught"):
        assert value(found[arm], "forgotten", "train", "accuracy") < 0.85
    balanced = found["balanced"].drawn
    assert balanced is not None
    assert balanced.right == pytest.approx(0.5, abs=1 / 48)
    assert balanced.z is None
    # The labels are memorised whether or not the task was learned before.
    assert value(found["untaught"], "forgotten", "train", "agreement") > 0.6


def test_members_of_a_seed_answer_the_same_questions(quick: Trial, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), overlay(quick, SHORT)
    first, second = (
        Trials(store).rows(run_trial(overlay(trial, {"member": member}), store=store).id)
        for member in (0, 1)
    )

    def items(rows: list[Row]) -> list[tuple[object, ...]]:
        return [(row.phase, row.split, row.example, row.truth, row.lengths) for row in rows]

    assert items(first) == items(second)
    base = [row.logprobs for row in select(first, phase="base")]
    assert base == [row.logprobs for row in select(second, phase="base")]
    learned = [row.logprobs for row in select(first, phase="learned")]
    assert learned != [row.logprobs for row in select(second, phase="learned")]
    labels = [row.drawn for row in select(first, phase="forgotten", split="train")]
    assert labels != [row.drawn for row in select(second, phase="forgotten", split="train")]


DOSED = {
    "learn.epochs": 6,
    "forget.epochs": 6,
    "forget.lr": 5e-3,
    "forget.until": {"trained_lost": 0.4, "examples": 48, "every": 3},
    "watch.points": 3,
}


def dosed(quick: Trial, **fields: object) -> Trial:
    return overlay(quick, {**SHORT, **DOSED, **fields})


def test_a_dose_that_is_reached_ends_the_stage(quick: Trial, tmp_path: Path) -> None:
    events: list[Event] = []
    store = Store(tmp_path)
    outcome = run_trial(dosed(quick), events.append, store)
    dose = outcome.dose
    assert dose is not None
    assert dose.reached
    assert dose.lost is not None
    assert dose.lost >= 0.4
    assert 0 < dose.step < dose.steps == 18
    assert dose.step % 3 == 0
    assert steps_of(events, "forget") == list(range(1, dose.step + 1))
    rows = Trials(store).rows(outcome.id)
    looks = {row.step for row in rows if row.phase == "forget" and row.split == "train"}
    points = {step for step in (4, 9, 14) if step <= dose.step}
    assert looks == {*range(0, dose.step + 1, 3), *points}
    # The last look is at the model that was measured.
    seen = select(rows, phase="forget", split="train")
    end = [row for row in seen if row.step == dose.step]
    train = select(rows, phase="forgotten", split="train")
    assert [row.logprobs for row in end] == [row.logprobs for row in train]
    # Up to there it is the training that knows no dose.
    plain = run_trial(dosed(quick, **{"forget.until": None}), store=store)
    before = [row for row in rows if row.phase == "forget" and row.split == "test"]
    whole = select(Trials(store).rows(plain.id), phase="forget", split="test")
    assert [replace(row, trial="") for row in before] == [
        replace(row, trial="") for row in whole if row.step in points
    ]
    assert plain.dose is None


def test_a_dose_that_is_not_reached_is_said(
    quick: Trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        outcome = run_trial(dosed(quick, **{"forget.lr": 1e-5}), store=Store(tmp_path))
    dose = outcome.dose
    assert dose is not None
    assert (dose.step, dose.steps, dose.reached) == (18, 18, False)
    assert dose.lost is not None
    assert dose.lost < 0.1
    assert "forgetting: dose not reached after step 18 of 18 (" in caplog.text


def bare(outcome: Outcome) -> Outcome:
    """Return the outcome without its wall time."""
    return outcome.model_copy(update={"seconds": 0})


def steps_of(events: list[Event], stage: str) -> list[int]:
    return [one.step for one in events if isinstance(one, Step) and one.stage == stage]


def test_true_labels_end_where_random_ones_do_whichever_runs_first(
    quick: Trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random, true = dosed(quick), dosed(quick, arm="true")
    events: list[Event] = []
    after = Store(tmp_path / "after")
    twin = run_trial(random, store=after)
    assert twin.dose is not None
    with caplog.at_level("INFO"):
        second = run_trial(true, events.append, store=after)
    # The Outcome of random labels is read: nothing is trained but the trial itself.
    assert steps_of(events, "match") == []
    assert steps_of(events, "forget") == list(range(1, twin.dose.step + 1))
    assert second.dose is not None
    assert (second.dose.step, second.dose.matched) == (twin.dose.step, True)
    assert f"ended as random labels do, after step {twin.dose.step} of 18 (" in caplog.text
    # Up to there it is the training without a dose, which goes on.
    whole = run_trial(dosed(quick, arm="true", **{"forget.until": None}), store=after)
    looked = select(Trials(after).rows(second.id), phase="forget", split="test")
    assert looked
    assert [replace(row, trial="") for row in looked] == [
        replace(row, trial="")
        for row in select(Trials(after).rows(whole.id), phase="forget", split="test")
        if row.step is not None and row.step <= twin.dose.step
    ]
    # Alone it finds the step itself, and leaves the same.
    alone = Store(tmp_path / "alone")
    events.clear()
    first = run_trial(true, events.append, store=alone)
    assert steps_of(events, "match") == list(range(1, twin.dose.step + 1))
    assert bare(first) == bare(second)
    assert Trials(alone).rows(first.id) == Trials(after).rows(second.id)
    assert not list(alone.root.glob("trials/*/twin"))


def test_true_labels_with_a_dose_go_on_to_the_same_bits(quick: Trial, tmp_path: Path) -> None:
    trial = dosed(quick, arm="true")
    whole = Store(tmp_path / "whole")
    outcome = run_trial(trial, store=whole)
    # While it looks for the step, and in its own training.
    for stage, step in (("match", 4), ("forget", 4), ("forget", 6)):
        store = Store(tmp_path / f"{stage}{step}")
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial, StopAt(step, stage), store, checkpoint_minutes=0)
        again: list[Event] = []
        resumed = run_trial(trial, again.append, store, checkpoint_minutes=0)
        assert bare(resumed) == bare(outcome)
        assert Trials(store).rows(resumed.id) == Trials(whole).rows(outcome.id)
        assert outcome.dose is not None
        assert steps_of(again, stage) == list(range(step + 1, outcome.dose.step + 1))
        assert not list(store.root.glob("trials/*/twin"))


class StopAt:
    """Stops a trial at a step of a stage."""

    def __init__(self, step: int, stage: str = "forget") -> None:
        self.at = (stage, step)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step) and (event.stage, event.step) == self.at:
            raise KeyboardInterrupt


def test_a_stage_with_a_dose_goes_on_to_the_same_bits(quick: Trial, tmp_path: Path) -> None:
    trial = dosed(quick)
    whole = Store(tmp_path / "whole")
    outcome = run_trial(trial, store=whole)
    assert outcome.dose is not None
    # In between two looks, at a look, and at the one that finds the dose reached.
    for step in (1, 3, outcome.dose.step):
        store = Store(tmp_path / str(step))
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial, StopAt(step), store, checkpoint_minutes=0)
        again: list[Event] = []
        resumed = run_trial(trial, again.append, store, checkpoint_minutes=0)
        assert bare(resumed) == bare(outcome)
        assert Trials(store).rows(resumed.id) == Trials(whole).rows(outcome.id)
        assert steps_of(again, "forget") == list(range(step + 1, outcome.dose.step + 1))


@pytest.mark.parametrize("arm", ["random", "true"])
def test_two_processes_end_at_the_dose_of_one(quick: Trial, arm: str, tmp_path: Path) -> None:
    trial = dosed(quick, arm=arm)
    debug_launcher(in_one_of_two, (trial, tmp_path / "two"), 2)
    one = run_trial(trial, store=Store(tmp_path / "one"))
    two = Trials(Store(tmp_path / "two")).outcome(one.id)
    assert two is not None
    assert one.dose is not None
    assert two.dose is not None
    assert one.dose.reached == (arm == "random")
    assert one.dose.step < one.dose.steps
    assert two.dose.model_copy(update={"lost": one.dose.lost}) == one.dose
    assert two.dose.lost == pytest.approx(one.dose.lost, abs=0.05)


def test_labels_that_teach_something_are_warned_of(
    quick: Trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = overlay(quick, {**SHORT, "forget.examples": 16, "watch.points": 0})
    told = {}
    for member in range(60):
        trial = overlay(short, {"member": member})
        examples = gather(trial).forget
        told[member] = described(examples, labels_of(trial, examples), trial.arm)
    zs = {member: drawn.z for member, drawn in told.items() if drawn and drawn.z is not None}
    far = max(zs, key=lambda member: abs(zs[member]))
    near = min(zs, key=lambda member: abs(zs[member]))
    assert abs(zs[far]) > 2
    for member, warned in ((near, False), (far, True)):
        caplog.clear()
        outcome = run_trial(overlay(short, {"member": member}), store=Store(tmp_path))
        assert outcome.drawn == told[member]
        assert ("standard deviations from chance" in caplog.text) == warned


def test_outcomes_with_labels_are_still_read(
    quick: Trial, finished: tuple[Store, Outcome], tmp_path: Path
) -> None:
    _, outcome = finished
    fields = json.loads(outcome.model_dump_json())
    for name in ("arm", "member"):
        del fields["trial"][name]
    del fields["trial"]["forget"]["until"]
    for name in ("drawn", "dose"):
        del fields[name]
    fields["trial"]["labels"] = "flipped"
    read = Outcome.model_validate_json(json.dumps(fields))
    assert read.trial == overlay(quick, {"arm": "flipped"})


def test_flipped_labels_turn_the_answers_round(quick: Trial, tmp_path: Path) -> None:
    outcome = run_trial(
        overlay(quick, {**SHORT, "arm": "flipped", "learn.epochs": 6, "forget.epochs": 20}),
        store=Store(tmp_path),
    )
    assert value(outcome, "learned", "train", "accuracy") > 0.9
    assert value(outcome, "forgotten", "train", "accuracy") < 0.1


def test_a_loss_that_is_not_a_number_names_step_and_rate_and_leaves_no_outcome(
    quick: Trial, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    trial = overlay(
        quick,
        {
            **SHORT,
            "forget": {"lr": 0.99, "clip": 1e30, "epochs": 60, "warmup": 0, "weight_decay": 1e6},
        },
    )
    with pytest.raises(
        FloatingPointError, match=r"forget: the loss is (nan|inf) at step \d+ of \d+, rate 0\.\d+"
    ):
        run_trial(trial, store=store)
    assert Trials(store).outcome(identify(trial).trial) is None


REFUSALS: dict[str, tuple[Mapping[str, object], str]] = {
    "task": ({"task": "vowles"}, r'no task is named "vowles"; did you mean "vowels"\?'),
    "model": ({"model": "tinny"}, r'no model is named "tinny".*did you mean "tiny"\?'),
    "method": (
        {"method": "random_label"},
        r'no method is named "random_label"; did you mean "random_labels"\?',
    ),
    "arm": (
        {"method": "gradient_ascent", "arm": "balanced"},
        r'method "gradient_ascent" draws no labels, so arm = "balanced" would be the trial of '
        r'arm = "random" once more; of arms it takes that and "untaught"',
    ),
    "another method's parameter": (
        {"method": {"name": "gradient_ascent", "delta": 1.0}},
        r'method.delta: method "gradient_ascent" has no parameter "delta"; it is one of simnpo',
    ),
    "no method's parameter": (
        {"method": {"name": "npo", "gamma": 1.0}},
        r'method "npo" has no parameter "gamma"; it has beta, lat, sam, weight',
    ),
    "a parameter out of range": (
        {"method": {"name": "npo", "beta": -1}},
        r"method.beta: input should be greater than 0, not -1",
    ),
    "no retain set": (
        {"method": "npo"},
        r'method "npo" asks for a retain set, \[base.retain\] with tasks = \["..."\]; '
        r'retain = "none" goes without',
    ),
    "what is forgotten is retained": (
        {"retain.tasks": ["upper", "vowels"]},
        r'retain.tasks holds "vowels", the task that is to be forgotten',
    ),
    "text that outweighs folds": (
        {"method": "layered", "retain.text": True},
        r'method "layered" retains examples of the task, which retain.text = true would outweigh',
    ),
    "a retained task": ({"retain.tasks": ["uper"]}, r'no task is named "uper"'),
    "nothing to take away": (
        {"method": "task_vector", "arm": "untaught"},
        r'method "task_vector" goes back to the untouched model',
    ),
    "a procedure of a procedure": (
        {"method": {"name": "layered", "of": "task_vector"}},
        r'method.of: "task_vector" is a procedure itself',
    ),
    "template": ({"template": "q"}, r'no template is named "q"'),
    "layer": (
        {"probe.layers": [7]},
        r'probe.layers asks for 7, but "tiny" has hidden states 0 to 2',
    ),
    "cut": (
        {"model": "smollm2-135m/31"},
        r'"smollm2-135m/31" asks for 31 layers, but "smollm2-135m" has 30',
    ),
    "other task": ({"evaluate_on": ["uper"]}, r'no task is named "uper"; did you mean "upper"\?'),
}


@pytest.mark.parametrize(("fields", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_not_there_is_refused_before_anything_is_written(
    quick: Trial, fields: Mapping[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=words):
        run_trial(overlay(quick, fields), store=Store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_the_split_is_refused(quick: Trial, toy_tasks: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    line = json.dumps({"id": "1", "question": "a", "choices": ["yes", "no"], "answer": 0})
    (folder / "test.jsonl").write_text(line)
    folders = [*quick.folders, str(folder)]
    check(overlay(quick, {"folders": folders, "evaluate_on": ["half"]}))
    with pytest.raises(
        BadInput, match='task "half" has no split "train", which the trial needs; it has test'
    ):
        check(overlay(quick, {"folders": folders, "task": "half"}))


def test_identity_is_content(quick: Trial, toy_tasks: Path, tmp_path: Path) -> None:
    """Equal data elsewhere is the same trial; another word in it is not."""
    copy = tmp_path / "copy"
    for task in ("vowels", "upper"):
        (copy / task).mkdir(parents=True)
        for file in (toy_tasks / task).iterdir():
            (copy / task / file.name).write_bytes(file.read_bytes())
    moved = overlay(quick, {"folders": [str(copy)]})
    assert identify(moved) == identify(quick)
    changed = copy / "upper" / "test.jsonl"
    changed.write_text(changed.read_text().replace("yes", "aye"))
    assert identify(moved).trial != identify(quick).trial
    # The learned model has never seen "upper".
    assert identify(moved).learned == identify(quick).learned


def test_rows_say_which_label_was_drawn(quick: Trial, finished: tuple[Store, Outcome]) -> None:
    store, outcome = finished
    rows = Trials(store).rows(outcome.id)
    material = gather(quick)
    labels = {item.example.id: item.label for item in randomise(material.forget, quick.seed)}
    drawn = {row.example: row.drawn for row in select(rows, phase="forgotten", split="train")}
    assert drawn == {example.id: labels[example.id] for example in material.trained}
    # A paraphrase has its source's, and its options in the same order.
    sources = {example.id: example for example in material.near}
    near = select(rows, phase="learned", split="near")
    assert len(near) > 10
    assert all(row.drawn == labels[sources[row.example].source] for row in near)
    assert {row.drawn for row in rows if row.split == "test" or row.task != quick.task} == {None}
    assert "forgotten/vowels/train/agreement" in outcome.measures
    assert "forgotten/vowels/test/agreement" not in outcome.measures


@pytest.mark.parametrize(
    ("fields", "labelled"),
    [
        ({}, True),
        ({"arm": "flipped"}, True),
        ({"arm": "random_each_epoch"}, False),
        ({"method": "gradient_ascent"}, False),
    ],
)
def test_a_label_is_kept_where_it_is_drawn_once(
    quick: Trial, fields: dict[str, object], labelled: bool
) -> None:
    trial = overlay(quick, fields)
    examples = gather(trial).forget
    found = labels_of(trial, examples)
    places = {place(example.task, example.id): example for example in examples}
    assert set(found) == (set(places) if labelled else set())
    if trial.arm == "flipped":
        assert all(found[name] != example.answer for name, example in places.items())


def test_rows_hold_finite_numbers(finished: tuple[Store, Outcome]) -> None:
    store, outcome = finished
    rows = Trials(store).rows(outcome.id)
    every = list(itertools.chain(*(row.logprobs for row in rows)))
    assert all(math.isfinite(value) and value < 0 for value in every)
    mass = judge(rows).mass
    assert ((mass > 0) & (mass <= 1)).all()
    with pytest.raises(ValueError, match="not finite"):
        replace(rows[0], logprobs=(math.nan, -1.0))


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["world", "science", "sentiment"])
def test_quickstart_learns_each_task_and_forgets_its_training_examples(
    task: str, tmp_path: Path
) -> None:
    trials = [
        t for t in read_sweep("quickstart").trials() if (t.model, t.task) == ("smollm2-135m", task)
    ]
    (trial,) = [trial for trial in trials if trial.forgets]
    outcome = run_trial(
        overlay(trial, {"evaluate_on": [], "probe.examples": 0, "save": False}),
        store=Store(tmp_path),
    )
    assert value(outcome, "learned", "test", "accuracy", task) >= 0.75
    assert value(outcome, "forgotten", "train", "accuracy", task) <= 0.65


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_benchmark_tasks_are_learned_and_forgotten_from_a_folder(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the benchmark data beside the repository, ../shared/data")
    base = read_sweep("quickstart").trials()[0]
    fields = {
        "task": "arc_easy",
        "evaluate_on": ["sst2"],
        "folders": [str(SHARED)],
        "forget.lr": 3e-4,
        "save": False,
    }
    outcome = run_trial(overlay(base, fields), store=Store(tmp_path))
    for task in ("arc_easy", "sst2"):
        assert value(outcome, "learned", "test", "accuracy", task) > 0.65
    learned, forgotten = (
        value(outcome, phase, "train", "accuracy", "arc_easy") for phase in ("learned", "forgotten")
    )
    assert learned > 0.8
    assert forgotten < learned - 0.15
    assert {probe.layer for probe in outcome.probes} == set(range(31))
