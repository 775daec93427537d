import contextlib
import importlib.metadata
import itertools
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.entities import LoggedModelStatus, Run
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils as mlflow_tracking
from transformers import AutoModelForCausalLM, AutoTokenizer

from forget import report, tracking
from forget.errors import BadInput
from forget.events import Observe, StageStarted, Step
from forget.models import language_model, vetting
from forget.preflight import expand
from forget.report import Report
from forget.results import measures
from forget.results.estimates import Estimate, mean
from forget.results.files import read_rows
from forget.results.measures import Measure
from forget.results.outcome import Outcome, ProbeScore
from forget.results.rows import PHASES, Row
from forget.settings.sweep import Resources, Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.journal import FILE, Ended, Journal, Started
from forget.storage.store import Store
from forget.tracking import places, views
from forget.tracking import study as study_room
from forget.tracking.study import _keys as keys

ACCURACY = "forgotten/science/test/accuracy"
MOST = 60
"""Metrics of a run, at most."""
SWEEP = Sweep(name="pulse", base={"task": "science", "model": "tiny"}, axes={"seed": [0, 1]})
FIRST, SECOND = SWEEP.trials()


@pytest.fixture
def store(tmp_path: Path, database: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store in a working directory that has MLflow's; the environment has a secret."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    return Store(tmp_path / ".forget")


def train(observe: Observe, first: int = 1, last: int = 3) -> None:
    observe(StageStarted(stage="learn", steps=3))
    for step in range(first, last + 1):
        observe(Step(stage="learn", step=step, steps=3, loss=1 / step, lr=1e-4, tokens=64))


def finish(store: Store, trial: Trial, id: str, accuracy: float = 0.5) -> None:
    """Leave in the store what run_trial leaves of a finished trial."""
    rows = [
        Row(id, phase, "science", split, f"{split}-{i}", i % 2, (-1.0, -2.0), (1, 1))
        for phase, split, i in itertools.product(PHASES, ("train", "test"), range(4))
    ]
    measures = {
        ACCURACY: Estimate(accuracy, accuracy - 0.1, accuracy + 0.1, 4),
        "learned/science/test/accuracy": Estimate(0.9, 0.8, 1.0, 4),
        "forgotten/science/test/forget_ratio": Estimate(None, None, None, 4),
    }
    probes = tuple(
        ProbeScore(
            phase="forgotten", task="science", layer=i, accuracy=Estimate(i / 2, 0, 1, 4), l2=1
        )
        for i in range(3)
    )
    language_model.save(
        language_model.tiny(seed=trial.seed), Trials(store).folder(id) / "model", torch.bfloat16
    )
    Trials(store).finish(
        Outcome(
            trial=trial,
            id=id,
            learned_id="l" * 16,
            data="d" * 16,
            measures=measures,
            probes=probes,
            parameters=90_496,
            seconds=1.0,
        ),
        rows,
    )


def run_whole(
    study: tracking.Study, trial: Trial, id: str, store: Store, accuracy: float = 0.5
) -> None:
    with tracking.trial_sink(study, trial, id, store) as observe:
        train(observe)
        finish(store, trial, id, accuracy)


def run_broken(
    study: tracking.Study, trial: Trial, id: str, store: Store, error: BaseException
) -> None:
    with tracking.trial_sink(study, trial, id, store) as observe:
        train(observe, last=2)
        raise error


def children(study: tracking.Study) -> list[Run]:
    parents = MlflowClient(study.uri).search_runs(
        [study.experiment_id], "tags.`forget.sweep` != ''"
    )
    assert len(parents) == 1
    query = f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'"
    return list(MlflowClient(study.uri).search_runs([study.experiment_id], query))


def curve(study: tracking.Study, run: Run, key: str) -> list[tuple[int, float]]:
    return sorted(
        (m.step, m.value) for m in MlflowClient(study.uri).get_metric_history(run.info.run_id, key)
    )


def assert_delivered_once(study: tracking.Study, run: Run, id: str) -> None:
    """Assert that everything of the trial that `run_whole` runs is on the server, nothing twice."""
    client = MlflowClient(study.uri)
    run = client.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["forget.trial"] == id
    assert "forget.error" not in run.data.tags
    assert curve(study, run, "learn/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert curve(study, run, "learn/lr") == [(1, 1e-4), (2, 1e-4), (3, 1e-4)]
    assert len(curve(study, run, "learn/tokens_per_second")) == 3
    assert len(curve(study, run, "forgotten")) == 1
    assert [key for key in run.data.metrics if key.endswith(("/low", "/high"))] == []
    assert len(run.data.metrics) <= MOST
    assert curve(study, run, "probe/forgotten") == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]
    assert "forget_ratio" not in run.data.metrics
    assert {"rows.parquet", "outcome.json", "figures", "numbers.json", "numbers.md"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }
    assert [(d.dataset.name, d.tags[0].value) for d in run.inputs.dataset_inputs] == [
        ("science", "8")
    ]
    versions = client.search_model_versions("name = 'forgotten-tiny-science'")
    assert Counter(v.tags["forget.trial"] for v in versions)[id] == 1
    logged = client.search_logged_models(
        [study.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    assert [model.status for model in logged] == [LoggedModelStatus.READY]
    assert [metric.key for metric in logged[0].metrics or ()].count("forgotten") == 1
    assert "What became of it" in run.data.tags["mlflow.note.content"]


def test_a_trial_reaches_mlflow_whole_and_once(store: Store, tmp_path: Path) -> None:
    study = pickle.loads(pickle.dumps(tracking.open_study(expand(SWEEP), "spec text")))  # noqa: S301
    run_whole(study, FIRST, "a", store)

    (run,) = children(study)
    assert_delivered_once(study, run, "a")
    assert (tmp_path / "mlartifacts" / "pulse" / run.info.run_id).is_dir()
    assert run.info.run_name == "tiny science random lr=0.0001"
    assert run.data.params["forget.lr"] == "0.0001"
    assert f"torch {importlib.metadata.version('torch')}" in run.data.tags["versions"]
    assert run.data.tags["mlflow.source.name"] == "pulse.toml"
    assert run.data.tags["end_state"] == "not learned"
    assert run.data.tags["forget.model"] == "forgotten-tiny-science/1"
    # The weights stay where another server can be given them, and lie on this disk once.
    kept = Trials(store).folder("a") / "model" / "model.safetensors"
    assert kept.stat().st_nlink == 2

    assert not tracking.publish(study, store, "a")
    (Trials(store).folder("a") / "published.json").unlink()
    assert tracking.publish(study, store, "a")
    assert tracking.sync(study, store, ["a"]) == 0
    with tracking.trial_sink(study, FIRST, "a", store):
        pass
    (run,) = children(study)
    assert_delivered_once(study, run, "a")


def margin(rows: Sequence[Row]) -> Estimate:
    return mean([max(row.logprobs) - min(row.logprobs) for row in rows])


def numbers_of(study: tracking.Study, run: Run) -> set[str]:
    """Return the measures in the table of numbers that MLflow shows of a run."""
    table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/numbers.json")
    place = table["columns"].index("measure")
    return {row[place] for row in table["data"]}


def test_a_measure_that_is_new_reaches_trials_that_were_published_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    run_whole(study, FIRST, "a", store)
    run_whole(study, SECOND, "b", store)
    (run,) = (run for run in children(study) if run.data.tags["forget.trial"] == "a")
    learned = "learned"
    assert run.data.metrics[learned] == 0.9
    assert "margin" not in numbers_of(study, run)
    assert run.data.tags["forget.measures"] == measures.code()

    before = measures.MEASURES
    monkeypatch.setattr(measures, "MEASURES", (*before, Measure("margin", "margin", margin)))
    monkeypatch.setattr(measures, "code", lambda: "another")
    assert tracking.sync(study, store, ["a", "b"]) == 2
    assert tracking.sync(study, store, ["a", "b"]) == 0
    (run,) = (run for run in children(study) if run.data.tags["forget.trial"] == "a")
    assert run.info.status == "FINISHED"
    assert "margin" in numbers_of(study, run)
    assert curve(study, run, "forgotten") == [(0, 0.5)]
    assert curve(study, run, "probe/forgotten") == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]
    assert len(curve(study, run, "learn/loss")) == 3
    assert run.data.tags["forget.measures"] == "another"
    # The accuracy after learning was made up; it does not follow from the Rows.
    assert curve(study, run, learned) == [(0, 0.5), (0, 0.9)]
    assert run.data.metrics[learned] == 0.5
    client = MlflowClient(study.uri)
    assert len(client.search_model_versions("name = 'forgotten-tiny-science'")) == 2

    outcomes = list(Trials(store).outcomes(["a", "b"]).values())
    frames = {outcome.id: Trials(store).frame(outcome.id) for outcome in outcomes}
    written = report.write(
        SWEEP, dict.fromkeys(SWEEP.trials(), 0), outcomes, frames, tmp_path / "report"
    )
    tables = [path.read_text() for path in written.page.parent.glob("*.csv")]
    assert sum(text.count(",forgotten,science,test,margin,") for text in tables) == 2
    (read, _), _ = tracking.read_experiment("pulse", tmp_path / "copies")
    assert read == outcomes[0]
    # Whoever reads the experiment with other code computes measures of the copies of its Rows.
    monkeypatch.setattr(measures, "MEASURES", before)
    monkeypatch.setattr(measures, "code", lambda: "a third")
    (read, _), _ = tracking.read_experiment("pulse", tmp_path / "copies")
    assert read.measures == {k: v for k, v in outcomes[0].measures.items() if "margin" not in k}


def test_the_strongest_model_can_be_loaded_by_us_and_by_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    run_whole(study, FIRST, "a", store, accuracy=0.8)
    run_whole(study, SECOND, "b", store, accuracy=0.6)
    head = language_model.tiny(seed=SECOND.seed).network.lm_head.weight.bfloat16().float()

    strongest = tracking.load_forgotten("tiny", "science")
    assert strongest.name == "forgotten-tiny-science/2"
    assert torch.equal(strongest.network.lm_head.weight.cpu(), head)
    assert (
        tracking.load_forgotten("models:/forgotten-tiny-science@weakest").name
        == "forgotten-tiny-science/1"
    )
    assert (
        tracking.load_forgotten("models:/forgotten-tiny-science/1").name
        == "forgotten-tiny-science/1"
    )

    monkeypatch.setenv("MLFLOW_TRACKING_URI", study.uri)
    pipeline = mlflow.transformers.load_model("models:/forgotten-tiny-science@strongest")
    assert pipeline.model.dtype == torch.bfloat16
    assert pipeline("Question:", max_new_tokens=2)[0]["generated_text"].startswith("Question:")

    # One folder, with one copy of the weights, is all that others need.
    folder = Path(mlflow.artifacts.download_artifacts("models:/forgotten-tiny-science@strongest"))
    plain = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert torch.equal(plain.lm_head.weight.float(), head)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert tokenizer("Question:") == pipeline.tokenizer("Question:")
    assert [path.parent for path in folder.rglob("*.safetensors")] == [folder / "model"]
    vetting.check_folder(folder / "model")

    version = MlflowClient(study.uri).get_model_version("forgotten-tiny-science", "2")
    assert version.tags["forget.accuracy"] == "0.6"
    assert "Warning" in version.description

    for wrong, words in (
        (("tiny", "sciense"), 'did you mean "forgotten-tiny-science"'),
        (("models:/forgotten-tiny-science@strong",), 'did you mean "strongest"'),
        (("models:/forgotten-tiny-science/7",), "it has 1, 2"),
    ):
        with pytest.raises(BadInput, match=words):
            tracking.load_forgotten(*wrong)


def test_a_registered_model_with_a_pickle_or_code_is_refused(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    run_whole(study, FIRST, "a", store)
    (config,) = Path("mlartifacts").rglob("config.json")
    (config.parent / "pytorch_model.bin").write_bytes(pickle.dumps("weights"))
    with pytest.raises(BadInput, match=r"pytorch_model.bin is a pickle, which is not read"):
        tracking.load_forgotten("tiny", "science")
    (config.parent / "pytorch_model.bin").unlink()
    own = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Model"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | own))
    with pytest.raises(BadInput, match=r"config.json asks for code that comes with the model"):
        tracking.load_forgotten("tiny", "science")


def test_the_alias_of_a_version_that_was_deleted_goes_to_the_next(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    for id, accuracy, trial in (
        ("a", 0.8, FIRST),
        ("b", 0.6, SECOND),
        ("c", 0.5, SECOND.model_copy(update={"seed": 2})),
    ):
        run_whole(study, trial, id, store, accuracy)
    client = MlflowClient(study.uri)
    client.delete_model_version("forgotten-tiny-science", "1")
    run_whole(study, SECOND.model_copy(update={"seed": 3}), "d", store, accuracy=0.55)
    aliases = client.get_registered_model("forgotten-tiny-science").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {
        "strongest": "3",
        "weakest": "2",
    }


def test_what_was_deleted_comes_back_by_sync(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    run_whole(study, FIRST, "a", store, accuracy=0.8)
    run_whole(study, SECOND, "b", store, accuracy=0.6)
    client, name = MlflowClient(study.uri), "forgotten-tiny-science"

    def aliases() -> dict[str, str]:
        found = client.get_registered_model(name).aliases
        return {alias: str(number) for alias, number in found.items()}

    (run,) = (run for run in children(study) if run.data.tags["forget.trial"] == "a")
    client.delete_run(run.info.run_id)
    assert tracking.sync(study, store, ["a", "b"]) == 1
    (again,) = (run for run in children(study) if run.data.tags["forget.trial"] == "a")
    assert again.info.status == "FINISHED"
    assert again.data.tags["forget.model"] == f"{name}/1"
    assert len(children(study)) == 2

    client.delete_registered_model_alias(name, "weakest")
    assert tracking.sync(study, store, ["a", "b"]) == 0
    assert aliases() == {"weakest": "1", "strongest": "2"}

    client.delete_model_version(name, "2")
    assert tracking.sync(study, store, ["a", "b"]) == 1
    assert aliases() == {"weakest": "1", "strongest": "3"}
    client.delete_registered_model(name)
    assert tracking.sync(study, store, ["a", "b"]) == 2
    assert aliases() == {"weakest": "1", "strongest": "2"}
    assert tracking.load_forgotten("tiny", "science").parameters
    assert tracking.sync(study, store, ["a", "b"]) == 0


@pytest.fixture
def another(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which the tracking server is another, empty one."""

    def change() -> None:
        (folder := tmp_path / "other").mkdir()
        (folder / "mlflow.db").write_bytes(database.read_bytes())
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other/mlflow.db")

    return change


@pytest.mark.parametrize("gone", [False, True], ids=["another server", "the first is gone"])
def test_another_server_gets_the_models_too(
    gone: bool, store: Store, tmp_path: Path, another: Callable[[], None]
) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    run_whole(study, FIRST, "a", store)
    if gone:
        (tmp_path / "mlflow.db").unlink()
        shutil.rmtree(tmp_path / "mlartifacts")
    another()
    study = tracking.open_study(expand(SWEEP), "")
    assert tracking.sync(study, store, ["a"]) == 1
    assert_delivered_once(study, *children(study), "a")
    assert tracking.load_forgotten("tiny", "science").name == "forgotten-tiny-science/1"


def test_a_model_that_is_not_kept_leaves_the_store_once_it_is_registered(
    store: Store, another: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    sweep = SWEEP.model_copy(update={"resources": Resources(keep=False)})
    study = tracking.open_study(expand(sweep), "")
    run_whole(study, FIRST, "a", store)
    assert not (Trials(store).folder("a") / "model").exists()
    assert tracking.load_forgotten("tiny", "science").parameters
    # Of the server that has the model, a version is made again without the store.
    MlflowClient(study.uri).delete_model_version("forgotten-tiny-science", "1")
    assert tracking.sync(study, store, ["a"]) == 1
    assert tracking.load_forgotten("tiny", "science").parameters
    another()
    study = tracking.open_study(expand(sweep), "")
    assert tracking.sync(study, store, ["a"]) == 1
    assert "its model is not in" in caplog.text


def test_a_study_that_was_moved_finds_its_files_where_they_are(
    store: Store, tmp_path: Path, toy_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(folder: Path) -> tracking.Study:
        shutil.copytree(toy_tasks, folder / "tasks", dirs_exist_ok=True)
        base = {"task": "vowels", "model": "tiny", "folders": [str(folder / "tasks")]}
        return tracking.open_study(expand(Sweep(name="pulse", base=base)), "")

    study = opened(tmp_path)
    run_whole(study, FIRST, "a", store)
    there = tmp_path.with_name(f"{tmp_path.name} moved?%41#")
    tmp_path.rename(there)
    monkeypatch.chdir(there)
    # As in another process.
    monkeypatch.setattr(mlflow_tracking, "_artifact_repos_cache", OrderedDict())
    store = Store()
    moved = opened(there)
    assert moved.run_id == study.run_id
    assert tracking.sync(moved, store, ["a"]) == 0
    # What an older MLflow left here is not looked at.
    (there / "mlruns" / "0").mkdir(parents=True)
    (there / "mlruns" / "0" / "meta.yaml").write_text("name: Default")
    assert tracking.load_forgotten("tiny", "science").parameters
    ((outcome, _),) = tracking.read_experiment("pulse", there / "copies")
    assert outcome.id == "a"
    run_whole(moved, SECOND, "b", store)
    assert len(children(moved)) == 2
    assert all(
        unquote(run.info.artifact_uri).startswith(f"file://{there}/mlartifacts/")
        for run in children(moved)
    )
    assert not tmp_path.exists()
    assert not list(there.parent.glob(f"{tmp_path.name}%*"))


@pytest.mark.parametrize("place", ["shared", "mlartifacts"])
def test_files_that_lie_elsewhere_on_purpose_stay_there(
    place: str, tmp_path: Path, database: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    (tmp_path / "mlartifacts" / "other").mkdir(parents=True)
    location = f"file:///elsewhere/{place}/pulse"
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment("pulse", location)
    places.follow(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_experiment_by_name("pulse").artifact_location == location


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no such host: http://me:pw@host/x, password hunter22"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_a_run_ends_as_its_trial_does(store: Store, error: BaseException, status: str) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    with pytest.raises(type(error)):
        run_broken(study, FIRST, "a", store, error)
    (run,) = children(study)
    assert run.info.status == status
    assert run.data.tags["forget.error"].startswith(type(error).__name__)
    assert len(curve(study, run, "learn/loss")) == 2
    everything = f"{run.to_dictionary()}{(Trials(store).folder('a') / FILE).read_text()}"
    assert "hunter22" not in everything
    assert "me:pw" not in everything

    # The next attempt repeats the second step, and ends well.
    with tracking.trial_sink(
        study, FIRST.model_copy(update={"save": False}), "a", store
    ) as observe:
        train(observe, first=2)
        finish(store, FIRST, "a")
    (run,) = children(study)
    assert_delivered_once(study, run, "a")


def test_steps_that_only_the_server_has_are_not_sent_again(store: Store) -> None:
    """As of a machine that vanished before the store got its journal."""
    study = tracking.open_study(expand(SWEEP), "")
    with pytest.raises(KeyboardInterrupt):
        run_broken(study, FIRST, "a", store, KeyboardInterrupt())
    (Trials(store).folder("a") / FILE).unlink()
    with tracking.trial_sink(
        study, FIRST.model_copy(update={"save": False}), "a", store
    ) as observe:
        train(observe)
        finish(store, FIRST, "a")
    (run,) = children(study)
    assert [step for step, _ in curve(study, run, "learn/loss")] == [1, 2, 3]


def test_a_trial_without_an_outcome_has_failed(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    with tracking.trial_sink(study, FIRST, "a", store) as observe:
        train(observe)
    (run,) = children(study)
    assert run.info.status == "FAILED"
    with pytest.raises(BadInput, match="not finished"):
        tracking.publish(study, store, "a")


def test_sync_closes_the_run_of_a_killed_process_alone(store: Store, tmp_path: Path) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    (tmp_path / "study").write_bytes(pickle.dumps(study))
    script = """
        import os, pickle, signal, sys, time
        sys.path[:0] = sys.argv[1].split(os.pathsep)
        from pathlib import Path
        from forget import report, tracking
        from mlflow.tracking import MlflowClient
        from forget.events import Step
        from forget.storage.store import Store
        from forget.settings.trial import Trial
        study = pickle.loads(Path("study").read_bytes())
        trial, store = Trial(task="science", model="tiny"), Store(Path(".forget"))
        mine = "tags.`forget.trial` = 'a'"
        with tracking.trial_sink(study, trial, "a", store) as observe:
            observe(Step(stage="learn", step=1, steps=3, loss=1.0, lr=0.1, tokens=1))
            while not MlflowClient(study.uri).search_runs([study.experiment_id], mine):
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), os.pathsep.join(sys.path)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with tracking.trial_sink(study, SECOND, "b", store) as observe:
        train(observe)
        assert tracking.sync(study, store, []) == 0
        statuses = {run.data.tags["forget.trial"]: run.info.status for run in children(study)}
        assert statuses["a"] == "KILLED"
        assert statuses.get("b", "RUNNING") == "RUNNING"
        with (
            pytest.raises(BadInput, match="another process"),
            tracking.trial_sink(study, SECOND, "b", store),
        ):
            pass
        finish(store, SECOND, "b")


def test_an_interrupted_upload_leaves_one_model(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    finish(store, FIRST, "a")
    journal = Journal(Trials(store).folder("a") / FILE)
    journal.append(Started(trial=FIRST, id="a", tags={}, datasets=study.datasets))
    train(journal.append)
    journal.append(Ended(status="FINISHED"))
    client = MlflowClient(study.uri)
    run = client.create_run(
        study.experiment_id, tags={"forget.trial": "a", "mlflow.parentRunId": study.run_id}
    )
    client.create_logged_model(study.experiment_id, name="model", source_run_id=run.info.run_id)

    assert tracking.sync(study, store, ["a"]) == 1
    assert_delivered_once(study, run, "a")


def test_a_sweep_reopens_its_parent(store: Store, tmp_path: Path) -> None:
    study = tracking.open_study(expand(SWEEP), "name = 'pulse'")
    page = tmp_path / "report" / "index.html"
    page.parent.mkdir()
    page.write_text("report")

    def report(spread: float) -> Report:
        return Report(
            page,
            {"spread": Estimate(spread, 0.0, 1.0, 8)},
            {"some": "holds in 1, contradicted in 2"},
        )

    tracking.close_study(study, "FINISHED", {"trials_finished": 1}, report(0.25))
    more = SWEEP.model_copy(update={"resources": SWEEP.resources.model_copy(update={"cpus": 2})})
    again = tracking.open_study(expand(more), "name = 'pulse'")
    client = MlflowClient(study.uri)
    assert again.run_id == study.run_id
    assert client.get_run(study.run_id).info.status == "RUNNING"
    tracking.close_study(again, "KILLED", {"trials_finished": 1}, report(0.5))

    run = client.get_run(study.run_id)
    assert run.info.status == "KILLED"
    assert run.data.metrics == {
        "trials_finished": 1,
        "spread": 0.5,
    }
    # Each number is a curve over the goes at the sweep: no two points of it are at the same step.
    assert curve(study, run, "spread") == [(0, 0.25), (1, 0.5)]
    assert curve(study, run, "trials_finished") == [(0, 1)]
    assert "holds in 1, contradicted in 2" in run.data.tags["mlflow.note.content"]
    assert [f.path for f in client.list_artifacts(run.info.run_id, "report")] == [
        "report/index.html"
    ]
    assert run.data.params == {"task": "science", "model": "tiny"}
    assert [d.dataset.name for d in run.inputs.dataset_inputs] == ["science"]
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"report", "spec.toml"}
    other = tracking.open_study(
        expand(SWEEP.model_copy(update={"base": {**SWEEP.base, "seed": 7}})), ""
    )
    assert (other.experiment_id, other.run_id != study.run_id) == (study.experiment_id, True)
    client.delete_experiment(study.experiment_id)
    with pytest.raises(BadInput, match="was deleted"):
        tracking.open_study(expand(SWEEP), "")


def test_a_server_that_was_away_gets_everything_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pw@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = tracking.open_study(expand(SWEEP), "spec text")
    assert study.run_id == ""
    run_whole(study, FIRST, "a", store)
    with pytest.raises(ValueError, match="broken"):
        run_broken(study, SECOND, "b", store, ValueError("broken"))
    warnings = [
        record.name for record in caplog.records if record.name.startswith("forget.tracking")
    ]
    assert warnings == ["forget.tracking.study", *2 * ["forget.tracking.stream"]], (
        "one by the sweep and one by each trial"
    )
    assert "me:pw" not in caplog.text
    with pytest.raises(tracking.Unreachable):
        tracking.sync(study, store, ["a", "b"])

    with server(port, tmp_path):
        assert tracking.sync(study, store, ["a", "b"]) == 1
        assert tracking.sync(study, store, ["a", "b"]) == 0
        study = tracking.open_study(expand(SWEEP), "spec text")
        runs = {run.data.tags["forget.trial"]: run for run in children(study)}
        assert_delivered_once(study, runs["a"], "a")
        assert runs["b"].info.status == "FAILED"
        assert runs["b"].data.tags["forget.error"] == "ValueError: broken"
        assert len(curve(study, runs["b"], "learn/loss")) == 2
        assert tracking.load_forgotten("tiny", "science").name == "forgotten-tiny-science/1"


@contextlib.contextmanager
def server(port: int, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "served"),
    ]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")
    }
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = (
        "false"  # three more processes, and nothing for them to do
    )
    with (folder / "server.log").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1),
            ):
                break
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def test_the_journal_survives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "trial" / FILE
    journal = Journal(path)
    train(journal.append)
    journal.close()
    with path.open("a") as stream:
        stream.write('{"time": 1, "kind": "st')
    resumed = Journal(path)
    assert len(resumed.entries()) == 4
    train(resumed.append, first=2)
    steps = [(e.event.step, e.event.loss) for e in resumed.entries() if isinstance(e.event, Step)]
    assert steps == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        "stage",
        *3 * ["step"],
        "stage",
        "step",
        "step",
    ]
    resumed.close()
    path.write_text('{"time": 1, "kind": "nonsense"}\n')
    with pytest.raises(BadInput, match="line 1"):
        Journal(path).entries()


