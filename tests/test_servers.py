"""A sweep through the servers of a cluster: PostgreSQL, an S3 store, MLflow's server with passwords; all real, on loopback."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import servers
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import S3, Tracking

from forget import tracking
from forget.events import Outcome
from forget.metrics import metric_name
from forget.settings import BadInput
from forget.store import Store

SPEC = """
name = "study"
description = "Through the servers of a cluster."

[base]
task = "vowels"
model = "tiny"
learn = {{ examples = 64, epochs = 6, lr = 1e-2, batch = 16 }}
forget = {{ examples = 48, epochs = 6, batch = 16 }}
probe = {{ examples = 24 }}
precision = "fp32"
folders = ["{folders}"]

[axes]
"forget.lr" = [1e-2, 1e-3, 1e-4]

[resources]
cpus = 1
"""


@dataclass(frozen=True)
class Stack:
    """The servers, and the folder in which they and the sweep leave their files."""

    folder: Path
    s3: S3
    tracking: Tracking

    def python(self, script: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the script in a process of its own, in the folder `work`."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        environment = servers.clean(self.folder) | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=180, check=False)

    @property
    def secrets(self) -> list[str]:
        backend = self.tracking.backend
        names = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
        return [self.tracking.password, self.s3.secret, *(backend[name] for name in names)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        servers.postgres(folder) as database,
        servers.seaweedfs(folder) as s3,
        servers.mlflow_server(folder, database, s3) as server,
    ):
        yield Stack(folder, s3, server)


@pytest.fixture
def client(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """As the user that sweeps are."""
    for name, value in stack.tracking.environment.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(stack.tracking.uri)


@dataclass(frozen=True)
class Swept:
    store: Store
    outcomes: dict[str, Outcome]
    output: str
    """Everything that the command wrote."""


@pytest.fixture(scope="module")
def swept(stack: Stack, toy_tasks: Path) -> Swept:
    """The sweep has been run once, as a user of the tracking server who is no admin and has no key of the bucket."""
    work = stack.folder / "work"
    work.mkdir(exist_ok=True)
    (work / "study.toml").write_text(SPEC.format(folders=toy_tasks))
    script = """
        import sys
        sys.argv = ["forget", "sweep", "study.toml"]
        from pipelines.cli import main
        main()
    """
    done = stack.python(script, stack.tracking.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(work / ".forget")
    outcomes = [store.outcome(folder.name) for folder in (store.root / "trials").iterdir()]
    return Swept(store, {outcome.id: outcome for outcome in outcomes if outcome}, done.stdout + done.stderr)


def runs(client: MlflowClient) -> list[Run]:
    """The sweep's own run first, then its trials'."""
    experiment = client.get_experiment_by_name("study")
    assert experiment
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda run: "mlflow.parentRunId" in run.data.tags)


def get(url: str, user: str = "", password: str = "", host: str = "") -> tuple[int, str]:
    """Status and text of the answer."""
    headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()} if user else {}
    headers |= {"Host": host} if host else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_that_dies_while_starting_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]
    starting = servers.server(command, tmp_path / "log", lambda: False, dict(os.environ), cwd=tmp_path)
    with pytest.raises(RuntimeError, match="exit code 1 while starting:\nthe port is taken"), starting:
        pass


def test_who_has_no_password_or_a_wrong_one_is_refused(
    stack: Stack, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = f"{stack.tracking.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    artifacts = f"{stack.tracking.uri}/api/2.0/mlflow-artifacts/artifacts"
    user, password = stack.tracking.user, stack.tracking.password
    for url in (search, artifacts, f"{stack.tracking.uri}/"):
        assert get(url)[0] == 401
        assert get(url, user, "wrong")[0] == 401
        assert get(url, "nobody", password)[0] == 401
    assert get(search, user, password)[0] == 200
    # Probes have no password.
    assert get(f"{stack.tracking.uri}/health") == (200, "OK")

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(tracking.Unreachable, match="401") as refused:
        tracking.load_forgotten("tiny", "vowels")
    assert "wrong" not in str(refused.value)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(tracking.Unreachable, match="401"):
        tracking.load_forgotten("tiny", "vowels")


def test_a_wrong_host_is_refused(stack: Stack) -> None:
    url = f"{stack.tracking.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    user, password = stack.tracking.user, stack.tracking.password
    for host in ("mlflow", "mlflow:5000", "mlflow.forget.svc", "mlflow.forget.svc:5000", "localhost:8080"):
        assert get(url, user, password, host)[0] == 200, host
    for host in ("evil.example", "mlflow.evil.example:5000", "169.254.169.254"):
        assert get(url, user, password, host) == (403, "Invalid Host header - possible DNS rebinding attack detected")


def test_a_sweep_reaches_the_server_whole(stack: Stack, swept: Swept, client: MlflowClient) -> None:
    requests = (stack.folder / "mlflow.log").read_text()
    parent, *children = runs(client)
    assert len(swept.outcomes) == 3
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/finished"] == 3
    assert [child.info.status for child in children] == ["FINISHED"] * 3
    assert {child.data.tags["forget.trial"] for child in children} == set(swept.outcomes)
    stored = stack.s3.keys("mlflow")
    experiment = parent.info.experiment_id
    assert f"{experiment}/{parent.info.run_id}/artifacts/report/report.html" in stored
    for child in children:
        outcome = swept.outcomes[child.data.tags["forget.trial"]]
        name = metric_name("forgotten", "vowels", "test", "accuracy")
        assert child.data.metrics[name] == outcome.measures[name].value
        assert len(client.get_metric_history(child.info.run_id, "forget/loss")) == 18
        # In the bucket lie the very bytes of the store.
        for file in ("rows.parquet", "outcome.json"):
            key = f"{experiment}/{child.info.run_id}/artifacts/{file}"
            assert stack.s3.read("mlflow", key) == (swept.store.trial(outcome.id) / file).read_bytes()
    versions = client.search_model_versions("name = 'forgotten-tiny-vowels'")
    assert {version.tags["forget.trial"] for version in versions} == set(swept.outcomes)
    assert len(versions) == 3
    assert len([key for key in stored if key.startswith(f"{experiment}/models/") and key.endswith(".safetensors")]) == 3
    # A study measures hundreds of numbers a trial and has dozens of curves: nobody asks for each of them.
    assert "runs/log-batch" in requests
    assert "metrics/get-history" not in requests


def test_models_load_back_in_another_process(stack: Stack, swept: Swept, client: MlflowClient) -> None:
    script = """
        import hashlib, json, sys
        import forget, mlflow

        def digests(network):
            tensors = network.state_dict().items()
            return {name: hashlib.sha256(tensor.float().numpy().tobytes()).hexdigest() for name, tensor in tensors}

        model = forget.load_forgotten("tiny", "vowels")
        pipe = mlflow.transformers.load_model("models:/forgotten-tiny-vowels@strongest")
        answer = pipe("0 a", max_new_tokens=1)[0]["generated_text"]
        print(json.dumps([model.name, digests(model.network), digests(pipe.model), answer]))
    """
    done = stack.python(script, stack.tracking.environment)
    assert done.returncode == 0, done.stderr
    name, ours, theirs, answer = json.loads(done.stdout.splitlines()[-1])
    # Of what is not there this server says 403, which must not read as if it could not be reached.
    for wanted, said in (("owls", "no registered model is named"), ("vowels/99", "has no version 99; it has 1")):
        with pytest.raises(BadInput, match=said):
            tracking.load_forgotten(f"forgotten-tiny-{wanted}")
    version = client.get_model_version_by_alias("forgotten-tiny-vowels", "strongest")
    assert name == f"forgotten-tiny-vowels/{version.version}"
    assert answer.startswith("0 a")

    from safetensors.torch import load

    id = version.source.removeprefix("models:/")
    (key,) = [key for key in stack.s3.keys("mlflow") if f"/{id}/" in key and key.endswith(".safetensors")]
    weights = load(stack.s3.read("mlflow", key))
    stored = {name: hashlib.sha256(tensor.float().numpy().tobytes()).hexdigest() for name, tensor in weights.items()}
    assert stored.items() <= ours.items()
    assert ours == theirs


def test_prometheus_reads_metrics(stack: Stack, swept: Swept) -> None:
    url = f"{stack.tracking.uri}/metrics"
    assert get(url)[0] == 401
    # They are for the admin: everybody else may see the runs, but not who asks for them.
    assert get(url, stack.tracking.user, stack.tracking.password)[0] == 403
    code, text = get(url, "admin", stack.tracking.backend["MLFLOW_AUTH_ADMIN_PASSWORD"])
    assert code == 200
    assert "# TYPE mlflow_http_request_total counter" in text
    assert 'status="200"' in text


def test_garbage_is_collected(stack: Stack, swept: Swept, client: MlflowClient) -> None:
    """A run that is deleted stays for thirty days; then `mlflow gc` removes it, its files and its model, and nothing else."""
    _, gone, *others = runs(client)
    (model,) = client.search_logged_models([gone.info.experiment_id], f"source_run_id = '{gone.info.run_id}'")
    name, _, version = gone.data.tags["forget.model"].partition("/")
    client.delete_model_version(name, version)
    client.delete_logged_model(model.model_id)
    client.delete_run(gone.info.run_id)

    backend = stack.tracking.backend | stack.tracking.environment | {"MLFLOW_TRACKING_USERNAME": "admin"}
    backend["MLFLOW_TRACKING_PASSWORD"] = backend["MLFLOW_AUTH_ADMIN_PASSWORD"]
    collect = servers.command("CronJob", "mlflow-gc", backend)
    before = stack.s3.keys("mlflow")
    servers.run(collect, stack.folder / "gc.log", backend)
    assert stack.s3.keys("mlflow") == before
    collect[collect.index("--older-than") + 1] = "0d0h0m0s"
    servers.run(collect, stack.folder / "gc.log", backend)

    removed = {key for key in before if f"/{gone.info.run_id}/" in key or f"/{model.model_id}/" in key}
    assert any(key.endswith("rows.parquet") for key in removed)
    assert any(key.endswith(".safetensors") for key in removed)
    assert stack.s3.keys("mlflow").keys() == before.keys() - removed
    assert [run.info.run_id for run in runs(client)[1:]] == [run.info.run_id for run in others]
    with pytest.raises(BadInput, match=f"no version {version}"):
        tracking.load_forgotten(f"{name}/{version}")


def test_no_password_is_written_anywhere(stack: Stack, swept: Swept) -> None:
    """Not in what the command says, the store, the journals, the report, the servers' logs, the database, or the bucket."""
    texts = {"output": swept.output.encode()}
    for file in stack.folder.rglob("*"):
        if file.is_file() and file.name != "s3.json" and stack.folder / "seaweedfs" not in file.parents:
            texts[str(file)] = file.read_bytes()
    for key in stack.s3.keys("mlflow"):
        texts[f"s3://mlflow/{key}"] = stack.s3.read("mlflow", key)
    dump = subprocess.run(["pg_dump"], env=stack.tracking.backend, capture_output=True, check=True)
    texts["database"] = dump.stdout
    for file in ("journal.jsonl", "mlflow.log", "migrate.log", "postgres.log", "seaweedfs.log", "report.html"):
        assert any(name.endswith(file) and text for name, text in texts.items()), file
    assert b"forgotten-tiny-vowels" in texts["database"]
    found = [name for name, text in texts.items() for secret in stack.secrets if secret.encode() in text]
    assert found == []
