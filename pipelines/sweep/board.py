"""The board on which a sweep's driver and the processes of its trials leave word for each other.

It lies in the key-value store of Ray's own head process. An actor would be one process more, and
the first that Ray kills where memory runs short.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter
from ray.experimental import internal_kv

from forget.events import Event, Observe, StageStarted, Step
from forget.settings.parts import Part

POST_SECONDS = 0.2
"""Seconds between two words of a trial to the driver."""

Order = Literal["go on", "stop", "leave"]
"""An order to a trial: to stop, since the sweep does or too many run, or to leave a node that goes
away.
"""

MOVE: TypeAdapter[StageStarted | Step] = TypeAdapter(StageStarted | Step)


class Orders(Part):
    """Orders of the driver to all trials."""

    stop: bool = False
    """The sweep stops."""
    back: tuple[str, ...] = ()
    """Trials that stop for now."""
    leaving: tuple[str, ...] = ()
    """Nodes that go away."""

    def to(self, id: str, node: str) -> Order:
        """Return the order to a trial on that node."""
        if self.stop or id in self.back:
            return "stop"
        return "leave" if node in self.leaving else "go on"


@dataclass(frozen=True)
class Board:
    """Words of one run of a sweep, which any node reads: where trials are, and orders."""

    name: str
    """Namespace in the store: another run's board has another one."""

    def join(self, pid: int) -> None:
        """Leave word that trials run in this process."""
        internal_kv._internal_kv_put(f"pid {pid}", b"", namespace=self.name)

    def pids(self) -> set[int]:
        """Return the processes in which trials run, or did."""
        keys = internal_kv._internal_kv_list("pid ", namespace=self.name)
        return {int(key.removeprefix(b"pid ")) for key in keys}

    def post(self, id: str, move: StageStarted | Step) -> None:
        """Leave word of where a trial is, in place of the last one."""
        internal_kv._internal_kv_put(f"at {id}", move.model_dump_json(), namespace=self.name)

    def poster(self, id: str) -> Observe:
        """Make a function that posts, now and then, where a trial is."""
        posted = 0.0

        def observe(event: Event) -> None:
            nonlocal posted
            now = time.monotonic()
            if isinstance(event, StageStarted | Step) and now - posted >= POST_SECONDS:
                posted = now
                self.post(id, event)

        return observe

    def at(self, id: str) -> StageStarted | Step | None:
        """Return where a trial is, None where it has said nothing."""
        said = internal_kv._internal_kv_get(f"at {id}", namespace=self.name)
        return MOVE.validate_json(said) if said else None

    def forget(self, id: str) -> None:
        """Take down what a trial said."""
        internal_kv._internal_kv_del(f"at {id}", namespace=self.name)

    def command(self, orders: Orders) -> None:
        """Replace the orders."""
        internal_kv._internal_kv_put("orders", orders.model_dump_json(), namespace=self.name)

    def order(self, id: str, node: str) -> Order:
        """Return the order to a trial on that node."""
        said = internal_kv._internal_kv_get("orders", namespace=self.name)
        return Orders.model_validate_json(said).to(id, node) if said else "go on"

    def clear(self) -> None:
        """Take down everything."""
        internal_kv._internal_kv_del("", del_by_prefix=True, namespace=self.name)
