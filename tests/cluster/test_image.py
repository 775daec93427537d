"""The images: what their Dockerfiles promise.

Slow: they are built, and a sweep is run in containers as a cluster would.
"""

import ast
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forget.preflight import identify
from forget.settings.reading import read_sweep, spec_path
from forget.storage.finished import Trials
from forget.storage.store import Store

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("Dockerfile", "mlflow/Dockerfile")

TOOLS = ("make", "buildah", "podman", "runc", "debootstrap", "netavark", "aardvark-dns")
INSTALL = "apt-get install buildah podman runc debootstrap netavark aardvark-dns iptables"

STORAGE = Path("/var/tmp/forget-containers")
"""Images of these tests, apart from the machine's own. They stay, so that the next build is quick;
delete it freely.
"""

STAND_IN = "localhost/forget-base:stand-in"
"""Debian's Python 3.11 on Debian 12, in place of python:3.11-slim-bookworm: it can be had without a
registry of images.
"""

CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)
"""As Pod Security "restricted" has it, with a read-only root; HOME, too, has to be a tmpfs, of its
user (U).
"""

slow = [pytest.mark.slow, pytest.mark.timeout(2400)]


def steps(dockerfile: str) -> list[list[str]]:
    """Return its stages, each a list of instructions of one line.

    What precedes the first stage is left out.
    """
    text = re.sub(
        r"^\s*#.*\n", "", (ROOT / dockerfile).read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    stages: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("FROM "):
            stages.append([])
        if line.strip() and stages:
            stages[-1].append(re.sub(r"\s+", " ", line))
    return stages


@pytest.mark.servers("kubectl and tools that check manifests")
@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT}/.venv-deploy/bin:{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("needs hadolint: make setup-deploy")
    found = subprocess.run(
        [hadolint, "--no-color", dockerfile], cwd=ROOT, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_last_stage_has_a_user_labels_and_no_tools(dockerfile: str) -> None:
    stages = steps(dockerfile)
    base = re.search(
        r"^ARG BASE=(\S+)", (ROOT / dockerfile).read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert base
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim-bookworm(@sha256:\w+)?", base[1])
    assert {stage[0].split()[1] for stage in stages} <= {"$BASE", "build"}
    last = stages[-1]
    assert len(stages) > 1
    assert last[0] == "FROM $BASE"
    assert [line for line in last if line.startswith("USER ")] == ["USER 1000:1000"]
    assert not [
        line
        for line in last
        if re.match(r"(RUN|ADD) .*\b(apt-get|apt|pip|gcc|curl|wget|https?:)\b", line)
    ]
    # Everything comes from a stage; nothing of the checkout is copied over as it lies there.
    assert {line.split()[1].partition("=")[0] for line in last if line.startswith("COPY ")} == {
        "--from"
    }
    (labels,) = (line for line in last if line.startswith("LABEL "))
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == {
        "title",
        "description",
        "licenses",
    }


def test_the_build_sees_only_what_it_copies() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[0] == "*"
    seen = {line[1:] for line in ignore if line.startswith("!")}
    copied: set[str] = set()
    for stage in itertools.chain(*map(steps, DOCKERFILES)):
        for line in stage:
            sources = line.split()[1:-1]
            if line.startswith("COPY ") and not sources[0].startswith("--from"):
                copied.update(source.partition("/")[0] for source in sources)
    assert seen == copied
    assert [name for name in seen if not (ROOT / name).exists()] == []


def test_make_image_refuses_what_no_commit_names(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "image", "IMAGE=registry.example.com/forget", "BUILDER=echo", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    clean = make()
    assert clean.returncode == 0, clean.stderr
    for dockerfile, name in zip(DOCKERFILES, ("forget", "forget-mlflow"), strict=True):
        assert (
            f"--file {dockerfile} --tag registry.example.com/{name}:{head[:12]} ." in clean.stdout
        )
    assert f"--label org.opencontainers.image.revision={head} " in clean.stdout
    assert f"--label org.opencontainers.image.version={head[:12]} " in clean.stdout

    other = make("PLATFORM=linux/arm64").stdout.splitlines()
    built = [line.split()[:3] for line in other if line.startswith("build ")]
    assert built == [["build", "--platform", "linux/arm64"]] * 2
    assert "--platform" not in clean.stdout

    (tmp_path / "new.py").touch()
    dirty = make()
    assert dirty.returncode == 2
    assert "commit them, or build them all the same with DIRTY=1" in dirty.stderr
    assert "--tag" not in dirty.stdout
    assert f"--tag registry.example.com/forget:{head[:12]}-dirty ." in make("DIRTY=1").stdout


@dataclass(frozen=True)
class Images:
    """Both images, built."""

    forget: str
    mlflow: str


def command(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run it; what it said is shown where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let podman and buildah keep what they make to themselves; return a folder for this run."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/lib/podman:/usr/libexec/podman"
    if missing := [tool for tool in TOOLS if not shutil.which(tool, path=path)]:
        pytest.skip(f"needs {', '.join(missing)}: {INSTALL}")
    if os.geteuid():
        pytest.skip("needs root: containers get networks here")
    folder = tmp_path_factory.mktemp("containers")
    # Neither systemd nor a user's session is taken for granted, as in a container or a small
    # virtual machine.
    (folder / "containers.conf").write_text(
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{STORAGE}/networks"\n'
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STORAGE}/storage"\n'
        f'runroot = "{STORAGE}/run"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        yield folder


def stand_in(folder: Path) -> str:
    """Return the name of the stand-in, made unless it is there."""
    if subprocess.run(["podman", "image", "exists", STAND_IN]).returncode:
        root = folder / "base"
        packages = "--include=ca-certificates,python3,python3-pip,python3-venv"
        command("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
        for name in ("python", "python3", "pip"):
            target = "/usr/bin/pip3" if name == "pip" else "/usr/bin/python3"
            (root / "usr/local/bin" / name).symlink_to(target)
        for left in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / left)
        command(
            "tar", "--directory", str(root), "--create", "--file", str(folder / "base.tar"), "."
        )
        command("podman", "import", str(folder / "base.tar"), STAND_IN)
        shutil.rmtree(root)
        (folder / "base.tar").unlink()
    return STAND_IN


def pip_settings(folder: Path) -> list[str]:
    """Return options for a build in which pip finds what it finds on this machine.

    That is indices, certificates and folders of wheels.
    """
    listed = command(sys.executable, "-m", "pip", "config", "list").stdout
    found = re.findall(r"^(?::env:|global)\.([\w-]+)=(.+)$", listed, flags=re.MULTILINE)
    settings = {key: ast.literal_eval(value).split() for key, value in found}
    (folder / "pip.conf").write_text(
        "[global]\n" + "".join(f"{key} = {' '.join(words)}\n" for key, words in settings.items())
    )
    mounts = {"/etc/pip.conf": folder / "pip.conf"}
    for word in itertools.chain(*settings.values()):
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # The files of an index lie beside its pages.
            path = path.parent if word.startswith("file://") else path
            mounts[str(path)] = path
    options = [f"--volume={path}:{name}:ro" for name, path in mounts.items()]
    # A machine with a CPU build of torch of its own need not reach for torch's index: a folder is
    # none, pip looks further.
    for links in settings.get("find-links", []):
        if list(Path(links).glob("torch-*+cpu-*.whl")):
            options.append(f"--build-arg=TORCH_INDEX=file://{links}")
    return options


@pytest.fixture(scope="module")
def images(containers: Path) -> Images:
    """Make the images by `make image`, on the stand-in or on the base that $BASE names."""
    base = os.environ.get("BASE") or stand_in(containers)
    options = [
        "--layers",
        "--isolation=chroot",
        "--network=host",
        f"--build-arg=BASE={base}",
        *pip_settings(containers),
    ]
    build = [
        "make",
        "image",
        "DIRTY=1",
        "TAG=test",
        "IMAGE=localhost/forget",
        "BUILDER=buildah",
        f"BUILD={' '.join(options)}",
    ]
    started = time.monotonic()
    command(*build, cwd=ROOT)
    made = Images("localhost/forget:test", "localhost/forget-mlflow:test")
    for image in (made.forget, made.mlflow):
        size = json.loads(command("podman", "image", "inspect", image).stdout)[0]["Size"]
        print(f"{image}: {size / 1e9:.2f} GB")
    print(f"built in {time.monotonic() - started:.0f} s")
    return made


INSIDE = """
import importlib.metadata, importlib.util, json, os, pathlib, re, shutil, subprocess, sys
assert os.getuid() == os.getgid() == 1000
assert not [name for name in ("cc", "gcc", "g++", "make", "cargo") if shutil.which(name)]
assert importlib.util.find_spec("pip") is None
assert not list(pathlib.Path("/var/lib/apt/lists").glob("*Packages*"))
for folder in (sys.prefix, "/app", "/usr/local/lib"):
    try:
        pathlib.Path(folder, "new").touch()
    except OSError:
        continue
    raise AssertionError(folder)
for folder in ("/tmp", os.environ["HOME"]):
    pathlib.Path(folder, "new").touch()
os.chdir(os.environ["HOME"])
# What no line of constraints.txt names, or names otherwise; a local version, "+cpu", is that of the
# same release.
found = set()
for one in importlib.metadata.distributions():
    found.add((re.sub("[-_.]+", "-", one.name.lower()), one.version.partition("+")[0]))
ours = {"==".join(one) for one in found if one[0] != "forget"}
print(sorted(ours - set(json.loads(sys.argv[2]))))
# What Python had to compile, for want of bytecode that is up to date.
verbose = subprocess.run(
    [sys.executable, "-v", "-c", sys.argv[1]], capture_output=True, text=True, check=True
)
loaded = [line for line in verbose.stderr.splitlines() if line.startswith("# code object from ")]
assert len(loaded) > 500, len(loaded)
print([line for line in loaded if not line.endswith(".pyc'")])
"""


@pytest.mark.parametrize(
    ("name", "imports"),
    [
        ("forget", "import forget.trial, pipelines.sweep, s3fs"),
        ("mlflow", "import mlflow.server.auth"),
    ],
)
class TestImage:
    """Each image by itself."""

    pytestmark = slow

    def test_is_confined_pinned_and_compiled_and_has_no_tools(
        self, name: str, imports: str, images: Images
    ) -> None:
        options = ("--tmpfs=/home/forget:U", "--env=MLFLOW_FLASK_SERVER_SECRET_KEY=x")
        run = [
            "podman",
            "run",
            "--rm",
            "--network=none",
            *CONFINED,
            *options,
            getattr(images, name),
        ]
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        split = [line.partition("==") for line in lines if not line.startswith("#")]
        pins = [re.sub("[-_.]+", "-", name.lower()) + "==" + version for name, _, version in split]
        done = command(*run, "python", "-c", INSIDE, imports, json.dumps(pins))
        assert done.stdout == "[]\n[]\n", done.stdout

    def test_says_what_it_is(self, name: str, imports: str, images: Images) -> None:
        config = json.loads(command("podman", "image", "inspect", getattr(images, name)).stdout)[0][
            "Config"
        ]
        head = command("git", "rev-parse", "HEAD", cwd=ROOT).stdout.strip()
        assert config["User"] == "1000:1000"
        assert config["WorkingDir"] == "/home/forget"
        labels = {
            key.removeprefix("org.opencontainers.image."): value
            for key, value in config["Labels"].items()
        }
        assert (labels["revision"], labels["version"], labels["licenses"]) == (
            head,
            "test",
            "Apache-2.0",
        )
        assert {"title", "description", "source"} <= labels.keys()


class Cluster:
    """Containers on a network of their own, in which they call each other by name."""

    def __init__(self, network: str, options: list[str]) -> None:
        self.network = network
        self.options = options
        self.started: list[str] = []

    def run(
        self, image: str, *words: str, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a container until it ends, and return what it said."""
        run = [
            "podman",
            "run",
            "--rm",
            f"--network={self.network}",
            *CONFINED,
            *self.options,
            *options,
            image,
        ]
        return subprocess.run([*run, *words], capture_output=True, text=True, timeout=900)

    def start(
        self, name: str, image: str, script: str, ready: str, options: tuple[str, ...] = ()
    ) -> None:
        """Start a container under a name.

        Return once `ready`, a port and path, answers 200, as a kubelet's probe would ask.
        """
        container = f"{self.network}-{name}"
        self.started.append(container)
        run = [
            "podman",
            "run",
            "--detach",
            f"--name={container}",
            f"--network={self.network}",
            f"--network-alias={name}",
        ]
        command(*run, *CONFINED, *self.options, *options, image, "bash", "-c", script)
        networks = self.inspect(container)["NetworkSettings"]["Networks"]
        address = f"http://{networks[self.network]['IPAddress']}{ready}"
        until = time.monotonic() + 180
        while not answers(address):
            alive = time.monotonic() < until and self.inspect(container)["State"]["Running"]
            assert alive, f"{name} is not ready:\n{self.logs(name)}"
            time.sleep(0.5)

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(command("podman", "inspect", container).stdout)[0]

    def exec(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run in a container that was started."""
        return subprocess.run(
            ["podman", "exec", f"{self.network}-{name}", *words],
            capture_output=True,
            text=True,
            timeout=300,
        )

    def logs(self, name: str) -> str:
        done = subprocess.run(
            ["podman", "logs", f"{self.network}-{name}"], capture_output=True, text=True
        )
        return (done.stdout + done.stderr)[-6000:]


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def network(options: list[str]) -> Iterator[Cluster]:
    """Make a network; it and every container started in it are gone at the end."""
    cluster = Cluster(f"forget-{secrets.token_hex(4)}", options)
    command("podman", "network", "create", cluster.network)
    try:
        yield cluster
    finally:
        for container in cluster.started:
            subprocess.run(["podman", "rm", "--force", "--time=0", container], capture_output=True)
        subprocess.run(["podman", "network", "rm", "--force", cluster.network], capture_output=True)


RUNS = """
import json, forget, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
ours = [run for run in runs if "forget.trial" in run.data.tags]
trials = {run.data.tags["forget.trial"]: run.info.status for run in ours}
parents = [run.info.status for run in runs if "forget.trial" not in run.data.tags]
print(json.dumps([parents, trials, forget.load_forgotten("tiny", "sentiment").parameters]))
"""


class TestCluster:
    """A head, a worker, a tracking server: three containers.

    A fourth submits, as KubeRay's would.
    """

    pytestmark = slow

    def test_a_sweep_that_ray_job_submit_brings_runs_on_the_worker(
        self, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = tmp_path / "spec" / "spec.toml"
        spec.parent.mkdir()
        text = (
            spec_path("smoke")
            .read_text(encoding="utf-8")
            .replace('"smollm2-135m"', '"tiny"')
            .replace("cpus = 2", "cpus = 1")
        )
        spec.write_text(text + '\n[axes]\narm = ["random", "flipped"]\n')
        # By default the server would hash the password, a third of a second, for each request of
        # the sweep.
        accounts = "default_permission = READ\nadmin_username = admin\n"
        accounts += "database_uri = sqlite:////home/forget/users.db\n"
        function = "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        (spec.parent / "basic_auth.ini").write_text(
            f"[mlflow]\n{accounts}{function}auth_cache_ttl_seconds = 60\n"
        )
        shared = tmp_path / "store"
        shared.mkdir()
        os.chown(shared, 1000, 1000)
        # Values go by the environment: a command line can be read by everybody.
        values = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(16),
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "FORGET_STORE": "/store",
        }
        server = {
            "MLFLOW_AUTH_ADMIN_PASSWORD": values["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow/basic_auth.ini",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        for name, value in (values | server).items():
            monkeypatch.setenv(name, value)
        client = tuple(f"--env={name}" for name in values)
        volumes = (
            f"--volume={spec.parent}:/spec:ro",
            f"--volume={shared}:/store",
            "--tmpfs=/home/forget:U",
        )
        with network(["--memory=4g"]) as cluster:
            cluster.start(
                "mlflow",
                images.mlflow,
                "mlflow db upgrade sqlite:////home/forget/runs.db"
                " && exec mlflow server --host 0.0.0.0 --workers 1 --app-name basic-auth"
                " --allowed-hosts 'mlflow:*' --expose-prometheus /tmp/prometheus"
                " --backend-store-uri sqlite:////home/forget/runs.db"
                " --artifacts-destination /home/forget/artifacts",
                ":5000/health",
                (
                    *(f"--env={name}" for name in server),
                    "--tmpfs=/home/forget:U",
                    f"--volume={spec.parent}:/etc/mlflow:ro",
                ),
            )
            cluster.start(
                "head",
                images.forget,
                "ulimit -n 20000; ray start --head --num-cpus=0 --dashboard-host=0.0.0.0 --block",
                ":8265/api/gcs_healthz",
                client + volumes,
            )
            cluster.start(
                "worker",
                images.forget,
                "until ray health-check --address head:6379; do sleep 1; done;"
                " ulimit -n 20000; ray start --address=head:6379 --num-cpus=2 --block",
                ":52365/api/local_raylet_healthz",
                client + volumes,
            )
            job = (
                "ray",
                "job",
                "submit",
                "--address=http://head:8265",
                "--",
                "forget",
                "sweep",
                "/spec/spec.toml",
            )
            stranger = cluster.run(images.forget, *job, options=("--tmpfs=/home/forget:U",))
            assert stranger.returncode != 0
            assert (
                "401" in stranger.stdout + stranger.stderr
                or "nauthorized" in stranger.stdout + stranger.stderr
            )
            assert not list(shared.iterdir())

            done = cluster.run(
                images.forget,
                *job,
                "--address",
                "auto",
                options=(*client, "--tmpfs=/home/forget:U"),
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said + cluster.logs("head") + cluster.logs("worker")
            assert "succeeded" in said
            assert "report: report/spec/report.html" in said

            ids = {identify(trial).trial for trial in read_sweep(str(spec)).trials()}
            assert len(ids) == 2
            store = Store(shared)
            assert {id for id in ids if Trials(store).outcome(id)} == ids
            runs = cluster.exec("head", "python", "-c", RUNS)
            assert runs.returncode == 0, runs.stderr
            assert json.loads(runs.stdout.splitlines()[-1]) == [
                ["FINISHED"],
                dict.fromkeys(ids, "FINISHED"),
                90496,
            ]
