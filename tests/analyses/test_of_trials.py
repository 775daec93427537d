"""Rows that trials wrote, read by the sections on forget sets, wordings and wrong labels."""

from pathlib import Path
from typing import Any

import pytest

from forget.analyses import Study
from forget.report import content, mixture, noise, templates
from forget.results import files
from forget.results.outcome import Outcome
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.trial import run_trial


def mix(share: float) -> dict[str, Any]:
    return {"forget_set": {"name": "mix", "tasks": {"vowels": share, "upper": 1 - share}}}


MADE = {"name": "mix", "tasks": {"vowels": 0.5, "upper": 0.0}, "fill": "unigram"}

VARIED: tuple[dict[str, Any], ...] = (
    {"measure_templates": ["qa"]},
    {"forget_set": "constant"},
    {"noise": 0.5},
    *map(mix, (0.0, 0.5, 1.0)),
    {"forget_set": MADE},
)


@pytest.fixture(scope="module")
def study(quick: Trial, tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = Store(tmp_path_factory.mktemp("of-trials"))
    outcomes: list[Outcome] = []
    frames = {}
    short = overlay(quick, {"probe.examples": 0, "watch.points": 1, "save": False})
    for fields in VARIED:
        outcome = run_trial(overlay(short, fields), store=store)
        outcomes.append(outcome)
        frames[outcome.id] = files.frame(Trials(store).rows(outcome.id))
    return Study(outcomes, frames)


def test_each_section_reads_what_trials_write(study: Study, tmp_path: Path) -> None:
    found = {}
    for room in (content, mixture, noise, templates):
        section = room.section(study, tmp_path)
        assert section, room.__name__
        found |= {table.name: table.rows for table in section.tables}
    assert [row["forget set"] for row in found["content"]] == ["own", "constant"]
    assert all(row["loss of the drawn labels"] for row in found["content"])
    assert [row["task"] for row in found["mixture"]] == ["vowels", "upper"]
    made = [row for row in found["mixture_values"] if row["lost with made texts"]]
    assert [(row["task"], row["share"]) for row in made] == [("vowels", 0.5), ("upper", 0.0)]
    (noisy,) = found["noise"]
    assert 0 < noisy["wrong labels"] < noisy["examples"] == 48
    assert noisy["running mean of the losses"]
    pairs = [(row["forgotten under"], row["asked in"]) for row in found["carry_values"]]
    assert pairs == [("task", "task"), ("task", "qa")]
