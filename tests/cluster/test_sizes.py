"""Sizes of pods and volumes: keys of one file, which a folder of the user's may change."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import FOLDERS, OVERLAYS, ROOT, Object, all_containers, objects, pods

from forget.errors import BadInput
from forget.planning.footprint import Footprint
from forget.settings.reading import read_sweep
from pipelines.cluster.manifests import parse, render_server, render_sweep

pytestmark = pytest.mark.servers("kubectl")

SIZES = ROOT / "k8s/sizes/sizes.env"
SERVER_KEYS = ("MLFLOW_", "POSTGRES_", "SEAWEEDFS_")
"""Beginnings of the keys of what `make deploy` applies; the others are of a sweep."""


def sizes(path: Path = SIZES) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def number(quantity: Any) -> float:
    """Return a quantity of Kubernetes' as a number, of bytes where it has a unit of bytes."""
    units = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}
    value, unit = re.fullmatch(r"(\d+)(\D*)", str(quantity)).groups()  # type: ignore[union-attr]
    return int(value) * units[unit]


def requested(found: list[Object], kind: str) -> float:
    """Sum what all pods request that live at the same time; init containers run before them."""
    total = 0.0
    for pod in pods(found):
        first, own = (
            [number(part["resources"]["requests"][kind]) for part in pod.spec.get(key, [])]
            for key in ("initContainers", "containers")
        )
        total += max([sum(own), *first])
    return total


def test_small_is_small() -> None:
    """All are counted that run beside a sweep, the nightly Job of the tracking server included.

    Those of `make deploy` end before.
    """
    found = [*objects("mlflow/overlays/small"), *objects("k8s/overlays/small")]
    found = [one for one in found if one["kind"] != "Job"]
    assert requested(found, "cpu") <= 2
    assert requested(found, "memory") <= 8 * 2**30
    claims: list[Object] = []
    for one in found:
        claims += one.get("spec", {}).get("volumeClaimTemplates", [])
    assert [claim["spec"]["resources"]["requests"]["storage"] for claim in claims] == ["5Gi"] * 2
    # What ships for real clusters would not fit.
    large = [*objects("mlflow"), *objects("k8s/overlays/cpu")]
    assert requested(large, "cpu") > 4


def test_small_changes_keys_that_there_are_to_sizes_that_are_no_larger() -> None:
    usual, small = sizes(), sizes(ROOT / "k8s/components/small/sizes.env")
    assert small.keys() <= usual.keys()
    assert not [key for key, size in small.items() if number(size) > number(usual[key])]
    assert not [key for key, size in small.items() if size == usual[key]]


def leaves(tree: Any) -> Iterator[str]:
    """Yield the values in an object, as texts."""
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(value)
    else:
        yield str(tree)


def folder_of_a_user(root: Path, base: str, literals: list[str]) -> str:
    """Write a folder that stands on one of ours and has its own sizes; return its path."""
    root.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / base, root.resolve())],
        "configMapGenerator": [{"name": "sizes", "behavior": "merge", "literals": literals}],
    }
    (root / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return f"{root}/"


def different(key: str, place: int) -> str:
    """Return a size that nothing else has, of the key's unit."""
    if key.startswith("WORKERS_"):
        return str(2000 + place)
    return f"{2000 + place}" if "_CPU" in key else f"{2000 + place}Mi"


def test_every_key_takes_effect_and_a_folder_of_the_user_may_change_each(tmp_path: Path) -> None:
    keys = {key: different(key, place) for place, key in enumerate(sizes())}
    literals = [f"{key}={size}" for key, size in keys.items()]
    spec = ROOT / "forget/settings/specs/smoke.toml"
    mine = folder_of_a_user(tmp_path / "sweeps", "k8s/overlays/gpu", literals)
    study = read_sweep(spec)
    jobs = parse(render_sweep(study, spec, mine, "forget", "abc"))
    # A trial that takes next to nothing leaves a worker the least memory.
    jobs += parse(render_sweep(study, spec, mine, "forget", "abc", Footprint(gpu=1)))
    mine = folder_of_a_user(tmp_path / "servers", "mlflow/overlays/small", literals)
    servers = parse(render_server("forget", "abc", mine))
    for key, size in keys.items():
        there = servers if key.startswith(SERVER_KEYS) else jobs
        assert size in set(leaves(there)), key
    assert "sizes" not in {one["metadata"]["name"][:5] for one in [*jobs, *servers]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_without_bounds(folder: str) -> None:
    for pod, part in all_containers(objects(folder)):
        has = part["resources"]
        for kind in ("cpu", "memory"):
            asked, most = number(has["requests"][kind]), number(has["limits"][kind])
            assert 0 < asked <= most, f"{pod.name}: {part['name']}: {kind}"
    for pod in pods(objects(folder)):
        volumes = [volume for volume in pod.spec["volumes"] if volume.get("emptyDir") == {}]
        assert [volume["name"] for volume in volumes] in ([], ["data"]), pod.name


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_disk_of_a_container_holds_its_volumes(folder: str) -> None:
    """A pod is evicted where its volumes and its containers' layers outgrow their limits."""
    for pod in pods(objects(folder)):
        volumes = [one["emptyDir"]["sizeLimit"] for one in pod.spec["volumes"] if "emptyDir" in one]
        (container, *_) = pod.spec["containers"]
        if limit := container["resources"]["limits"].get("ephemeral-storage"):
            assert math.isclose(sum(map(number, volumes)), number(limit)), pod.name


def test_a_deployment_has_the_sizes_that_its_overlay_names(tmp_path: Path) -> None:
    def store(overlay: str) -> str:
        found = parse(render_server("forget", "abc", overlay))
        sets = {one["metadata"]["name"]: one for one in found if one["kind"] == "StatefulSet"}
        claim = sets["seaweedfs"]["spec"]["volumeClaimTemplates"][0]
        size: str = claim["spec"]["resources"]["requests"]["storage"]
        return size

    assert store("small") == "5Gi"
    # Sweeps of all kinds share one server.
    assert store("cpu") == store("gpu") == "500Gi"
    assert store(folder_of_a_user(tmp_path / "mine", "mlflow", ["SEAWEEDFS_VOLUME=2Ti"])) == "2Ti"
    with pytest.raises(BadInput, match=r'no overlay is named "smal".*did you mean "small"'):
        render_server("forget", "abc", "smal")
