"""The rows of each room, and the measuring of one, for which a room has a process of its own."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

from benchmarks import page
from benchmarks.compare import Comparison, Result, Share, profiled, run
from forget.errors import BadInput


@cache
def rows(room: str, quick: bool) -> list[Comparison[Any] | Share]:
    """Return all rows of a room, the same objects each time: they share what is made once."""
    (path,) = page.HERE.rglob(f"{room}.py")
    # Imported here, since a room imports what it compares with, which takes seconds.
    module = importlib.import_module(f"benchmarks.{path.parent.name}.{room}")
    found: list[Comparison[Any] | Share] = module.comparisons(quick)
    return found


def named(quick: bool, only: str) -> dict[str, list[int]]:
    """Return, by room, the places of the rows that `only` names: a room, or part of a row's work.

    Raises:
        BadInput: nothing is named so.
    """
    rooms = (only,) if only in page.ROOMS else page.ROOMS
    found: dict[str, list[int]] = {}
    for room in rooms:
        works = [row.work for row in rows(room, quick)]
        found[room] = [at for at, work in enumerate(works) if only == room or only in work]
    if only in page.ROOMS and not found[only]:
        raise BadInput(f'room "{only}" has no row on this machine, which has no GPU')
    if not any(found.values()):
        raise BadInput(
            f'no row is named "{only}"; '
            f"name a room ({', '.join(page.ROOMS)}, growth) or a part of the work"
        )
    return found


def measured(room: str, quick: bool, at: int, rounds: int) -> Result:
    """Measure the row of a room, with a profile if it misses its target, unless it is quick.

    Args:
        room: the room.
        quick: fewer rows, on less, and no profiles.
        at: place of the row among the room's.
        rounds: timed rounds.
    """
    warnings.filterwarnings("ignore", module="transformers|lm_eval|torch")
    row = rows(room, quick)[at]
    result = run(row, rounds).model_copy(update={"room": room})
    if result.met is False and result.equal and not quick:
        result = result.model_copy(update={"profile": profiled(row)})
    return result
