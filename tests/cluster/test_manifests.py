"""The manifests as kubectl renders them.

They are valid, restricted, complete, and open to exactly the pairs that a table names.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay import node_provider
from rendering import (
    FOLDERS,
    OVERLAYS,
    ROOT,
    SERVERS,
    Object,
    Pod,
    all_containers,
    containers,
    objects,
    pods,
    rendered,
    tool,
)

from forget.settings.reading import read_sweep

pytestmark = pytest.mark.servers("kubectl and tools that check manifests")

SCHEMA = ROOT.parent / "shared/kubernetes/rayjob.schema.json"
KUBERNETES = ["1.32", "1.36"]
"""The oldest and the newest version of Kubernetes whose schemas the manifests are held against."""


@cache
def secrets() -> dict[str, dict[str, str]]:
    text = subprocess.run(
        [ROOT / "mlflow/secrets.sh"], check=True, capture_output=True, text=True
    ).stdout
    return {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(text)}


def as_yaml(pod: Pod) -> str:
    about = {
        "name": pod.name,
        "namespace": "forget",
        "labels": pod.labels,
        "annotations": pod.annotations,
    }
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod.spec})


@pytest.fixture(params=FOLDERS)
def folder(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Write a file for each folder: its objects.

    In place of the RayJob, which no package knows, stand its pods.
    """
    root = tmp_path_factory.mktemp("rendered")
    for folder in FOLDERS:
        found = objects(folder)
        jobs = [one for one in found if one["kind"] == "RayJob"]
        parts = [yaml.safe_dump(one) for one in found if one not in jobs] + [
            as_yaml(pod) for pod in pods(jobs)
        ]
        (root / f"{folder.replace('/', '-')}.yaml").write_text("---\n".join(parts))
    return root


def test_every_folder_renders(folder):
    found = objects(folder)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))
    assert {one["metadata"].get("namespace", "forget") for one in found} == {"forget"}
    assert all(re.fullmatch(r"\S+:[\w.-]+", part["image"]) for _, part in all_containers(found))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_them(version, written):
    files = [str(path) for path in written.iterdir()]
    run = subprocess.run(
        [tool("kubernetes-validate"), "--strict", "-k", version, *files],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@cache
def rayjob() -> jsonschema.protocols.Validator:
    schema = json.loads(SCHEMA.read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_kuberay_accepts_the_sweep(folder):
    if not SCHEMA.exists():
        pytest.skip(f"the schema of a RayJob is missing: {SCHEMA}")
    jobs = [one for one in objects(folder) if one["kind"] == "RayJob"]
    assert len(jobs) == 1
    rayjob().validate(jobs[0])
    assert len(jobs[0]["metadata"]["name"]) <= 47


def test_the_cluster_runs_the_ray_that_is_pinned():
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    job = next(one for one in objects("k8s/overlays/cpu") if one["kind"] == "RayJob")
    assert pinned
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]


def test_the_spec_that_ships_is_a_study_of_one_small_trial():
    (trial,) = read_sweep(str(ROOT / "k8s/base/spec.toml")).trials()
    assert trial.model == "tiny"


def offences(spec: Object) -> list[str]:
    """Name what Pod Security "restricted" refuses of a pod.

    So are any SELinux options, and a root file system that can be written.
    """
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [
        f"volume {volume['name']}"
        for volume in spec.get("volumes", [])
        if not set(volume) - {"name"} <= allowed
    ]
    of_pod = spec.get("securityContext", {})
    found += ["sysctls"] if of_pod.get("sysctls") else []
    for part in containers(spec):
        own = part.get("securityContext") or {}
        both = {**of_pod, **own}
        capabilities = own.get("capabilities", {})
        rules = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": "ALL" in capabilities.get("drop", [])
            and set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "seLinux": "seLinuxOptions" not in both,
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in part.get("ports", [])),
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
        }
        found += [f"{part['name']}: {name}" for name, kept in rules.items() if not kept]
    return found


def test_pods_are_restricted(folder):
    assert {
        pod.name: offences(pod.spec) for pod in pods(objects(folder)) if offences(pod.spec)
    } == {}
    # Nothing else of theirs can be written.
    without_tmp = []
    for pod, part in all_containers(objects(folder)):
        if "/tmp" not in {one["mountPath"] for one in part["volumeMounts"]}:
            without_tmp.append(pod.name)
    assert without_tmp == []


