"""A sweep as a RayJob: submitted, and followed until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forget.errors import BadInput
from forget.settings.sweep import Sweep
from pipelines import INTERRUPTED
from pipelines.cluster.kubectl import DELETE_SECONDS, POLL_SECONDS, Cluster, Refused
from pipelines.cluster.logs import Logs, last_words
from pipelines.cluster.manifests import SPEC_DIGEST, job_name, parse, spec_digest
from pipelines.cluster.needs import check_needs, check_operator
from pipelines.cluster.stages import OPERATOR, Losses, Way, alive, in_cluster, stage_of, submitting
from pipelines.cluster.states import Changes, ended, failing, say, state_of, troubles

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
            submitted = False
        else:
            submitted = True
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
    return follow(cluster, name, hint, submitted)


def follow(cluster: Cluster, name: str, hint: str, submitted: bool) -> int:
    """Show what becomes of a RayJob until it ends.

    Args:
        cluster: where it runs.
        name: of the RayJob.
        hint: how the user follows it again.
        submitted: it was submitted just now.

    Returns:
        The exit code: 0 where it succeeded, 1 where it failed, 130 after Ctrl-C, which leaves it
        running.

    Raises:
        BadInput: the cluster has not answered for a long time.
    """
    logs = Logs(cluster, name)
    logs.start()
    watch = Watch(cluster, name, logs, submitted)
    answered = time.monotonic()
    try:
        while True:
            try:
                job = watch.look()
                answered = time.monotonic()
                if job is None:
                    say(f"{name} was deleted")
                    return 1
                if ended(job):
                    break
            except Refused as error:
                watch.told.tell("trying again", str(error))
                if time.monotonic() - answered > AWAY_SECONDS:
                    raise BadInput(
                        f"{error}, for {AWAY_SECONDS} s; {name} may still run, "
                        f"follow it with: {hint}"
                    ) from None
            time.sleep(POLL_SECONDS)
        logs.finish()
        succeeded = job["status"].get("jobStatus") == "SUCCEEDED"
        end = "succeeded" if succeeded else f"failed{watch.why()}"
        say(f"{name} {end}; {_mlflow(cluster)}")
        return 0 if succeeded else 1
    except KeyboardInterrupt:
        say(f"detached; {name} goes on: follow it with: {hint}")
        say(f"stop it with: {cluster.command('delete', 'rayjob', name)}")
        return INTERRUPTED
    finally:
        logs.stop()


class Watch:
    """A RayJob that is followed: what has changed since the last look is said."""

    def __init__(self, cluster: Cluster, name: str, logs: Logs, submitted: bool) -> None:
        self.cluster = cluster
        self.name = name
        self.logs = logs
        self.told = Changes()
        self._troubles: dict[str, str] = {}
        """Troubles of the try that runs, by pod or container."""
        self._its = ""
        """The Ray cluster of the try that runs."""
        self._operator_hidden = False
        """This account may not look at the operator's pods."""
        self.way, self.losses = Way(whole=submitted), Losses()

    def _try_again(self) -> None:
        """Begin anew with the next try of the RayJob, which makes a cluster of its own."""
        self.logs.started = None
        self._troubles = {}
        self.way, self.losses = Way(), Losses()

    def look(self) -> dict[str, Any] | None:
        """Look at the RayJob and its pods; return it, None where it is gone.

        Raises:
            Refused: the cluster does not answer.
        """
        job = next(iter(self.cluster.find("rayjob", self.name)), None)
        if job is None:
            return None
        pods = self.cluster.find("pod")
        its = job.get("status", {}).get("rayClusterName", "")
        self.told.tell(self.name, state_of(job))
        # "Retrying" lasts less than the time between two looks.
        if its and self._its and its != self._its:
            say(f"{self.name}: the try has failed{self.why()}; another one, on a new Ray cluster")
            self._try_again()
        self._its = its or self._its
        if not ended(job):
            self._look_at(job, pods)
        return job

    def _look_at(self, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> None:
        its = job.get("status", {}).get("rayClusterName", self.name)
        mine = [pod for pod in pods if in_cluster(pod, its) or pod in submitting(pods, job)]
        if mine:
            words = last_words(self.cluster, failing(mine))
            self._troubles = dict((*troubles(mine), *words))
        for one, trouble in self._troubles.items():
            self.told.tell(one, trouble)
        for loss in self.losses.look([*pods, *self._operators()], job):
            say(loss)
        if self.logs.started:
            self.way.end(self.logs.started)
        else:
            self.way.look(stage_of(job, pods, self._warnings(its, mine)))

    def _operators(self) -> list[dict[str, Any]]:
        """Return the operator's pods, none where this account may not look at them."""
        if self._operator_hidden:
            return []
        try:
            return self.cluster.find("pod", "--all-namespaces", f"--selector={'='.join(OPERATOR)}")
        except Refused as error:
            if "forbidden" not in str(error):
                raise
            self._operator_hidden = True
            return []

    def _warnings(self, its: str, pods: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return why the operator could not make a pod, e.g. a quota, where it lacks one."""
        if all(alive(pods, role) for role in ("head", "worker")):
            return []
        chosen = f"--field-selector=type=Warning,involvedObject.name={its}"
        events = self.cluster.find("event", chosen, "--sort-by=.lastTimestamp")
        return [" ".join(one.get("message", "").split()) for one in events]

    def why(self) -> str:
        """Return the last trouble of the pods, to end a sentence with."""
        said = [f"{one}: {trouble}" for one, trouble in self._troubles.items()]
        return f": {said[-1]}" if said else ""


def _mlflow(cluster: Cluster) -> str:
    return f"MLflow: make ui CONTEXT={cluster.context}"
