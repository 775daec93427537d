"""Manifests that are applied to Kubernetes.

They are kustomize's rendering of mlflow/ and k8s/, with the images' tag, the spec, and workers that
hold a trial.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from forget.errors import BadInput, nearest
from forget.settings.identity import digest
from forget.settings.sweep import Sweep
from pipelines import PROJECT

NAMESPACE = "forget"
SPEC_DIGEST = "forget/spec-digest"
"""Annotation of the RayJob that tells whether a sweep that runs is the one that is asked for."""


def tag_of(tag: str | None, dirty: bool, spec: Path | None = None) -> str:
    """Return the images' tag: the commit, as `make image` names them, unless another is given.

    Args:
        tag: another tag.
        dirty: files may differ from the commit.
        spec: the study, which may differ, since it is sent along.

    Raises:
        BadInput: files differ from the commit, and so, perhaps, does what runs from what it is
            called.
    """
    commit = "" if tag and dirty else _git("rev-parse", "--short=12", "HEAD").strip()
    if not dirty:
        # A study of the user's own is sent along, it need not be in the image.
        inside = spec and spec.resolve().is_relative_to(PROJECT)
        but = (
            [f":(exclude,literal){spec.resolve().relative_to(PROJECT)}"] if spec and inside else []
        )
        if changed := _git("status", "--porcelain", "--", ".", *but).splitlines():
            files = ", ".join(line[3:] for line in changed[:3])
            more = ", ..." if len(changed) > 3 else ""
            raise BadInput(
                f"commit {commit} names the image and lacks your changes of {files}{more}: "
                "commit them, or say DIRTY=1"
            )
    return tag or f"{commit}{'-dirty' if dirty else ''}"


def _git(*words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(PROJECT), *words], capture_output=True, text=True, check=True
        ).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise BadInput(
            f"{PROJECT} is no git repository, whose commit would name the image: "
            "say TAG=... DIRTY=1"
        ) from None


def job_name(sweep: str) -> str:
    """Return the RayJob's name, a different one for each sweep.

    Kubernetes allows lower-case letters, digits and "-", KubeRay 47 characters. A name that had to
    be changed ends in a hash of the sweep's.
    """
    plain = re.sub("[^a-z0-9]+", "-", sweep.lower()).strip("-")
    name = f"sweep-{plain}"
    if plain == sweep and len(name) <= 47:
        return name
    return f"{name[:40].rstrip('-')}-{digest(sweep)[:6]}"


def spec_digest(spec: Path) -> str:
    """Return the identity of a spec's text."""
    return digest(spec.read_text(encoding="utf-8"))


def render_server(image: str, tag: str, overlay: str = "cpu") -> str:
    """Return the tracking server as YAML, with the images of that tag.

    Args:
        image: the name of the sweeps' image.
        tag: the images' tag.
        overlay: "small", a folder of the user's own by its path, or what sweeps call theirs: these
            share one server.

    Raises:
        BadInput: no such overlay.
    """
    folder = PROJECT / "mlflow/overlays" / overlay
    if "/" in overlay or not folder.is_dir():
        found = overlay_path(overlay)
        folder = found if "/" in overlay else PROJECT / "mlflow"
    return _kustomize(folder, _images(image, tag))


def render_sweep(study: Sweep, spec: Path, overlay: str, image: str, tag: str) -> str:
    """Return the overlay as YAML, with the images, the spec, and workers that hold a trial.

    Args:
        study: the sweep that the spec describes.
        spec: its file.
        overlay: a folder in k8s/overlays by its name, or one of the user's own by its path.
        image: the image's name.
        tag: the images' tag.

    Raises:
        BadInput: no such overlay; GPUs are asked for and the overlay has none, or the other way
            round.
    """
    folder = overlay_path(overlay)
    name = job_name(study.name)
    text = spec.read_text(encoding="utf-8")
    if "name" not in tomllib.loads(text):
        # The name would be that of the file, which in the cluster is another.
        text = f'name = "{study.name}"\n{text}'
    (job,) = (one for one in parse(_kustomize(folder, {})) if one["kind"] == "RayJob")
    metadata = {
        "name": name,
        "labels": {"forget/sweep": name},
        "annotations": {SPEC_DIGEST: spec_digest(spec)},
    }
    named = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata}
    sized = []
    for number, group in enumerate(job["spec"]["rayClusterSpec"]["workerGroupSpecs"]):
        resources = worker_resources(
            study, group["template"]["spec"]["containers"][0]["resources"], overlay
        )
        path = f"/spec/rayClusterSpec/workerGroupSpecs/{number}"
        if not job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling"):
            # Nobody would add the workers that there may be later.
            for field in ("replicas", "minReplicas"):
                most = group["maxReplicas"]
                sized.append({"op": "replace", "path": f"{path}/{field}", "value": most})
        sized.append(
            {
                "op": "replace",
                "path": f"{path}/template/spec/containers/0/resources",
                "value": resources,
            }
        )
        if "num-gpus" in group["rayStartParams"]:
            gpus = resources["limits"][GPU]
            sized.append(
                {"op": "replace", "path": f"{path}/rayStartParams/num-gpus", "value": gpus}
            )
    more = _images(image, tag) | {
        "configMapGenerator": [
            {
                "name": "forget-spec",
                "namespace": NAMESPACE,
                "behavior": "replace",
                "files": ["spec.toml"],
                "options": {"labels": {"forget/sweep": name}},
            }
        ],
        "patches": [
            {
                "target": {"kind": "RayJob"},
                "patch": json.dumps(named),
                "options": {"allowNameChange": True},
            },
            {"target": {"kind": "RayJob"}, "patch": json.dumps(sized)},
        ],
    }
    return _kustomize(folder, more, {"spec.toml": text})


