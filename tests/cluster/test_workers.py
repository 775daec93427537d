"""Workers of a sweep on a cluster: as large as its trials need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forget.errors import BadInput
from forget.planning.footprint import Footprint
from forget.settings.reading import read_sweep
from pipelines.cluster.manifests import parse, render_sweep
from pipelines.cluster.workers import described, number, trials_at_once, worker_resources

GB = 10**9
SPEC = """
[base]
task = "vowels"
model = "tiny"
folders = ["/tasks"]
"""


@pytest.mark.parametrize(
    ("resources", "has", "cpu", "memory", "gpus"),
    [
        ("cpus = 1", {"cpu": "4", "memory": "16Gi"}, "4", "16Gi", None),
        ("cpus = 6\nworkers = 2", {"cpu": "4", "memory": "16Gi"}, "12", "48Gi", None),
        ("cpus = 2.5", {"cpu": "1500m", "memory": "1000Mi"}, "3", "2000Mi", None),
        (
            "gpus = 1\nworkers = 4",
            {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1},
            "8",
            "256Gi",
            "4",
        ),
        ("workers = 4", {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1}, "8", "256Gi", "4"),
        ("cpus = 8", {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1}, "8", "64Gi", "1"),
        ("gpus = 0.5", {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1}, "8", "64Gi", "1"),
    ],
)
def test_a_worker_holds_a_trial(
    resources: str, has: dict[str, Any], cpu: str, memory: str, gpus: str | None, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(f"{SPEC}[resources]\n{resources}")
    study = read_sweep(tmp_path / "study.toml")
    found = worker_resources(study, {"requests": has, "limits": has}, "any")
    assert found["requests"] == found["limits"]
    assert found["limits"] == {"cpu": cpu, "memory": memory} | (
        {"nvidia.com/gpu": gpus} if gpus else {}
    )


def test_a_request_that_is_smaller_than_its_limit_stays(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f"{SPEC}[resources]\ncpus = 2")
    has = {
        "requests": {"cpu": "100m", "memory": "4Gi"},
        "limits": {"cpu": "1", "memory": "4Gi"},
    }
    assert worker_resources(read_sweep(tmp_path / "study.toml"), has, "any") == {
        "requests": {"cpu": "100m", "memory": "8Gi"},
        "limits": {"cpu": "2", "memory": "8Gi"},
    }


@pytest.mark.servers("kubectl")
def test_a_trial_on_several_gpus_reaches_ray(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f"{SPEC}[resources]\ngpus = 1\nworkers = 4")
    rendered = render_sweep(
        read_sweep(tmp_path / "study.toml"),
        tmp_path / "study.toml",
        "gpu",
        "r.example.com/f",
        "abc",
    )
    (job,) = (one for one in parse(rendered) if one["kind"] == "RayJob")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["rayStartParams"]["num-gpus"] == "4"
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["image"] == "r.example.com/f:abc"


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), (4, 4), ("500m", 0.5), ("4Gi", 2**32), ("1.5Gi", 1.5 * 2**30)]
)
def test_quantities_are_read_as_kubernetes_does(text: object, value: float) -> None:
    assert number(text) == value


def test_what_is_no_quantity_is_said() -> None:
    with pytest.raises(BadInput, match='"4GB" is no size that Kubernetes knows'):
        number("4GB")


@pytest.mark.parametrize(
    ("resources", "has", "need", "memory", "at_once"),
    [
        # Cores for four trials, of 3.4 GB each: 0.3 GB are Ray's, and 5 % stay free.
        ("cpus = 1", {"cpu": "4", "memory": "64Gi"}, 3.4, "14Gi", 4),
        ("cpus = 2", {"cpu": "4", "memory": "64Gi"}, 3.4, "7Gi", 2),
        ("concurrent = 1", {"cpu": "4", "memory": "64Gi"}, 3.4, "4Gi", 1),
        # The overlay's is the most, as long as it holds one.
        ("cpus = 1", {"cpu": "4", "memory": "10Gi"}, 3.4, "10Gi", 2),
        ("cpus = 1", {"cpu": "4", "memory": "16Gi"}, 81, "80Gi", 1),
        # Two of them would not fit 6 Gi, which they did by cores alone.
        ("cpus = 1", {"cpu": "2", "memory": "6Gi"}, 3.7, "6Gi", 1),
    ],
)
def test_the_memory_of_a_worker_is_that_of_its_trials(
    resources: str, has: dict[str, Any], need: float, memory: str, at_once: int, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(f"{SPEC}[resources]\n{resources}")
    study = read_sweep(tmp_path / "study.toml")
    bytes_of_a_trial = int(need * GB)
    footprint = Footprint(cpu=bytes_of_a_trial)
    least = {"requests": has | {"memory": "2Gi"}, "limits": has}
    found = worker_resources(study, least, "any", footprint)
    assert found["requests"] == found["limits"] == {"cpu": has["cpu"], "memory": memory}
    assert trials_at_once(study, found["limits"], bytes_of_a_trial) == at_once


def test_memory_is_no_less_than_what_the_overlay_requests(tmp_path: Path) -> None:
    """So that an estimate which is too low can be mended by a key."""
    (tmp_path / "study.toml").write_text(SPEC)
    study = read_sweep(tmp_path / "study.toml")
    has = {"requests": {"cpu": "1", "memory": "6Gi"}, "limits": {"cpu": "1", "memory": "16Gi"}}
    found = worker_resources(study, has, "any", Footprint(cpu=2 * GB))
    assert found["requests"]["memory"] == found["limits"]["memory"] == "6Gi"
    # Where nothing is known of the trials, all that they may take is asked for.
    assert worker_resources(study, has, "any")["requests"]["memory"] == "16Gi"


def test_a_gpu_holds_one_trial_however_many_cores_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SPEC)
    has = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1}
    footprint = Footprint(cpu=100 * GB, gpu=10 * GB)
    study = read_sweep(tmp_path / "study.toml")
    least = {"requests": has | {"memory": "2Gi"}, "limits": has}
    found = worker_resources(study, least, "any", footprint)
    assert found["limits"]["memory"] == "11Gi"


@pytest.mark.servers("kubectl")
def test_memory_and_disk_of_a_trial_reach_ray_and_the_pod(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SPEC)
    study = read_sweep(tmp_path / "study.toml")
    footprint = Footprint(cpu=20 * GB, running=40 * GB, shared=60 * GB)

    def rendered(overlay: str) -> list[dict[str, Any]]:
        path = tmp_path / "study.toml"
        return parse(render_sweep(study, path, overlay, "forget", "abc", footprint))

    def worker(overlay: str) -> dict[str, Any]:
        (job,) = (one for one in rendered(overlay) if one["kind"] == "RayJob")
        (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert isinstance(group, dict)
        return group

    def home(group: dict[str, Any]) -> str:
        volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
        size: str = volumes["home"]["emptyDir"]["sizeLimit"]
        return size

    group = worker("cpu")
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert limits["memory"] == "20Gi"
    # Room for one trial, not for two; and what Ray takes to be free is less than what there is.
    free = int(group["rayStartParams"]["memory"])
    assert footprint.cpu <= free < number("20Gi") - 0.3 * GB
    assert home(group) == "94Gi"
    assert limits["ephemeral-storage"] == "154Gi"
    # A store that all nodes mount is not copied.
    assert home(worker("pvc")) == "60Gi"
    (line,) = described(rendered("cpu"), study, footprint)
    assert line == (
        "workers: 1 to 4, each of 4 CPUs, 20Gi of memory and 154Gi of disk; "
        "a trial takes about 20.0 GB of memory: 1 at a time"
    )
