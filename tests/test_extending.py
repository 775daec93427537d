"""The page on extending: each of its blocks is code that works where the page says it goes."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from conftest import Forget

from forget import audits, methods, tasks
from forget.audits import catalogue as listing
from forget.audits.arms import arms
from forget.audits.audit import Auditing
from forget.methods import catalogue
from forget.methods.catalogue import METHODS
from forget.results import measures, metrics
from forget.results.rows import PHASES
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks import builtin, hub
from forget.tasks.draws import gather
from forget.tasks.files import tasks as tasks_of
from forget.trial import run_trial

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


def block(language: str, word: str) -> str:
    """Return the block of the page that holds a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    (found,) = [one for one in blocks if word in one]
    return str(found)


def names(module: types.ModuleType, code: str = "") -> dict[str, Any]:
    """Return the names of a module after running code in a copy of it."""
    found = dict(vars(module))
    exec(code, found)  # noqa: S102  the code is the page's
    return found


def test_a_folder_is_a_task(tmp_path: Path) -> None:
    folder = tmp_path / "fruit"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(block("json", "lemon"), encoding="utf-8")
    (folder / "task.toml").write_text(block("toml", "family"), encoding="utf-8")
    assert tasks_of([str(tmp_path)])["fruit"].family == "food"
    examples = tasks.load("fruit", "train", folders=[str(tmp_path)])
    answers = {example.prompt: example.options[example.answer] for example in examples}
    assert answers["Question: How does a lemon taste?\nAnswer:"] == " sour"


def test_a_module_is_a_task_that_ships() -> None:
    fruit = types.ModuleType("forget.tasks.builtin.fruit")
    exec(block("python", "TASTES"), vars(fruit))  # noqa: S102
    entry = block("python", "_task(fruit").strip().rstrip(",")
    task = eval(entry, {**vars(builtin), "fruit": fruit})  # noqa: S307
    records = [*task.records("train"), *task.records("test")]
    assert {record.choices[record.answer] for record in records} == {"sour", "sweet"}
    assert task.name == "fruit"


def test_an_entry_is_a_task_of_the_hub() -> None:
    entry = block("python", "Source(").strip().rstrip(",")
    source = eval(entry, vars(hub))  # noqa: S307
    assert source.name == "qasc"


def test_a_file_is_a_method(
    quick: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Forget
) -> None:
    """It is found in the folder by the list, the page and the trials alike."""
    code = block("python", "class Bounded")
    folder = tmp_path / "family"
    folder.mkdir()
    (folder / "surprise.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    for name, kind in catalogue.found().items():
        monkeypatch.setitem(METHODS, name, kind)
    monkeypatch.delitem(sys.modules, "forget.methods.surprise")
    _, listed, _ = forget("methods")
    assert "bounded" in listed
    _, page, _ = forget("methods", "--page")
    assert "| bounded | the truth | nothing | 1 | bound = 3 | this page |" in page
    settings = {
        "method": {"name": "bounded", "bound": 4.0},
        "forget.lr": 3e-3,
        "probe.examples": 0,
        "save": False,
    }
    outcome = run_trial(overlay(quick, settings), store=Store(tmp_path))
    trained = [outcome.measures[f"{phase}/vowels/train/accuracy"] for phase in PHASES]
    assert trained[1].value > 0.9 > 0.6 > trained[2].value  # type: ignore[operator]


def test_a_function_and_an_entry_are_a_metric(
    finished: tuple[Store, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = names(metrics, block("python", "def brier"))
    entry = block("python", 'Measure("brier"')
    setting = {**vars(measures), "metrics": types.SimpleNamespace(**function)}
    measure = eval(entry.strip().rstrip(","), setting)  # noqa: S307
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, measure))
    store, outcome = finished
    found = measures.measures(Trials(store).rows(outcome.id))
    brier = found["learned/vowels/test/brier"].value
    assert brier is not None
    assert 0 < brier < 0.25


def test_a_file_is_an_audit(
    finished: tuple[Store, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropped.py").write_text(block("python", "class Dropped"), encoding="utf-8")
    monkeypatch.setattr(audits, "__path__", [*audits.__path__, str(tmp_path)])
    listing.audits.cache_clear()
    try:
        kind = listing.audits()["dropped"]
    finally:
        listing.audits.cache_clear()
        sys.modules.pop("forget.audits.dropped", None)
    store, outcome = finished
    trial = outcome.trial
    arm = arms(trial, store)["learned"]
    found = Auditing(trial, "learned", arm.load(), gather(trial), kind(), lambda name: arm.load())
    rows = list(kind().run(found))
    assert {row.dose for row in rows} == {"plain", "dropped/blocks=1"}
    assert {row.audit for row in rows} == {"dropped"}