def test_the_default_store_lies_in_the_working_directory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    command, environment = tracking.ui_command()
    assert command[1:6] == ["-m", "mlflow", "server", "--host", "127.0.0.1"]
    assert environment == {"MLFLOW_BACKEND_STORE_URI": tracking.tracking_uri()}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pw@tracking.example")
    with pytest.raises(BadInput, match=r"https://\*\*\*@tracking.example"):
        tracking.ui_command()
    assert views.link("https://me:pw@tracking.example/", "7").startswith(
        f"https://***@tracking.example/#/experiments/7/runs?viewStateShareKey={views.TRIALS}"
    )
    assert (
        tracking.registered_name("smollm2-135m/15", "science")
        == "forgotten-smollm2-135m-15-science"
    )


def test_importing_changes_nothing_of_the_process(tmp_path: Path) -> None:
    """Assert that the environment is as before, and that MLflow has noted nothing on disk."""
    script = """
        import os
        before = dict(os.environ)
        import forget.storage.remote, forget.tracking
        assert os.environ == before, set(os.environ.items()) ^ set(before.items())
        from mlflow.telemetry import get_telemetry_client
        assert get_telemetry_client() is None
        assert not list(os.scandir(os.environ["HOME"]))
        forget.tracking.connection.connect("sqlite:///mlflow.db")
        manners = {key: os.environ[key] for key in os.environ.keys() - before.keys()}
        assert manners == forget.tracking.connection.MANNERS, manners
    """
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def published(
    study: tracking.Study, trial: Trial, id: str, store: Store, answers: int = 4
) -> Outcome:
    """Publish a finished trial with Rows alone."""
    outcome = Outcome(
        trial=trial,
        id=id,
        learned_id="l" * 16,
        data="d" * 16,
        measures={},
        parameters=90_496,
        seconds=1.0,
    )
    rows = [
        Row(id, "forgotten", "science", "test", str(i), i % 2, (-1.0, -2.0), (1, 1))
        for i in range(answers)
    ]
    Trials(store).finish(outcome, rows)
    assert tracking.publish(study, store, id)
    return outcome


