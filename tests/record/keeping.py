"""Runs a trial of the record, keeps what it left, and reads what was kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers
from record.trials import FOLDER, TRIALS

from forget.events import ignore
from forget.results.files import read_rows, write_rows
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.trial import run_trial
from pipelines.processes import run_processes


def machine() -> str:
    """Return what rounding depends on: the processor and the versions of what computes.

    Virtual machines give processors of several generations one name: their flags tell them apart.
    """
    cpu = {"model name": platform.processor()}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        pairs = [line.partition(":") for line in lines]
        cpu = {key.strip(): value.strip() for key, _, value in pairs}
    told = {name: cpu.get(name, "") for name in ("model name", "cpu family", "model", "flags")}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    kind = torch.backends.cpu.get_cpu_capability()
    return json.dumps({**told, "kind": kind, **versions}, indent=1)


def run(name: str, folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Run a trial of the record in a store of its own.

    Return its Rows, and its numbers as JSON has them.
    """
    trial, resources = TRIALS[name]
    store = Store(folder / "store")
    left: list[Outcome] = []
    if resources.workers > 1:
        run_processes(
            trial,
            resources,
            lambda event: left.append(event) if isinstance(event, Outcome) else ignore(event),
            store,
        )
        (outcome,) = left
    else:
        outcome = run_trial(trial, store=store)
    rows = Trials(store).rows(outcome.id)
    fields = outcome.model_dump(mode="json")
    numbers = {name: fields[name] for name in ("measures", "probes", "likeness", "parameters")}
    weights = Trials(store).folder(outcome.id) / "model" / "model.safetensors"
    numbers["weights"] = hashlib.sha256(weights.read_bytes()).hexdigest() if trial.keeps else None
    return rows, numbers


def keep(name: str, rows: list[Row], numbers: dict[str, Any]) -> None:
    """Write what a trial left into the record."""
    write_rows(rows, FOLDER / f"{name}.parquet")
    text = json.dumps(numbers, indent=0, sort_keys=True).encode()
    (FOLDER / f"{name}.json.gz").write_bytes(gzip.compress(text, mtime=0))


def kept(name: str) -> tuple[list[Row], dict[str, Any]]:
    """Read what the record has of a trial."""
    return read_rows(FOLDER / f"{name}.parquet"), json.loads(
        gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes())
    )