def test_the_check_of_pods_finds_what_is_wrong():
    fine = next(iter(pods(objects("mlflow/base")))).spec
    assert offences(fine) == []
    for change, expected in [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "volume host"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"containers": [{"name": "bare"}]}, "bare: capabilities"),
        (
            {"initContainers": [{"name": "root", "securityContext": {"privileged": True}}]},
            "root: privileged",
        ),
    ]:
        assert any(expected in one for one in offences({**fine, **change})), expected


@pytest.mark.parametrize("folder", [*OVERLAYS, *SERVERS])
def test_every_namespace_enforces_restricted_and_denies_by_default(folder):
    """A namespace comes with its labels, and a policy over all pods that opens nothing."""
    found = objects(folder)
    namespaces = {
        one["metadata"]["name"]: one["metadata"]["labels"]
        for one in found
        if one["kind"] == "Namespace"
    }
    assert {one["metadata"]["namespace"] for one in found if one["kind"] != "Namespace"} == set(
        namespaces
    )
    for name, labels in namespaces.items():
        modes = {
            mode: labels.get(f"pod-security.kubernetes.io/{mode}")
            for mode in ("enforce", "audit", "warn")
        }
        assert modes == dict.fromkeys(modes, "restricted")
        # A version would keep the rules of that day.
        assert not [label for label in labels if label.endswith("-version")]
        policies = [
            one["spec"]
            for one in found
            if one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == name
        ]
        assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies


