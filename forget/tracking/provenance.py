"""Provenance of a run: versions of what computes, and the commit."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from contextlib import suppress
from pathlib import Path

VERSIONS = ("torch", "transformers", "accelerate", "peft", "ray", "mlflow")
"""Packages whose versions may change a trial's numbers or how it runs."""


@functools.cache
def environment() -> dict[str, str]:
    """Return tags that say what code runs: versions of packages, and the git commit, if any."""
    found = []
    for package in VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    tags = {"versions": ", ".join(found)}
    with suppress(FileNotFoundError):
        describe = [
            "git",
            "-C",
            str(Path(__file__).parent),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=40",
            "--exclude=*",
        ]
        answer = subprocess.run(describe, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            tags["mlflow.source.git.commit"] = answer.stdout.strip()
    return tags
