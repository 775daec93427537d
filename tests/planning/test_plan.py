"""Costs of a sweep, told beforehand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import write_task

from forget.errors import BadInput
from forget.models.sources import parameters
from forget.planning.cost import ADAM, CHARACTERS_A_TOKEN, cost
from forget.planning.plan import check, plan
from forget.planning.standing import standings
from forget.preflight import expand, identify
from forget.results.outcome import Outcome
from forget.settings.sweep import Resources, Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import fingerprint, hub, load


def sweep_of(trial: Trial, **axes: list[object]) -> Sweep:
    return Sweep(name="study", base=trial.model_dump(), axes=axes)


def test_tokens_are_those_of_the_text(quick: Trial) -> None:
    learned = load("vowels", "train", quick.learn.examples, folders=quick.folders)
    characters = sum(len(e.prompt) + sum(map(len, e.options)) / len(e.options) for e in learned)
    assert cost(quick).learn == pytest.approx(
        quick.learn.epochs * characters / CHARACTERS_A_TOKEN, rel=0.02
    )


def test_cost_follows_the_settings(quick: Trial) -> None:
    once = cost(quick)
    twice = cost(overlay(quick, {"forget.epochs": 2 * quick.forget.epochs}))
    assert twice.forget == pytest.approx(2 * once.forget, abs=1)
    assert (twice.learn, twice.scored) == (once.learn, once.scored)
    assert cost(overlay(quick, {"evaluate_on": []})).scored < once.scored
    unwatched = cost(overlay(quick, {"watch.points": 0}))
    assert unwatched.watched_learn == unwatched.watched_forget == 0
    often = cost(overlay(quick, {"watch.points": 8}))
    assert often.watched_learn == pytest.approx(2 * once.watched_learn, abs=1)
    assert often.watched_forget == pytest.approx(2 * once.watched_forget, abs=1)
    assert unwatched.learning < once.learning
    assert unwatched.forgetting < once.forgetting
    assert (
        cost(overlay(quick, {"forget.examples": 10**6})).forget
        == cost(overlay(quick, {"forget.examples": 64})).forget
    )


def test_neutral_text_costs_a_chunk_for_each_example_that_is_forgotten(quick: Trial) -> None:
    plain, retains = cost(quick), cost(overlay(quick, {"retain.text": True}))
    more = retains.forget - plain.forget
    # English words, blanks included, have six characters or so.
    assert more / (quick.forget.epochs * quick.forget.examples) == pytest.approx(96, rel=0.1)
    assert (retains.scored, retains.learn) == (plain.scored, plain.learn)


def test_a_dose_costs_the_looks_at_most_and_every_step(quick: Trial) -> None:
    plain, unwatched = cost(quick), cost(overlay(quick, {"watch.points": 0}))
    until = {"watch.points": 0, "forget.until.every": 4, "forget.until.examples": 48}
    dosed = cost(overlay(quick, until))
    assert (dosed.forget, dosed.scored) == (unwatched.forget, unwatched.scored)
    assert dosed.learning == unwatched.learning
    # 18 steps: looks before the first and after 4, 8, 12, 16 and 18, at 48 examples, where four
    # looks at 40 held-out examples and 48 trained ones cost what `plain` says.
    assert dosed.watched_forget == pytest.approx(plain.watched_forget * 6 * 48 / (4 * 88), abs=5)


def test_what_learns_nothing_costs_no_learning(quick: Trial, tmp_path: Path) -> None:
    one, untaught = cost(quick), cost(overlay(quick, {"arm": "untaught"}))
    assert (untaught.learn, untaught.learning) == (0, 0)
    # It is the untouched model that is measured before.
    assert untaught.forgetting_scored == one.forgetting_scored + one.scored
    sweep = Sweep(name="s", base=quick.model_dump(), axes={"arm": ["random", "true", "untaught"]})
    found = plan(expand(sweep, Store(tmp_path)), Store(tmp_path))
    assert (found.todo, found.learned_todo) == (3, 1)
    assert found.trained == 3 * one.forget + one.learn
    assert found.scored == 2 * one.forgetting_scored + one.learning_scored + (
        untaught.forgetting_scored
    )


def test_memory_of_full_tuning_and_of_adapters(quick: Trial) -> None:
    full = cost(overlay(quick, {"model": "llama-2-7b"}))
    lora = cost(overlay(quick, {"model": "llama-2-7b", "tuning": "lora"}))
    assert full.memory > ADAM * parameters("llama-2-7b")
    assert full.memory > 3 * lora.memory > 3 * 4 * parameters("llama-2-7b")
    # Two processes hold half of it each; however many there are, each loads it whole.
    half, least = (
        cost(overlay(quick, {"model": "llama-2-7b"}), shares).memory for shares in (2, 100)
    )
    assert full.memory - half == pytest.approx(ADAM * parameters("llama-2-7b") / 2, rel=1e-6)
    assert least > 4 * parameters("llama-2-7b")
    # peft's own count for rank 16 on the seven linear layers of each of Llama-2-7B's blocks.
    assert lora.trained == pytest.approx(39_976_960, rel=0.25)


@pytest.mark.parametrize(
    ("fields", "gpus", "fits"),
    [({}, 1, False), ({"tuning": "lora"}, 1, True), ({"tuning": "lora"}, 0.25, False)],
)
def test_a_model_that_no_gpu_holds_is_refused_before_anything_runs(
    quick: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, object],
    gpus: float,
    fits: bool,
) -> None:
    # Llama-2-7B takes 108 GB whole and 28 GB with adapters.
    card = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    sweep = sweep_of(overlay(quick, {"model": "llama-2-7b", "save": False, **fields}))
    sweep = sweep.model_copy(update={"resources": Resources(gpus=gpus)})
    found = plan(expand(sweep), Store(tmp_path))
    reason = found.shortage() or ""
    assert ("B of a GPU that has" in reason) == (not fits)
    assert ('tuning = "lora"' in reason) == (not fits)
    assert found.gpu == gpus * card.total_memory


def test_trials_share_what_they_learn(quick: Trial, tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, three = (
        plan(expand(sweep_of(quick, **{"forget.lr": rates})), store)
        for rates in ([1e-4], [1e-4, 2e-4, 3e-4])
    )
    assert (three.todo, three.learned_todo) == (3, 1)
    assert three.trained - one.trained == 2 * cost(quick).forget
    assert three.seconds > one.seconds


def test_what_is_done_costs_nothing(quick: Trial, finished: tuple[Store, Outcome]) -> None:
    store, _ = finished
    found = plan(expand(sweep_of(quick, seed=[0, 1])), store)
    assert (found.done, found.todo, found.learned_todo) == (1, 1, 1)
    done = plan(expand(sweep_of(quick)), store)
    assert (done.todo, done.seconds, done.disk) == (0, 0, 0)
    assert dict(done.rows())["trials"] == "0 to run, 1 done"
    # What the study can decide does not depend on what is done.
    assert [words for name, words in done.rows() if name == "decides"] == list(done.decides)
    assert any("in this run alone" in words for words in done.decides)
    assert not any("in this run alone" in words for words in found.decides)


def test_the_papers_tasks_and_model_need_no_network(tmp_path: Path) -> None:
    sweep = Sweep(name="paper", base={"model": "llama-2-7b"}, axes={"task": list(hub.TASKS)})
    found = plan(expand(sweep), Store(tmp_path))
    assert found.todo == len(hub.TASKS) >= 21
    assert set(found.assumed) == set(hub.TASKS)
    assert "assumed" in dict(found.rows())["tokens"]


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(
    quick: Trial, tmp_path: Path
) -> None:
    seeds: list[object] = list(range(400))
    large = sweep_of(overlay(quick, {"model": "llama-2-7b"}), seed=seeds)
    assert plan(expand(large), Store(tmp_path)).disk >= 400 * 6 * parameters("llama-2-7b")
    with pytest.raises(BadInput, match=r"disk.*FORGET_STORE"):
        check(expand(large), Store(tmp_path))
    check(expand(sweep_of(quick)), Store(tmp_path))
    # An object store is not this machine's disk, which holds copies of what this machine needs
    # alone.
    elsewhere = Store((tmp_path / "bucket").as_uri())
    check(expand(large), elsewhere)
    assert "free" not in dict(plan(expand(large), elsewhere).rows())["disk"]


def long_task(folder: Path, train: int, test: int) -> str:
    """Write a task of two-letter questions, the last of each split so many letters long."""
    splits = {}
    for split, long in (("train", train), ("test", test)):
        splits[split] = [
            {
                "id": f"{split}-{n}",
                "question": "q" * (long if n == 3 else 2),
                "choices": ["a", "b"],
                "answer": n % 2,
            }
            for n in range(4)
        ]
    write_task(folder / "tasks" / "long", 'prompt = "{question}"', **splits)
    return str(folder / "tasks")


@pytest.mark.parametrize(
    ("letters", "longest"),
    # The tiny model reads 1,024 letters, an option of two among them.
    [(2, None), (1022, None), (1023, 1025), (5000, 5002)],
)
def test_examples_that_the_model_does_not_read_are_counted(
    tmp_path: Path, letters: int, longest: int | None
) -> None:
    folder = long_task(tmp_path, letters, 2)
    sweep = Sweep(
        name="s", base={"task": "long", "model": "tiny", "folders": folder}, axes={"seed": [0, 1]}
    )
    found = plan(expand(sweep), Store(tmp_path / "store"))
    assert [(one.task, one.examples, one.tokens, one.limit) for one in found.long] == (
        [("long", 1, longest, 1024)] if longest else []
    )
    if not longest:
        check(expand(sweep), Store(tmp_path / "store"))
        return
    words = (
        '1 example of task "long" is longer than the 1024 tokens that "tiny" reads'
        f" (the longest has {longest})"
    )
    assert words in dict(found.rows())["too long"]
    with pytest.raises(BadInput, match=r"longer than the 1024 tokens.*nothing is cut short"):
        check(expand(sweep), Store(tmp_path / "store"))


def test_options_that_begin_with_another_are_counted(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [
        {"id": str(n), "question": "What?", "choices": ["ab", pair], "answer": n % 2}
        for n, pair in enumerate(["abc", "abd", "a b", "cd"] * 5)
    ]
    write_task(tmp_path / "tasks" / "pairs", 'prompt = "{question}"', train=items, test=items[:4])
    base = {"task": "pairs", "model": "tiny", "folders": str(tmp_path / "tasks")}

    def counted(**more: str) -> list[str]:
        found = plan(expand(Sweep(name="s", base={**base, **more})), Store(tmp_path / "store"))
        return [words for name, words in found.rows() if name == "options"]

    # Half of 20 trained and of 4 held-out ones.
    (words,) = counted()
    assert words.startswith('12 examples of task "pairs" have an option that begins with another')
    assert counted(normalise="bytes") == []


def test_more_seeds_of_a_task_read_no_more_of_it(
    quick: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counting(task: str, split: str, *args: object, **how: object) -> object:
        read.append((task, split))
        return load(task, split, *args, **how)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("forget.tasks.load", counting)

    def readings(seeds: int) -> int:
        read.clear()
        plan(expand(sweep_of(quick, seed=[*range(seeds)])), Store(tmp_path / "store"))
        return len(read)

    readings(1)  # Sizes of tasks are read once a process (forget.planning.cost).
    assert 0 < readings(2) == readings(8)


def test_a_long_example_that_no_trial_draws_is_no_hindrance(tmp_path: Path) -> None:
    folder = long_task(tmp_path, 2000, 2)
    drawn = {}
    for seed in range(20):
        drawn[seed] = {e.id for e in load("long", "train", 2, seed, folders=[folder])}
    few: dict[str, object] = {"examples": 2}
    base = {"task": "long", "model": "tiny", "folders": folder, "learn": few, "forget": few}
    for wanted in (False, True):
        seeds = [seed for seed, ids in drawn.items() if ("train-3" in ids) == wanted]
        assert seeds
        assert (
            bool(
                plan(
                    expand(Sweep(name="s", base=base, axes={"seed": seeds})),
                    Store(tmp_path / "store"),
                ).long
            )
            == wanted
        )


def test_a_prompt_may_be_too_long_for_the_options_of_another(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [
        {"id": "long", "question": "a" * 1000, "choices": ["y", "n"], "answer": 0},
        {"id": "short", "question": "a", "choices": ["y" * 60, "n"], "answer": 0},
    ]
    write_task(tmp_path / "tasks" / "two", 'prompt = "{question}"', train=items, test=items)
    base = {"task": "two", "model": "tiny", "folders": str(tmp_path / "tasks")}
    for arm, longest in (("random", []), ("shuffled_inputs", [1061])):
        expansion = expand(Sweep(name="s", base={**base, "arm": arm}))
        found = plan(expansion, Store(tmp_path / "store")).long
        assert [one.tokens for one in found] == longest


def test_another_task_may_have_a_test_split_alone(tmp_path: Path) -> None:
    folder = long_task(tmp_path, 2, 2000)
    (tmp_path / "tasks" / "long" / "train.jsonl").unlink()
    sweep = Sweep(
        name="s",
        base={"task": "world", "model": "tiny", "folders": folder, "evaluate_on": ["long"]},
    )
    assert [one.task for one in plan(expand(sweep), Store(tmp_path / "store")).long] == ["long"]


def test_an_unknown_task_is_refused(quick: Trial, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r'"vowel".*did you mean "vowels"'):
        plan(expand(sweep_of(quick, task=["vowel"])), Store(tmp_path))


def test_a_sweep_is_expanded_with_identities_and_fingerprints(quick: Trial, tmp_path: Path) -> None:
    """They are those of each trial alone; trials whose difference changes nothing are one."""
    sweep = sweep_of(quick, **{"lora.rank": [4, 8], "seed": [0, 1]})
    found = expand(sweep)
    assert found.trials == sweep.trials()
    assert list(found.identities) == [identify(trial) for trial in found.trials]
    assert found.fingerprints == {
        task: fingerprint([task], quick.folders) for task in ("vowels", "upper")
    }
    assert list(found.distinct) == list(found.identities[:2])
    standing = standings(found, Store(tmp_path))
    assert [one.identity for one in standing] == list(found.distinct)
