"""A sweep through the servers of a cluster, all real, on loopback.

They are PostgreSQL, an S3 store, and MLflow's server with passwords.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote, quote_plus

import pytest
import requests
import servers
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import S3, Tracking

from forget import tracking
from forget.errors import BadInput
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome
from forget.storage.finished import Trials
from forget.storage.store import Store

pytestmark = pytest.mark.servers

RUN = """
    import shutil, sys, ray
    from pipelines import sweep as sweeps
    from pipelines.cli.app import main

    {prelude}
    sys.argv = ["forget", "sweep", "{spec}"]
    with sweeps.cluster():
        try:
            main()
        finally:
            shutil.copytree(ray._private.worker._global_node.get_logs_dir_path(), "ray-logs-{spec}")
"""
"""The command, and Ray's logs of it, which are gone with Ray."""

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

    shown: set[str] = field(default_factory=set)
    """The command lines of all processes of this machine, as `ps` showed them to everybody while
    scripts ran.
    """

    def python(
        self, script: str, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run the script in a process of its own, in the folder `work`."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        environment = (
            servers.clean(self.folder) | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
        )
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.3):
                for file in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):  # a process that has ended
                        self.shown.add(
                            file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )

        looking = threading.Thread(target=look)
        looking.start()
        try:
            return subprocess.run(
                command,
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
        finally:
            done.set()
            looking.join()

    @property
    def secrets(self) -> list[str]:
        backend = self.tracking.backend
        names = (
            "PGPASSWORD",
            "MLFLOW_AUTH_ADMIN_PASSWORD",
            "MLFLOW_FLASK_SERVER_SECRET_KEY",
            "AWS_SECRET_ACCESS_KEY",
        )
        keys = [self.s3, *self.s3.limited.values()]
        return [
            self.tracking.password,
            *(key.secret for key in keys),
            *(backend[name] for name in names),
        ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        servers.postgres(folder) as database,
        servers.seaweedfs(folder) as s3,
        servers.mlflow_server(folder, database, s3, workers=2) as server,
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
    """Run the sweep once, as a user of the server who is no admin and has no key of the bucket."""
    work = stack.folder / "work"
    work.mkdir(exist_ok=True)
    (work / "study.toml").write_text(SPEC.format(folders=toy_tasks))
    done = stack.python(RUN.format(prelude="", spec="study.toml"), stack.tracking.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(work / ".forget")
    outcomes = [Trials(store).outcome(folder.name) for folder in (store.root / "trials").iterdir()]
    return Swept(
        store, {outcome.id: outcome for outcome in outcomes if outcome}, done.stdout + done.stderr
    )


FAILING = """
name = "failing"

[base]
model = "tiny"
learn = {{ examples = 64, epochs = 6, lr = 1e-2, batch = 16 }}
forget = {{ examples = 48, epochs = 6, batch = 16 }}
probe = {{ examples = 0 }}
precision = "fp32"
save = false
folders = ["{folders}", "more"]

[axes]
task = ["vowels", "upper", "refused"]

[resources]
retries = 0
"""

BROKEN = """
    import os
    from forget.errors import BadInput
    from pipelines.sweep import driver, worker

    class Broken(worker.Slot):
        def _run(self, trial, observe):
            uri, token = os.environ["MLFLOW_TRACKING_URI"], os.environ["HF_TOKEN"]
            sentence = f"no answer from {uri} with {token}"
            if trial.task == "upper":
                raise ConnectionError(sentence)
            if trial.task == "refused":
                raise BadInput(sentence)
            super()._run(trial, observe)

    driver.Slot = Broken
"""


@dataclass(frozen=True)
class Failed:
    """Secrets of a sweep's environment, and everything that the sweep wrote."""

    secrets: list[str]
    output: str


@pytest.fixture(scope="module")
def failed(stack: Stack, toy_tasks: Path) -> Failed:
    """Run a sweep into an S3 store, and send it.

    The server refuses its password, one of its trials meets a bug whose message holds secrets, and
    one is refused with a secret in the sentence. It is sent with the right password.
    """
    work = stack.folder / "work"
    uri, secret = stack.tracking.uri.removeprefix("http://"), f"{token_hex(12)}/@+"
    refused = f"http://{stack.tracking.user}:{quote(secret, safe='')}@{uri}"
    shutil.copytree(toy_tasks / "vowels", work / "more" / "refused")
    (work / "failing.toml").write_text(FAILING.format(folders=toy_tasks))
    store = {
        "FORGET_STORE": stack.s3.make_bucket("forget") + "/studies",
        "HF_TOKEN": f"hf_{token_hex(16)}",
    }
    store |= stack.s3.limited["forget"].environment
    done = stack.python(
        RUN.format(prelude=BROKEN, spec="failing.toml"), store | {"MLFLOW_TRACKING_URI": refused}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    sync = """
        import sys
        from pipelines.cli.app import main

        sys.argv = ["forget", "sync", "failing.toml"]
        main()
    """
    sent = stack.python(sync, store | stack.tracking.environment)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    return Failed(
        [secret, store["HF_TOKEN"]], done.stdout + done.stderr + sent.stdout + sent.stderr
    )


def runs(client: MlflowClient) -> list[Run]:
    """Return the sweep's own run first, then its trials'."""
    experiment = client.get_experiment_by_name("study")
    assert experiment
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda run: "mlflow.parentRunId" in run.data.tags)


def get(
    url: str,
    user: str = "",
    password: str = "",
    host: str = "",
    origin: str = "",
    send: object = None,
    method: str = "",
) -> tuple[int, str]:
    """Status and text of the answer; what there is to `send` goes as JSON."""
    headers = (
        {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
        if user
        else {}
    )
    headers |= ({"Host": host} if host else {}) | ({"Origin": origin} if origin else {})
    headers |= {"Content-Type": "application/json"} if send else {}
    data = json.dumps(send).encode() if send else None
    request = urllib.request.Request(url, data, headers, method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_that_dies_while_starting_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]
    starting = servers.Server(
        command, tmp_path / "log", lambda: False, dict(os.environ), cwd=tmp_path
    )
    with (
        pytest.raises(RuntimeError, match="exit code 1 while starting:\nthe port is taken"),
        starting,
    ):
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


def test_no_answer_waits_for_an_acknowledgement(stack: Stack) -> None:
    """Workers share a socket on which asyncio leaves Nagle's algorithm on.

    So the body would come 40 ms after the header.
    """
    waited = []
    with requests.Session() as session:
        session.auth = (stack.tracking.user, stack.tracking.password)
        for _ in range(40):
            address = f"{stack.tracking.uri}/api/2.0/mlflow/experiments/search?max_results=1"
            with session.get(address, stream=True) as answer:
                began = time.perf_counter()
                assert answer.content
                waited.append(time.perf_counter() - began)
    # The kernel acknowledges what comes first on a connection at once.
    assert min(waited[20:]) < 0.02


def test_a_wrong_host_is_refused(stack: Stack) -> None:
    url = f"{stack.tracking.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    user, password = stack.tracking.user, stack.tracking.password
    for host in (
        "mlflow",
        "mlflow:5000",
        "mlflow.forget.svc",
        "mlflow.forget.svc:5000",
        "localhost:8080",
    ):
        assert get(url, user, password, host)[0] == 200, host
    for host in ("evil.example", "mlflow.evil.example:5000", "169.254.169.254"):
        assert get(url, user, password, host) == (
            403,
            "Invalid Host header - possible DNS rebinding attack detected",
        )


def test_a_page_of_elsewhere_changes_nothing(stack: Stack) -> None:
    url = f"{stack.tracking.uri}/api/2.0/mlflow/experiments/create"
    user, password = stack.tracking.user, stack.tracking.password
    for origin in ("https://evil.example", "null"):
        answer = get(url, user, password, origin=origin, send={"name": "planted"})
        assert answer == (403, "Cross-origin request blocked"), origin


def test_a_sweep_reaches_the_server_whole(stack: Stack, swept: Swept, client: MlflowClient) -> None:
    requests = (stack.folder / "mlflow.log").read_text()
    parent, *children = runs(client)
    assert len(swept.outcomes) == 3
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_finished"] == 3
    assert [child.info.status for child in children] == ["FINISHED"] * 3
    assert {child.data.tags["forget.trial"] for child in children} == set(swept.outcomes)
    stored = stack.s3.keys("mlflow")
    experiment = parent.info.experiment_id
    assert f"{experiment}/{parent.info.run_id}/artifacts/report/report.html" in stored
    for child in children:
        outcome = swept.outcomes[child.data.tags["forget.trial"]]
        name = metric_name("forgotten", "vowels", "test", "accuracy")
        assert child.data.metrics["forgotten"] == outcome.measures[name].value
        assert len(child.data.metrics) <= 60
        assert len(client.get_metric_history(child.info.run_id, "forget/loss")) == 18
        # In the bucket lie the very bytes of the store.
        for file in ("rows.parquet", "outcome.json"):
            key = f"{experiment}/{child.info.run_id}/artifacts/{file}"
            assert (
                stack.s3.read("mlflow", key)
                == (Trials(swept.store).folder(outcome.id) / file).read_bytes()
            )
    versions = client.search_model_versions("name = 'forgotten-tiny-vowels'")
    assert {version.tags["forget.trial"] for version in versions} == set(swept.outcomes)
    assert len(versions) == 3
    assert (
        len(
            [
                key
                for key in stored
                if key.startswith(f"{experiment}/models/") and key.endswith(".safetensors")
            ]
        )
        == 3
    )
    # A study measures hundreds of numbers a trial: nobody asks for each of them. MLflow asks for
    # the curves that a run has when its model is logged: loss, rate and speed of both stages.
    assert "runs/log-batch" in requests
    assert requests.count("metrics/get-history") <= 6 * len(children)


def test_models_load_back_in_another_process(
    stack: Stack, swept: Swept, client: MlflowClient
) -> None:
    script = """
        import hashlib, json, sys
        import forget, mlflow

        def digests(network):
            tensors = network.state_dict().items()
            texts = {name: tensor.float().numpy().tobytes() for name, tensor in tensors}
            return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}

        model = forget.load_forgotten("tiny", "vowels")
        pipe = mlflow.transformers.load_model("models:/forgotten-tiny-vowels@strongest")
        answer = pipe("0 a", max_new_tokens=1)[0]["generated_text"]
        print(json.dumps([model.name, digests(model.network), digests(pipe.model), answer]))
    """
    done = stack.python(script, stack.tracking.environment)
    assert done.returncode == 0, done.stderr
    name, ours, theirs, answer = json.loads(done.stdout.splitlines()[-1])
    # Of what is not there this server says 403, which must not read as if it could not be reached.
    for wanted, said in (
        ("owls", "no registered model is named"),
        ("vowels/99", "has no version 99; it has 1"),
    ):
        with pytest.raises(BadInput, match=said):
            tracking.load_forgotten(f"forgotten-tiny-{wanted}")
    version = client.get_model_version_by_alias("forgotten-tiny-vowels", "strongest")
    assert name == f"forgotten-tiny-vowels/{version.version}"
    assert answer.startswith("0 a")

    from safetensors.torch import load

    id = version.source.removeprefix("models:/")
    (key,) = [
        key for key in stack.s3.keys("mlflow") if f"/{id}/" in key and key.endswith(".safetensors")
    ]
    weights = load(stack.s3.read("mlflow", key))
    stored = {
        name: hashlib.sha256(tensor.float().numpy().tobytes()).hexdigest()
        for name, tensor in weights.items()
    }
    assert stored.items() <= ours.items()
    assert ours == theirs


def test_a_study_is_its_users_alone_until_they_permit_another(
    stack: Stack, swept: Swept, client: MlflowClient
) -> None:
    admin = "admin", stack.tracking.backend["MLFLOW_AUTH_ADMIN_PASSWORD"]
    colleague = "colleague", token_hex(12)
    api = f"{stack.tracking.uri}/api/2.0/mlflow"
    made = get(
        f"{api}/users/create",
        *admin,
        send=dict(zip(("username", "password"), colleague, strict=True)),
    )
    assert made[0] == 200, made
    parent, child, *_ = runs(client)
    experiment, run = parent.info.experiment_id, child.info.run_id
    files = f"{stack.tracking.uri}/api/2.0/mlflow-artifacts/artifacts"
    model, _, version = child.data.tags["forget.model"].partition("/")
    grant = f"{stack.tracking.uri}/api/3.0/mlflow/users/permissions/grant"
    permit = {
        "username": colleague[0],
        "resource_type": "experiment",
        "resource_id": experiment,
        "permission": "READ",
    }
    reads = {
        "the experiment": f"{api}/experiments/get?experiment_id={experiment}",
        "its name": f"{api}/experiments/get-by-name?experiment_name=study",
        "a run": f"{api}/runs/get?run_id={run}",
        "a curve": f"{api}/metrics/get-history?run_id={run}&metric_key=forget/loss",
        "curves": f"{stack.tracking.uri}/ajax-api/2.0/mlflow/metrics/get-history-bulk"
        f"?run_id={run}&metric_key=forget/loss",
        "the list of files": f"{api}/artifacts/list?run_id={run}",
        "a file": f"{files}/{experiment}/{run}/artifacts/rows.parquet",
        "a file by its run": f"{stack.tracking.uri}/get-artifact?run_id={run}&path=outcome.json",
        "a model": f"{api}/registered-models/get?name={model}",
        "a version": f"{api}/model-versions/get?name={model}&version={version}",
        "a version's files": f"{stack.tracking.uri}/model-versions/get-artifact"
        f"?name={model}&version={version}&path=MLmodel",
    }
    changes = {
        "a tag": (
            f"{api}/runs/set-tag",
            {"run_id": run, "key": "forget.trial", "value": "../../out"},
            "POST",
        ),
        "a run more": (f"{api}/runs/create", {"experiment_id": experiment}, "POST"),
        "a run less": (f"{api}/runs/delete", {"run_id": run}, "POST"),
        "an alias": (
            f"{api}/registered-models/alias",
            {"name": model, "alias": "strongest", "version": version},
            "POST",
        ),
        "a file": (f"{files}/{experiment}/{run}/artifacts/outcome.json", {"id": "x"}, "PUT"),
        "a permission": (grant, {**permit, "permission": "MANAGE"}, "POST"),
    }
    assert {what: get(url, *colleague)[0] for what, url in reads.items()} == dict.fromkeys(
        reads, 403
    )
    told = {
        what: get(url, *colleague, send=send, method=method)[0]
        for what, (url, send, method) in changes.items()
    }
    assert told == dict.fromkeys(changes, 403)
    # What searches find is what may be read.
    found = [
        get(f"{api}/experiments/search?max_results=100", *colleague),
        get(f"{api}/runs/search", *colleague, send={"experiment_ids": [experiment]}),
        get(f"{api}/registered-models/search", *colleague),
        get(f"{api}/model-versions/search", *colleague),
        get(f"{api}/logged-models/search", *colleague, send={"experiment_ids": [experiment]}),
    ]
    assert not [text for _, text in found if run in text or model in text or '"study"' in text]

    owner = stack.tracking.user, stack.tracking.password
    assert get(grant, *owner, send=permit)[0] == 200
    assert get(reads["a run"], *colleague)[0] == 200
    assert get(changes["a tag"][0], *colleague, send=changes["a tag"][1])[0] == 403


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
    """`mlflow gc` removes a run thirty days after it was deleted, its files and model, no more."""
    _, gone, *others = runs(client)
    (model,) = client.search_logged_models(
        [gone.info.experiment_id], f"source_run_id = '{gone.info.run_id}'"
    )
    name, _, version = gone.data.tags["forget.model"].partition("/")
    client.delete_model_version(name, version)
    client.delete_logged_model(model.model_id)
    client.delete_run(gone.info.run_id)

    backend = (
        stack.tracking.backend | stack.tracking.environment | {"MLFLOW_TRACKING_USERNAME": "admin"}
    )
    backend["MLFLOW_TRACKING_PASSWORD"] = backend["MLFLOW_AUTH_ADMIN_PASSWORD"]
    collect = servers.command("CronJob", "mlflow-gc", backend)
    before = stack.s3.keys("mlflow")
    servers.run(collect, stack.folder / "gc.log", backend)
    assert stack.s3.keys("mlflow") == before
    collect[collect.index("--older-than") + 1] = "0d0h0m0s"
    servers.run(collect, stack.folder / "gc.log", backend)

    removed = {
        key for key in before if f"/{gone.info.run_id}/" in key or f"/{model.model_id}/" in key
    }
    assert any(key.endswith("rows.parquet") for key in removed)
    assert any(key.endswith(".safetensors") for key in removed)
    assert stack.s3.keys("mlflow").keys() == before.keys() - removed
    assert [run.info.run_id for run in runs(client)[1:]] == [run.info.run_id for run in others]
    with pytest.raises(BadInput, match=f"no version {version}"):
        tracking.load_forgotten(f"{name}/{version}")


def test_no_password_is_written_anywhere(stack: Stack, swept: Swept, failed: Failed) -> None:
    """Assert it of whatever the command says and the stack writes.

    That is the stores, the journals, the report, Ray's and the servers' logs, the database, and the
    buckets. A password stands there neither as it is nor as a URL or a header has it.
    """
    texts = {"output": swept.output.encode(), "output of what failed": failed.output.encode()}
    for file in stack.folder.rglob("*"):
        if (
            file.is_file()
            and file.name != "s3.json"
            and stack.folder / "seaweedfs" not in file.parents
        ):
            texts[str(file)] = file.read_bytes()
    for bucket in servers.BUCKETS:
        for key in stack.s3.keys(bucket):
            texts[f"s3://{bucket}/{key}"] = stack.s3.read(bucket, key)
    dump = subprocess.run(["pg_dump"], env=stack.tracking.backend, capture_output=True, check=True)
    texts["database"] = dump.stdout
    for file in (
        "journal.jsonl",
        "mlflow.log",
        "migrate.log",
        "postgres.log",
        "seaweedfs.log",
        "report.html",
        "raylet.out",
    ):
        assert any(name.endswith(file) and text for name, text in texts.items()), file
    # The failures are told, but for the secrets in them.
    told = [name for name, text in texts.items() if b"no answer from http://***@" in text]
    for file in ("journal.jsonl", "error.txt", "report.html", "output of what failed"):
        assert any(name.endswith(file) for name in told), file
    assert b"forgotten-tiny-vowels" in texts["database"]
    assert b"the tracking server cannot be reached" in texts["output of what failed"]
    found = []
    for form in spelt(stack, failed):
        found += [(name, form) for name, text in texts.items() if form.encode() in text]
    assert found == []


def test_ps_shows_no_password(stack: Stack, swept: Swept, failed: Failed) -> None:
    assert any("ray::" in line for line in stack.shown)
    assert any("postgres" in line for line in stack.shown)
    for form in spelt(stack, failed):
        assert [line for line in stack.shown if form in line] == []


def spelt(stack: Stack, failed: Failed) -> set[str]:
    """Return each secret as it is, in a URL, in a form, and in the header of a request."""
    found = set()
    for secret in (*stack.secrets, *failed.secrets):
        header = base64.b64encode(f"{stack.tracking.user}:{secret}".encode()).decode()
        found |= {secret, quote(secret, safe=""), quote_plus(secret), header}
    return found
