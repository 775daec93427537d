"""Two studies side by side, whose numbers are known: matches, settings compared, differences."""

import csv
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from conftest import Forget
from mlflow.tracking import MlflowClient
from scipy.stats import norm

from forget import tracking
from forget.analyses import Study
from forget.analyses.compare import MEAN, OTHERS, Comparison, Line, compare
from forget.analyses.resampling import item_weights
from forget.errors import BadInput
from forget.preflight import expand
from forget.report.compare import folder_name, write
from forget.results.estimates import Estimate
from forget.results.outcome import Outcome
from forget.results.rows import Row, judge
from forget.settings.sweep import Sweep
from forget.storage.finished import Trials
from forget.storage.store import Store

KEEPS, LOSES, STAYS = studies.KEEPS, studies.LOSES, studies.STAYS


def one(lines: Iterable[Line], **fields: object) -> Line:
    def fits(line: Line) -> bool:
        return all(getattr(line, name) == value for name, value in fields.items())

    (found,) = filter(fits, lines)
    return found


def numbers(estimate: Estimate | None) -> tuple[float, float, float]:
    assert estimate
    return estimate.numbers


def lost(task: str, split: str = "test", measure: str = "accuracy") -> dict[str, object]:
    return {
        "task": task,
        "measured": task,
        "phase": "forgotten",
        "split": split,
        "measure": measure,
    }


@pytest.fixture(scope="module")
def small() -> Study:
    sweep = studies.sweep_of("world", "science", model=["small"], seed=[0, 1])
    return studies.study(sweep, {"world": KEEPS, "science": STAYS}, layers=3)


@pytest.fixture(scope="module")
def large() -> Study:
    sweep = studies.sweep_of("world", "science", model=["large"], seed=[0, 1])
    return studies.study(
        sweep,
        {"world": LOSES, "science": STAYS},
        layers=3,
        probed={"base": 0.5, "learned": 1, "forgotten": 0.4},
    )


@pytest.fixture(scope="module")
def found(small: Study, large: Study) -> Comparison:
    return compare(small, large)


def test_a_planted_difference_is_found_with_an_interval_that_holds_it(found: Comparison) -> None:
    line = one(found.lines, **lost("world"))
    assert str(line.a).startswith("0.850")
    assert str(line.b).startswith("0.520")
    value, low, high = numbers(line.difference)
    assert value == pytest.approx(-0.33)
    assert -0.45 < low < -0.33 < high < -0.2
    assert line.p is not None
    assert line.p < 0.01
    # h = 2 asin sqrt(0.52) - 2 asin sqrt(0.85)
    assert line.effect == pytest.approx(2 * np.arcsin(np.sqrt(0.52)) - 2 * np.arcsin(np.sqrt(0.85)))

    # (0.9 - 0.52) / 0.4 - (0.9 - 0.85) / 0.4
    ratio = one(found.lines, **lost("world", measure="forget_ratio"))
    assert numbers(ratio.difference)[0] == pytest.approx(0.95 - 0.125)
    assert ratio.effect is None
    gap = one(found.lines, **lost("world", measure="forget_gap"))
    assert numbers(gap.a)[0] == pytest.approx(0.35)
    assert numbers(gap.difference) == pytest.approx((value, low, high))
    # 0.35 sin(pi / 2) of 0.4 and of 0.9, at the middle of three layers
    skill = one(found.lines, task="world", phase="forgotten", measure="probe_skill")
    assert numbers(skill.a)[0] == pytest.approx(0.315)
    assert numbers(skill.difference)[0] == pytest.approx(-0.175)


def test_the_p_of_a_difference_is_that_of_its_resamples_spread() -> None:
    """A is wrong of one item and B of two others: resamples differ by how often they drew each."""
    (outcome,), rows = studies.finish(studies.sweep_of("world"), {"world": STAYS}, n=190)
    tested = [row for row in rows[outcome.id] if row.split == "test"]

    def wrong(*items: int) -> Study:
        answers = [
            studies.answer(row.trial, row.phase, "world", "test", i % 190, i % 190 not in items)
            for i, row in enumerate(tested)
        ]
        return studies.study_of([outcome], {outcome.id: answers})

    line = one(compare(wrong(3), wrong(40, 150)).lines, **lost("world"))
    examples = tuple(sorted(f"test-{i}" for i in range(190)))
    drawn = np.rint(190 * item_weights(190, ["world", "test", examples]))[1:]
    of = {example: drawn[:, place] for place, example in enumerate(examples)}
    more = of["test-3"] - of["test-40"] - of["test-150"]
    assert line.p == pytest.approx(2 * norm.sf(1 / more.std()))


