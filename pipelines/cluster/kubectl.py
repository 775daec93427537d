"""A cluster as the user's own kubectl reaches it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from forget.errors import BadInput, nearest
from pipelines.cluster.manifests import NAMESPACE, no_kubectl

POLL_SECONDS = 3.0
"""Seconds between two looks at what is waited for."""
ANSWER_SECONDS = 20
"""Seconds that kubectl waits for an answer."""
DELETE_SECONDS = 180
"""Seconds that an old RayJob may take to go; its operator stops the job first."""


class Refused(BadInput):
    """An error that kubectl ended with; the text is its last line."""


@dataclass(frozen=True)
class Cluster:
    """A context of the user's kubeconfig."""

    context: str

    def kubectl(
        self, *words: str, given: str | None = None, seconds: float = ANSWER_SECONDS
    ) -> str:
        """Run kubectl and return what it prints.

        Args:
            words: the command.
            given: its standard input.
            seconds: to wait for it.

        Raises:
            Refused: it ended with an error, or not at all.
        """
        with self.start(*words, given=given is not None) as process:
            try:
                out, error = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                late = f"no answer to kubectl {words[0]} within {seconds:g} s"
                raise Refused(f'cluster "{self.context}": {late}') from None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said = error.strip().rpartition("\n")[2] or f"kubectl {words[0]} failed"
            raise Refused(f'cluster "{self.context}": {said.removeprefix("error: ")}')
        return out

    def start(self, *words: str, given: bool = False) -> subprocess.Popen[str]:
        """Start kubectl in a session of its own: Ctrl-C is for us to act on."""
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
        """Return objects of a kind; one that is named and is not there is left out."""
        out = self.kubectl("get", kind, *words, "--ignore-not-found", "--output=json")
        found = json.loads(out) if out.strip() else {"items": []}
        return found.get("items", [found])

    def apply(self, manifests: str) -> None:
        """Make the objects what the manifests say, whoever has changed them before."""
        words = (
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=forget",
            "--filename=-",
        )
        self.kubectl(*words, given=manifests, seconds=4 * ANSWER_SECONDS)

    def command(self, *words: str) -> str:
        """Return a command for the user to type."""
        return " ".join(["kubectl", "--context", self.context, "--namespace", NAMESPACE, *words])


def connect(context: str | None) -> Cluster:
    """Return the cluster of that name in the user's kubeconfig.

    Raises:
        BadInput: no kubectl, no such context.
    """
    try:
        done = subprocess.run(
            ["kubectl", "config", "get-contexts", "--output=name"], capture_output=True, text=True
        )
    except FileNotFoundError:
        no_kubectl()
    known = done.stdout.split()
    if not context:
        example = known[0] if known else "kind-kind"
        raise BadInput(f"CONTEXT names the cluster, e.g. make deploy CONTEXT={example}")
    if context not in known:
        tail = nearest(context, known) if known else "; kubectl knows none: set KUBECONFIG"
        raise BadInput(f'no cluster is named "{context}" in your kubeconfig{tail}')
    return Cluster(context)
