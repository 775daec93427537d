import base64
import csv
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forget import metrics, report
from forget.events import Outcome, ProbeScore
from forget.metrics import Estimate, Row, metric_name
from forget.report import tables
from forget.report.cells import cross, group, numbers, rate_name, upgma
from forget.report.findings import findings, headline
from forget.settings import Sweep, Trial, overlay

Skill = Mapping[tuple[str, str], float]
"""Probability of a right answer by (phase, split)."""

KEEPS = {("base", ""): 0.55, ("learned", ""): 0.9, ("forgotten", "train"): 0.5, ("forgotten", ""): 0.85}
LOSES = {("base", ""): 0.55, ("learned", ""): 0.9, ("forgotten", ""): 0.52}
STAYS = {("base", ""): 0.55, ("learned", ""): 0.9, ("forgotten", ""): 0.88}
UNLEARNED = {("base", ""): 0.5, ("learned", ""): 0.5, ("forgotten", ""): 0.5}

PROBED = {"base": 0.5, "learned": 1.0, "forgotten": 0.9}
"""How strongly a probe reads the answer, by phase."""


def answer(trial: str, phase: str, task: str, split: str, i: int, right: bool, mass: float = 0.4, share: float = 0.8) -> Row:
    """A row with the given option mass, of which the chosen option has the given share."""
    truth = i % 2
    chosen = truth if right else 1 - truth
    logprobs = tuple(float(np.log(mass * (share if option == chosen else 1 - share))) for option in (0, 1))
    return Row(trial, phase, task, split, f"{split}-{i}", truth, logprobs, (1, 1))


def finished(
    trial: Trial, skills: Mapping[str, Skill], n: int = 200, near: bool = True, layers: int = 0, mass: float = 0.4
) -> tuple[Outcome, list[Row]]:
    """A trial as run_trial would leave it; `mass` is the option mass after forgetting."""
    id = trial.id("data")
    rows = []
    for phase in metrics.PHASES:
        for task in trial.tasks:
            for split in (("train", "near", "test") if near else ("train", "test")) if task == trial.task else ("test",):
                skill = skills[task]
                p = skill.get((phase, split), skill[phase, ""])
                # What a shared model answers does not depend on the trial that asks.
                asked = f"{trial.model}/{trial.seed}/{phase}/{task}/{split}" + (
                    id if phase == "forgotten" else f"/{trial.task}"
                )
                # round(p n) right answers, in drawn places: the accuracies are exact.
                right = [True] * round(p * n) + [False] * (n - round(p * n))
                random.Random(asked).shuffle(right)
                left = mass if phase == "forgotten" else 0.4
                rows += [answer(id, phase, task, split, i, ok, left, 0.6 + 0.3 * p) for i, ok in enumerate(right)]
    probes = tuple(
        ProbeScore(phase=phase, task=trial.task, layer=layer, accuracy=Estimate(value, value - 0.04, value + 0.04, 400), l2=1.0)
        for phase in metrics.PHASES
        for layer in range(layers)
        for value in [0.5 + 0.35 * np.sin(np.pi * (layer + 1) / (layers + 1)) * PROBED[phase]]
    )
    measures = metrics.measures(rows, flipped=trial.labels == "flipped")
    for phase, value in (("base", 30.0), ("learned", 40.0 + len(trial.task)), ("forgotten", 20.0)):
        measures[metric_name(phase, trial.task, "test", "variability")] = Estimate(value, None, None, n)
    outcome = Outcome(
        trial=trial, id=id, learned_id=trial.learned_id("data"), data="data", measures=measures, probes=probes,
        parameters=134_515_008, seconds=90.0,
    )  # fmt: skip
    return outcome, rows


def study(sweep: Sweep, skills: Mapping[str, Skill], **kwargs: Any) -> tuple[list[Outcome], dict[str, list[Row]]]:
    done = [finished(trial, skills, **kwargs) for trial in sweep.trials()]
    return [outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done}


def sweep_of(*tasks: str, **axes: list[Any]) -> Sweep:
    """Each of the tasks learned, forgotten, and measured on all."""
    dotted = {name.replace("__", "."): values for name, values in axes.items()}
    return Sweep(name="study", base={"model": "tiny", "evaluate_on": tasks}, axes={"task": list(tasks), **dotted})


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]


