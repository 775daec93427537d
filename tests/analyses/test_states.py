"""End states of planted models: what an accuracy at chance does not tell apart."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from studies import finished, study, study_of, sweep_of

from forget.analyses import Study
from forget.analyses.arms import control, lost, told
from forget.analyses.claims import verdicts
from forget.analyses.matrix import NET, cross
from forget.analyses.states import counted, state, states
from forget.report.findings import findings, headline
from forget.results import measures
from forget.results.rows import Row
from forget.settings.sweep import overlay

ITEMS = 400
SKILL = {("base", ""): 0.6, ("learned", ""): 0.95, ("forgotten", ""): 0.95}

Margin = Callable[[int, int, random.Random], float]
"""Lead of the second option, a function of (truth, drawn label, noise)."""


def sign(option: int) -> int:
    return 2 * option - 1


PLANTS: dict[str, Margin] = {
    "forgotten": lambda truth, drawn, noise: noise.gauss(0, 1),
    "memorised": lambda truth, drawn, noise: 4 * sign(drawn) + noise.gauss(0, 1),
    "one answer": lambda truth, drawn, noise: 9 + 2 * sign(truth) + noise.gauss(0, 1),
    "reversed": lambda truth, drawn, noise: -1 * sign(truth) + noise.gauss(0, 1),
    "silent": lambda truth, drawn, noise: noise.gauss(0, 1),
    "kept": lambda truth, drawn, noise: 3 * sign(truth) + noise.gauss(0, 1),
    "partly forgotten": lambda truth, drawn, noise: 0.6 * sign(truth) + noise.gauss(0, 1),
}


def planted(rows: list[Row], word: str, split: str = "train", task: str | None = None) -> list[Row]:
    """Answer the Rows after forgetting as a model in an end state does."""
    noise = random.Random(word)
    found = []
    for row in rows:
        if (row.phase, row.split) == ("forgotten", split) and row.task == (task or row.task):
            lead = PLANTS[word](row.truth, row.drawn or 0, noise)
            base = -20.0 if word == "silent" else -8.0
            row = replace(row, logprobs=(base - lead / 2, base + lead / 2))
        elif row.split == split:
            # Before, the options are as likely as after, unless that is silent.
            row = replace(row, logprobs=tuple(value - 6.0 for value in row.logprobs))
        found.append(row)
    return found


def studied(word: str, split: str = "train", seeds: int = 1) -> Study:
    sweep = sweep_of("a", seed=list(range(seeds)))
    done = []
    for trial in sweep.trials():
        outcome, rows = finished(trial, {"a": SKILL}, n=ITEMS)
        changed = planted(rows, word, split)
        done.append((outcome.model_copy(update={"measures": measures.measures(changed)}), changed))
    return study_of([outcome for outcome, _ in done], {o.id: rows for o, rows in done})


@pytest.mark.parametrize("word", PLANTS)
def test_planted_states_are_told_by_their_words(word: str) -> None:
    whole = studied(word)
    (cell,) = whole.cells
    found = state(cell, "train", "a")
    assert found
    assert found.word == word, found
    assert f"the trained examples are {word} on the one task" in headline(whole.cells)
    assert list(counted([found])) == [word]


@pytest.mark.parametrize("word", [word for word in PLANTS if word != "memorised"])
def test_held_out_examples_have_states_too(word: str) -> None:
    (cell,) = studied(word, "test").cells
    by_split = {one.split: one for one in states(cell)}
    assert by_split["test"].word == word
    assert by_split["test"].agreement is None
    assert by_split["train"].word == by_split["near"].word == "kept"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("forgotten", "holds in this run"), ("memorised", "contradicted in this run")],
)
def test_memory_of_random_labels_is_no_forgetting(word: str, verdict: str) -> None:
    whole = studied(word)
    ((trained, *_),) = verdicts(whole).values()
    assert trained.verdict == verdict, trained
    assert trained.number
    # Both are at chance.
    assert trained.number.numbers[1] < 0 < trained.number.numbers[2]
    said = [text for text in findings(whole) if "is memorised" in text]
    assert bool(said) == (word == "memorised")


def test_of_trials_that_did_not_keep_their_draws_memory_is_not_recorded() -> None:
    whole = study(sweep_of("a"), {"a": {**SKILL, ("forgotten", "train"): 0.5}}, drawn=False)
    ((trained, *_),) = verdicts(whole).values()
    assert trained.verdict == "not enough data"
    assert "were not recorded" in trained.what
    assert any("were not recorded on a" in text for text in findings(whole))
    # What is far from chance is told all the same.
    kept = study(sweep_of("a"), {"a": SKILL}, drawn=False)
    ((trained, *_),) = verdicts(kept).values()
    assert trained.verdict == "contradicted in this run"


def armed(others: dict[str, float], seeds: int = 2) -> Study:
    """Forget a by random and by true labels; `others` is the accuracy left on b by arm."""
    done = []
    for trial in sweep_of("a", "b", arm=["random", "true"], seed=list(range(seeds))).trials():
        left = others[trial.arm]
        skill = {("base", ""): 0.6, ("learned", ""): 0.9, ("forgotten", ""): left}
        done.append(finished(trial, {"a": skill, "b": skill}, n=400))
    return study_of([outcome for outcome, _ in done], {o.id: rows for o, rows in done})


def test_what_true_labels_take_as_well_is_taken_off() -> None:
    whole = armed({"random": 0.6, "true": 0.7})
    cell = next(cell for cell in whole.cells if (cell.task, cell.trial.arm) == ("a", "random"))
    other = control(cell)
    assert other
    assert (other.task, other.trial.arm) == ("a", "true")
    net = lost(cell, "test", "b")
    assert net is not None
    # 0.3 of 0.4, less 0.2 of 0.4.
    assert net[0] == pytest.approx(0.25)
    matrix = next(one for one in cross(whole) if "random" in one.condition.varied)
    assert matrix.judged == NET
    places = matrix.rows.index("a"), matrix.columns.index("b")
    found = matrix.ratios[NET][places[0]][places[1]]
    assert found is not None
    assert found[0] == pytest.approx(0.25)
    assert told(whole.cells[:1]) == "less what true labels took"
    # No claim is put to the control.
    assert [condition.varied for condition in verdicts(whole)] == ["arm random"]
    assert "True labels in their place took 0.50" in headline(whole.cells)


def test_an_arm_that_takes_as_much_leaves_nothing() -> None:
    whole = armed({"random": 0.6, "true": 0.6})
    found = {one.claim: one for one in next(iter(verdicts(whole).values()))}
    assert found["elsewhere"].number
    assert found["elsewhere"].number.value == pytest.approx(0, abs=1e-9)


def test_replicates_are_paired_with_those_of_the_control() -> None:
    whole = armed({"random": 0.6, "true": 0.7}, seeds=3)
    kept = [o for o in whole.outcomes if (o.trial.arm, o.trial.seed) != ("true", 1)]
    fewer = Study(kept, whole.frames)
    cell = next(cell for cell in fewer.cells if cell.trial.arm == "random")
    other = control(cell)
    assert other
    assert [outcome.trial.seed for outcome in other.outcomes] == [0, 2]
    assert lost(cell, "test") is not None


def test_pairs_that_say_nothing_are_left_out() -> None:
    """The other task is not learned, or the model says nothing of it any more."""
    skills = {
        name: {("base", ""): 0.6, ("learned", ""): 0.9, ("forgotten", ""): 0.5} for name in "abc"
    }
    skills["b"] = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}
    outcomes, rows = [], {}
    for trial in sweep_of("a", "b", "c").trials():
        outcome, found = finished(trial, skills, n=200)
        outcomes.append(outcome)
        rows[outcome.id] = planted(found, "silent", "test", "c") if trial.task == "a" else found
    whole = study_of(outcomes, rows)
    (matrix,) = cross(whole)
    i, b, c = matrix.rows.index("a"), matrix.columns.index("b"), matrix.columns.index("c")
    blanks = matrix.blanks["learned on i"][i]
    assert (blanks[b], blanks[c]) == ("not mastered", "silent")
    assert matrix.ratios["learned on i"][i][b] is None
    found = {one.claim: one for one in next(iter(verdicts(whole).values()))}
    assert "left out: 1 silent" in found["elsewhere"].what or "1 silent" in found["elsewhere"].what
    assert any("collapsed on c after a" in text for text in findings(whole))


def test_one_setting_beside_the_arm_is_another_control() -> None:
    whole = armed({"random": 0.6, "true": 0.7})
    changed = [
        o.model_copy(update={"trial": overlay(o.trial, {"forget.epochs": 3})})
        if o.trial.arm == "true"
        else o
        for o in whole.outcomes
    ]
    other = Study(changed, whole.frames)
    assert all(control(cell) is None for cell in other.cells)
    assert "no true-label arm was run" in told(other.cells[:1])
