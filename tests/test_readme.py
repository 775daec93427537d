"""Run each command of README.md and CONTRIBUTING.md.

Those of docs/kubernetes.md run as far as they go without a cluster.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Forget, command

from forget.errors import validated
from forget.settings.reading import read_sweep
from forget.settings.sweep import Sweep
from forget.tasks import files
from pipelines import cluster
from pipelines.cluster import manifests

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
KUBERNETES = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

STUDY = """
[base]
model = "tiny"
folders = ["{folder}"]
evaluate_on = ["vowels"]
learn = {{ examples = 64, epochs = 6, lr = 3e-3 }}
forget = {{ examples = 64, epochs = 4, lr = 3e-3 }}
probe = {{ examples = 24 }}

[axes]
task = ["vowels"]
"""


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def commands(page: str = README) -> list[str]:
    lines = "".join(blocks("console", page)).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, toy_tasks: Path, cluster: None) -> Path:
    """Return a working directory in which quickstart.toml, a small stand-in, has been run."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "quickstart.toml").write_text(STUDY.format(folder=toy_tasks), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "FORGET_STORE"):
            patch.delenv(name, raising=False)
        assert command("sweep", "quickstart.toml") == 0
    return folder


MAKE = [
    line
    for line in commands() + commands(CONTRIBUTING) + commands(KUBERNETES)
    if line.startswith("make ")
]


@pytest.mark.parametrize("command", MAKE)
def test_make_commands_expand_to_what_the_pages_say(command: str) -> None:
    found = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert any(
        name in found.stdout for name in ("forget", "pytest", "ruff", "benchmarks", "faults")
    )
    assert ("forget cluster" in found.stdout) == ("CONTEXT=" in command or "DRY_RUN=" in command)


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"\.PHONY: (.*)", makefile)
    assert phony
    for target in phony[1].split():
        assert f"make {target} " in listed


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "line", [line for line in commands() if line.startswith("forget ") and line != "forget ui"]
)
def test_forget_commands_run(
    line: str, study: Path, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    # The same command on the small study: its spec, its model, its tasks.
    words = line.removeprefix("forget ").split()
    small = {"quickstart": "quickstart.toml", "science": "vowels"}
    words = [small.get(word, word.replace("smollm2-135m-world", "tiny-vowels")) for word in words]
    if words[0] == "probe":
        folders = tomllib.loads((study / "quickstart.toml").read_text())["base"]["folders"]
        words += ["--folder", folders[0], "--examples", "24"]
    code, out, error = forget(*words)
    assert code == 0, error
    assert out.strip()


def test_forget_ui_serves_the_runs_to_this_machine_alone(study: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_PORT": "5917", "MLFLOW_HOST": "0.0.0.0"}
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "ui"],
        cwd=study,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            assert next(answers("http://127.0.0.1:5917/health")) == "OK"
            listening = {
                tuple(c.laddr)
                for c in psutil.net_connections()
                if c.status == "LISTEN" and c.laddr.port == 5917
            }
            assert listening == {("127.0.0.1", 5917)}
            # `ps` shows no address of a database, in which a password may be.
            tree = [
                psutil.Process(server.pid),
                *psutil.Process(server.pid).children(recursive=True),
            ]
            assert not [process for process in tree if "sqlite" in " ".join(process.cmdline())]
        finally:
            os.killpg(server.pid, 15)


def answers(url: str, seconds: float = 120) -> Iterator[str]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                yield reply.read().decode()
        except OSError:
            time.sleep(0.5)


def test_the_study_of_ones_own_is_valid(tmp_path: Path) -> None:
    (spec,) = blocks("toml")
    trials = validated(Sweep, {"name": "own"} | tomllib.loads(spec)).trials()
    assert {trial.arm for trial in trials} == {"random", "true"}


def test_the_item_of_ones_own_is_read(tmp_path: Path) -> None:
    (item,) = blocks("json")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "train.jsonl").write_text(item)
    (record,) = files.tasks([str(tmp_path)])["own"].records("train")
    assert record.choices[record.answer] == json.loads(item)["choices"][0]


def test_the_python_of_the_readme_loads_a_forgotten_model(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = blocks("python")[-1].replace("smollm2-135m", "tiny").replace("world", "vowels")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  it is the README's
    assert names["model"].parameters == 90_496


def test_the_python_of_ones_own_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in blocks("python") if "load_model" in code]
    exec(code.replace("smollm2-135m", "tiny"), {})  # noqa: S102  it is the README's
    assert re.match(r"0\.\d", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        named = page.parent / target if target else page
        assert named.exists(), target
        assert not anchor or anchor in anchors(named), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the headings of a page as links name them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_what_the_kubernetes_page_names_is_there() -> None:
    assert cluster.OPERATOR in KUBERNETES
    for target in re.findall(r"(?<![\w/.])(?:k8s|mlflow)/[\w./-]*\w", KUBERNETES):
        assert (ROOT / target).exists(), target
    files = list((ROOT / "tests").rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    names = {path.name for path in files}
    for name in re.findall(r"\btest_\w+\b(?:\.py)?", KUBERNETES):
        assert name in names or any(f"def {name}(" in text for text in texts), name


@pytest.mark.servers("kubectl")
def test_the_overlay_of_ones_own_renders(tmp_path: Path) -> None:
    (overlay,) = blocks("yaml", KUBERNETES)
    folder = tmp_path.resolve()
    (folder / "kustomization.yaml").write_text(
        overlay.replace("../forget/", os.path.relpath(ROOT, folder) + "/")
    )
    spec = folder / "my.toml"
    spec.write_text('[base]\ntask = "sentiment"\nmodel = "tiny"\n[resources]\ngpus = 1\n')
    rendered = manifests.render_sweep(read_sweep(spec), spec, str(folder), "forget", "tag")
    for words in (
        "FORGET_STORE: s3://studies/forget",
        "sizeLimit: 400Gi",
        "minReplicas: 8",
        "kueue.x-k8s.io/queue-name: forget",
    ):
        assert words in rendered
