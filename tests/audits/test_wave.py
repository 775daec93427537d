"""Audits of a finished trial: beside it, computed once a store, and nothing of it is run anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

from forget.analyses import Study
from forget.analyses.recovery import recoveries
from forget.audits.arms import Made, arms
from forget.audits.audit import Audit, Auditing
from forget.audits.catalogue import chosen
from forget.audits.quantise import Quantise
from forget.audits.relearn import Relearn
from forget.audits.rtt import Rtt
from forget.audits.run import audit_trial, file
from forget.errors import BadInput
from forget.results.outcome import Outcome
from forget.results.rows import ARMS, Row, judge, select
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks.draws import gather
from forget.training import stages
from forget.trial import run_trial
from pipelines.sweep.auditing import left, models

BRIEF = Relearn(n=(8,), sources=("forget",), lr=(1e-3,), epochs=1)


class Broken(Audit):
    """An audit that fails in the second arm."""

    asks: ClassVar[str] = "does it break"
    cost: ClassVar[str] = "nothing"
    name: Literal["broken"] = "broken"

    def run(self, at: Auditing) -> Iterator[Row]:
        yield from at.score(at.test)
        if at.arm == "learned":
            raise RuntimeError("it broke")


@pytest.fixture
def done(finished: tuple[Store, Outcome], tmp_path: Path) -> tuple[Store, Outcome]:
    """Copy a store with a finished trial."""
    store, outcome = finished
    shutil.copytree(store.root, tmp_path / "store")
    return Store(tmp_path / "store"), outcome


def test_an_audit_leaves_the_trial_as_it_was(
    done: tuple[Store, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, outcome = done
    trials, trial = Trials(store), outcome.trial
    before = {path: path.read_bytes() for path in trials.folder(outcome.id).glob("*.*")}
    material = gather(trial)
    found = arms(trial, store, ("upper",), ("scrambled", "again"), material=material)
    given = (found, trial, outcome.id, material, store)
    assert audit_trial([BRIEF, Broken(), Quantise(draws=1)], *given)[0].reason == "it broke"
    assert {path: path.read_bytes() for path in before} == before
    rows = trials.audited(outcome.id)
    assert {row.audit for row in rows} == {BRIEF.label, "quantise, draws 1"}
    assert {row.phase for row in rows} == set(ARMS)
    assert {row.trial for row in rows} == {outcome.id}
    # The arm that was never taught learned another task, so it is not the untouched model.
    plain = {arm: select(rows, phase=arm, dose="plain") for arm in ("base", "never")}
    assert [row.logprobs for row in plain["base"]] != [row.logprobs for row in plain["never"]]

    # The forget stage was taken again to the bit: what is asked as the trial asked is what it said.
    asked = {row.example: row.logprobs for row in select(rows, phase="forgotten", dose="plain")}
    told = select(trials.rows(outcome.id), phase="forgotten", task="vowels", split="test")
    for row in told:
        assert asked[row.example] == pytest.approx(row.logprobs, abs=1e-5)

    # An audit more: nothing that is kept is trained anew, and no arm that trials share is run.
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(stages, "forget", refuse)
    monkeypatch.setattr(stages, "learn", refuse)
    assert audit_trial([BRIEF, Quantise(draws=1)], *given) == []


def test_an_audit_of_more_arms_replaces_that_of_fewer(done: tuple[Store, Outcome]) -> None:
    store, outcome = done
    trial, material, plain = outcome.trial, gather(outcome.trial), Quantise(draws=1, formats="nf4")
    for more in ((), ("again",)):
        found = arms(trial, store, (), more, material=material)
        assert audit_trial([plain, BRIEF], found, trial, outcome.id, material, store) == []
    assert len(Trials(store).audits(outcome.id)) == 2
    rows = Trials(store).audited(outcome.id)
    assert "again" in {row.phase for row in rows}
    places = [(row.audit, row.phase, row.dose, row.split, row.example) for row in rows]
    assert len(set(places)) == len(places)


def test_a_forget_stage_that_differs_is_refused(
    done: tuple[Store, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, outcome = done
    made = Made(outcome.trial, gather(outcome.trial), store)
    made.forgotten()
    original = stages.forget

    def other(trainer: object, key: str, examples: tuple[object, ...], *more: object) -> list[Row]:
        return original(trainer, key, examples[::-1], *more)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "forget", other)
    with pytest.raises(BadInput, match="gives other numbers"):
        made.forgotten()


def test_another_setting_is_another_audit(done: tuple[Store, Outcome]) -> None:
    store, outcome = done
    found = arms(outcome.trial, store)
    names = {file(one, found) for one in (Relearn(), BRIEF, Relearn(epochs=4), Quantise())}
    assert len(names) == 4
    assert BRIEF.label == "relearn, n 8, sources forget, lr 0.001, epochs 1"


def test_an_arm_never_taught_learns_another_task(done: tuple[Store, Outcome]) -> None:
    store, outcome = done
    with pytest.raises(BadInput, match="learns another one"):
        arms(outcome.trial, store, ("vowels",))


def test_of_a_trial_that_learned_nothing_pretraining_may_come_back(
    tmp_path: Path, quick: Trial
) -> None:
    store = Store(tmp_path)
    trial = overlay(quick, {"arm": "untaught", "evaluate_on": []})
    outcome = run_trial(trial, store=store)
    material = gather(outcome.trial)
    found = arms(outcome.trial, store, ("upper",), ("again",), material=material)
    assert found["learned"] is found["never"] is found["base"]
    given = (found, outcome.trial, outcome.id, material, store)
    assert audit_trial([BRIEF, Rtt(lr=(1e-3,), epochs=1)], *given) == []
    rows = Trials(store).audited(outcome.id)
    # The facts asked are those that the untouched model knew.
    asked = select(rows, audit="rtt, lr 0.001, epochs 1", phase="learned", dose="plain")
    assert asked
    assert all(judge(asked).correct)
    (cell,) = Study([outcome], {outcome.id: Trials(store).whole_frame(outcome.id)}).cells
    for one in recoveries(cell):
        assert np.isnan(one.draws[0])
        assert one.undone is not None


@pytest.mark.parametrize(
    ("audits", "words"),
    [
        (["relern"], 'did you mean "relearn"?'),
        ([{"name": "relearn", "m": 3}], 'unknown key "audits.relearn.m"'),
        (["relearn", {"name": "relearn"}], "names one audit twice"),
        ([3], "an audit is a name, or a table"),
    ],
)
def test_a_mistake_is_one_sentence(audits: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        chosen(Sweep(name="s", base={"task": "world", "model": "tiny"}, audits=audits).audits)
    assert words in str(caught.value)


def test_a_model_that_trials_share_is_looked_at_once(finished: tuple[Store, Outcome]) -> None:
    store, outcome = finished
    flipped = overlay(outcome.trial, {"arm": "flipped"})
    others = outcome.model_copy(update={"trial": flipped, "id": "another"})
    sweep = Sweep(name="shared", base=outcome.trial.model_dump(mode="json"))
    jobs = left(sweep, [Quantise()], [outcome, others], store)
    names = [one.names for one in models(jobs)]
    # Forgotten models take longest: they are made anew.
    assert names[:2] == [("forgotten",), ("forgotten",)]
    assert sorted(names[2:]) == [("base", "never"), ("learned",)]