def page_of(sweep: Sweep, skills: Mapping[str, Skill], folder: Path, **kwargs: Any) -> Page:
    return Page(report.write(sweep, *study(sweep, skills, **kwargs), folder))


def test_the_headline_counts_what_the_intervals_bear() -> None:
    sweep = sweep_of("a", "b", "c", "d")
    outcomes, _ = study(sweep, {"a": KEEPS, "b": KEEPS, "c": LOSES, "d": STAYS}, layers=3)
    assert headline(group(outcomes)) == (
        "Random labels removed most of the skill on the trained examples on 3 of 4 tasks. "
        "Of these 3, held-out examples kept most of it on 2 and lost most of it on 1; linear probes kept most of it."
    )


def test_the_headline_leaves_open_what_few_examples_leave_open() -> None:
    # 9 of 10 right before and 7 after: a ratio of 0.5, whose interval holds both sides.
    half = {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.7}
    outcomes, _ = study(sweep_of("a"), {"a": half}, n=10)
    assert headline(group(outcomes)) == (
        "Random labels removed most of the skill on the trained examples on no task (1 undecided). "
        "Held-out examples are undecided."
    )


def test_the_headline_warns_of_a_broken_model() -> None:
    # Option mass 0.4 after learning; a tenth of it is the border.
    outcomes, _ = study(sweep_of("a"), {"a": LOSES}, mass=0.03)
    assert headline(group(outcomes)).endswith(
        "On the one task, the options lost nearly all their probability, as in a broken model."
    )
    assert any("collapsed on a (tiny, rate 1e-4): 0.4 after learning, 0.03" in text for text in findings(group(outcomes), []))
    outcomes, _ = study(sweep_of("a"), {"a": LOSES}, mass=0.05)
    assert "broken" not in headline(group(outcomes))


def test_the_headline_says_nothing_of_what_was_not_learned() -> None:
    outcomes, _ = study(sweep_of("a", "b"), {"a": UNLEARNED, "b": UNLEARNED})
    assert headline(group(outcomes)) == ("No task was learned to 0.05 above chance, so nothing can be said about forgetting.")
    outcomes, _ = study(sweep_of("a", "b"), {"a": LOSES, "b": {**UNLEARNED, ("learned", "train"): 0.9}})
    text = headline(group(outcomes))
    assert "on both tasks. Of these 2, held-out examples lost most of it on 1 and had little to lose on 1." in text
    assert headline([]) == "No trial finished, so there is nothing to say yet."


def test_half_of_the_skill_is_a_quarter_of_the_flipped_ratio() -> None:
    # 0.9 -> 0.66: (0.9 - 0.66) / (2 x 0.9 - 1) = 0.3, more than half of the way to chance, 0.6 of the plain ratio.
    partly = {("base", ""): 0.5, ("learned", ""): 0.9, ("forgotten", ""): 0.66}
    sweep = sweep_of("a", labels=["flipped"])
    outcomes, _ = study(sweep, {"a": partly}, n=2000)
    assert headline(group(outcomes)).startswith(
        "Flipped labels removed most of the skill on the trained examples on the one task."
    )


def test_probes_that_lose_the_answer_are_said_to() -> None:
    outcomes, _ = study(sweep_of("a"), {"a": LOSES}, layers=3)
    lost = [
        p.model_copy(update={"accuracy": Estimate(0.52, 0.49, 0.55, 400)}) if p.phase == "forgotten" else p
        for p in outcomes[0].probes
    ]
    cells = group([outcomes[0].model_copy(update={"probes": tuple(lost)})])
    assert "linear probes lost most of it" in headline(cells)


def test_seeds_make_one_cell_whose_interval_spans_them_all() -> None:
    sweep = sweep_of("a", seed=[0, 1])
    (first, _), (second, _) = (
        finished(trial, {"a": {**LOSES, ("learned", ""): p}}) for trial, p in zip(sweep.trials(), (0.8, 0.9), strict=True)
    )
    (cell,) = group([first, second])
    name = metric_name("learned", "a", "test", "accuracy")
    estimate = cell.get("learned", "test", "accuracy")
    # (0.8 + 0.9) / 2
    assert estimate is not None
    assert estimate.value == pytest.approx(0.85)
    assert (estimate.low, estimate.high, estimate.n) == (first.measures[name].low, second.measures[name].high, 400)
    assert cell.chance("test") == pytest.approx(0.5)