def test_an_experiment_is_read_trial_by_trial(store: Store, tmp_path: Path) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    first, second = (
        published(study, trial, id, store) for trial, id in ((FIRST, "a"), (SECOND, "b"))
    )
    told: list[object] = []
    found = tracking.read_experiment("pulse", tmp_path / "copies", told.append)
    assert [outcome for outcome, _ in found] == [first, second]
    assert [read_rows(rows) for _, rows in found] == [
        Trials(store).rows("a"),
        Trials(store).rows("b"),
    ]
    assert told == [
        StageStarted(stage="fetch", steps=2),
        *(Step(stage="fetch", step=i, steps=2) for i in (1, 2)),
    ]

    # What was fetched is not fetched again.
    client = MlflowClient(study.uri)
    (tmp_path / "mlartifacts").rename(tmp_path / "gone")
    assert tracking.read_experiment("pulse", tmp_path / "copies") == found
    with pytest.raises(
        BadInput,
        match=r'experiment "pulse" has finished but has no outcome\.json; its files were removed',
    ):
        tracking.read_experiment("pulse", tmp_path / "more")
    (tmp_path / "gone").rename(tmp_path / "mlartifacts")

    # Neither the parent nor what has not finished well is a finished trial.
    for status in ("FAILED", "RUNNING"):
        run = client.create_run(
            study.experiment_id, tags={"forget.trial": status, "mlflow.parentRunId": study.run_id}
        )
        client.update_run(run.info.run_id, status)
    assert tracking.read_experiment("pulse", tmp_path / "copies") == found


