"""As much of a Kubernetes API server as kubectl needs, on loopback.

It has discovery, objects, server-side apply and breaking logs.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

KINDS = {
    ("", "v1"): (
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
        "Service",
        "Pod",
        "Event",
        "PersistentVolumeClaim",
        "Node",
        "ResourceQuota",
    ),
    ("apps", "v1"): ("Deployment", "StatefulSet"),
    ("batch", "v1"): ("Job", "CronJob"),
    ("networking.k8s.io", "v1"): ("NetworkPolicy",),
    ("policy", "v1"): ("PodDisruptionBudget",),
    ("storage.k8s.io", "v1"): ("StorageClass",),
    ("node.k8s.io", "v1"): ("RuntimeClass",),
    ("kueue.x-k8s.io", "v1"): ("LocalQueue",),
    ("ray.io", "v1"): ("RayJob",),
}
EVERYWHERE = ("Namespace", "StorageClass", "Node", "RuntimeClass")
SHORT = {"PersistentVolumeClaim": ["pvc"]}


def plural(kind: str) -> str:
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("ss") else f"{name}s"


def kind_of(kinds: str) -> tuple[tuple[str, str], str]:
    """Return a kind by its plural, after its group and version."""
    for group, known in KINDS.items():
        for kind in known:
            if plural(kind) == kinds:
                return group, kind
    raise KeyError(kinds)


class Log:
    """Lines that a container writes; a reader may be cut off after a number of them."""

    def __init__(self, cuts: tuple[int, ...] = ()) -> None:
        self.lines: list[str] = []
        self.closed = False
        self.cuts = list(cuts)
        self.readers = 0


class ApiServer(ThreadingHTTPServer):
    """Objects by (plural, name).

    `react` is told of each that is applied, and plays the controllers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kinds = dict(KINDS)
        self.objects: dict[tuple[str, str], Object] = {}
        self.logs: dict[str, Log] = {}
        self.react: Callable[[Object], None] = lambda one: None
        self.written: list[tuple[str, str, str]] = []
        """(method, plural, name), in order."""
        self.gets: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()
        """Times that an object, and all objects, of a kind were asked for."""
        self.refuses: Callable[[Object], str] = lambda one: ""
        """Returns why an object that is sent for a dry run would not be let in, or ""."""
        self.schemas: Object = {}
        """Schemas of the kinds of ray.io, as OpenAPI has them."""
        self.unknown: list[str] = []
        """Paths that nothing is at."""
        self.confined = False
        """The account may look at no namespace but its own."""
        self.away = 0
        """Number of the next requests that are refused."""
        self._numbers = itertools.count(1)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, kind: str, name: str, **fields: Any) -> Object:
        """Make or replace an object, as a controller does."""
        number = next(self._numbers)
        metadata = fields.pop("metadata", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + number))
        group = next(gv for gv, kinds in KINDS.items() if kind in kinds)
        one: Object = {
            "apiVersion": "/".join(filter(None, group)),
            "kind": kind,
            "metadata": {
                "name": name,
                "uid": f"uid-{number}",
                "creationTimestamp": stamp,
                "generation": 1,
                **metadata,
            },
            **fields,
        }
        if kind not in EVERYWHERE:
            one["metadata"].setdefault("namespace", "forget")
        one["metadata"]["resourceVersion"] = str(number)
        self.objects[plural(kind), name] = one
        return one


def whole_cluster(home: Path) -> ApiServer:
    """Start a cluster that has everything; the kubeconfig in a home folder knows it as "here"."""
    made = ApiServer()
    notes = {"storageclass.kubernetes.io/is-default-class": "true"}
    made.put("StorageClass", "standard", metadata={"annotations": notes})
    for name in ("forget-client", "mlflow-server", "postgres", "seaweedfs"):
        made.put("Secret", name)
    parts_and_tags = itertools.product(("", "-mlflow"), ("abc", "def"))
    names = [f"forget{part}:{tag}" for part, tag in parts_and_tags]
    images = [{"names": [f"docker.io/library/{name}"]} for name in names]
    size = {"cpu": "16", "memory": "128Gi", "ephemeral-storage": "500Gi"}
    made.put("LocalQueue", "forget")
    made.put("Node", "large", status={"allocatable": size, "images": images})
    address = f"http://127.0.0.1:{made.server_port}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text(json.dumps(config))
    return made


