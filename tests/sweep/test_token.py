"""A Ray head as KubeRay starts it, with a dashboard and a token.

Without the token nothing is read or submitted.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DASHBOARD = ("aiohttp_cors", "opencensus", "virtualenv")
"""Packages that ray[default] adds; images have them."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, DASHBOARD)),
        reason="needs pip install -c constraints.txt -e '.[cluster]'",
    ),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def status(url: str, token: str | None = None) -> int:
    """Return the status of the answer; 0 where nobody listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


@dataclass(frozen=True)
class Head:
    """A head without workers."""

    folder: Path
    gcs: str
    dashboard: str
    token: str = field(repr=False)
    environment: dict[str, str] = field(repr=False)

    def run(self, token: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command with that token; with none, where it is empty."""
        mode = (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
            if token
            else {"RAY_AUTH_MODE": "disabled"}
        )
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment | mode,
            capture_output=True,
            text=True,
            timeout=200,
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = clean | {
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    token = secrets.token_hex(32)
    gcs, dashboard = free_port(), free_port()
    # Sockets lie there, whose paths end at 107 bytes.
    short = Path(f"/tmp/ray-{secrets.token_hex(4)}")
    start = [
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--num-cpus=1",
        f"--port={gcs}",
        f"--dashboard-port={dashboard}",
    ]
    start += ["--dashboard-host=127.0.0.1", f"--temp-dir={short}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            start,
            env=environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 120
        # Open to all: the kubelet asks it.
        while status(f"http://127.0.0.1:{dashboard}/api/gcs_healthz") != 200:
            assert time.monotonic() < until, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
        yield Head(folder, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", token, environment)
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.parametrize(
    "path", ["/api/jobs/", "/api/version", "/api/cluster_status", "/nodes?view=summary"]
)
def test_the_dashboard_answers_to_the_token_alone(path: str, head: Head) -> None:
    assert [status(head.dashboard + path, token) for token in (None, "0" * 64, head.token)] == [
        401,
        403,
        200,
    ]


def test_a_job_is_submitted_with_the_token_alone(head: Head) -> None:
    submit = (str(BIN / "ray"), "job", "submit", f"--address={head.dashboard}", "--", "echo", "ran")
    none, wrong, right = (head.run(token, *submit) for token in ("", "0" * 64, head.token))
    assert [one.returncode for one in (none, wrong, right)] == [1, 1, 0], right.stderr
    assert "Missing authentication token" in none.stdout + none.stderr
    assert "Invalid authentication token" in wrong.stdout + wrong.stderr
    assert "ran" in right.stdout


def test_a_sweep_with_another_token_is_told_so(head: Head) -> None:
    sweep = (
        sys.executable,
        "-m",
        "pipelines.cli",
        "sweep",
        str(ROOT / "k8s/base/spec.toml"),
        "--address",
        head.gcs,
    )
    done = head.run("0" * 64, *sweep)
    assert done.returncode == 2
    assert "RAY_AUTH_TOKEN must be its token" in done.stderr
    assert "Traceback" not in done.stderr
