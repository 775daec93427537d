"""The driver's mailbox, in which trials leave events and read orders."""

from __future__ import annotations

from forget.events import Event


class Board:
    """Where the processes of a sweep leave events for the driver, and read what to do."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []
        self._stop = False
        self._leaving: frozenset[str] = frozenset()
        self._given_up: dict[str, str] = {}

    def post(self, id: str, event: Event, node: str) -> str:
        """Returns the order for the trial on that node."""
        self._events.append((id, event))
        return self.order(id, node)

    def take(self, leaving: frozenset[str]) -> list[tuple[str, Event]]:
        """The events since the last call; `leaving` are the nodes that go away."""
        events, self._events = self._events, []
        self._leaving = leaving
        return events

    def end(self) -> None:
        self._stop = True

    def give_up(self, id: str, reason: str) -> None:
        """The trial has failed too often."""
        self._given_up[id] = reason

    def order(self, id: str, node: str) -> str:
        """ "go on", "stop" (the sweep does), "leave" (the node goes away), or why the trial was given up."""
        if self._stop:
            return "stop"
        return "leave" if node in self._leaving else self._given_up.get(id, "go on")