def test_where_nothing_differs_the_interval_holds_0(found: Comparison) -> None:
    for split in ("train", "near", "test"):
        line = one(found.lines, **lost("science", split))
        value, low, high = numbers(line.difference)
        assert value == 0
        assert low < 0 < high
        assert line.p is not None
        assert line.p > 0.5


def test_items_that_both_were_scored_on_are_paired(small: Study) -> None:
    """B is wrong where A is and on a tenth of the items besides, which alone makes the interval."""
    sweep = studies.sweep_of("world")
    (outcome,), rows = studies.finish(sweep, {"world": STAYS})
    hurt = [worse(row, nth) for nth, row in enumerate(rows[outcome.id])]
    apart = [replace(row, example=f"other {row.example}") for row in hurt]
    a, b, c = (
        studies.study_of([outcome], {outcome.id: found})
        for found in (rows[outcome.id], hurt, apart)
    )

    paired = one(compare(a, b).lines, **lost("world"))
    alone = one(compare(a, c).lines, **lost("world"))
    assert (paired.paired, alone.paired) == (True, False)
    assert paired.difference
    assert alone.difference
    assert (paired.difference.n, alone.difference.n) == (200, 400)
    assert numbers(paired.difference)[0] == pytest.approx(numbers(alone.difference)[0])
    widths = [
        high - low for _, low, high in (numbers(paired.difference), numbers(alone.difference))
    ]
    share = -numbers(paired.difference)[0]
    p, q = (numbers(estimate)[0] for estimate in (paired.a, paired.b))
    assert widths[0] == pytest.approx(2 * 1.96 * (share * (1 - share) / 200) ** 0.5, rel=0.15)
    assert widths[1] == pytest.approx(
        2 * 1.96 * ((p * (1 - p) + q * (1 - q)) / 200) ** 0.5, rel=0.15
    )


def worse(row: Row, nth: int) -> Row:
    """Every tenth answer after forgetting turned wrong."""
    if row.phase != "forgotten" or nth % 10 or not judge([row]).correct[0]:
        return row
    return studies.answer(
        row.trial, row.phase, row.task, row.split, int(row.example.rpartition("-")[2]), right=False
    )


def test_a_study_does_not_differ_from_itself(small: Study) -> None:
    found = compare(small, Study(small.outcomes[::-1], small.frames))
    assert (found.settings, found.unmatched) == ({}, [])
    assert len(found.lines) > 40
    for line in (*found.lines, *found.means):
        if line.difference and line.difference.value is not None:
            assert numbers(line.difference) == (0, 0, 0)
            assert (line.p, line.adjusted, line.paired) == (1, 1, True)
    assert one(found.means, phase="forgotten", measure="probe_skill").difference


