"""Needs of a cluster, said before anything is applied: the real kubectl, an emulated API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import ApiServer, whole_cluster
from conftest import command
from rendering import Object, objects

from forget.errors import BadInput
from forget.settings.reading import read_sweep
from pipelines.cluster.kubectl import Cluster
from pipelines.cluster.manifests import parse, render_sweep
from pipelines.cluster.needs import check_needs, check_operator

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared/kubernetes/rayjob.schema.json"
HERE = Cluster("here")

pytestmark = pytest.mark.servers("kubectl")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Yield a cluster that has everything for what the folders render: images of the tag dev."""
    made = whole_cluster(tmp_path)
    # kubectl keeps there what it has learned of a server.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / ".kube/config"))
    images = [{"names": ["docker.io/library/forget:dev", "docker.io/library/forget-mlflow:dev"]}]
    made.objects["nodes", "large"]["status"]["images"] = images
    made.put("Namespace", "forget")
    yield made
    made.shutdown()
    made.server_close()


def node(api: ApiServer, **size: str) -> None:
    """Give the cluster one node, of this size where it is not large."""
    api.objects["nodes", "large"]["status"]["allocatable"].update(size)


def refusal(found: list[Object]) -> str:
    """Return the sentence by which a cluster that lacks something is refused."""
    with pytest.raises(BadInput) as raised:
        check_needs(HERE, found)
    said = str(raised.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("folder", ["mlflow", "k8s/overlays/small", "k8s/overlays/kueue"])
def test_a_cluster_that_has_everything_passes(folder: str, api: ApiServer) -> None:
    check_operator(HERE)
    check_needs(HERE, objects(folder))
    assert api.written == []


@pytest.mark.parametrize(
    ("folder", "size", "sentence"),
    [
        (
            "k8s/overlays/cpu",
            {"cpu": "3900m"},
            'no node of cluster "here" is as large as a worker of the sweep, '
            "4 CPUs where large has 3.9 CPUs: smaller sizes are keys of k8s/sizes/sizes.env",
        ),
        (
            "k8s/overlays/small",
            {"memory": "3Gi"},
            "a worker of the sweep, 4.0 Gi of memory where large has 3.0 Gi of memory",
        ),
        (
            "k8s/overlays/cpu",
            {"cpu": "2", "ephemeral-storage": "5Gi"},
            "4 CPUs where large has 2 CPUs and 10.0 Gi of disk where large has 5.0 Gi of disk",
        ),
        ("mlflow", {"memory": "1Gi"}, "as large as the pod of mlflow, 2.0 Gi of memory"),
        (
            "k8s/overlays/gpu",
            {},
            'cluster "here" has no node with nvidia.com/gpu, which a worker of the sweep asks for: '
            "install NVIDIA's device plugin",
        ),
    ],
)
def test_a_pod_that_fits_no_node_is_refused(
    folder: str, size: dict[str, str], sentence: str, api: ApiServer
) -> None:
    node(api, **size)
    assert sentence in refusal(objects(folder))


def test_a_trial_that_takes_more_cores_than_any_node_has_is_refused(
    api: ApiServer, tmp_path: Path
) -> None:
    """The worker of the small overlay requests one core, whatever its trials take."""
    spec = tmp_path / "study.toml"

    def sweep(cpus: int) -> list[Object]:
        lines = '[base]\ntask = "vowels"\nmodel = "tiny"\nfolders = ["/tasks"]\n[resources]\n'
        spec.write_text(f"{lines}cpus = {cpus}\n")
        return parse(render_sweep(read_sweep(spec), spec, "small", "forget", "dev"))

    # All cores of a node, of which Kubernetes keeps a part for itself.
    node(api, cpu="15900m")
    api.objects["nodes", "large"]["status"]["capacity"] = {"cpu": "16"}
    check_needs(HERE, sweep(16))
    assert refusal(sweep(17)) == (
        'no node of cluster "here" has the CPUs of a worker of the sweep, 17 CPUs where large has '
        "16 CPUs: let a trial take fewer ([resources] cpus and workers of the spec), or set "
        "WORKER_CPU of k8s/sizes/sizes.env to what a node has"
    )
    api.put("ConfigMap", "cluster-autoscaler-status")
    check_needs(HERE, sweep(17))


def test_a_node_that_takes_no_pods_does_not_count(api: ApiServer) -> None:
    api.objects["nodes", "large"]["spec"] = {"unschedulable": True}
    assert "has no node that takes pods" in refusal(objects("k8s/overlays/cpu"))


def test_a_cluster_that_makes_nodes_is_believed(api: ApiServer) -> None:
    node(api, cpu="1")
    api.put("ConfigMap", "cluster-autoscaler-status")
    check_needs(HERE, objects("k8s/overlays/cpu"))


def test_a_node_with_a_gpu_is_enough_for_the_overlay(api: ApiServer) -> None:
    node(api, **{"nvidia.com/gpu": "1"})
    check_needs(HERE, objects("k8s/overlays/gpu"))


def quota(api: ApiServer, used: dict[str, str], **hard: str) -> None:
    kinds = {kind.replace("_", "."): most for kind, most in hard.items()}
    api.put("ResourceQuota", "team", spec={"hard": kinds}, status={"hard": kinds, "used": used})


def test_a_quota_that_leaves_too_little_is_refused(api: ApiServer) -> None:
    sweep = objects("k8s/overlays/small")
    quota(api, {"requests.cpu": "500m"}, requests_cpu="2", pods="10")
    check_needs(HERE, sweep)
    quota(api, {"requests.cpu": "1"}, requests_cpu="2")
    assert refusal(sweep).startswith(
        'quota "team" of namespace forget in cluster "here" leaves 1 of requests.cpu, and the sweep'
        " starts with 1.35: have it raised, or ask for less"
    )
    quota(api, {}, limits_memory="4Gi")
    assert "leaves 4.0 Gi of limits.memory, and the sweep starts with 9.0 Gi" in refusal(sweep)
    quota(api, {"pods": "8"}, pods="10")
    assert "leaves 2 of pods, and the sweep starts with 3" in refusal(sweep)
    # Server, database and store count as used where they are deployed again.
    check_needs(HERE, objects("mlflow"))


def test_what_the_cluster_would_not_let_in_is_said_in_its_words(api: ApiServer) -> None:
    seen: list[Object] = []

    def refuses(one: Object) -> str:
        seen.append(one)
        if one["metadata"]["labels"]["forget/role"] != "worker":
            return ""
        return 'pods "forget-x" is forbidden: violates PodSecurity "restricted:latest": seLinux'

    api.refuses = refuses
    said = refusal(objects("k8s/overlays/cpu"))
    assert (
        'violates PodSecurity "restricted:latest": seLinux; a worker of the sweep would not' in said
    )
    assert 'no stricter than "restricted"' in said
    assert [one["metadata"]["labels"]["forget/role"] for one in seen] == ["head", "worker"]
    assert api.written == []
    # A namespace that is not there yet has no rules.
    del api.objects["namespaces", "forget"]
    check_needs(HERE, objects("k8s/overlays/cpu"))


def test_who_may_not_make_pods_is_not_stopped_by_that(api: ApiServer) -> None:
    api.refuses = lambda one: (
        'pods is forbidden: User "me" cannot create resource "pods" in API group ""'
    )
    check_needs(HERE, objects("k8s/overlays/cpu"))


def test_kueue_without_its_queue_is_refused(api: ApiServer) -> None:
    del api.objects["localqueues", "forget"]
    sweep = objects("k8s/overlays/kueue")
    said = 'namespace forget of cluster "here" has no LocalQueue "forget": make one that names a'
    assert said in refusal(sweep)


def test_kueue_that_is_not_installed_is_named(api: ApiServer) -> None:
    del api.kinds["kueue.x-k8s.io", "v1"]
    sweep = objects("k8s/overlays/kueue")
    assert 'cluster "here" has no Kueue (no LocalQueue): install it from' in refusal(sweep)


def test_a_runtime_class_that_is_missing_is_refused(api: ApiServer) -> None:
    sweep = objects("k8s/overlays/cpu")
    (job,) = (one for one in sweep if one["kind"] == "RayJob")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    group["template"]["spec"]["runtimeClassName"] = "nvidia"
    assert 'cluster "here" has no RuntimeClass "nvidia": install NVIDIA' in refusal(sweep)
    api.put("RuntimeClass", "nvidia")
    check_needs(HERE, sweep)


def test_an_image_that_no_node_can_have_is_refused(api: ApiServer) -> None:
    api.objects["nodes", "large"]["status"]["images"] = []
    assert refusal(objects("k8s/overlays/cpu")).startswith(
        'image forget:dev names no registry, and no node of cluster "here" has it: push it and say'
        " IMAGE=registry.example.com/forget, or put it on the nodes (kind load docker-image"
        " forget:dev;"
    )


def test_volumes_cannot_be_resized(api: ApiServer) -> None:
    for one in objects("mlflow/overlays/small"):
        if one["kind"] == "StatefulSet":
            api.put("StatefulSet", one["metadata"]["name"], spec=one["spec"])
    check_needs(HERE, objects("mlflow/overlays/small"))
    assert refusal(objects("mlflow")).startswith(
        'the volume of postgres in cluster "here" has 5Gi, which nobody may change to 20Gi'
    )


def schema_of_rayjob() -> dict[str, Any]:
    """Return the schema of KubeRay 1.7.0 as a server publishes it: open, and named by its kind."""
    if not SCHEMA.exists():
        pytest.skip(f"the schema of a RayJob is missing: {SCHEMA}")
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    schema["x-kubernetes-group-version-kind"] = [
        {"group": "ray.io", "kind": "RayJob", "version": "v1"}
    ]
    return schema


@pytest.mark.parametrize("folder", ["cpu", "gpu", "kueue", "pvc", "small"])
def test_kuberay_of_the_version_that_is_named_knows_all_fields(folder: str, api: ApiServer) -> None:
    api.schemas = {"io.ray.v1.RayJob": schema_of_rayjob()}
    node(api, **{"nvidia.com/gpu": "1"})
    check_needs(HERE, objects(f"k8s/overlays/{folder}"))


def test_an_older_kuberay_is_told_by_the_fields_that_it_lacks(api: ApiServer) -> None:
    schema = schema_of_rayjob()
    del schema["properties"]["spec"]["properties"]["preRunningDeadlineSeconds"]
    api.schemas = {"io.ray.v1.RayJob": schema}
    said = refusal(objects("k8s/overlays/cpu"))
    assert said.startswith(
        'the KubeRay operator of cluster "here" is too old: its RayJob has no '
        "spec.preRunningDeadlineSeconds; make it 1.7.0 with: kubectl --context here replace -k"
    )
    assert "helm upgrade kuberay-operator" in said
    # A field within the pods, in lists.
    schema = schema_of_rayjob()
    ray = schema["properties"]["spec"]["properties"]["rayClusterSpec"]["properties"]
    del ray["workerGroupSpecs"]["items"]["properties"]["maxReplicas"]
    api.schemas = {"io.ray.v1.RayJob": schema}
    said = refusal(objects("k8s/overlays/cpu"))
    assert "no spec.rayClusterSpec.workerGroupSpecs.maxReplicas;" in said


def test_the_doctor_says_all_that_is_lacking(
    api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(
        '[base]\ntask = "vowels"\nmodel = "tiny"\nfolders = ["/tasks"]\n'
    )
    words = ("cluster", "doctor", "--context", "here", "--spec", str(tmp_path / "study.toml"))
    words = (*words, "--tag", "dev")
    assert command(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      KubeRay"
    assert all(line.startswith("ok ") for line in lines)
    node(api, cpu="1")
    del api.objects["secrets", "postgres"]
    assert command(*words) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not ok")]
    assert [line.split(":")[0] for line in wrong] == [
        "not ok  Secrets",
        "not ok  nodes are large enough",
    ]
    assert "lacks the Secret postgres" in wrong[0]
    assert api.written == []
