"""The one model that a trial keeps in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forget.models import loading
from forget.models.devices import process
from forget.models.language_model import LanguageModel
from forget.storage.store import Store


class Holder:
    """Keeps the model of one phase at a time: two would be the peak of a trial's memory.

    Processes that share a model wrap it anew for each training, so none is kept for them.
    """

    def __init__(self, store: Store, name: str, sharded: bool) -> None:
        """Hold nothing yet.

        Args:
            store: where models are found.
            name: of the untouched model, which all phases are trained from.
            sharded: each process has its share.
        """
        self._store, self._name, self._sharded = store, name, sharded
        self._alone = process().num_processes == 1
        self._phase = ""
        self._model: LanguageModel | None = None

    def model(self, phase: str, source: str | Path) -> LanguageModel:
        """Return the model with the weights of a phase, loaded from `source` unless it is held."""
        if self._model is not None and self._phase == phase:
            return self._model
        self._hold("", None)  # Let go of one model before the next one is there.
        trained_from = "" if source == self._name else self._name
        model = loading.load(source, self._store, sharded=self._sharded, trained_from=trained_from)
        if self._alone:
            self._hold(phase, model)
        return model

    @contextmanager
    def training(self, phase: str, source: str | Path, becomes: str) -> Iterator[LanguageModel]:
        """Yield the model of a phase to be trained; it is then held as the one of phase `becomes`.

        A model whose training did not end is held as none.
        """
        model = self.model(phase, source)
        self._hold("", None)
        yield model
        if self._alone:
            self._hold(becomes, model)

    def _hold(self, phase: str, model: LanguageModel | None) -> None:
        self._phase, self._model = phase, model