def test_settings_that_vary_tell_cells_apart() -> None:
    sweep = sweep_of("a", forget__lr=[1e-4, 2.5e-5], labels=["random", "flipped"], save=[True])
    cells = group(study(sweep, {"a": LOSES}, n=20)[0])
    assert {(cell.setting, rate_name(cell.rate)) for cell in cells} == {
        (f"tiny, labels {labels}", rate) for labels in ("random", "flipped") for rate in ("1e-4", "2.5e-5")
    }


def crossing() -> tuple[list[Outcome], dict[str, list[Row]]]:
    """Two tasks: i takes j from 0.7 by way of 0.8 to 0.6, j itself goes from 0.7 by way of 0.9 to 0.5."""
    trial_i, trial_j = sweep_of("i", "j").trials()
    other = {("base", ""): 0.7, ("learned", ""): 0.8, ("forgotten", ""): 0.6}
    own = {("base", ""): 0.7, ("learned", ""): 0.9, ("forgotten", ""): 0.5}
    done = [finished(trial_i, {"i": LOSES, "j": other}), finished(trial_j, {"i": STAYS, "j": own})]
    return [outcome for outcome, _ in done], {outcome.id: rows for outcome, rows in done}


def test_the_cross_task_matrix_under_its_three_baselines() -> None:
    outcomes, rows = crossing()
    (matrix,) = cross(group(outcomes), rows)
    assert (matrix.rows, matrix.columns) == (("i", "j"), ("i", "j"))
    found = {baseline: numbers(table)[0, 1] for baseline, table in matrix.ratios.items()}
    # a_fg[i, j] = 0.6. Learned on j: (0.9 - 0.6) / 0.4; learned on i: (0.8 - 0.6) / 0.3; untouched: (0.7 - 0.6) / 0.2.
    assert found == pytest.approx({"learned on j": 0.75, "learned on i": 2 / 3, "untouched": 0.5})
    own = metric_name("forgotten", "j", "test", "forget_ratio")
    assert matrix.ratios["learned on j"][1][1] == outcomes[1].measures[own]
    assert [(i, j) for i, j, _ in matrix.elsewhere("learned on j")] == [("i", "j"), ("j", "i")]


def test_a_baseline_of_other_examples_or_another_seed_is_none() -> None:
    outcomes, rows = crossing()
    renamed = {**rows, outcomes[1].id: [replace(row, example=row.example + "'") for row in rows[outcomes[1].id]]}
    (matrix,) = cross(group(outcomes), renamed)
    assert matrix.ratios["learned on j"][0][1] is None
    assert matrix.ratios["learned on i"][0][1] is not None
    seeded = outcomes[1].model_copy(update={"trial": overlay(outcomes[1].trial, {"seed": 1})})
    (matrix,) = cross(group([outcomes[0], seeded]), rows)
    assert matrix.ratios["learned on j"][0][1] is None
    (matrix,) = cross(group(outcomes), {})
    assert matrix.ratios["untouched"] == [[None, None], [None, None]]


def test_trials_measured_on_one_task_make_no_matrix() -> None:
    outcomes, rows = study(Sweep(name="s", base={"model": "tiny", "task": "a"}), {"a": LOSES})
    assert cross(group(outcomes), rows) == []


def test_clustering_puts_similar_rows_side_by_side() -> None:
    # 0 and 2 are near, 1 and 3 are near, and the pairs are far apart, a hole notwithstanding.
    values = np.array([[0.0, 0.1, 0.0], [1.0, 0.9, 1.0], [0.1, np.nan, 0.0], [0.9, 1.0, 1.0]])
    order = upgma(values)
    assert sorted(order) == [0, 1, 2, 3]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset((0, 2)), frozenset((1, 3))}
    assert sorted(upgma(np.full((3, 3), np.nan))) == [0, 1, 2]
    assert upgma(np.zeros((2, 5))) == [0, 1]