def test_a_trial_of_several_parents_is_read_once(store: Store, tmp_path: Path) -> None:
    published(tracking.open_study(expand(SWEEP), ""), FIRST, "a", store)
    changed = SWEEP.model_copy(update={"axes": {"seed": [0, 1]}, "description": "changed"})
    study = tracking.open_study(expand(changed), "")
    assert tracking.publish(study, store, "a")
    second = published(study, SECOND, "b", store)
    time.sleep(0.01)  # the newer of two runs is told by the millisecond
    # The same settings on other data, e.g. of a task that was mended: the last one counts.
    again = published(study, FIRST, "c", store, answers=6)
    assert (
        len(MlflowClient(study.uri).search_runs([study.experiment_id], "tags.`forget.trial` != ''"))
        == 4
    )
    found = tracking.read_experiment("pulse", tmp_path / "copies")
    assert {outcome.id for outcome, _ in found} == {again.id, second.id}
    assert len(found) == 2


def test_an_experiment_that_cannot_be_read_is_refused_in_one_sentence(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    with pytest.raises(BadInput, match='no experiment is named "pulse"; there is none yet'):
        tracking.read_experiment("pulse", copies)
    study = tracking.open_study(expand(SWEEP), "")
    with pytest.raises(BadInput, match='no experiment is named "pusle"; did you mean "pulse"'):
        tracking.read_experiment("pusle", copies)
    with pytest.raises(BadInput, match='experiment "pulse" has no finished trial'):
        tracking.read_experiment("pulse", copies)
    published(study, FIRST, "a", store)

    (_, rows), = tracking.read_experiment("pulse", copies)  # fmt: skip
    outcome = rows.with_name("outcome.json")
    whole = outcome.read_text(), rows.read_bytes()
    older = {key: value for key, value in json.loads(whole[0]).items() if key != "learned_id"}
    columns = pq.read_table(rows).drop_columns(["step", "similarity", "spread"])
    for change in (
        lambda: outcome.write_text(json.dumps({**older, "learned": "l"})),
        lambda: outcome.write_text("half of"),
        lambda: pq.write_table(columns, rows),
        lambda: rows.write_bytes(b"PAR1"),
    ):
        outcome.write_text(whole[0])
        rows.write_bytes(whole[1])
        change()
        with pytest.raises(
            BadInput, match=r'run [0-9a-f]{32} of experiment "pulse" was written by another version'
        ) as refused:
            tracking.read_experiment("pulse", copies)
        assert "\n" not in str(refused.value)

    MlflowClient(study.uri).delete_experiment(study.experiment_id)
    with pytest.raises(
        BadInput,
        match=rf'"pulse" was deleted; run `mlflow experiments restore -x {study.experiment_id}`$',
    ):
        tracking.read_experiment("pulse", copies)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(tracking.Unreachable) as away:
        tracking.read_experiment("pulse", copies)
    assert "me:pw" not in str(away.value)


def test_a_study_with_names_of_before_is_renamed_by_sync(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a run that was published with hundreds of metrics, which MLflow cannot rename."""
    with monkeypatch.context() as before:
        before.setattr(study_room, "_keys", lambda study, names=None: keys(study))
        old = tracking.open_study(expand(SWEEP), "")
        run_whole(old, FIRST, "a", store)
        with pytest.raises(KeyboardInterrupt):
            run_broken(old, SECOND, "b", store, KeyboardInterrupt())
    client = MlflowClient(old.uri)
    gone, kept = sorted(children(old), key=lambda run: run.data.tags["forget.trial"])
    client.log_metric(gone.info.run_id, ACCURACY, 0.5)
    client.set_tag(gone.info.run_id, "mine", "look at this")
    study = tracking.open_study(expand(SWEEP), "")
    assert study.run_id != old.run_id
    assert tracking.sync(study, store, ["a"]) == 1
    runs = {run.data.tags["forget.trial"]: run for run in children(study)}
    assert runs.keys() == {"a", "b"}
    assert runs["b"].info.run_id == kept.info.run_id
    assert ACCURACY not in runs["a"].data.metrics
    assert runs["a"].data.tags["mine"] == "look at this"
    assert client.get_run(gone.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(old.run_id).info.lifecycle_stage == "deleted"
    version = client.get_model_version("forgotten-tiny-science", "1")
    assert version.tags["forget.run"] == runs["a"].info.run_id
    assert tracking.sync(study, store, ["a"]) == 0
    assert [outcome.id for outcome, _ in tracking.read_experiment("pulse", Path("copies"))] == ["a"]


def test_views_are_written_once_and_leave_a_users_own_alone(store: Store) -> None:
    study = tracking.open_study(expand(SWEEP), "")
    client = MlflowClient(study.uri)
    before = client.get_experiment(study.experiment_id).tags
    found = {key: json.loads(text) for key, text in before.items() if key.startswith(views.PREFIX)}
    assert {view["name"] for view in found.values()} == {
        "Trials",
        "Trained against held out",
        "Probes by layer",
        "Training",
    }
    client.set_experiment_tag(study.experiment_id, f"{views.PREFIX}mine", "{}")
    client.set_experiment_tag(study.experiment_id, "mlflow.note.content", "mine")
    damaged = f"{views.PREFIX}{views.TRIALS}"
    client.set_experiment_tag(study.experiment_id, damaged, '{"name": "Trials", "state": "{}"}')
    tracking.open_study(expand(SWEEP), "")
    now = client.get_experiment(study.experiment_id).tags
    assert now[f"{views.PREFIX}mine"] == "{}"
    assert now["mlflow.note.content"] == "mine"
    assert json.loads(now[damaged])["state"] == found[damaged]["state"]
    others = found.keys() - {damaged}
    assert {key: now[key] for key in others} == {key: before[key] for key in others}
    assert f"/experiments/{study.experiment_id}/runs?viewStateShareKey={views.TRIALS}" in str(
        tracking.newest_link("http://127.0.0.1:5000")
    )
