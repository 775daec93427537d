"""Manifests that are applied to Kubernetes.

They are kustomize's rendering of mlflow/ and k8s/, with the images' tag, the spec, and workers that
hold a trial.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from forget.errors import BadInput, nearest
from forget.settings.identity import digest
from forget.settings.sweep import Sweep
from pipelines import PROJECT
from pipelines.cluster.workers import worker_patches

if TYPE_CHECKING:
    from forget.planning.footprint import Footprint  # torch takes seconds

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


def render_sweep(
    study: Sweep,
    spec: Path,
    overlay: str,
    image: str,
    tag: str,
    footprint: Footprint | None = None,
) -> str:
    """Return the overlay as YAML, with the images, the spec, and workers that hold a trial.

    Args:
        study: the sweep that the spec describes.
        spec: its file.
        overlay: a folder in k8s/overlays by its name, or one of the user's own by its path.
        image: the image's name.
        tag: the images' tag.
        footprint: what the largest trial takes of a worker, where that is known here.

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
    rendered = parse(_kustomize(folder, {}))
    (job,) = (one for one in rendered if one["kind"] == "RayJob")
    metadata = {
        "name": name,
        "labels": {"forget/sweep": name},
        "annotations": {SPEC_DIGEST: spec_digest(spec)},
    }
    named = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata}
    copies = "://" in _store(rendered, text)
    sized = worker_patches(job, study, overlay, footprint, copies)
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


def _store(rendered: Sequence[Mapping[str, Any]], spec: str) -> str:
    """Return where trials keep what they share: the spec's place, or else the overlay's."""
    if own := tomllib.loads(spec).get("store"):
        return str(own)
    settings: dict[str, str] = {}
    for one in rendered:
        settings |= one.get("data", {}) if one["kind"] == "ConfigMap" else {}
    return settings.get("FORGET_STORE", "")


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
