"""The servers of a cluster as real processes on this machine.

They are PostgreSQL, an S3 store (SeaweedFS) and MLflow's tracking server.

Each is a context manager, stopped when the block ends, and by the kernel should the tests be
killed. What they keep is thrown away, so they are stopped at once.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

START_SECONDS = 300
"""A server that is not ready by then has failed; on a quiet machine the slowest takes ten, on a
busy one a minute or two.
"""

STOP_SECONDS = 10
"""After its own signal; then it is killed."""


BASE = Path(__file__).parents[1] / "mlflow" / "base"
"""The tracking server as a cluster runs it. Here its files, commands and settings are used as they
are, but for addresses.
"""


BUCKETS = ("mlflow", "forget")
"""Buckets of a cluster's object store: artifacts, and the store of sweeps."""


@dataclass(frozen=True)
class S3:
    """An object store and a key to it."""

    endpoint: str
    access_key: str
    secret: str = field(repr=False)
    limited: "dict[str, S3]" = field(default_factory=dict)
    """By bucket a key that reaches this bucket alone."""
    server: "Server | None" = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that boto3, s3fs and MLflow read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)

    def make_bucket(self, name: str) -> str:
        """Its address, s3://name."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Size in bytes by key of every object there."""
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        )
        sizes: dict[str, int] = {}
        for page in pages:
            sizes |= {found["Key"]: found["Size"] for found in page.get("Contents", ())}
        return sizes

    def read(self, bucket: str, key: str) -> bytes:
        return self.client().get_object(Bucket=bucket, Key=key)["Body"].read()


@dataclass(frozen=True)
class Tracking:
    """A tracking server and the user that sweeps are."""

    uri: str
    user: str
    password: str = field(repr=False)
    backend: dict[str, str] = field(repr=False)
    """The server's own environment: database, S3 store, secrets, the admin's password."""
    server: "Server | None" = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that a client needs: no database, no S3."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


@dataclass(frozen=True)
class Database:
    """A database and the server that holds it."""

    address: str = field(repr=False)
    """SQLAlchemy's, with the password."""
    server: "Server" = field(repr=False)