def test_the_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    sweep = sweep_of("a", "b", model=["tiny", "small"], forget__lr=[1e-4, 2e-4])
    page = page_of(sweep, {"a": KEEPS, "b": LOSES}, tmp_path, n=60, layers=4)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed"}
    images = page.all("src")
    # Accuracy, ratio, probes, scatter and mass of each model, and a matrix for each model and rate.
    assert len(images) == 5 * 2 + 4
    for image in images:
        kind, _, data = image.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    ids = set(page.all("id"))
    assert {"accuracy", "ratio", "matrix", "probes", "scatter", "mass", "run", "cells", "failed"} <= ids
    links = page.all("href")
    assert all(link.removeprefix("#") in ids if link.startswith("#") else (tmp_path / link).is_file() for link in links)
    assert "url(" not in (tmp_path / "report.html").read_text()
    assert headline(group(study(sweep, {"a": KEEPS, "b": LOSES}, n=60, layers=4)[0])) in page.text
    assert "8 finished of 8 planned" in page.text
    assert "None: every planned trial finished." in page.text


def test_the_page_does_not_depend_on_the_order_in_which_trials_finish(tmp_path: Path) -> None:
    sweep = sweep_of("a", "b")
    outcomes, rows = study(sweep, {"a": KEEPS, "b": LOSES}, n=40)
    first, second = (
        report.write(sweep, found, rows, tmp_path / name) for name, found in (("1", outcomes), ("2", outcomes[::-1]))
    )
    assert first.read_bytes() == second.read_bytes()


HOSTILE = ("<script>alert(1)</script>", "$\\frac{", "_hidden/../{{ 7 * 7 }}", '"><img src=x onerror=alert(2)>')


def test_hostile_names_are_only_ever_text(tmp_path: Path) -> None:
    sweep = Sweep(
        name="study",
        description=HOSTILE[0],
        base={"evaluate_on": HOSTILE, "model": HOSTILE[3]},
        axes={"task": list(HOSTILE), "template": [HOSTILE[0], HOSTILE[1]]},
    )
    outcomes, rows = study(sweep, dict.fromkeys(HOSTILE, LOSES), n=20, layers=2, mass=0.001)
    page = Page(report.write(sweep, outcomes[1:], rows, tmp_path, [HOSTILE[0], HOSTILE[3]]))
    assert not {tag for tag, _ in page.tags} & {"script"}
    assert not page.all("onerror")
    assert all(source.startswith("data:image/png;base64,") for source in page.all("src"))
    for name in HOSTILE:
        assert name in page.text
    assert {path.parent for path in tmp_path.rglob("*.*")} == {tmp_path}
    assert report.trial_figures(outcomes[0], rows[outcomes[0].id], {HOSTILE[1]: [(1, 2.0)]}, tmp_path / "trial")


def test_what_failed_and_what_is_missing_is_listed(tmp_path: Path) -> None:
    sweep = sweep_of("a", "b", forget__lr=[1e-4, 2e-4])
    outcomes, rows = study(sweep, {"a": KEEPS, "b": LOSES}, n=40)
    page = Page(report.write(sweep, outcomes[:-1], rows, tmp_path, ["b at 2e-4: the loss is nan at step 3"]))
    assert "3 finished of 4 planned" in page.text
    assert "task b, model tiny, forget.lr 0.0002" in page.text
    assert "b at 2e-4: the loss is nan at step 3" in page.text
    assert "every planned trial finished" not in page.text


def test_trials_of_a_search_are_counted_by_cell() -> None:
    search = {"trials": 2, "settings": {"forget.lr": {"low": 1e-5, "high": 1e-3, "log": True}}}
    sweep = Sweep(name="s", base={"model": "tiny"}, axes={"task": ["a", "b"]}, search=search)
    found = [overlay(sweep.trials()[0], {"forget.lr": rate}) for rate in (2e-5, 3e-4)] + [sweep.trials()[1]]
    outcomes = [finished(trial, {"a": LOSES, "b": LOSES}, n=20)[0] for trial in found]
    assert tables.missing(sweep, outcomes) == ["task b, model tiny: 1 of 2 finished"]