class Handler(BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, body: Object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, reason: str, message: str) -> None:
        self.answer(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": reason,
                "message": message,
            },
            status,
        )

    def route(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.server.away:
            self.server.away -= 1
            self.refuse(503, "ServiceUnavailable", "the server is being restarted")
            return
        place = r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v1)"
        space = r"(?:/namespaces/(?P<space>[^/]+))?"
        one = rf"{place}{space}/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
        if found := re.fullmatch(place, url.path):
            self.discover(found["group"] or "", found["version"])
        elif self.server.confined and url.path == "/api/v1/pods":
            why = 'pods is forbidden: User "me" cannot list resource "pods" at the cluster scope'
            self.refuse(403, "Forbidden", why)
        elif found := re.fullmatch(one, url.path):
            query["namespace"] = found["space"] or ""
            self.serve_object(found["plural"], found["name"], bool(found["log"]), query, body)
        else:
            self.serve_document(url.path)

    do_GET = do_PATCH = do_POST = do_DELETE = do_PUT = route  # noqa: N815

    def serve_document(self, path: str) -> None:
        groups = []
        for group, version in filter(lambda kind: kind[0], self.server.kinds):
            entry = {"groupVersion": f"{group}/{version}", "version": version}
            groups.append({"name": group, "versions": [entry], "preferredVersion": entry})
        if path == "/version":
            self.answer({"major": "1", "minor": "32", "gitVersion": "v1.32.0"})
        elif path == "/api":
            self.answer({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        elif path == "/openapi/v3":
            places = {
                f"apis/{group}/{version}" if group else f"api/{version}"
                for group, version in self.server.kinds
            }
            self.answer(
                {
                    "paths": {
                        place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in places
                    }
                }
            )
        elif path == "/openapi/v3/apis/ray.io/v1" and self.server.schemas:
            self.answer(
                {
                    "openapi": "3.0.0",
                    "info": {"title": "", "version": ""},
                    "paths": self.operations("ray.io", "v1"),
                    "components": {"schemas": self.server.schemas},
                }
            )
        elif path.startswith("/openapi/v3/"):
            *_, group, version = ["", *path.split("/")[3:]]
            group = "" if group == "api" else group
            self.answer(
                {
                    "openapi": "3.0.0",
                    "info": {"title": "", "version": ""},
                    "paths": self.operations(group, version),
                }
            )
        else:
            self.server.unknown.append(path)
            self.refuse(404, "NotFound", "the server could not find the requested resource")

    def operations(self, group: str, version: str) -> Object:
        """Says that the server checks fields by itself, or kubectl would ask for all schemas."""
        checks = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
        return {
            f"/{plural(kind)}/{{name}}": {
                "patch": {
                    "parameters": [checks],
                    "responses": {},
                    "x-kubernetes-group-version-kind": {
                        "group": group,
                        "version": version,
                        "kind": kind,
                    },
                }
            }
            for kind in self.server.kinds.get((group, version), ())
        }

    def discover(self, group: str, version: str) -> None:
        if (group, version) not in self.server.kinds:
            self.refuse(404, "NotFound", "the server could not find the requested resource")
            return
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {
                "name": plural(kind),
                "singularName": kind.lower(),
                "namespaced": kind not in EVERYWHERE,
                "kind": kind,
                "verbs": verbs,
                "shortNames": SHORT.get(kind, []),
            }
            for kind in self.server.kinds[group, version]
        ]
        place = "/".join(filter(None, (group, version)))
        self.answer(
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": place,
                "resources": resources,
            }
        )

    def serve_object(
        self, kinds: str, name: str | None, log: bool, query: dict[str, str], body: bytes
    ) -> None:
        if log:
            self.serve_log(self.server.logs[name or ""], "follow" in query)
            return
        there = self.server.objects.get((kinds, name or ""))
        if self.command == "POST":
            self.try_out(yaml.safe_load(body), "dryRun" in query)
        elif self.command == "PATCH":
            self.apply(kinds, name or "", there, yaml.safe_load(body))
        elif name and there is None:
            self.refuse(404, "NotFound", f'{kinds} "{name}" not found')
        elif self.command == "DELETE":
            del self.server.objects[kinds, name or ""]
            self.server.written.append(("DELETE", kinds, name or ""))
            self.answer(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Success",
                    "details": {"name": name, "kind": kinds},
                }
            )
        elif name:
            self.server.gets[kinds] += 1
            self.answer(there or {})
        else:
            found = [
                one
                for (kind, _), one in sorted(self.server.objects.items())
                if kind == kinds and selected(one, query)
            ]
            self.server.lists[kinds] += 1
            group, kind = kind_of(kinds)
            version = "/".join(filter(None, group))
            self.answer(
                {
                    "kind": f"{kind}List",
                    "apiVersion": version,
                    "metadata": {"resourceVersion": "1"},
                    "items": found,
                }
            )

    def try_out(self, one: Object, dry: bool) -> None:
        """Admit an object, or not; nothing is made."""
        assert dry
        if why := self.server.refuses(one):
            self.refuse(403, "Forbidden", why)
        else:
            metadata = one["metadata"]
            name = metadata.setdefault("name", f"{metadata.get('generateName')}x")
            self.answer(one | {"metadata": metadata | {"name": name}}, 201)

    def apply(self, kinds: str, name: str, there: Object | None, one: Object) -> None:
        if there and one["kind"] == "Job" and there["spec"] != one["spec"]:
            self.refuse(
                422, "Invalid", f'Job.batch "{name}" is invalid: spec.template: field is immutable'
            )
            return
        if there:
            kept = {
                key: there["metadata"][key]
                for key in ("uid", "creationTimestamp", "generation", "resourceVersion")
            }
            one["metadata"] |= kept
            one |= {"status": there["status"]} if "status" in there else {}
            self.server.objects[kinds, name] = one
        else:
            one = self.server.put(
                one.pop("kind"),
                name,
                **{key: value for key, value in one.items() if key != "apiVersion"},
            )
        self.server.written.append(("PATCH", kinds, name))
        self.answer(one, 200 if there else 201)
        threading.Thread(target=self.server.react, args=(one,), daemon=True).start()

    def serve_log(self, log: Log, follow: bool) -> None:
        log.readers += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cut = log.cuts.pop(0) if log.cuts else None
        sent = 0
        while True:
            done = log.closed or not follow
            for line in log.lines[sent:]:
                if sent == cut:
                    self.close_connection = True  # Without the last chunk: the connection broke.
                    return
                data = f"{line}\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
                sent += 1
            if done:
                break
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")


def selected(one: Object, query: dict[str, str]) -> bool:
    labels = one["metadata"].get("labels", {})
    wanted = [term.split("=") for term in query.get("labelSelector", "").split(",") if term]
    names = [
        term.split("=")[1]
        for term in query.get("fieldSelector", "").split(",")
        if term.startswith("metadata.name=")
    ]
    here = query["namespace"] in ("", one["metadata"].get("namespace"))
    return (
        here
        and all(labels.get(key) == value for key, value in wanted)
        and all(one["metadata"]["name"] == name for name in names)
    )
