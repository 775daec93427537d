"""The benchmarks' own arithmetic and page.

The slow test runs the quick benchmarks and holds them to half of their targets.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare, page
from benchmarks.compare import Comparison, Result, Share, run, turns
from benchmarks.page import Record
from benchmarks.training import compiling

ROOT = Path(__file__).parents[2]


def result(**fields: object) -> Result:
    return Result.model_validate(
        {"work": "w", "against": "a", "target": 2, "note": "equal to the bit", **fields}
    )


class Sides:
    """Two sides that write down when they are called."""

    def __init__(self, mine: int = 1, other: int = 1) -> None:
        self.calls: list[str] = []
        self.mine, self.other = mine, other

    def ours(self) -> int:
        self.calls.append("ours")
        return self.mine

    def theirs(self) -> int:
        self.calls.append("theirs")
        return self.other

    def check(self, mine: int, other: int) -> str:
        self.calls.append("check")
        assert mine == other, f"{mine} is not {other}"
        return f"both are {mine}"

    def row(self, **fields: bool) -> Comparison[int]:
        return Comparison("w", "a", self.ours, self.theirs, self.check, 2, **fields)


def test_ratios_are_taken_round_by_round() -> None:
    found = result(ours=(1, 2, 4), theirs=(3, 2, 20))
    assert found.ratios == (3, 1, 5)
    assert found.value == 3
    assert found.met
    assert not result(ours=(1, 1, 1), theirs=(9, 1.9, 1)).met


def test_a_share_is_good_above_its_target_or_below() -> None:
    assert result(share=0.8, target=0.7).met
    assert not result(share=0.6, target=0.7).met
    assert result(share=0.01, target=0.02, at_most=True).met
    assert not result(share=0.03, target=0.02, at_most=True).met
    assert result(ours=(1,), theirs=(9,), target=None).met is None


def test_results_are_checked_before_anything_is_timed_and_the_sides_take_turns() -> None:
    sides = Sides()
    row = sides.row()
    found = run(row, 2)
    assert sides.calls == ["ours", "theirs", "check", "ours", "theirs", "ours", "theirs"]
    assert len(sides.calls) - 1 == turns(row, 2) == 6
    assert (len(found.ours), len(found.theirs), found.note) == (2, 2, "both are 1")


def test_long_work_is_timed_on_the_pass_that_is_checked() -> None:
    sides = Sides()
    found = run(sides.row(once=True), 2)
    assert sides.calls == ["ours", "theirs", "check"]
    assert len(found.ours) == len(found.theirs) == 1


@pytest.mark.parametrize(("kept", "given_back"), [(False, 1), (True, 0)])
def test_the_other_side_keeps_memory_where_it_does_our_own_work(
    kept: bool, given_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(compare, "keep_memory", lambda: calls.append("keep"))
    monkeypatch.setattr(compare, "give_memory_back", lambda: calls.append("give back"))
    run(Sides().row(kept=kept, once=True), 1)
    assert (len(calls), calls.count("give back")) == (2, given_back)


def test_compiling_pays_after_as_many_passes_as_win_it_back() -> None:
    assert compiling.worth(10, 2.0, 1.996).endswith("after 2,500 passes: each saves 4 ms")
    assert "pays after 34 passes" in compiling.worth(10, 2.0, 1.7)
    assert "never pays: a pass takes 500 ms longer" in compiling.worth(10, 1.0, 1.5)
    assert "never pays" in compiling.worth(10, 1.0, 1.0)


def test_numbers_of_another_way_are_equal_up_to_rounding() -> None:
    assert "within 1.0e-04" in compiling._equal([1.0, 1.0], [1.0, 1.0001])
    with pytest.raises(AssertionError, match="differ by 20"):
        compiling._equal([1.0, 1.2], [1.0, 1.0])


def test_a_quick_run_compiles_nothing_and_a_machine_without_a_compiler_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(compiling.comparisons(quick=True)) == 1
    monkeypatch.setenv("CXX", "no-such-compiler")
    step = compiling.comparisons(quick=False)[0]
    assert isinstance(step, Comparison)
    assert step.against == "plain blocks: no C++ compiler"
    assert "nothing was compiled: torch.compile needs" in step.check([1.0], [1.0])


def test_a_failing_check_stops_the_row() -> None:
    sides = Sides(1, 2)
    found = run(sides.row(), 2)
    assert sides.calls == ["ours", "theirs", "check"]
    assert not found.equal
    assert found.met is False
    assert found.value is None
    assert "1 is not 2" in found.note


def test_a_share_is_measured_once() -> None:
    found = run(Share("w", "whole", lambda: (0.5, "half of it"), 0.7), 3)
    assert (found.share, found.note, found.against, found.met) == (
        0.5,
        "half of it",
        "whole",
        False,
    )


def record(*results: Result) -> Record:
    return Record(machine={"cores": "2"}, quick=False, rounds=3, results=results)


def test_the_page_holds_every_row_and_explains_what_misses() -> None:
    good = result(room="scoring", work="good", ours=(1, 1, 1), theirs=(4, 3, 5), tokens=100)
    bad = result(room="tuning", work="bad", share=0.5, target=0.7, profile="aten::mm 90%")
    text = page.page(record(good, bad), {"bad": "Matrices are thin."})
    assert (
        "| good | a | 1.00 s, 100 tokens/s | 4.00 s, 25 tokens/s | 4.0x (3.0-5.0) | at least 2x "
        "| yes | equal to the bit |" in text
    )
    assert "| bad | a | - | - | 50.0% | at least 70.0% | no | equal to the bit |" in text
    assert "**bad** misses its target. Matrices are thin." in text
    assert "aten::mm" not in text  # a profile stays in performance.json
    assert "good** misses" not in text
    assert page.UNEXPLAINED in page.page(record(bad), {})


def test_the_page_says_how_cost_grows_and_which_size_grows_too_fast() -> None:
    of = {
        "what": "planning",
        "values": (10, 20),
        "seconds": (1, 4),
        "megabytes": (5, 6),
        "bound": 1.15,
        "figure": "f.png",
    }
    grown = page.Grown.model_validate({**of, "of": "trials", "exponent": 2})
    assert "| planning | trials | 10, 20 | 1, 4 | 5, 6 | 2.00 | 1.15 | no |" in page.growth_table(
        [grown]
    )
    assert "| yes |" in page.growth_table([grown.model_copy(update={"exponent": 1.1})])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = record(result(room="scoring", ours=(1,), theirs=(2,)))
    page.write(made, tmp_path)
    assert page.read(tmp_path) == made
    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == page.page(
        made, page.reasons()
    )


def test_a_row_of_an_earlier_run_says_what_it_was_measured_on(tmp_path: Path) -> None:
    old, again = (result(room="scoring", work=work, ours=(1,), theirs=(3,)) for work in "ab")
    first = record(old, again).model_copy(update={"machine": {"cores": "2", "commit": "1"}})
    page.write(first, tmp_path)
    assert "With " not in page.page(first, {})
    for machine, said in (
        ({"cores": "2", "commit": "2"}, "With commit 1: a."),
        ({"cores": "8", "commit": "1"}, "With cores 2: a."),
    ):
        now = page.beside(record().model_copy(update={"machine": machine}), tmp_path)
        # One row is measured again; then, of the same commit and machine, the other.
        now = page.with_result(now, again)
        assert said in page.page(now, {})
        assert "With " not in page.page(page.with_result(now, old), {})
        # A third run still knows of the first.
        page.write(now, tmp_path / machine["cores"])
        third = page.beside(
            record().model_copy(update={"machine": machine}), tmp_path / machine["cores"]
        )
        assert said in page.page(third, {})


@pytest.mark.skipif(
    not (ROOT / "docs" / "performance.json").exists(), reason="nothing has been measured yet"
)
def test_the_committed_page_is_made_of_the_committed_numbers() -> None:
    made = page.page(page.read(ROOT / "docs"), page.reasons())
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == made
    assert page.UNEXPLAINED not in made


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_quick_benchmarks_are_equal_and_not_far_from_their_targets(tmp_path: Path) -> None:
    pytest.importorskip(
        "lm_eval", reason="needs lm-eval: pip install -r benchmarks/requirements.txt"
    )
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)]
    # With the threads that a user's processes have; those of the tests have one (conftest).
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    for found in page.read(tmp_path).results:
        if found.target is None:
            continue
        assert found.value is not None
        # Small work on a machine that does other things as well.
        assert (
            found.value <= 2 * found.target if found.at_most else found.value >= found.target / 2
        ), found