def test_what_changes_no_number_makes_no_trial_missing() -> None:
    sweep = sweep_of("a", save=[False])
    outcomes, _ = study(sweep_of("a", save=[True]), {"a": LOSES}, n=20)
    assert tables.missing(sweep, outcomes) == []


@pytest.mark.parametrize("skill", [LOSES, UNLEARNED])
def test_one_trial_without_probes_or_near_duplicates_is_a_page(tmp_path: Path, skill: Skill) -> None:
    sweep = Sweep(name="one", base={"model": "tiny", "task": "a"})
    page = page_of(sweep, {"a": skill}, tmp_path, n=40, near=False)
    assert "probes" not in page.all("id")
    assert "matrix" not in page.all("id")
    assert "near-duplicates" not in page.text
    cells = page.text.rpartition("Every cell")[2].partition("Failed or missing")[0]
    assert ("missing" in cells) == (skill is UNLEARNED)


def test_a_sweep_without_outcomes_is_a_page(tmp_path: Path) -> None:
    page = Page(report.write(sweep_of("a"), [], {}, tmp_path))
    assert "No trial finished" in page.text
    assert "task a, model tiny" in page.text


def test_the_csv_holds_every_number_of_every_trial(tmp_path: Path) -> None:
    sweep = sweep_of("a", "b/c", seed=[0, 1])
    outcomes, rows = study(sweep, {"a": KEEPS, "b/c": UNLEARNED}, n=40, layers=2)
    report.write(sweep, outcomes, rows, tmp_path)
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found = {
        (line["trial"], "/".join((line["phase"], line["measured_on"], line["split"], line["measure"]))): line
        for line in lines
        if line["measure"] != "probe_accuracy"
    }
    assert len(found) == sum(len(outcome.measures) for outcome in outcomes)
    for outcome in outcomes:
        for name, estimate in outcome.measures.items():
            line = found[outcome.id, name]
            assert line["value"] == ("" if estimate.value is None else str(estimate.value))
            assert int(line["n"]) == estimate.n
    assert sum(line["measure"] == "probe_accuracy" for line in lines) == sum(len(outcome.probes) for outcome in outcomes)
    with (tmp_path / "cross_task.csv").open(newline="", encoding="utf-8") as file:
        crossed = list(csv.DictReader(file))
    # Two tasks by two tasks by three baselines, over both seeds.
    assert len(crossed) == 12


def test_the_figures_of_a_trial(tmp_path: Path) -> None:
    (outcome,), rows = study(sweep_of("a"), {"a": KEEPS}, n=40, layers=3)
    losses = {"learn": [(1, 0.7), (2, 0.5)], "forget": [(1, 0.9)], "empty": []}
    made = report.trial_figures(outcome, rows[outcome.id], losses, tmp_path / "new")
    assert [path.name for path in made] == ["losses.png", "accuracy.png", "confidence.png", "probes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    (bare,), _ = study(sweep_of("a"), {"a": KEEPS}, n=40, near=False)
    assert [path.name for path in report.trial_figures(bare, [], {}, tmp_path)] == ["accuracy.png"]


def test_drawing_leaves_the_style_of_others_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    (outcome,), rows = study(sweep_of("a"), {"a": KEEPS}, n=20)
    report.trial_figures(outcome, rows[outcome.id], {}, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_the_report_is_written_where_neither_torch_nor_a_cluster_is() -> None:
    code = "import sys, forget.report; print([m for m in ('torch', 'mlflow', 'ray', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_hundred_trials_of_three_thousand_rows_take_less_than_thirty_seconds(tmp_path: Path) -> None:
    tasks = [f"task {i}" for i in range(10)]
    sweep = sweep_of(*tasks, model=["tiny", "small"], forget__lr=[1e-5, 3e-5, 1e-4, 2e-4, 3e-4])
    # 3 phases of 12 splits of 83 examples: 2988 rows a trial.
    outcomes, rows = study(sweep, dict.fromkeys(tasks, KEEPS), n=83, layers=31)
    # The processor's time, since others may use the machine.
    began = time.process_time()
    report.write(sweep, outcomes, rows, tmp_path)
    assert time.process_time() - began < 30