def test_checkov_finds_nothing(written):
    command = [
        # Its own first line names a Python, and breaks where the path of that has a blank.
        str(Path(tool("checkov")).with_name("python")),
        tool("checkov"),
        "--framework",
        "kubernetes",
        "--skip-download",
        "--config-file",
        "k8s/checkov.yaml",
    ]
    run = subprocess.run(
        [*command, "--output", "json", "--directory", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    report = json.loads(run.stdout)
    failed = report["results"]["failed_checks"]
    assert {f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed} == set()
    assert report["summary"]["passed"] > 1000


def references(spec: Object) -> Iterator[tuple[str, str, str | None]]:
    """Yield (kind, name, key or None) of all that a pod names."""
    if account := spec.get("serviceAccountName"):
        yield "ServiceAccount", account, None
    yield from references_of_volumes(spec)
    for part in containers(spec):
        for source in part.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"], None
        for variable in part.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                reference = variable.get("valueFrom", {}).get(field)
                if reference and not reference.get("optional"):
                    yield kind, reference["name"], reference["key"]


def references_of_volumes(spec: Object) -> Iterator[tuple[str, str, str | None]]:
    """Yield (kind, name, key or None) of all that a pod's volumes name."""
    for volume in spec.get("volumes", []):
        for source, kind, field in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if source in volume:
                yield kind, volume[source][field], None
                for item in volume[source].get("items", []):
                    yield kind, volume[source][field], item["key"]
        for source in volume.get("projected", {}).get("sources", []):
            if "configMap" in source:
                yield from (
                    ("ConfigMap", source["configMap"]["name"], item["key"])
                    for item in source["configMap"]["items"]
                )


def missing(found: list[Object]) -> set[tuple[str, str, str | None]]:
    there = {(one["kind"], one["metadata"]["name"]): set(one.get("data", {})) for one in found}
    there |= {("Secret", name): set(data) for name, data in secrets().items()}
    # Kubernetes puts it into every namespace.
    there["ConfigMap", "kube-root-ca.crt"] = {"ca.crt"}
    lacking: set[tuple[str, str, str | None]] = set()
    for pod in pods(found):
        lacking.update(references(pod.spec))
    for of, keys in there.items():
        lacking -= {(*of, key) for key in (None, *keys)}
    return lacking


def test_what_pods_name_exists(folder):
    assert missing(objects(folder)) == set()


def settings_of(part: Object, found: list[Object]) -> Iterator[str]:
    """Yield the values of a container's variables, those of its ConfigMaps included."""
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    for source in part.get("envFrom", []):
        yield from maps.get(source.get("configMapRef", {}).get("name"), {}).values()
    for variable in part.get("env", []):
        yield variable.get("value", "")


@pytest.mark.parametrize("folder", ["mlflow"])
def test_the_files_that_settings_name_are_where_a_container_looks(folder):
    found = objects(folder)
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    named = 0
    for pod in pods(found):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        for part in containers(pod.spec):
            there = set()
            for mount in part.get("volumeMounts", []):
                source = volumes[mount["name"]].get("configMap", {})
                there |= {f"{mount['mountPath']}/{key}" for key in maps.get(source.get("name"), ())}
            wanted = {value for value in settings_of(part, found) if value.startswith("/etc/")}
            assert wanted <= there, f"{pod.name}: {part['name']}"
            named += len(wanted)
    # The server, what waits before it, and both Jobs import mlflow.server.auth.
    assert named == 4


def test_no_pod_hides_its_errors(folder):
    for pod in pods(objects(folder)):
        for part in containers(pod.spec):
            words = " ".join([*part.get("command", []), *part.get("args", [])])
            assert "/dev/null" not in words, f"{pod.name}: {part['name']}"


def token_holders(spec: Object) -> set[str]:
    """Return the containers of a pod that can read a token of the Kubernetes API."""
    if spec.get("automountServiceAccountToken") is not False:
        return {part["name"] for part in containers(spec)}
    tokens = set()
    for volume in spec.get("volumes", []):
        sources = volume.get("projected", {}).get("sources", [])
        if any("serviceAccountToken" in source for source in sources):
            tokens.add(volume["name"])
    holders = set()
    for part in containers(spec):
        if tokens & {mount["name"] for mount in part.get("volumeMounts", [])}:
            holders.add(part["name"])
    return holders


def test_only_the_autoscaler_holds_a_token_of_the_kubernetes_api():
    holders = set()
    for folder in FOLDERS:
        for pod in pods(objects(folder)):
            holders |= {(folder, pod.name, name) for name in token_holders(pod.spec)}
    assert holders == {
        (folder, "sweep-spec-head", "autoscaler")
        for folder in OVERLAYS
        if not folder.endswith("kueue")
    }
    # Nor does a volume wait for someone to mount it.
    kueue = next(
        pod for pod in pods(objects("k8s/overlays/kueue")) if pod.name == "sweep-spec-head"
    )
    assert not [volume for volume in kueue.spec["volumes"] if "projected" in volume]


def test_accounts_have_no_token_and_no_rights(folder):
    found = objects(folder)
    assert {
        one.get("automountServiceAccountToken") for one in found if one["kind"] == "ServiceAccount"
    } <= {False}
    assert [one["kind"] for one in found if one["apiVersion"].startswith("rbac.")] == []
    # The head's account is KubeRay's, which gives it its Role; all others are the namespace's.
    named = {(pod.name, pod.spec.get("serviceAccountName")) for pod in pods(found)}
    assert {account for _, account in named} <= {"forget", None}
    assert {name for name, account in named if account is None} <= {"sweep-spec-head"}


def test_the_autoscaler_finds_its_token_where_ray_looks_for_it():
    (head,) = (pod for pod in pods(objects("k8s/overlays/cpu")) if pod.name == "sweep-spec-head")
    (scaler,) = (part for part in head.spec["containers"] if part["name"] == "autoscaler")
    (volume,) = (volume for volume in head.spec["volumes"] if "projected" in volume)
    (mount,) = (mount for mount in scaler["volumeMounts"] if mount["name"] == volume["name"])
    paths = []
    for source in volume["projected"]["sources"]:
        paths += (
            [source["serviceAccountToken"]]
            if "serviceAccountToken" in source
            else source["configMap"]["items"]
        )
    files = {f"{mount['mountPath']}/{item['path']}" for item in paths}
    assert files == {node_provider.IN_CLUSTER_TOKEN_PATH, node_provider.IN_CLUSTER_CA_CERT_PATH}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_ray_asks_for_a_token(folder):
    """KubeRay makes the Secret.

    It sets mode and token in every container of Ray's that does not set them itself.
    """
    (job,) = (one for one in objects(folder) if one["kind"] == "RayJob")
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH" not in rendered(folder)


def test_a_sweep_is_submitted_with_a_spec_an_image_and_a_name_of_its_own(tmp_path):
    """Kustomize does not know the kind, but renames what a RayJob refers to, and its images."""
    parts = [
        os.path.relpath(ROOT / f"k8s/components/{name}", tmp_path.resolve())
        for name in ("gpu", "kueue", "pvc")
    ]
    (tmp_path / "spec.toml").write_text("# another\n")
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(ROOT / "k8s/base", tmp_path.resolve())],
                "components": parts,
                "configMapGenerator": [
                    {"name": "forget-spec", "behavior": "replace", "files": ["spec.toml"]}
                ],
                "images": [
                    {
                        "name": "forget",
                        "newName": "registry.example.com/forget",
                        "newTag": "0123abc",
                    }
                ],
                "patches": [
                    {
                        "target": {"kind": "RayJob"},
                        "patch": json.dumps(
                            [{"op": "replace", "path": "/metadata/name", "value": "sweep-mine"}]
                        ),
                    }
                ],
            }
        )
    )
    found = objects(str(tmp_path))
    job = next(one for one in found if one["kind"] == "RayJob")
    images = {part["image"] for _, part in all_containers(found)}
    specs = [one for one in found if one["metadata"]["name"].startswith("forget-spec")]
    assert job["metadata"]["name"] == "sweep-mine"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "forget"
    assert job["spec"]["suspend"] is True
    assert images == {"registry.example.com/forget:0123abc"}
    assert [one["data"] for one in specs] == [{"spec.toml": "# another\n"}]
    assert specs[0]["metadata"]["name"] not in rendered("k8s/overlays/cpu")
    assert missing(found) == set()
    worker = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert worker["rayStartParams"] == {"num-gpus": "1"}
    assert {"name": "store", "mountPath": "/store"} in worker["template"]["spec"]["containers"][0][
        "volumeMounts"
    ]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_token_of_a_hub_is_for_head_and_workers_and_may_be_missing(folder: str) -> None:
    """It is read by who loads models: neither the submitter nor the autoscaler sees it."""
    holders = {}
    for pod, part in all_containers(objects(folder)):
        for variable in part.get("env", []):
            holders[pod.labels["forget/role"], part["name"]] = variable
    source = {"name": "forget-hub", "key": "HF_TOKEN", "optional": True}
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": source}}
    assert holders == dict.fromkeys([("head", "ray-head"), ("worker", "ray-worker")], token)


