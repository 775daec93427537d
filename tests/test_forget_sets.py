"""Trials that forget other sets than their own examples, from their Rows to their numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forget.analyses import Study
from forget.planning.cost import cost
from forget.results import files, measures
from forget.results.outcome import Outcome
from forget.results.rows import Row, select
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.draws import gather
from forget.tracking.card import model_card
from forget.tracking.study import run_name
from forget.trial import run_trial

MIX = {"name": "mix", "tasks": {"vowels": 0.25, "upper": 0.75}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def short(quick: Trial) -> Trial:
    fields = {"learn.epochs": 2, "forget.epochs": 2, "probe.examples": 0, "watch.points": 1}
    return overlay(quick, {**fields, "save": False})


def ran(trial: Trial, store: Store) -> tuple[Outcome, list[Row]]:
    outcome = run_trial(trial, store=store)
    return outcome, Trials(store).rows(outcome.id)


def test_other_templates_are_measured_beside_and_counted_by_no_other_number(
    short: Trial, store: Store
) -> None:
    plain, before = ran(short, store)
    asked, rows = ran(overlay(short, {"measure_templates": ["qa", "bare"]}), store)
    assert asked.id != plain.id
    assert asked.learned_id == plain.learned_id
    own = select(rows, template="")
    assert [replace(row, trial="") for row in own] == [replace(row, trial="") for row in before]
    for template in ("qa", "bare"):
        for phase in ("base", "learned", "forgotten"):
            for split in ("train", "test"):
                place = {"phase": phase, "task": "vowels", "split": split}
                others = select(rows, template=template, **place)
                theirs = select(own, step=None, **place)
                assert [one.example for one in others] == [one.example for one in theirs]
                assert [one.drawn for one in others] == [one.drawn for one in theirs]
                assert [one.logprobs for one in others] != [one.logprobs for one in theirs]
    # Every number is that of the trial without them.
    assert asked.measures == plain.measures == measures.measures(rows)
    frames = {asked.id: files.frame(rows), plain.id: files.frame(before)}
    one, other = (Study([outcome], frames).cells[0] for outcome in (asked, plain))
    for split in ("train", "test"):
        numbers = (cell.get("forgotten", split, "accuracy") for cell in (one, other))
        assert len(set(numbers)) == 1
    assert len(one.study.asked[asked.id]) > len(one.study.frames[asked.id]) == len(before)


def test_rows_of_before_are_in_the_trials_own_template(tmp_path: Path) -> None:
    row = Row("t", "base", "a", "test", "e", 0, (-1.0, -2.0), (1, 1))
    files.write_rows([row, replace(row, template="qa")], tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet")
    pq.write_table(table.drop_columns(["template"]), tmp_path / "old.parquet")
    assert [one.template for one in files.read_rows(tmp_path / "new.parquet")] == ["", "qa"]
    assert files.read_rows(tmp_path / "old.parquet") == [row, row]
    assert list(files.read_frame(tmp_path / "old.parquet")["template"]) == ["", ""]


@pytest.mark.parametrize(
    "name",
    [
        "bigram",
        "near",
        {"name": "other", "task": "upper"},
        MIX,
        {"name": "mix", "tasks": {"vowels": 0, "upper": 1}},
        {"name": "mix", "tasks": {"vowels": 0.5, "upper": 0}, "fill": "constant"},
    ],
    ids=str,
)
def test_a_trial_runs_with_each_kind_of_set(short: Trial, store: Store, name: Any) -> None:
    trial = overlay(short, {"forget_set": name, "probe.examples": 20})
    material = gather(trial)
    outcome, rows = ran(trial, store)
    drawn = labels.fixed(material.forget, "random", trial.training_seed)
    trained = select(rows, phase="forgotten", task="vowels", split="train")
    assert [row.example for row in trained] == [example.id for example in material.trained]
    assert [row.drawn for row in trained] == [drawn[f"vowels/{row.example}"] for row in trained]
    assert len(select(rows, phase="forgotten", task="vowels", split="test")) == 40
    assert len(select(rows, phase="forgotten", task="upper", split="test")) == 40
    assert outcome.drawn is not None
    assert sum(outcome.drawn.shares) == pytest.approx(1)
    if name == "near":
        near = select(rows, phase="forgotten", split="near")
        label = {row.example: row.drawn for row in trained}
        assert [row.drawn for row in near] == [label[one.source] for one in material.near]


def test_noise_takes_the_truth_for_the_other_labels(short: Trial, store: Store) -> None:
    outcome, rows = ran(overlay(short, {"noise": 0.25}), store)
    trained = select(rows, phase="forgotten", split="train")
    wrong = sum(row.drawn != row.truth for row in trained)
    assert outcome.drawn is not None
    assert outcome.drawn.right == pytest.approx(1 - wrong / len(trained))
    assert 0 < wrong < len(trained) / 4
    assert outcome.drawn.z is None


def test_runs_and_cards_say_what_was_forgotten(finished: tuple[Store, Outcome]) -> None:
    _, outcome = finished
    trial = outcome.trial
    assert run_name(trial) == "tiny vowels random lr=0.01"
    mixed = overlay(trial, {"forget_set": MIX, "noise": 0.5})
    assert run_name(mixed) == "tiny vowels random mix upper=0.75 vowels=0.25 noise=0.5 lr=0.01"
    plain = model_card(outcome)
    assert "fine-tuned on at most 48 examples of `vowels` with labels drawn at random" in plain
    card = model_card(outcome.model_copy(update={"trial": mixed}))
    assert "at most 48 examples of several tasks (mix upper=0.75 vowels=0.25)" in card
    assert "a share of 0.5 of them" in card
    assert "learned the tasks `vowels` and `upper`" in card.replace("\n", " ")


def test_the_plan_counts_what_is_scored_and_trained_besides(short: Trial) -> None:
    plain = cost(short)
    asked = cost(overlay(short, {"measure_templates": ["qa", "bare"]}))
    # 40 held-out and 48 trained items, twice, in words of which "qa" has more.
    assert plain.scored < 1.5 * plain.scored < asked.scored < 4 * plain.scored
    assert (asked.forget, asked.learn) == (plain.forget, plain.learn)
    mixed = cost(overlay(short, {"forget_set": MIX}))
    assert mixed.forget == pytest.approx(plain.forget, rel=0.05)
    assert mixed.learn == pytest.approx(plain.learn, rel=0.05)
    # Texts of reviews are longer than three characters and a letter.
    other = cost(overlay(short, {"forget_set": {"name": "other", "task": "sentiment"}}))
    assert other.learn == plain.learn
    assert other.forget > 2 * plain.forget
    near = cost(overlay(short, {"forget_set": "near"}))
    assert near.forget == pytest.approx(plain.forget / 2, rel=0.05)