def overlay_path(overlay: str) -> Path:
    """Find an overlay that ships by its name, or one of the user's own by its folder."""
    folder = Path(overlay) if "/" in overlay else PROJECT / "k8s" / "overlays" / overlay
    if not (folder / "kustomization.yaml").is_file():
        ours = (PROJECT / "k8s" / "overlays").glob("*/kustomization.yaml")
        known = nearest(overlay, [path.parent.name for path in ours])
        raise BadInput(
            f'no overlay is named "{overlay}", nor is it a folder with a kustomization.yaml{known}'
        )
    return folder.resolve()


GPU = "nvidia.com/gpu"
"""Kubernetes' name of the resource."""


def worker_resources(
    study: Sweep, has: Mapping[str, Any], overlay: str
) -> dict[str, dict[str, Any]]:
    """Return a worker's resources, with limits made larger where they hold no trial.

    Its memory grows as its cores or GPUs do. A request grows with its limit where the two are
    equal; a smaller one is the overlay's way to say that a node may be shared, and stays.

    Args:
        study: the sweep, which says what a trial takes.
        has: requests and limits of the overlay's worker.
        overlay: what to call it in an error.

    Raises:
        BadInput: GPUs are asked for and the worker has none, or the other way round.
    """
    take = study.resources
    limits = {**has.get("requests", {}), **has.get("limits", {})}
    each = float(GPU in limits) if take.gpus == "auto" else take.gpus
    cpus, gpus = math.ceil(take.cpus * take.workers), math.ceil(each * take.workers)
    if bool(gpus) != (GPU in limits):
        wrong = f"asks for {each:g} GPUs a process" if gpus else "asks for no GPU"
        cure = "say OVERLAY=gpu" if gpus else 'say resources.gpus = "auto", or OVERLAY=cpu'
        there = limits.get(GPU, "none")
        raise BadInput(
            f"[resources] {wrong}, and the workers of overlay {overlay} have {there}: {cure}"
        )
    scale = max(1.0, cpus / _cores(limits.get("cpu", cpus)), gpus / int(limits.get(GPU, 1)))

    def grown(kind: str, quantity: Any) -> Any:
        """Return the quantity of a kind that a trial needs; other kinds stay as they are."""
        if kind == "cpu":
            return str(cpus) if cpus > _cores(quantity) else quantity
        if kind == GPU:
            return str(max(gpus, int(quantity)))
        number = re.fullmatch(r"(\d+)(\D*)", str(quantity)) if kind == "memory" else None
        return f"{math.ceil(int(number[1]) * scale)}{number[2]}" if number else quantity

    most = has.get("limits", {})
    resources = {}
    for part, kinds in has.items():
        resources[part] = {
            kind: grown(kind, quantity) if quantity == most.get(kind, quantity) else quantity
            for kind, quantity in kinds.items()
        }
    return resources


def _cores(quantity: Any) -> float:
    """Return a quantity of CPUs as a number: Kubernetes writes 500m for half of one."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _images(image: str, tag: str) -> dict[str, Any]:
    """Return the part of a kustomization that names the images."""
    names = {"forget": image, "forget-mlflow": f"{image}-mlflow"}
    return {
        "images": [{"name": name, "newName": new, "newTag": tag} for name, new in names.items()]
    }


def _kustomize(folder: Path, more: Mapping[str, Any], files: Mapping[str, str] = {}) -> str:
    """Render a folder as YAML, under a kustomization that also holds `more` and the files.

    Sizes are written last: the folder may be the user's own, with keys for some of them.
    """
    with tempfile.TemporaryDirectory() as name:
        # Kustomize takes relative paths alone, and follows links before it takes them.
        draft = Path(name).resolve()
        for file, text in files.items():
            (draft / file).write_text(text, encoding="utf-8")
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(folder, draft)],
            "components": [os.path.relpath(PROJECT / "k8s/components/sized", draft)],
            **more,
        }
        (draft / "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")
        try:
            done = subprocess.run(
                ["kubectl", "kustomize", str(draft)], capture_output=True, text=True
            )
        except FileNotFoundError:
            no_kubectl()
    if done.returncode:
        said = done.stderr.strip().removeprefix("error: ")
        raise BadInput(f"{folder}: kubectl kustomize refuses it: {said}")
    return done.stdout


def parse(manifests: str) -> list[dict[str, Any]]:
    """Return the objects of YAML that was rendered."""
    return [one for one in yaml.safe_load_all(manifests) if one]


def no_kubectl() -> NoReturn:
    """Raise BadInput: kubectl is missing."""
    raise BadInput("kubectl is not installed: https://kubernetes.io/docs/tasks/tools")
