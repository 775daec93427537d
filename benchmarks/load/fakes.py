"""`python -m benchmarks.load.fakes SPEC WORKERS`: a sweep of trials of no work, on fake workers.

Each worker is a Ray node of one core whose processes run on this machine, and the sweep's own
driver gives it trials. A trial only speaks to the tracking server, about as much as a trial does.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import ray
import requests
from ray import tune
from ray.cluster_utils import Cluster

BATCHES, READS, FILES = 5, 7, 8
"""Batches of metrics, reads of the run and files that a trial sends; a short trial of
benchmarks.load.parts sends as many, and versions of its model, which are left out here.
"""

METRICS, BYTES = 100, 20_000
"""Metrics of a batch, bytes of a file."""

OBJECTS = 80 * 2**20
"""Bytes of the object store of each node, the least that Ray allows."""


class Idle(tune.Trainable):
    """A slot whose trials do no work but leave a run."""

    def setup(self, config: dict[str, Any], uri: str = "", experiment: str = "") -> None:  # type: ignore[override]
        self.uri, self.experiment = uri, experiment
        self.session = requests.Session()
        who = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        self.session.auth = (os.environ[who[0]], os.environ[who[1]])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Agree to run another trial in this process (reuse_actors)."""
        return True

    def step(self) -> dict[str, Any]:
        """Leave a run with curves and files."""
        run = self._post("runs/create", experiment_id=self.experiment)["run"]["info"]
        id, now = run["run_id"], int(1000 * time.time())
        for batch in range(BATCHES):
            metrics = [
                {"key": f"m{number}", "value": 0.5, "timestamp": now, "step": batch}
                for number in range(METRICS)
            ]
            self._post("runs/log-batch", run_id=id, metrics=metrics)
        for _ in range(READS):
            found = self.session.get(f"{self.uri}/api/2.0/mlflow/runs/get", params={"run_id": id})
            found.raise_for_status()
        place = run["artifact_uri"].partition("mlflow-artifacts:")[2].lstrip("/")
        for file in range(FILES):
            path = f"{self.uri}/api/2.0/mlflow-artifacts/artifacts/{place}/{file}.json"
            self.session.put(path, data=b"0" * BYTES).raise_for_status()
        self._post("runs/update", run_id=id, status="FINISHED", end_time=now)
        return {"done": True, "reason": None, "stopped": False}

    def _post(self, what: str, **fields: Any) -> dict[str, Any]:
        answer = self.session.post(f"{self.uri}/api/2.0/mlflow/{what}", json=fields)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@contextlib.contextmanager
def fake_workers(count: int) -> Any:
    """Start a head without cores and so many nodes of one core; connect to them."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    node = {"object_store_memory": OBJECTS, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
    try:
        for _ in range(count):
            cluster.add_node(wait=False, num_cpus=1, **node)
        cluster.wait_for_nodes(timeout=600)
        ray.init(cluster.address, log_to_driver=False)
        yield cluster.head_node
    finally:
        ray.shutdown()
        cluster.shutdown()


def main(spec: str, workers: int) -> None:
    """Run the sweep's driver over the fake workers, and print what happened as JSON."""
    # A trial's process does not need them, and torch in each would fill the memory.
    from forget import tracking
    from forget.preflight import expand
    from forget.settings.reading import read_sweep
    from forget.storage.store import Store
    from forget.trial import run_trial
    from pipelines.jobs import Job
    from pipelines.sweep import driver as driving
    from pipelines.sweep.nodes import TUNE, Slots

    os.environ.update(TUNE)
    sweep, store = read_sweep(spec), Store("store")
    expansion = expand(sweep, store)
    # What all trials are taken to have found.
    outcome = run_trial(expansion.trials[0], lambda event: None, Store("model"))
    study = tracking.open_study(expansion, Path(spec).read_text(encoding="utf-8"))
    place = {"uri": os.environ["MLFLOW_TRACKING_URI"], "experiment": study.experiment_id}

    class Head(driving.Driver):
        """The driver, which does not look for what trials of no work leave in the store."""

        def _ended(self, job: Job, reason: str | None) -> None:
            job.ended(outcome)
            self.progress.finished(job.id, outcome)

    with_parameters = tune.with_parameters
    tune.with_parameters = lambda slot, **given: with_parameters(Idle, **place)  # type: ignore[assignment]
    with fake_workers(workers) as head:
        gcs = head.all_processes["gcs_server"][0].process.pid
        print(json.dumps({"gcs": gcs}), file=sys.stderr, flush=True)
        began = time.monotonic()
        driver = Head(expansion, store)
        driver.run(study, Slots(sweep.resources.model_copy(update={"gpus": 0}), workers))
        seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "failed": len(driver.failures)}), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