@contextlib.contextmanager
def postgres(
    folder: Path, ip: str = "127.0.0.1", fsync: bool = False, connections: int = 50
) -> Iterator[Database]:
    """PostgreSQL with an empty database and a generated password. Logs to folder/postgres.log."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    if not found:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")
    binaries = found[-1].parent
    password = secrets.token_urlsafe(24)
    (port,) = free_ports(1, ip)
    # It refuses to be root, and another user cannot reach into root's temporary folders.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    become = (
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    # A change of user undoes what `Server` asks of the kernel.
    again = ["--pdeathsig=INT"] if become else []
    data = Path(tempfile.mkdtemp(prefix="forget-postgres-"))
    try:
        (data / "password").write_text(password)
        for path in (data, data / "password"):
            shutil.chown(path, user)
        options = [
            "--username=forget",
            f"--pwfile={data}/password",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]
        make = [*become, str(binaries / "initdb"), f"--pgdata={data}/db", "--no-sync", *options]
        run(make, folder / "initdb.log", {"PATH": os.environ["PATH"]}, cwd=data)
        settings = {
            "listen_addresses": ip,
            "port": port,
            "unix_socket_directories": "",
            "fsync": fsync,
        }
        settings["max_connections"] = connections
        serve = [*become, *again, str(binaries / "postgres"), "-D", str(data / "db")]
        for name, value in settings.items():
            serve += ["-c", f"{name}={value}"]
        create = [
            str(binaries / "createdb"),
            f"--host={ip}",
            f"--port={port}",
            "--username=forget",
            "--no-password",
            "mlflow",
        ]

        def ready() -> bool:
            made = subprocess.run(
                create, env={"PGPASSWORD": password}, capture_output=True, text=True, check=False
            )
            return made.returncode == 0 or "already exists" in made.stderr

        # Killed, it would leave shared memory behind; SIGQUIT is its immediate shutdown.
        environment = {"PATH": os.environ["PATH"]}
        with Server(
            serve, folder / "postgres.log", ready, environment, data, stopped_by=signal.SIGQUIT
        ) as started:
            yield Database(f"postgresql+psycopg2://forget:{password}@{ip}:{port}/mlflow", started)
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def seaweedfs(folder: Path, ip: str = "127.0.0.1") -> Iterator[S3]:
    """Start SeaweedFS as an S3 store without buckets, with its owner's key.

    It listens on `ip` alone, at free ports. Data lie in folder/seaweedfs, the log in
    folder/seaweedfs.log.
    """
    weed = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if not weed:
        pytest.skip("no command `weed`: pip install -e '.[test-servers]' -c constraints.txt")
    needs("boto3")
    data = folder / "seaweedfs"
    data.mkdir(parents=True)
    rights = {"owner": ["Admin"]}
    for bucket in BUCKETS:
        rights[bucket] = [f"{right}:{bucket}" for right in ("Read", "Write", "List", "Tagging")]
    keys = {name: (secrets.token_hex(10), secrets.token_hex(20)) for name in rights}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": keys[name][0], "secretKey": keys[name][1]}],
            "actions": actions,
        }
        for name, actions in rights.items()
    ]
    config = folder / "s3.json"
    config.touch(0o600)
    config.write_text(json.dumps({"identities": identities}))
    # By default each of these is a fixed port, and each but the first of a pair is 10000 above it.
    names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    ]
    names += ["s3.port", "s3.port.grpc"]
    ports = dict(zip(names, free_ports(len(names), ip), strict=True))
    with tempfile.TemporaryDirectory(
        prefix="forget-weed-"
    ) as sockets:  # their paths end at 107 bytes
        options: dict[str, object] = {
            "dir": data,
            "ip": ip,
            "ip.bind": ip,
            **ports,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 100,
            "volume.preStopSeconds": 0,
            "filer": "true",
            "filer.localSocket": f"{sockets}/filer",
            "s3": "true",
            "s3.config": config,
            "s3.localSocket": f"{sockets}/s3",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        endpoint = f"http://{ip}:{ports['s3.port']}"
        limited = {bucket: S3(endpoint, *keys[bucket]) for bucket in BUCKETS}

        def ready() -> bool:
            # The gateway is there before the volumes behind it are.
            addresses = (f"{endpoint}/healthz", f"http://{ip}:{ports['master.port']}/dir/assign")
            return all(status(address) == 200 for address in addresses)

        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        command = [
            weed,
            "-logtostderr",
            "server",
            *(f"-{name}={value}" for name, value in options.items()),
        ]
        try:
            with Server(command, folder / "seaweedfs.log", ready, environment, folder) as started:
                yield S3(endpoint, *keys["owner"], limited, started)
        finally:
            # For these sockets there is no option.
            for name, port in ports.items():
                kind, _, way = name.partition(".port.")
                if way:
                    Path(f"/tmp/seaweedfs-{kind}-grpc-{port}.sock").unlink(missing_ok=True)


@contextlib.contextmanager
def mlflow_server(
    folder: Path, database: Database, s3: S3, ip: str = "127.0.0.1", workers: int = 1
) -> Iterator[Tracking]:
    """Start MLflow's server over the database, which is migrated first.

    Its bucket is made. It logs to folder/mlflow.log.
    """
    for module in ("psycopg2", "flask_wtf", "prometheus_flask_exporter"):
        needs(module)
    lines = (BASE / "mlflow.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    s3.make_bucket("mlflow")
    (port,) = free_ports(1, ip)
    where = urllib.parse.urlsplit(database.address)
    backend = clean(folder) | settings | s3.limited["mlflow"].environment
    backend |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PGHOST": str(where.hostname),
        "PGPORT": str(where.port),
        "PGUSER": str(where.username),
        "PGPASSWORD": str(where.password),
        "PGDATABASE": where.path.removeprefix("/"),
        "MLFLOW_AUTH_CONFIG_PATH": str(BASE / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_EXPOSE_PROMETHEUS": str(folder / "metrics"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{settings['ALLOWED_HOSTS']},{ip}:*",
    }
    tracking = Tracking(f"http://{ip}:{port}", "forget", secrets.token_urlsafe(24), backend)
    waits = command("Deployment", "mlflow", backend, "initContainers")
    with subprocess.Popen(
        waits, env=backend, cwd=folder, stdout=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout
        line = waiting.stdout.readline()
        assert "the Job mlflow-migrate makes it): MlflowException: Detected out-of-date" in line, (
            line
        )
        waiting.terminate()
    run(
        command("Job", "mlflow-migrate", backend),
        folder / "migrate.log",
        backend | tracking.environment,
    )
    run(waits, folder / "waited.log", backend)
    serve = [
        *command("Deployment", "mlflow", backend),
        f"--host={ip}",
        f"--port={port}",
        f"--workers={workers}",
    ]
    healthy = f"{tracking.uri}/health"
    with Server(
        serve, folder / "mlflow.log", lambda: status(healthy) == 200, backend, folder
    ) as started:
        yield replace(tracking, server=started)


def command(
    kind: str, name: str, environment: Mapping[str, str], containers: str = "containers"
) -> list[str]:
    """Return what the container of that Deployment, Job or CronJob in mlflow/base runs.

    $(NAME) is replaced as Kubernetes does it. With `initContainers` it is the one that runs first.
    """
    files = [yaml.safe_load_all(path.read_text()) for path in BASE.glob("*.yaml")]
    (found,) = [
        made
        for made in itertools.chain(*files)
        if made["kind"] == kind and made["metadata"]["name"] == name
    ]
    spec = found["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else found["spec"]
    container = spec["template"]["spec"][containers][0]
    words = [*container["command"], *container.get("args", ())]
    return [re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], word) for word in words]


def clean(home: Path) -> dict[str, str]:
    """Return this process's environment without what names a server or a store."""
    names = ("MLFLOW_", "AWS_", "FORGET_", "PG")
    return {key: value for key, value in os.environ.items() if not key.startswith(names)} | {
        "HOME": str(home)
    }


