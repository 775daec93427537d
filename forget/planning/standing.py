"""Standing of a sweep: which of its trials have finished, and how many are left to run.

The plan, the driver and the report all count by `standings`, so that they agree. What a trial is
decides whether it counts, not which sweep ran it: a trial of an earlier spec counts where it lies
within the present one, and stays in the store unread where it does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from forget.preflight import Expansion, Identity
from forget.results.outcome import Outcome
from forget.settings.sweep import Search, overlay
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store


@dataclass(frozen=True)
class Standing:
    """One combination of a sweep's axes: what of it has finished, and what is left to run."""

    trial: Trial
    """The combination; the settings that a search searches do not count."""
    identity: Identity
    done: tuple[str, ...]
    """Ids of its finished trials; those of a search by the settings that it searches."""
    left: int
    """Trials left to run: at most 1, in a search as many as its number of trials lacks."""


def standings(expansion: Expansion, store: Store) -> tuple[Standing, ...]:
    """Return how each combination of a sweep stands, in the sweep's order and each once.

    Raises:
        BadInput: in a search, a finished trial of the store that cannot be read.
    """
    if search := expansion.sweep.search:
        return _searched(expansion, search, store)
    done = set(Trials(store).done(identity.trial for identity in expansion.distinct))
    found = []
    for identity, trial in expansion.distinct.items():
        ids = tuple(done & {identity.trial})
        found.append(Standing(trial, identity, ids, 1 - len(ids)))
    return tuple(found)


def finished_ids(expansion: Expansion, store: Store) -> list[str]:
    """Return the ids of the sweep's finished trials, in its order; no measure is read."""
    return list(chain.from_iterable(one.done for one in standings(expansion, store)))


def finished(found: Iterable[Standing], store: Store) -> tuple[Outcome, ...]:
    """Return the outcomes of the finished trials, in their order."""
    return tuple(Trials(store).outcomes(chain.from_iterable(one.done for one in found)).values())


def _searched(expansion: Expansion, search: Search, store: Store) -> tuple[Standing, ...]:
    """Return how each cell of a search stands; its trials are those that it could have proposed.

    Such a trial has the cell's data, and its settings but for those that are searched, which lie
    within their bounds.
    """
    anywhere = {key: bounds.low for key, bounds in search.settings.items()}
    cells: dict[str, list[Identity]] = {}
    for identity, cell in expansion.distinct.items():
        cells.setdefault(overlay(cell, anywhere).id(""), []).append(identity)
    done: dict[Identity, list[tuple[list[float], str]]] = {}
    trials = Trials(store)
    for id in trials.finished():
        # By its settings alone first, since most trials of a store may be of other sweeps.
        if (trial := trials.settings(id)) and (key := overlay(trial, anywhere).id("")) in cells:
            values = {key: attrgetter(key)(trial) for key in search.settings}
            for identity in cells[key] if search.covers(values) else ():
                if overlay(expansion.distinct[identity], values).id(identity.data) == id:
                    done.setdefault(identity, []).append((list(values.values()), id))
    found = []
    for identity, cell in expansion.distinct.items():
        ids = tuple(id for _, id in sorted(done.get(identity, ())))
        found.append(Standing(cell, identity, ids, max(0, search.trials - len(ids))))
    return tuple(found)
