"""Headline numbers of a trial, and the page that lists their names."""

import re
from pathlib import Path

import pytest

from forget.analyses import headline
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome
from forget.storage.finished import Trials
from forget.storage.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "method.md"

SYSTEM = 8
"""Numbers of the machine that MLflow logs of a run."""


def test_headline_numbers_are_those_of_the_trial(finished: tuple[Store, Outcome]) -> None:
    _, outcome = finished
    found = headline.headline(outcome)
    for name, phase, split, measure in (
        ("learned", "learned", "test", "accuracy"),
        ("forgotten_near", "forgotten", "near", "accuracy"),
        ("forget_ratio_trained", "forgotten", "train", "forget_ratio"),
        ("agreement", "forgotten", "train", "agreement"),
    ):
        assert found[name] == outcome.measures[metric_name(phase, "vowels", split, measure)].value
    elsewhere = outcome.measures[metric_name("forgotten", "upper", "test", "forget_ratio")].value
    assert found["forget_ratio_elsewhere"] == elsewhere
    middle = [
        probe.accuracy.value
        for probe in outcome.probes
        if probe.middle
        and not probe.control
        and probe.phase == "learned"
        and probe.task == "vowels"
    ]
    assert found["probe_learned"] == pytest.approx(sum(middle) / len(middle))
    assert not [name for name in found if "/" in name]


def test_a_run_has_at_most_sixty_metrics_and_the_page_names_them(
    finished: tuple[Store, Outcome],
) -> None:
    store, outcome = finished
    rows = Trials(store).rows(outcome.id)
    found = set(headline.headline(outcome))
    curves = {name for name, _, _ in headline.curves(outcome, rows)}
    assert {"forget/accuracy", "forget/accuracy_trained", "probe/forgotten"} <= curves
    # With six curves of training.
    assert len(found | curves) + 6 + SYSTEM <= 60
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("### Names in MLflow")[2].partition("\n### ")[0]
    named = set(re.findall(r"`([\w/]+)`", section))
    assert found <= named, found - named
    states = headline.end_states(outcome, rows)
    assert {f"end_state{headline.SUFFIXES[split]}" for split in states} <= named
