"""The mailbox between a sweep's driver and the processes of its trials."""

from __future__ import annotations

from forget.events import Event


class Board:
    """An actor in which trials leave events for the driver, and read what to do."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []
        self._stop = False
        self._leaving: frozenset[str] = frozenset()
        self._given_up: dict[str, str] = {}

    def post(self, id: str, event: Event, node: str) -> str:
        """Leave an event for the driver; return the order for the trial on that node."""
        self._events.append((id, event))
        return self.order(id, node)

    def take(self, leaving: frozenset[str]) -> list[tuple[str, Event]]:
        """Return the events since the last call, and learn which nodes go away."""
        events, self._events = self._events, []
        self._leaving = leaving
        return events

    def end(self) -> None:
        """Order every trial to stop."""
        self._stop = True

    def give_up(self, id: str, reason: str) -> None:
        """Order a trial to end for that reason: it has failed too often."""
        self._given_up[id] = reason

    def order(self, id: str, node: str) -> str:
        """Return what a trial on that node is to do.

        The order is "go on", "stop" (the sweep stops), "leave" (the node goes away), or the reason
        for which the trial was given up.
        """
        if self._stop:
            return "stop"
        return "leave" if node in self._leaving else self._given_up.get(id, "go on")