def test_workers_name_the_runtime_class_where_the_component_is_added(tmp_path: Path) -> None:
    def relative(path: str) -> str:
        return os.path.relpath(ROOT / "k8s" / path, tmp_path.resolve())

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative("overlays/gpu")],
        "components": [relative("components/nvidia-runtime")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    classes = {}
    for pod in pods(objects(str(tmp_path))):
        classes[pod.labels["forget/role"]] = pod.spec.get("runtimeClassName")
    assert classes == {"submitter": None, "head": None, "worker": "nvidia"}


def test_the_server_answers_to_all_its_names():
    hosts = next(one for one in objects("mlflow") if "ALLOWED_HOSTS" in one.get("data", {}))[
        "data"
    ]["ALLOWED_HOSTS"].split(",")
    names = [
        "mlflow",
        "mlflow.forget",
        "mlflow.forget.svc",
        "mlflow.forget.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ]
    assert sorted(hosts) == sorted([*names, *(f"{name}:*" for name in names)])


def test_secrets_are_random_and_agree():
    ours = secrets()
    secrets.cache_clear()
    others = secrets()
    values = {}
    for name, data in ours.items():
        values |= {(name, key): value for key, value in data.items()}
    fixed = {at for at, value in values.items() if others[at[0]][at[1]] == value}
    assert fixed == {("forget-client", "MLFLOW_TRACKING_USERNAME")}
    assert len(set(values.values())) == len(values) - 1, (
        "only the database's password is there twice"
    )
    assert ours["postgres"]["password"] == ours["mlflow-server"]["PGPASSWORD"]
    keys = {
        one["name"]: one["credentials"][0]
        for one in json.loads(ours["seaweedfs"]["s3.json"])["identities"]
    }
    for name, secret in {
        "owner": "seaweedfs",
        "mlflow": "mlflow-server",
        "forget": "forget-client",
    }.items():
        data = ours[secret]
        assert keys[name] == {
            "accessKey": data["AWS_ACCESS_KEY_ID"],
            "secretKey": data["AWS_SECRET_ACCESS_KEY"],
        }


def test_the_example_of_secrets_has_their_keys_and_no_value():
    text = (ROOT / "mlflow/secrets.example.yaml").read_text()
    example = {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(text)}
    assert {name: set(data) for name, data in example.items()} == {
        name: set(data) for name, data in secrets().items()
    }
    free = set()
    for data in example.values():
        free |= {data[key] for key in data if key not in ("MLFLOW_TRACKING_USERNAME", "s3.json")}
    assert free == {"CHANGE-ME"}
    credentials = [
        one["credentials"] for one in json.loads(example["seaweedfs"]["s3.json"])["identities"]
    ]
    assert credentials == [[{"accessKey": "CHANGE-ME", "secretKey": "CHANGE-ME"}]] * 3


def test_no_folder_renders_a_secret(folder):
    assert [one["metadata"]["name"] for one in objects(folder) if one["kind"] == "Secret"] == []


def test_shell_scripts_are_clean():
    run = subprocess.run(
        [tool("shellcheck"), "mlflow/secrets.sh"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout


class Peer(NamedTuple):
    """Someone on the network: a pod of ours, a pod of another namespace, or an address."""

    address: str
    namespace: str | None = None
    labels: Mapping[str, str] = {}


PORTS = [53, 443, 5000, 5432, 6379, 6443, 8265, 8333, 8443, 10001, 16443]
EVERY = set(PORTS)
OUTSIDE = {
    "operator": Peer(
        "10.2.0.1", "kuberay-system", {"app.kubernetes.io/component": "kuberay-operator"}
    ),
    "prometheus": Peer("10.2.0.2", "monitoring"),
    "dns": Peer("10.2.0.3", "kube-system", {"k8s-app": "kube-dns"}),
    "stranger": Peer("10.2.0.4", "default", {"forget/role": "worker"}),
    "api": Peer("10.96.0.1"),
    "internet": Peer("93.184.216.34"),
}
OURS = {
    ("submitter", "head"): {8265},
    ("operator", "head"): {8265},
    ("head", "worker"): EVERY,
    ("worker", "head"): EVERY,
    ("worker", "worker"): EVERY,
    ("head", "mlflow"): {5000},
    ("worker", "mlflow"): {5000},
    ("mlflow-gc", "mlflow"): {5000},
    ("prometheus", "mlflow"): {5000},
    ("head", "seaweedfs"): {8333},
    ("worker", "seaweedfs"): {8333},
    ("mlflow", "seaweedfs"): {8333},
    ("seaweedfs-buckets", "seaweedfs"): {8333},
    ("mlflow", "postgres"): {5432},
    ("mlflow-migrate", "postgres"): {5432},
    ("mlflow-gc", "postgres"): {5432},
}
AUTOSCALER = {("head", name): {443, 6443, 8443, 16443} for name in OUTSIDE}
INTERNET = {(name, "internet"): {443} for name in ("head", "worker", "mlflow")}


def selected(selector: Object, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def meant(peer: Object, who: Peer) -> bool:
    """Tell whether a peer of a policy means this one.

    An address block is taken to mean pods as well: some networks do so.
    """
    if block := peer.get("ipBlock"):
        address = ipaddress.ip_address(who.address)
        excepted = any(address in ipaddress.ip_network(part) for part in block.get("except", []))
        return address in ipaddress.ip_network(block["cidr"]) and not excepted
    if who.namespace is None:
        return False
    if "namespaceSelector" in peer:
        here = selected(peer["namespaceSelector"], {"kubernetes.io/metadata.name": who.namespace})
    else:
        here = who.namespace == "forget"
    return here and selected(peer.get("podSelector", {}), who.labels)


def permits(policies: list[Object], way: str, who: Peer, other: Peer, port: int) -> bool:
    """Tell whether the policies over `who` let it and the other meet at the TCP port.

    With "Ingress" it is reached by the other, with "Egress" it reaches the other.
    """
    if who.namespace != "forget":
        return True
    over = [
        one
        for one in policies
        if way in one["policyTypes"] and selected(one["podSelector"], who.labels)
    ]
    for rule in itertools.chain(*(one.get(way.lower(), []) for one in over)):
        ports = [item["port"] for item in rule.get("ports", []) if item["protocol"] == "TCP"]
        peers = rule.get("from" if way == "Ingress" else "to", [])
        if (not rule.get("ports") or port in ports) and (
            not peers or any(meant(peer, other) for peer in peers)
        ):
            return True
    return not over


def open_pairs(
    found: list[Object], ways: tuple[str, ...] = ("Egress", "Ingress")
) -> dict[tuple[str, str], set[int]]:
    policies = [one["spec"] for one in found if one["kind"] == "NetworkPolicy"]
    roles = {pod.labels["forget/role"]: pod.labels for pod in pods(found)}
    assert len(roles) == len(list(pods(found)))
    here = {
        name: Peer(f"10.1.0.{i}", "forget", labels)
        for i, (name, labels) in enumerate(roles.items())
    }
    here["unlabelled"] = Peer("10.1.0.99", "forget")
    everyone = {**here, **OUTSIDE}
    pairs: dict[tuple[str, str], set[int]] = {}
    for one, source in everyone.items():
        for other, target in everyone.items():
            if one in OUTSIDE and other in OUTSIDE:
                continue
            for port in PORTS:
                ends = {"Egress": (source, target), "Ingress": (target, source)}
                if all(permits(policies, way, *ends[way], port) for way in ways):
                    pairs.setdefault((one, other), set()).add(port)
    return pairs


def together(*folders: str) -> list[Object]:
    """Return what a cluster holds after these folders were applied."""
    found = itertools.chain(*map(objects, folders))
    return list({(one["kind"], one["metadata"]["name"]): one for one in found}.values())


def table(
    found: list[Object], *parts: dict[tuple[str, str], set[int]]
) -> dict[tuple[str, str], set[int]]:
    """Add the parts up; every pod of ours may also ask for names."""
    wanted: dict[tuple[str, str], set[int]] = {}
    roles = [pod.labels["forget/role"] for pod in pods(found)]
    for part in ({(name, "dns"): {53} for name in [*roles, "unlabelled"]}, OURS, *parts):
        for pair, ports in part.items():
            wanted.setdefault(pair, set()).update(ports)
    return wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exactly_the_pairs_of_the_table_are_open(overlay):
    found = together(overlay, "mlflow")
    wanted = table(found, {} if overlay.endswith("kueue") else AUTOSCALER)
    assert open_pairs(found) == wanted
    # Each end is as closed as the other: whoever listens does not rely on others to keep away.
    entered = {
        pair: ports
        for pair, ports in open_pairs(found, ("Ingress",)).items()
        if pair[1] not in OUTSIDE
    }
    assert entered == {pair: ports for pair, ports in wanted.items() if pair[1] not in OUTSIDE}


def test_the_internet_is_open_where_it_is_asked_for():
    found = together("k8s/overlays/cpu", "mlflow", "k8s/internet")
    assert open_pairs(found) == table(found, AUTOSCALER, INTERNET)


@pytest.mark.parametrize(
    "name", ["default-deny", "dns", "head", "worker", "submitter", "results", "mlflow", "database"]
)
def test_no_policy_is_idle(name):
    found = together("k8s/overlays/cpu", "mlflow")
    without = [
        one for one in found if (one["kind"], one["metadata"]["name"]) != ("NetworkPolicy", name)
    ]
    assert open_pairs(without) != open_pairs(found)


def test_under_cilium_the_head_may_ask_the_api_server(tmp_path):
    folder = os.path.relpath(ROOT / "k8s", tmp_path.resolve())
    kustomization = {
        "resources": [f"{folder}/overlays/cpu"],
        "components": [f"{folder}/components/cilium"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    found = objects(str(tmp_path))
    (policy,) = (one for one in found if one["kind"] == "CiliumNetworkPolicy")
    assert policy["metadata"]["namespace"] == "forget"
    (head,) = (pod for pod in pods(found) if pod.labels["forget/role"] == "head")
    chosen = policy["spec"]["endpointSelector"]["matchLabels"]
    assert chosen.items() <= head.labels.items()
    assert policy["spec"]["egress"] == [{"toEntities": ["kube-apiserver"]}]