def test_what_is_the_same_in_two_studies_differs_by_exactly_0() -> None:
    """A of one rate, and B of five, one of them the same.

    An accuracy of 1 is a sum of 190 shares, which rounds to more.
    """
    skills = {"world": KEEPS, "science": {**STAYS, ("learned", ""): 1.0}}
    a, b = (
        studies.study(
            studies.sweep_of("world", "science", forget__lr=rates), skills, n=190, layers=2
        )
        for rates in ([1e-4], [1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
    )
    found = compare(a, b)
    assert len(found.unmatched) == 8
    assert one(found.lines, task="world", phase="learned", measure="probe_skill").paired
    for line in (*found.lines, *found.means):
        assert line.difference
        if line.difference.value is not None:
            assert (*numbers(line.difference), line.p) == (0, 0, 0, 1)
        if line.measure == "accuracy" and line.task != MEAN:
            assert line.effect == pytest.approx(0, abs=1e-6)


def test_what_differs_as_a_whole_is_what_is_compared() -> None:
    def study(**axes: list[object]) -> Study:
        return studies.study(studies.sweep_of("world", **axes), {"world": KEEPS}, n=20)

    base = study(model=["small"], forget__lr=[1e-4], seed=[0])
    found = compare(base, study(model=["large"], forget__lr=[3e-4], seed=[1, 2]))
    assert found.settings == {
        "model": ("small", "large"),
        "forget.lr": ("1e-4", "3e-4"),
        "seed": ("0", "1, 2"),
    }
    line = one(found.lines, **lost("world"))
    assert (line.at, line.seeds) == ("", (1, 2))

    # Matched where they meet, listed where they do not.
    found = compare(
        study(model=["small"], forget__lr=[1e-4, 3e-4], arm=["random", "flipped"]),
        study(model=["large"], forget__lr=[3e-4, 1e-3], arm=["random"]),
    )
    assert found.settings == {"model": ("small", "large")}
    assert {line.at for line in found.lines} == {"arm random, forget.lr 3e-4"}
    assert [(one.study, one.task, one.at) for one in found.unmatched] == [
        ("A", "world", "arm random, forget.lr 1e-4"),
        ("A", "world", "arm flipped, forget.lr 1e-4"),
        ("A", "world", "arm flipped, forget.lr 3e-4"),
        ("B", "world", "arm random, forget.lr 1e-3"),
    ]

    # One against several: each pair is a comparison of its own.
    found = compare(base, study(model=["small"], tuning=["lora"], lora__rank=[4, 8]))
    assert found.settings["tuning"] == ("full", "lora")
    assert found.settings["lora.rank"] == ("none", "4, 8")
    assert {line.at for line in found.lines} == {
        "lora.rank none against 4",
        "lora.rank none against 8",
    }


def test_tasks_in_one_study_alone_are_listed_and_no_task_in_common_is_refused(small: Study) -> None:
    def study(*tasks: str) -> Study:
        return studies.study(
            studies.sweep_of(*tasks, model=["small"], seed=[0, 1]),
            dict.fromkeys(tasks, KEEPS),
            n=20,
        )

    found = compare(small, study("world", "physical"))
    assert [(one.study, one.task, one.at) for one in found.unmatched] == [
        ("A", "science", ""),
        ("B", "physical", ""),
    ]
    # science is measured after forgetting world in A alone.
    line = one(found.lines, task="world", measured="science")
    assert line.a
    assert (line.b, line.difference, line.p) == (None, None, None)
    with pytest.raises(
        BadInput, match=r"no cell in common: A has world \(small\) at rate 1e-4, science"
    ):
        compare(small, study("physical"))


def test_a_ratio_that_is_undefined_in_one_study_is_missing(small: Study) -> None:
    sweep = studies.sweep_of("world", "science", model=["large"], seed=[0, 1])
    found = compare(small, studies.study(sweep, {"world": studies.UNLEARNED, "science": STAYS}))
    line = one(found.lines, **lost("world", measure="forget_ratio"))
    assert line.a
    assert line.a.value is not None
    assert str(line.b) == str(line.difference) == "missing"
    assert (line.p, line.adjusted) == (None, None)
    # One task is left, and a mean over it would be itself. B was not probed.
    assert not [
        mean for mean in found.means if mean.measure == "forget_ratio" and not mean.elsewhere
    ]
    assert one(found.lines, task="world", phase="learned", measure="probe_skill").b is None


def test_random_and_flipped_labels_are_compared_by_the_plain_ratio() -> None:
    a, b = (
        studies.study(studies.sweep_of("world", arm=[labels]), {"world": LOSES})
        for labels in ("random", "flipped")
    )
    found = compare(a, b)
    assert found.settings == {"arm": ("random", "flipped")}
    assert numbers(one(found.lines, **lost("world", measure="forget_ratio")).difference)[
        0
    ] == pytest.approx(0)
    assert not [line for line in found.lines if line.measure == "flipped_forget_ratio"]


def test_the_mean_over_tasks_and_holm(found: Comparison) -> None:
    mean = one(found.means, **lost(MEAN))
    assert numbers(mean.difference)[0] == pytest.approx(-0.33 / 2)
    assert numbers(mean.a)[0] == pytest.approx((0.85 + 0.88) / 2)
    assert numbers(mean.difference)[2] < 0
    assert (mean.seeds, mean.adjusted) == ((4, 4), mean.p)
    planted, null = (one(found.lines, **lost(task)) for task in ("world", "science"))
    assert planted.p is not None
    # Holm: the smaller of two is doubled, the larger is left.
    assert planted.adjusted == pytest.approx(2 * planted.p)
    assert null.adjusted == null.p
    # Of the pairs of tasks: 0.95 and 0.05 in B, 0.125 and 0.05 in A, whichever was forgotten.
    elsewhere = one(found.means, task=MEAN, measured=OTHERS, measure="forget_ratio")
    assert numbers(elsewhere.difference)[0] == pytest.approx((0.95 - 0.125) / 2)


def test_trials_of_another_protocol_are_told(small: Study) -> None:
    old = [outcome.model_copy(update={"id": f"old {outcome.id}"}) for outcome in small.outcomes]
    found = compare(small, Study(old, {f"old {id}": frame for id, frame in small.frames.items()}))
    assert found.settings == {"protocol": ("this version's", "another version's")}


def test_figures_and_tables(found: Comparison, tmp_path: Path) -> None:
    paths = write(found, "a $x", "b", tmp_path)
    assert [path.name for path in paths] == [
        "accuracy.png",
        "forget_ratio.png",
        "settings.csv",
        "differences.csv",
    ]
    assert all(path.stat().st_size for path in paths)
    with (tmp_path / "differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = (
        r
        for r in rows
        if (r["task"], r["split"], r["phase"], r["measure"])
        == ("world", "test", "forgotten", "accuracy")
    )
    assert float(row["B - A"]) == pytest.approx(-0.33)
    assert float(row["B - A low"]) < -0.33 < float(row["B - A high"])
    assert (row["paired"], row["A trials"], row["B - A n"]) == ("yes", "2", "400")
    assert {MEAN, "world", "science"} == {row["task"] for row in rows}
    with (tmp_path / "settings.csv").open() as file:
        assert list(csv.reader(file))[1:] == [
            ["experiment", "a $x", "b"],
            ["model", "small", "large"],
        ]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "/root/x",
        "..",
        "a/b",
        "a b",
        "",
        "sch\N{LATIN SMALL LETTER O WITH DIAERESIS}n",
        "x" * 300,
        "a\nb\0c",
    ],
)
def test_any_name_makes_a_folder_of_its_own(name: str, found: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "report" / folder_name(name, name)
    assert folder.resolve().parent == tmp_path / "report"
    assert not folder.name.startswith(".")
    assert folder_name(name, "b") not in (folder_name("a-b", "b"), folder_name("b", name))
    folder.mkdir(parents=True)


def test_a_good_name_is_kept() -> None:
    assert folder_name("quickstart", "my_study.v2") == "quickstart-against-my_study.v2"


def published(
    name: str, model: str, skills: dict[str, studies.Skill], store: Store
) -> list[Outcome]:
    """Publish a study's trials on the tracking server, as a sweep leaves them there."""
    sweep = Sweep(
        name=name, base={"model": model, "evaluate_on": list(skills)}, axes={"task": list(skills)}
    )
    outcomes, rows = studies.finish(sweep, skills, n=60)
    study = tracking.open_study(expand(sweep), "")
    for outcome in outcomes:
        # The comparison is made from the Rows: what the trial itself made of them is not looked at.
        Trials(store).finish(
            outcome.model_copy(update={"measures": {}, "probes": ()}), rows[outcome.id]
        )
        assert tracking.publish(study, store, outcome.id)
    return outcomes


@pytest.mark.usefixtures("undrawn")
def test_two_experiments_of_a_server_are_compared(
    forget: Forget, database: Path, tmp_path: Path
) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    store = Store(tmp_path / ".forget")
    published("first", "tiny", {"world": STAYS, "science": STAYS}, store)
    published(
        "second", "smollm2-135m", {"world": LOSES, "science": STAYS, "sentiment": STAYS}, store
    )
    (tmp_path / "second.toml").write_text('[base]\nmodel = "smollm2-135m"\ntask = "world"')

    code, out, error = forget("compare", "first", "second.toml")
    assert (code, error) == (0, "")
    assert (
        "A: first, finished trials: 2\nB: second, finished trials: 3\n"
        "model: tiny against smollm2-135m\n"
    ) in out
    (line,) = (
        line.split()
        for line in out.splitlines()
        if line.split()[:3] == ["accuracy", "world", "test"]
    )
    # round(0.88 60) and round(0.52 60) of 60 answers are right
    assert (line[3], line[6], line[9]) == ("0.883", "0.517", "-0.367")
    assert "only in B: sentiment" in out
    folder = Path("report/first-against-second")
    written = [word for word in out.splitlines() if word.startswith("report/")]
    assert written == [
        str(folder / name)
        for name in (
            "accuracy.png",
            "forget_ratio.png",
            "settings.csv",
            "differences.csv",
            "unmatched.csv",
        )
    ]
    assert all((tmp_path / path).exists() for path in written)

    code, out, error = forget("compare", "first", "first")
    assert code == 0
    assert "The two do not differ in their settings." in out
    assert "0.000 [0.000, 0.000]" in out
    assert forget("compare", "first", "frist") == (
        2,
        "",
        'forget: no experiment is named "frist"; did you mean "first"?\n',
    )
    # An experiment on a server can have any name, e.g. one that rich would take for markup.
    client = MlflowClient(tracking.tracking_uri())
    client.rename_experiment(
        client.get_experiment_by_name("first").experiment_id, "[red]/../x[/red]"
    )
    code, out, error = forget("compare", "[red]/../x[/red]", "second")
    assert (code, error) == (0, "")
    assert "A: [red]/../x[/red], finished trials: 2" in out
    assert len(list((tmp_path / "report").iterdir())) == 3
