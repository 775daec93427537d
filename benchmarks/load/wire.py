"""A record of the HTTP requests that a process sends through `requests`, as MLflow's client does.

Seconds are the client's, from the first byte sent to the head of the answer, retries included.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from forget.settings.parts import Part

FOLDER = "FORGET_WIRE"
"""Environment variable with the folder in which each process of a benchmark leaves a file. Where it
is unset, nothing is recorded.
"""

SITE = "import benchmarks.load.wire; benchmarks.load.wire.record()\n"
"""Text of a sitecustomize.py that has the processes of a sweep recorded, whoever starts them."""


@dataclass(frozen=True)
class Call:
    """A request."""

    kind: str
    began: float
    """Seconds since 1970."""
    seconds: float
    status: int
    """0 where there was no answer."""
    retries: int


class Kind(Part):
    """Number and latencies of the requests of one kind."""

    kind: str
    """Method and path, e.g. "POST runs/log-batch"."""
    calls: int
    p50: float
    """Median in milliseconds, as the percentiles that follow."""
    p95: float
    p99: float


def record() -> None:
    """Record the requests of this process and those forked from it from now on.

    They are recorded while $FORGET_WIRE names a folder.
    """
    if hasattr(requests.adapters.HTTPAdapter.send, "plain"):
        return
    plain = requests.adapters.HTTPAdapter.send

    def send(
        self: Any, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        # Read each time: the parts of a benchmark have a folder each, one after the other.
        folder = os.environ.get(FOLDER)
        # Requests elsewhere are left out: Ray asks whether it runs in a cloud.
        if not folder or "/mlflow" not in str(request.url):
            return plain(self, request, *args, **kwargs)
        began, clock = time.time(), time.perf_counter()
        status = retries = 0
        try:
            response = plain(self, request, *args, **kwargs)
            status = response.status_code
            history = getattr(response.raw.retries, "history", ())
            retries = len(history)
            return response
        finally:
            seconds = time.perf_counter() - clock
            name = kind(str(request.method), str(request.url))
            line = f"{name}\t{began:.3f}\t{seconds:.5f}\t{status}\t{retries}\n"
            # Opened each time: one write to the end, by whichever thread or fork.
            with open(f"{folder}/{os.getpid()}.tsv", "a", encoding="utf-8") as file:
                file.write(line)

    send.plain = plain  # type: ignore[attr-defined]
    requests.adapters.HTTPAdapter.send = send  # type: ignore[method-assign]


def kind(method: str, url: str) -> str:
    """Return the kind of a request, e.g. "GET runs/get".

    Names in the path (of a run, a logged model, a file) are left out. An artifact's kind is the
    ending of its name.
    """
    path = urlsplit(url).path
    if "/mlflow-artifacts/" in path:
        name = path.rpartition("/")[2]
        if "/artifacts/" in path and "." in name:
            return f"{method} artifacts/*.{name.rpartition('.')[2]}"
        return f"{method} artifacts"
    path = re.sub(r"^/(ajax-)?api/[\d.]+/mlflow/", "", path)
    return f"{method} {re.sub(r'(?<=/)(m-)?[0-9a-f]{32}', '*', path)}"


def read(folder: Path) -> list[Call]:
    """Read what all processes recorded in the folder."""
    calls = []
    for path in folder.glob("*.tsv"):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, began, seconds, status, retries = line.split("\t")
            calls.append(Call(name, float(began), float(seconds), int(status), int(retries)))
    return calls


def kinds(calls: Iterable[Call], most: int = 12) -> tuple[Kind, ...]:
    """Return latencies by kind, those first that took the most time in all.

    Args:
        calls: the requests.
        most: number of kinds that stand for themselves; the rest are together as "others".
    """
    by: dict[str, list[float]] = {}
    for call in calls:
        by.setdefault(call.kind, []).append(1000 * call.seconds)
    ordered = sorted(by.items(), key=lambda item: -sum(item[1]))
    shown = [_kind(name, times) for name, times in ordered[:most]]
    others = list(chain.from_iterable(times for _, times in ordered[most:]))
    every = list(chain.from_iterable(by.values()))
    sums = (("others", others), ("all", every))
    return (*shown, *(_kind(name, times) for name, times in sums if times))


def _kind(name: str, times: Sequence[float]) -> Kind:
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return Kind(kind=name, calls=len(times), p50=p50, p95=p95, p99=p99)
