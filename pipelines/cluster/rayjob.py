"""A sweep as a RayJob: submitted, and followed until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from forget.errors import BadInput
from forget.settings.sweep import Sweep
from pipelines import INTERRUPTED
from pipelines.cluster.kubectl import DELETE_SECONDS, POLL_SECONDS, Cluster, Refused
from pipelines.cluster.logs import Logs
from pipelines.cluster.manifests import SPEC_DIGEST, job_name, parse, spec_digest
from pipelines.cluster.needs import check_needs, check_operator
from pipelines.cluster.states import Changes, ended, say, state_of, troubles

AWAY_SECONDS = 900
"""Seconds for which a cluster that stops answering is asked again."""


def sweep(cluster: Cluster, study: Sweep, spec: Path, hint: str, render: Callable[[], str]) -> int:
    """Submit the sweep, unless it runs already, and follow it.

    Returns:
        The exit code: the job's, or 130 after Ctrl-C.

    Args:
        cluster: where it runs.
        study: the sweep.
        spec: its file.
        hint: how the user follows it again.
        render: makes what is applied, if anything is.

    Raises:
        BadInput: the cluster lacks what everything stands on, or runs another spec of that name.
    """
    name = job_name(study.name)
    try:
        check_operator(cluster)
        old = next(iter(cluster.find("rayjob", name)), None)
        if old and not ended(old):
            if old["metadata"].get("annotations", {}).get(SPEC_DIGEST) != spec_digest(spec):
                stop = cluster.command("delete", "rayjob", name)
                raise BadInput(
                    f"{name} runs another version of {spec}: wait for it, or stop it with: {stop}"
                )
            say(f"{name} runs already: following it")
        else:
            manifests = render()
            check_needs(cluster, parse(manifests))
            if old:
                cluster.kubectl(
                    "delete", "rayjob", name, "--ignore-not-found", "--wait", seconds=DELETE_SECONDS
                )
            # The names of config maps hold a hash of the spec: nothing else would remove those of
            # earlier versions.
            cluster.kubectl("delete", "configmap", f"--selector=forget/sweep={name}")
            cluster.apply(manifests)
            say(f'{name} submitted to cluster "{cluster.context}"; {_mlflow(cluster)}')
    except KeyboardInterrupt:
        say(f"stopped before {name} was known to be submitted; again: {hint}")
        return INTERRUPTED
    return follow(cluster, name, hint)


def follow(cluster: Cluster, name: str, hint: str) -> int:
    """Show what becomes of a RayJob until it ends.

    Returns:
        The exit code: 0 where it succeeded, 1 where it failed, 130 after Ctrl-C, which leaves it
        running.

    Raises:
        BadInput: the cluster has not answered for a long time.
    """
    told = Changes()
    logs = Logs(cluster, name)
    logs.start()
    answered = time.monotonic()
    try:
        while True:
            try:
                job = next(iter(cluster.find("rayjob", name)), None)
                answered = time.monotonic()
                if job is None:
                    say(f"{name} was deleted")
                    return 1
                told.tell(name, state_of(job))
                if ended(job):
                    break
                its = job.get("status", {}).get("rayClusterName", name)
                for pod, trouble in troubles(
                    cluster.find("pod", f"--selector=ray.io/cluster={its}")
                ):
                    told.tell(pod, trouble)
            except Refused as error:
                told.tell("trying again", str(error))
                if time.monotonic() - answered > AWAY_SECONDS:
                    raise BadInput(
                        f"{error}, for {AWAY_SECONDS} s; {name} may still run, "
                        f"follow it with: {hint}"
                    ) from None
            time.sleep(POLL_SECONDS)
        logs.finish()
        succeeded = job["status"].get("jobStatus") == "SUCCEEDED"
        say(f"{name} {'succeeded' if succeeded else 'failed'}; {_mlflow(cluster)}")
        return 0 if succeeded else 1
    except KeyboardInterrupt:
        say(f"detached; {name} goes on: follow it with: {hint}")
        say(f"stop it with: {cluster.command('delete', 'rayjob', name)}")
        return INTERRUPTED
    finally:
        logs.stop()


def _mlflow(cluster: Cluster) -> str:
    return f"MLflow: make ui CONTEXT={cluster.context}"