@dataclass
class Server:
    """A process that serves while a block lasts; it can be stopped and started again meanwhile."""

    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(repr=False)
    cwd: Path
    stopped_by: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and return when `ready` says so.

        Raises:
            RuntimeError: it died or was not ready in time; the text is the end of its log.
        """
        # Ctrl-C from the kernel where the tests are killed; mlflow passes it on to its workers.
        guard = ["setpriv", "--pdeathsig=INT"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output:
            process = self._process = subprocess.Popen(
                [*guard, *self.command],
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.cwd,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not self.ready():
            said = self.command[0]
            if process.poll() is not None:
                raise RuntimeError(
                    f"{said} ended with exit code {process.returncode} while starting:"
                    f"\n{tail(self.log)}"
                )
            if time.monotonic() > until:
                raise RuntimeError(
                    f"{said} was not ready after {START_SECONDS} s:\n{tail(self.log)}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, with the processes it started."""
        if process := self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, self.stopped_by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # Its group's number may be another's from now on.
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def run(
    command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run to the end.

    Raises:
        RuntimeError: it failed; the text is the end of its log.
    """
    with log.open("ab") as output:
        done = subprocess.run(
            command,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=cwd,
            timeout=START_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with exit code {done.returncode}:\n{tail(log)}")


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def status(url: str) -> int:
    """Return the HTTP status; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def free_ports(number: int, ip: str = "127.0.0.1") -> list[int]:
    """Find different ports that are still free when needed.

    They lie below those that the kernel and Ray give to connections.
    """
    draw = random.SystemRandom()  # tests that run side by side must not draw alike
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for port in draw.sample(range(20000, 32768), 1000):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((ip, port))
                ports.append(port)
            if len(ports) == number:
                return ports
    raise RuntimeError(f"{number} free ports were not found on {ip}")


def needs(module: str) -> None:
    if not importlib.util.find_spec(module):
        pytest.skip(
            f"no Python package {module}: pip install -e '.[test-servers]' -c constraints.txt"
        )
