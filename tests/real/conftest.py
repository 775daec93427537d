"""The cluster that CONTEXT names, deployed from empty, and the table of what was seen there."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pipelines.cluster.kubectl import Cluster, Refused, connect
from pipelines.cluster.manifests import NAMESPACE

from .world import ROOT, Real, nodes

RESULTS = ROOT / "docs" / "cluster-tests.md"
"""The page of what was seen, a section a kind of cluster."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where no cluster is named."""
    if not os.environ.get("CONTEXT"):
        reason = "needs a Kubernetes: make test-cluster CONTEXT=name"
        for item in items:
            if "cluster" in item.keywords and item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Yield the cluster, empty at first; write what was seen there."""
    cluster = connect(os.environ["CONTEXT"])
    here = Real(
        cluster,
        os.environ.get("IMAGE", "forget"),
        os.environ.get("TAG", ""),
        os.environ.get("OVERLAY", "small"),
        tmp_path_factory.mktemp("real"),
    )
    yield here
    # A part of the tests, as ONLY chooses it, is no table: that begins and ends as the tests do.
    done = " ".join(here.seen)
    if "from empty" in done and "make undeploy" in done:
        write(here)


def versions(cluster: Cluster) -> dict[str, str]:
    """Return what the cluster is made of, as far as it says."""
    found = json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    node = nodes(cluster)[0]["status"]
    info = node["nodeInfo"]
    return {
        "Kubernetes": found,
        "KubeRay": _image_of(cluster, "app.kubernetes.io/component=kuberay-operator"),
        "CNI": _cni(cluster),
        "nodes": f"{len(nodes(cluster))} of {node['capacity']['cpu']} CPUs, "
        f"{int(node['capacity']['memory'].removesuffix('Ki')) / 2**20:.0f} GiB",
        "runtime": info["containerRuntimeVersion"],
        "system": info["osImage"],
    }


CNIS = ("cilium", "calico", "antrea", "weave", "kindnet", "flannel", "kube-router", "ovn")
"""Names that are in those of their pods."""


def _cni(cluster: Cluster) -> str:
    """Return the network's name, by its pods; a bridge has none."""
    names = cluster.kubectl("get", "pod", "--all-namespaces", "--output=name")
    return next((name for name in CNIS if name in names), "none with pods (a bridge)")


def _image_of(cluster: Cluster, selector: str) -> str:
    path = "--output=jsonpath={.items[0].spec.containers[0].image}"
    try:
        return cluster.kubectl("get", "pod", "--all-namespaces", f"--selector={selector}", path)
    except Refused:
        return "unknown"


def write(here: Real) -> None:
    """Write the table in place of the one of the same cluster."""
    about = versions(here.cluster) | {
        key: os.environ[key.upper()] for key in ("kuberay", "cni") if key.upper() in os.environ
    }
    title = f"## Kubernetes {about['Kubernetes']}, {about['runtime']}"
    lines = [title, "", f"Seen on {date.today()}, from a machine with Python "]
    lines[-1] += f"{platform.python_version()}; " + "; ".join(f"{k}: {v}" for k, v in about.items())
    lines += ["", "| what was done | what was seen |", "|---|---|"]
    lines += [f"| {what} | {how} |" for what, how in here.seen.items()]
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    others = re.split(r"(?m)^(?=## )", old)
    kept = [part for part in others if not part.startswith(title)]
    RESULTS.write_text("".join(kept).rstrip() + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


HEAD = """# Seen on real clusters

`make test-cluster CONTEXT=name` writes this page: each table is of its last run on such a cluster.
"""

__all__ = ["NAMESPACE"]
