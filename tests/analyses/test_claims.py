"""Effects are planted in Rows, and the findings read them.

They hold, are contradicted, or cannot be told.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import finish, finished, study, study_of, sweep_of

from forget import report
from forget.analyses import Study
from forget.analyses.claims import verdicts
from forget.analyses.judging import Verdict
from forget.report.findings import findings
from forget.results.rows import Row
from forget.settings.claims import CLAIMS

TASKS = tuple("abcdefgh")

AFTER = dict(zip(TASKS, (0.51, 0.53, 0.55, 0.57, 0.83, 0.85, 0.87, 0.89), strict=True))
"""Held-out accuracy after forgetting: four tasks lose nearly all of their skill of 0.4, four next
to nothing.
"""


def skills(
    after: Mapping[str, float] = AFTER, near: float = 0.88, trained: float = 0.5
) -> dict[str, dict[tuple[str, str], float]]:
    return {
        task: {
            ("base", ""): 0.6, ("learned", ""): 0.9, ("forgotten", ""): p,
            ("forgotten", "similar"): near, ("forgotten", "train"): trained,
        }
        for task, p in after.items()
    }  # fmt: skip


def told(whole: Study) -> dict[str, Verdict]:
    (found,) = verdicts(whole).values()
    assert [one.claim for one in found] == list(CLAIMS)
    return {one.claim: one for one in found}


def planted(after: Mapping[str, float] = AFTER, sign: int = 1, **kwargs: Any) -> Study:
    """Plant a skill kept that rises with confidence and variability; with sign -1, it falls."""
    ranks = {
        task: rank for rank, task in enumerate(sorted(after, key=lambda task: sign * after[task]))
    }
    shares = {task: 0.6 + 0.03 * rank for task, rank in ranks.items()}
    spreads = {task: 20.0 + 5 * rank for task, rank in ranks.items()}
    given = {"layers": 3, "similar": True, "shares": shares, "spreads": spreads, **kwargs}
    return study(sweep_of(*after), given.pop("skills", skills(after)), **given)


@pytest.fixture(scope="module")
def usual() -> dict[str, Verdict]:
    return told(planted())


HOLD = (
    "trained",
    "some",
    "near",
    "elsewhere",
    "insensitive",
    "confidence",
    "variability",
    "probes",
)


@pytest.mark.parametrize("claim", HOLD)
def test_planted_effects_hold(usual: dict[str, Verdict], claim: str) -> None:
    assert usual[claim].verdict == "holds in this run", usual[claim]


def test_the_numbers_are_those_planted(usual: dict[str, Verdict]) -> None:
    numbers = {
        claim: one.number.numbers
        for claim, one in usual.items()
        if one.number and one.number.value is not None
    }
    # Trained examples are at chance; 0.02 of the skill of 0.4 is gone on similar ones.
    assert numbers["trained"][0] == pytest.approx(0)
    assert "of 8 tasks 8 forgotten" in usual["trained"].what
    assert numbers["near"][0] == pytest.approx(0.05)
    # Mean of 0.39, 0.37, 0.35, 0.33, 0.07, 0.05, 0.03, 0.01, of 0.4, less one half.
    assert numbers["some"][0] == pytest.approx(0)
    assert usual["some"].what.startswith(
        "of 8 tasks, 4 reached (a, b, c, d), 4 spared (e, f, g, h), 0 undecided"
    )
    assert numbers["confidence"][0] == pytest.approx(-1)
    assert numbers["variability"][0] == pytest.approx(-1)
    # The answers surely lost some on a to e, 0.39, 0.37, 0.35, 0.33 and 0.07 of 0.4; the probes
    # lost a tenth of what they read.
    assert numbers["probes"][0] == pytest.approx(1.51 / 0.4 / 5 - 0.1)
    # The column decides the ratio of a pair, and the row does not.
    assert numbers["insensitive"][0] > 0.9
    for _, low, high in numbers.values():
        assert low <= high


def test_equal_difficulty_predicts_nothing(usual: dict[str, Verdict]) -> None:
    # Every task is learned to 0.9: a constant has no correlation.
    assert usual["difficulty"].verdict == "not enough data"
    assert usual["difficulty"].number is None


def test_forgetting_that_spares_the_trained_examples_contradicts() -> None:
    found = told(planted(skills=skills(trained=0.88)))
    assert found["trained"].verdict == "contradicted in this run"


def test_forgetting_that_generalises_everywhere_contradicts() -> None:
    found = told(
        planted(dict.fromkeys(TASKS, 0.5), skills=skills(dict.fromkeys(TASKS, 0.5), near=0.5))
    )
    assert {
        claim: found[claim].verdict for claim in ("some", "near", "elsewhere")
    } == dict.fromkeys(("some", "near", "elsewhere"), "contradicted in this run")


def test_predictors_of_the_other_sign_contradict() -> None:
    found = told(planted(sign=-1))
    assert found["confidence"].verdict == found["variability"].verdict == "contradicted in this run"


def test_difficulty_that_decides_contradicts() -> None:
    # The better a task is learned, the more of it is lost.
    learned = dict(zip(TASKS, (0.99, 0.96, 0.93, 0.90, 0.87, 0.84, 0.81, 0.78), strict=True))
    planted_skills = {
        task: {
            ("base", ""): 0.5,
            ("learned", ""): p,
            ("forgotten", ""): p - (p - 0.5) * (p - 0.7) * 3,
        }
        for task, p in learned.items()
    }
    found = told(study(sweep_of(*TASKS), planted_skills, n=500))
    assert found["difficulty"].verdict == "contradicted in this run", found["difficulty"]


def test_the_task_trained_on_can_decide() -> None:
    # Forgetting a, b, c takes all of every other task, forgetting d, e, f nothing.
    names = "abcdef"
    keeps, loses = (
        {("base", ""): 0.6, ("learned", ""): 0.9, ("forgotten", ""): p} for p in (0.88, 0.52)
    )
    done = [
        finished(trial, dict.fromkeys(names, loses if trial.task in "abc" else keeps))
        for trial in sweep_of(*names).trials()
    ]
    found = told(
        study_of([outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done})
    )
    assert found["insensitive"].verdict == "contradicted in this run"
    assert found["elsewhere"].verdict == "holds in this run"


def test_probes_that_forget_contradict() -> None:
    # The answers lose a quarter, the probes nine tenths.
    lose = dict.fromkeys(TASKS, 0.8)
    found = told(planted(lose, probed={"base": 0.5, "learned": 1.0, "forgotten": 0.1}))
    assert found["probes"].verdict == "contradicted in this run"


def looks(trial_id: str, task: str, n: int, sign: int) -> list[Row]:
    """Learn example i at look i of `n`, and forget it as much later as it was learned.

    With sign -1 it is forgotten as much earlier.
    """

    def row(phase: str, step: int | None, i: int, confidence: float) -> Row:
        logprobs = (math.log(confidence), math.log(1 - confidence))[:: -1 if i % 2 else 1]
        return Row(trial_id, phase, task, "test", f"test-{i}", i % 2, logprobs, (1, 1), step=step)

    found = []
    for i in range(n):
        late = i if sign > 0 else n - 1 - i
        found += [row("learn", step, i, 0.9 if step > i else 0.3) for step in range(1, n)]
        found += [row("forget", step, i, 0.3 if step > late else 0.9) for step in range(1, n)]
        found += [
            row(phase, None, i, p)
            for phase, p in (("base", 0.3), ("learned", 0.9), ("forgotten", 0.3))
        ]
    return found


@pytest.mark.parametrize(
    ("sign", "verdict"), [(-1, "holds in this run"), (1, "contradicted in this run")]
)
def test_the_order_of_forgetting_is_read(sign: int, verdict: str) -> None:
    outcomes, rows = finish(sweep_of("a", "b"), {"a": skills()["a"], "b": skills()["b"]}, n=40)
    for outcome in outcomes:
        kept = [
            row for row in rows[outcome.id] if (row.task, row.split) != (outcome.trial.task, "test")
        ]
        rows[outcome.id] = kept + looks(outcome.id, outcome.trial.task, 20, sign)
    found = told(study_of(outcomes, rows))["order"]
    assert found.verdict == verdict, found
    assert found.number is not None
    # Learned earlier, forgotten earlier (1), or later (-1).
    assert found.number.value == pytest.approx(sign, abs=0.02)


def test_few_examples_are_not_enough_data() -> None:
    half = dict.fromkeys(TASKS[:4], 0.7)
    found = told(study(sweep_of(*half), skills(half, near=0.7, trained=0.7), n=10, near=False))
    assert {one.verdict for one in found.values()} == {"not enough data"}, found


def test_one_unlearned_task_says_nothing() -> None:
    flat = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}
    found = told(study(sweep_of("a"), {"a": flat}))
    assert {one.verdict for one in found.values()} == {"not enough data"}
    assert all(one.number is None for one in found.values())


@pytest.mark.usefixtures("undrawn")
def test_the_findings_page_says_so(tmp_path: Path) -> None:
    whole = planted(n=100)
    sweep = sweep_of(*TASKS)
    written = report.write(
        sweep, dict.fromkeys(sweep.trials(), 0), whole.outcomes, whole.frames, tmp_path
    )
    assert {written.verdicts[claim] for claim in HOLD} == {"holds in this run"}
    page = html.unescape(written.page.read_text(encoding="utf-8"))
    first = page[page.index('id="findings"') : page.index('id="run"')]
    for text in CLAIMS.values():
        assert text in first
    assert first.count("not enough data") >= 2
    assert "4 reached (a, b, c, d), 4 spared (e, f, g, h)" in first
    lines = (tmp_path / "findings.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(CLAIMS)


def test_flipped_labels_leave_nothing_near_random() -> None:
    # From 0.9 to 0.1: 0.4 below chance.
    flipped = {
        task: {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.1} for task in "ab"
    }
    found = told(study(sweep_of("a", "b", arm=["flipped"]), flipped, measured=True, n=100))
    assert found["trained"].verdict == "contradicted in this run"
    assert found["trained"].number is not None
    assert found["trained"].number.value == pytest.approx(-0.4)
    assert "of 2 tasks 2 reversed" in found["trained"].what


def test_a_prior_is_no_skill_to_lose() -> None:
    """The frequent answer is given always and then never: 0.7 and 0.3 of what is no skill."""
    names = ("a", "b", "c")
    outcomes, rows = finish(
        sweep_of(*names), {"a": skills()["a"], "b": skills()["h"], "c": skills()["a"]}, n=200
    )
    for outcome in outcomes:
        if outcome.trial.task == "c":
            own = [row for row in rows[outcome.id] if (row.task, row.split) == ("c", "test")]
            said = {"base": 0, "learned": 0, "forgotten": 1}
            one_sided = [
                replace(
                    row,
                    truth=int(i % 10 >= 7),
                    logprobs=(-0.1, -3.0) if said[row.phase] == 0 else (-3.0, -0.1),
                )
                for i, row in enumerate(sorted(own, key=lambda row: (row.phase, row.example)))
            ]
            rows[outcome.id] = [row for row in rows[outcome.id] if row not in own] + one_sided
    whole = study_of(outcomes, rows)
    cells = {cell.task: cell for cell in whole.cells}
    prior = cells["c"].get("learned", "test", "accuracy")
    assert prior is not None
    assert prior.value == pytest.approx(0.7)
    assert [cells[name].mastered for name in names] == [True, True, False]
    assert "of 2 tasks, 1 reached (a), 1 spared (b), 0 undecided" in told(whole)["some"].what
    assert any("most frequent answer on c:" in sentence for sentence in findings(whole))


@pytest.mark.parametrize(
    ("axis", "own", "other"),
    [
        ("method", "random_labels", "gradient_ascent"),
        ("forget_set", "own", "bigram"),
        ("noise", 1.0, 0.5),
    ],
)
def test_claims_are_put_to_labels_drawn_for_the_own_examples_alone(
    tmp_path: Path, axis: str, own: Any, other: Any
) -> None:
    """Other methods and sets in a study change no verdict; alone they have none."""
    tasks = tuple("ab")
    given = skills({task: AFTER[task] for task in tasks})
    both = study(sweep_of(*tasks, **{axis: [own, other]}), given)
    (condition,) = verdicts(both)
    assert condition.varied == f"{axis} {own}"
    assert verdicts(both)[condition] == verdicts(study(sweep_of(*tasks), given)).popitem()[1]
    sweep = sweep_of(*tasks, **{axis: [other]})
    outcomes, rows = finish(sweep, given)
    frames = study_of(outcomes, rows).frames
    assert verdicts(study_of(outcomes, rows)) == {}
    written = report.write(sweep, dict.fromkeys(sweep.trials(), 0), outcomes, frames, tmp_path)
    assert "claims is put to this study" in written.page.read_text(encoding="utf-8")
