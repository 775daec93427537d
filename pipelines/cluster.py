"""A sweep on Kubernetes: what `make deploy`, `sweep`, `ui` and `undeploy` do with CONTEXT, by the user's own kubectl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from forget.settings import BadInput, Sweep, nearest
from pipelines.manifests import NAMESPACE, SPEC_DIGEST, job_name, no_kubectl, parse, spec_digest

OPERATOR = (
    "helm install kuberay-operator kuberay-operator --repo https://ray-project.github.io/kuberay-helm --version 1.7.0"
    " --namespace kuberay-system --create-namespace"
)

INTERRUPTED = 130
POLL_SECONDS = 3.0
"""Between two looks at what is waited for."""
ANSWER_SECONDS = 20
"""How long kubectl waits for an answer."""
AWAY_SECONDS = 900
"""How long a cluster that stops answering is asked again."""
HEALTHY_SECONDS = 900
"""How long the tracking server may take: nodes come, images are pulled, volumes are made."""
DELETE_SECONDS = 180
"""How long an old RayJob may take to go; its operator stops the job first."""

RAYS_OWN = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+\s+[A-Z]+ (cli|sdk|job_manager)\.py:\d+ -- |Running entrypoint for job ")
"""How a line begins that `ray job submit` adds to what the sweep writes."""


class Refused(BadInput):
    """kubectl ended with an error; the text is its last line."""


@dataclass(frozen=True)
class Cluster:
    """A context of the user's kubeconfig."""

    context: str

    def kubectl(self, *words: str, given: str | None = None, seconds: float = ANSWER_SECONDS) -> str:
        """What kubectl prints.

        Raises:
            Refused: it ended with an error, or not at all.
        """
        with self.start(*words, given=given is not None) as process:
            try:
                out, error = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise Refused(f'cluster "{self.context}": no answer to kubectl {words[0]} within {seconds:g} s') from None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said = error.strip().rpartition("\n")[2] or f"kubectl {words[0]} failed"
            raise Refused(f'cluster "{self.context}": {said.removeprefix("error: ")}')
        return out

    def start(self, *words: str, given: bool = False) -> subprocess.Popen[str]:
        """kubectl in a session of its own: Ctrl-C is for us to act on."""
        return subprocess.Popen(
            ["kubectl", "--context", self.context, "--namespace", NAMESPACE, *words],
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def find(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Objects of a kind; one that is named and is not there is no error."""
        out = self.kubectl("get", kind, *words, "--ignore-not-found", "--output=json")
        found = json.loads(out) if out.strip() else {"items": []}
        return found.get("items", [found])

    def apply(self, manifests: str) -> None:
        """What an earlier version of the project, or a hand, has changed is taken back."""
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager=forget", "--filename=-")
        self.kubectl(*words, given=manifests, seconds=4 * ANSWER_SECONDS)

    def command(self, *words: str) -> str:
        """For the user to type."""
        return " ".join(["kubectl", "--context", self.context, "--namespace", NAMESPACE, *words])


def connect(context: str | None) -> Cluster:
    """
    Raises:
        BadInput: no kubectl, no such context.
    """
    try:
        done = subprocess.run(["kubectl", "config", "get-contexts", "--output=name"], capture_output=True, text=True)
    except FileNotFoundError:
        no_kubectl()
    known = done.stdout.split()
    if not context:
        raise BadInput(f"CONTEXT names the cluster, e.g. make deploy CONTEXT={known[0] if known else 'kind-kind'}")
    if context not in known:
        tail = nearest(context, known) if known else "; kubectl knows none: set KUBECONFIG"
        raise BadInput(f'no cluster is named "{context}" in your kubeconfig{tail}')
    return Cluster(context)


def deploy(cluster: Cluster, manifests: str) -> int:
    """Apply the tracking server and wait until it is healthy. Returns the exit code.

    Raises:
        BadInput: the cluster lacks what everything stands on.
    """
    objects = parse(manifests)
    check_operator(cluster)
    check_needs(cluster, objects)
    # A Job cannot be changed; that of an earlier version makes room for this one's.
    if jobs := [one["metadata"]["name"] for one in objects if one["kind"] == "Job"]:
        cluster.kubectl("delete", "job", *jobs, "--ignore-not-found", "--wait", seconds=DELETE_SECONDS)
    cluster.apply(manifests)
    say(f'applied {len(objects)} objects to cluster "{cluster.context}"')
    wanted = {(one["kind"].lower(), one["metadata"]["name"]) for one in objects if one["kind"] in HEALTH}
    told = Changes()
    states = dict.fromkeys(sorted(wanted), "missing")
    until = time.monotonic() + HEALTHY_SECONDS
    while any(state != HEALTHY for state in states.values()):
        for one in cluster.find(",".join(sorted({kind for kind, _ in wanted}))):
            what = (one["kind"].lower(), one["metadata"]["name"])
            # A Job that is complete is deleted after a while, and was complete all the same.
            if what in wanted:
                states[what] = HEALTH[one["kind"]](one)
                told.tell("/".join(what), states[what])
        for pod, trouble in _troubles(cluster.find("pod")):
            told.tell(pod, trouble)
        late = time.monotonic() > until
        if bad := ["/".join(what) for what, state in states.items() if state == FAILED or (late and state != HEALTHY)]:
            say(f"{bad[0]} did not become healthy; its reasons: {cluster.command('describe', bad[0])}")
            say(f"its words: {cluster.command('logs', bad[0], '--all-containers')}")
            return 1
        time.sleep(POLL_SECONDS)
    say(f"MLflow is up: http://mlflow.{NAMESPACE}:5000 within the cluster; here: make ui CONTEXT={cluster.context}")
    return 0


HEALTHY, FAILED = "healthy", "failed"


def _job_health(job: Mapping[str, Any]) -> str:
    conditions = {one["type"] for one in job.get("status", {}).get("conditions", ()) if one["status"] == "True"}
    return HEALTHY if "Complete" in conditions else FAILED if "Failed" in conditions else "running"


def _replica_health(one: Mapping[str, Any]) -> str:
    status, wanted = one.get("status", {}), one["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < one["metadata"].get("generation", 0):
        return "starting"
    ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    return HEALTHY if ready >= wanted and status.get("replicas", 0) == wanted else f"{ready} of {wanted} ready"


HEALTH = {"Job": _job_health, "Deployment": _replica_health, "StatefulSet": _replica_health}


def undeploy(cluster: Cluster, manifests: str, data: bool) -> int:
    """Delete what `deploy` made. What cannot be made again, the volumes and the Secrets, stays unless `data` is true.

    Raises:
        BadInput: a sweep runs.
    """
    jobs = cluster.find("rayjob") if _has_operator(cluster) else []
    if running := [job["metadata"]["name"] for job in jobs if not _ended(job)]:
        stop = cluster.command("delete", "rayjob", running[0])
        raise BadInput(f"{running[0]} runs and needs the tracking server: wait for it, or stop it with: {stop}")
    if data:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", seconds=2 * DELETE_SECONDS)
        say(f"deleted namespace {NAMESPACE} with its volumes and Secrets")
        return 0
    kept = ("Namespace", "PersistentVolumeClaim", "Secret")
    gone = [one for one in parse(manifests) if one["kind"] not in kept]
    words = ("delete", "--ignore-not-found", "--wait", "--filename=-")
    cluster.kubectl(*words, given=yaml.safe_dump_all(gone), seconds=DELETE_SECONDS)
    # Those of earlier versions have other names, which hold a hash of what they say.
    cluster.kubectl("delete", "configmap", "--selector=app.kubernetes.io/part-of=forget", "--ignore-not-found")
    claims = [claim["metadata"]["name"] for claim in cluster.find("pvc")]
    say(f"deleted {len(gone)} objects; kept namespace {NAMESPACE}, its Secrets and volumes ({', '.join(claims) or 'none'})")
    say(f"delete these as well, with every run and model in them: make undeploy CONTEXT={cluster.context} DATA=1")
    return 0


def ui(cluster: Cluster, port: int) -> NoReturn:
    """Forward a port of this machine to the tracking server, until Ctrl-C.

    Raises:
        BadInput: it is not deployed.
    """
    if not cluster.find("service", "mlflow"):
        raise BadInput(f'no MLflow in cluster "{cluster.context}"; deploy it with: make deploy CONTEXT={cluster.context}')
    who = "'{{.data.MLFLOW_TRACKING_USERNAME | base64decode}} {{.data.MLFLOW_TRACKING_PASSWORD | base64decode}}'"
    secret = cluster.command("get", "secret", "forget-client", f"--output=go-template={who}")
    say(f"MLflow: http://127.0.0.1:{port}, until Ctrl-C; user and password: {secret}")
    words = ["--context", cluster.context, "--namespace", NAMESPACE, "port-forward", "service/mlflow", f"{port}:5000"]
    os.execvp("kubectl", ["kubectl", *words])


def sweep(cluster: Cluster, study: Sweep, spec: Path, hint: str, render: Callable[[], str]) -> int:
    """Submit the sweep, unless it runs already, and follow it. Returns the exit code: the job's, or 130 after Ctrl-C.

    Args:
        hint: how the user follows it again.
        render: makes what is applied, if anything is.

    Raises:
        BadInput: the cluster lacks what everything stands on, or runs another spec of that name.
    """
    name = job_name(study.name)
    try:
        check_operator(cluster)
        old = next(iter(cluster.find("rayjob", name)), None)
        if old and not _ended(old):
            if old["metadata"].get("annotations", {}).get(SPEC_DIGEST) != spec_digest(spec):
                stop = cluster.command("delete", "rayjob", name)
                raise BadInput(f"{name} runs another version of {spec}: wait for it, or stop it with: {stop}")
            say(f"{name} runs already: following it")
        else:
            manifests = render()
            check_needs(cluster, parse(manifests))
            if old:
                cluster.kubectl("delete", "rayjob", name, "--ignore-not-found", "--wait", seconds=DELETE_SECONDS)
            # Their names hold a hash of the spec: nothing else would remove those of earlier versions.
            cluster.kubectl("delete", "configmap", f"--selector=forget/sweep={name}")
            cluster.apply(manifests)
            say(f'{name} submitted to cluster "{cluster.context}"; MLflow: make ui CONTEXT={cluster.context}')
    except KeyboardInterrupt:
        say(f"stopped before {name} was known to be submitted; again: {hint}")
        return INTERRUPTED
    return follow(cluster, name, hint)


def follow(cluster: Cluster, name: str, hint: str) -> int:
    """Show what becomes of a RayJob until it ends: 0 succeeded, 1 failed, 130 Ctrl-C, which leaves it running.

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
                told.tell(name, _state(job))
                if _ended(job):
                    break
                pods = cluster.find("pod", f"--selector=ray.io/cluster={job.get('status', {}).get('rayClusterName', name)}")
                for pod, trouble in _troubles(pods):
                    told.tell(pod, trouble)
            except Refused as error:
                told.tell("trying again", str(error))
                if time.monotonic() - answered > AWAY_SECONDS:
                    raise BadInput(f"{error}, for {AWAY_SECONDS} s; {name} may still run, follow it with: {hint}") from None
            time.sleep(POLL_SECONDS)
        logs.finish()
        succeeded = job["status"].get("jobStatus") == "SUCCEEDED"
        say(f"{name} {'succeeded' if succeeded else 'failed'}; MLflow: make ui CONTEXT={cluster.context}")
        return 0 if succeeded else 1
    except KeyboardInterrupt:
        say(f"detached; {name} goes on: follow it with: {hint}")
        say(f"stop it with: {cluster.command('delete', 'rayjob', name)}")
        return INTERRUPTED
    finally:
        logs.stop()


class Logs(threading.Thread):
    """Prints what the sweep writes, as it is written by the pods that submit it, each line once.

    A stream that breaks is read again from its start, as is the sweep's log by a submitter that takes over from one that
    died: both repeat what was printed, which is left out.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.name = name
        self._ending = threading.Event()
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None
        self._printed: dict[str, list[str]] = {}
        """By the Job whose pods submit: the next try of a sweep has a new one and a log of its own."""

    def run(self) -> None:
        while not self._stopped:
            last, whole = self._ending.is_set(), False
            with suppress(Refused):
                whole = all(self._stream(pod) for pod in self._pods())
            if last and whole:
                return
            self._ending.wait(POLL_SECONDS / 3)

    def finish(self, seconds: float = ANSWER_SECONDS) -> None:
        """The sweep has ended: print what is left."""
        self._ending.set()
        self.join(seconds)

    def stop(self) -> None:
        self._stopped = True
        self._ending.set()
        if process := self._process:
            process.kill()
        self.join(1)

    def _pods(self) -> list[dict[str, Any]]:
        """The newest that has written, if any."""
        pods = self.cluster.find("pod", f"--selector=job-name={self.name}")
        started = [pod for pod in pods if pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")]
        return sorted(started, key=lambda pod: pod["metadata"]["creationTimestamp"])[-1:]

    def _stream(self, pod: Mapping[str, Any]) -> bool:
        """Whether the log was read to its end."""
        labels = pod["metadata"].get("labels", {})
        printed = self._printed.setdefault(labels.get("batch.kubernetes.io/controller-uid", ""), [])
        with self.cluster.start("logs", "--follow", pod["metadata"]["name"]) as process:
            self._process = process
            if self._stopped:
                process.kill()
            for line in unseen(_of_sweep(process.stdout or ()), printed):
                say(line)
        return process.returncode == 0


def _of_sweep(lines: Iterable[str]) -> Iterator[str]:
    """What the sweep wrote, out of what `ray job submit` writes."""
    repeats = False
    for line in lines:
        own = RAYS_OWN.match(line)
        # What follows these words is the end of the log once more.
        repeats |= bool(own) and " -- Status message: " in line
        if not own and not repeats:
            yield line.rstrip("\n")


def unseen(lines: Iterator[str], printed: list[str]) -> Iterator[str]:
    """The lines that do not repeat, in order, what is in `printed`, to which they are added."""
    at = 0
    for line in lines:
        try:
            at = printed.index(line, at) + 1
        except ValueError:
            printed.append(line)
            at = len(printed)
            yield line


class Changes:
    """Says what something is at whenever that changes."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def tell(self, what: str, state: str) -> None:
        if self._last.get(what) != state:
            self._last[what] = state
            say(f"{what}: {state}")


def say(line: str) -> None:
    # Text and line end in one write: two threads speak.
    print(f"{line}\n", end="", flush=True)


def _state(job: Mapping[str, Any]) -> str:
    status = job.get("status", {})
    state = status.get("jobDeploymentStatus") or "Pending: the KubeRay operator has not seen it"
    workers = status.get("rayClusterStatus", {})
    if state == "Running" and workers.get("desiredWorkerReplicas"):
        return f"{state}, {workers.get('readyWorkerReplicas', 0)} of {workers['desiredWorkerReplicas']} workers ready"
    why = status.get("message") or status.get("reason")
    # A job that failed says its last lines, which are in its log as well.
    return f"{state}: {why.partition(chr(10))[0]}" if why else state


def _ended(job: Mapping[str, Any]) -> bool:
    going = bool(job["metadata"].get("deletionTimestamp"))
    return going or job.get("status", {}).get("jobDeploymentStatus") in ("Complete", "Failed", "ValidationFailed")


def _troubles(pods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(pod, why it does not start), in the words of the cluster."""
    for pod in pods:
        status = pod.get("status", {})
        for one in status.get("conditions", ()):
            if one["type"] == "PodScheduled" and one["status"] == "False":
                yield pod["metadata"]["name"], f"waits for a node: {one.get('message', one.get('reason', ''))}"
        for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = one.get("state", {}).get("waiting") or {}
            if waiting.get("reason", "PodInitializing") not in ("PodInitializing", "ContainerCreating"):
                yield pod["metadata"]["name"], f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
            if (one.get("lastState", {}).get("terminated") or {}).get("reason") == "OOMKilled":
                yield pod["metadata"]["name"], "was killed for its memory: give the overlay's workers more"


def check_operator(cluster: Cluster) -> None:
    """Raises BadInput where KubeRay is not installed, or the cluster does not answer."""
    if not _has_operator(cluster):
        install = f"{OPERATOR} --kube-context {cluster.context}"
        raise BadInput(f'cluster "{cluster.context}" has no KubeRay operator (no rayjobs.ray.io); install it with: {install}')


def check_needs(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    """Raises BadInput where a storage class or a Secret is missing that the objects need."""
    claimed = [one.get("spec", {}).get("storageClassName") for one in _claims(objects)]
    if wanted := [name for name in claimed if name != ""]:
        classes = {one["metadata"]["name"]: one["metadata"].get("annotations", {}) for one in cluster.find("storageclass")}
        default = any(notes.get("storageclass.kubernetes.io/is-default-class") == "true" for notes in classes.values())
        for name in wanted:
            if name is None and not default:
                cure = "kubectl patch storageclass NAME -p"
                note = '{"metadata":{"annotations":{"storageclass.kubernetes.io/is-default-class":"true"}}}'
                known = f"of {', '.join(classes)}" if classes else "after installing one"
                raise BadInput(
                    f'cluster "{cluster.context}" has no default storage class for the volumes; {known}, make one the default:'
                    f" {cure} '{note}'"
                )
            if name and name not in classes:
                raise BadInput(f'cluster "{cluster.context}" has no storage class "{name}"{nearest(name, classes)}')
    needed = sorted(_secrets(objects) - {one["metadata"]["name"] for one in objects if one["kind"] == "Secret"})
    names = cluster.kubectl("get", "secret", *needed, "--ignore-not-found", "--output=name").split() if needed else []
    if missing := [name for name in needed if f"secret/{name}" not in names]:
        known = f"kubectl --context {cluster.context} create"
        raise BadInput(
            f'cluster "{cluster.context}" lacks the Secret{"s" * (len(missing) > 1)} {", ".join(missing)} in namespace'
            f" {NAMESPACE}; make random ones with: {known} namespace {NAMESPACE}; mlflow/secrets.sh | {known} -f -"
        )


def _has_operator(cluster: Cluster) -> bool:
    try:
        known = json.loads(cluster.kubectl("get", "--raw=/apis/ray.io/v1"))["resources"]
    except Refused as error:
        if "not find" in str(error) or "NotFound" in str(error):
            return False
        raise
    return any(one["name"] == "rayjobs" for one in known)


def _claims(objects: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in objects:
        if one["kind"] == "PersistentVolumeClaim":
            yield one
        elif one["kind"] == "StatefulSet":
            yield from one["spec"].get("volumeClaimTemplates", ())


def _secrets(tree: Any) -> set[str]:
    """Names of the Secrets that pods in the objects cannot do without."""
    if isinstance(tree, Mapping):
        inner = (_secrets(value) for value in tree.values())
        found = set().union(*inner)
        for key, name in (("secretKeyRef", "name"), ("secretRef", "name"), ("secret", "secretName")):
            reference = tree.get(key)
            if isinstance(reference, Mapping) and not reference.get("optional"):
                # Projected volumes say "name" where others say "secretName".
                found |= {reference[n] for n in {name, "name"} if n in reference}
        return found
    return set().union(*map(_secrets, tree)) if isinstance(tree, list) else set()


def check_here(study: Sweep, spec: Path) -> None:
    """Everything about the trials that can be told without the cluster.

    Raises:
        BadInput: as `forget.trial.check`; a folder that the cluster cannot see.
    """
    fields = tomllib.loads(spec.read_text(encoding="utf-8"))
    for table in ("base", "axes"):
        for folder in _strings(fields.get(table, {}).get("folders", [])):
            if not folder.startswith("/"):
                raise BadInput(
                    f'{spec}: {table}.folders: "{folder}" is a folder of this machine; name the absolute path that your tasks'
                    " have in the image or on a volume of the overlay"
                )
    # What has an absolute path is there on the cluster; the sweep checks it before it begins.
    if known := [trial for trial in study.trials() if not trial.folders and not trial.model.startswith("/")]:
        from forget.trial import check_all  # torch takes seconds

        check_all(known, study.resources.shard)


def _strings(tree: Any) -> list[str]:
    return [tree] if isinstance(tree, str) else [text for one in tree for text in _strings(one)]
