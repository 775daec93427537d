"""One model is in memory at a time, and is known by the phase whose weights it has."""

import gc
import weakref
from pathlib import Path

import pytest

from forget.models.holding import Holder
from forget.models.language_model import save, tiny
from forget.storage.store import Store


@pytest.fixture
def holder(tmp_path: Path) -> Holder:
    return Holder(Store(tmp_path / "store"), "tiny", sharded=False)


def test_the_same_phase_is_loaded_once(holder: Holder) -> None:
    assert holder.model("base", "tiny") is holder.model("base", "tiny")


def test_one_model_is_let_go_before_the_next_is_loaded(holder: Holder, tmp_path: Path) -> None:
    save(tiny(), tmp_path / "model")
    network = weakref.ref(holder.model("base", "tiny").network)
    assert holder.model("learned", tmp_path / "model").name == str(tmp_path / "model")
    gc.collect()
    assert network() is None


def test_a_trained_model_is_held_as_what_it_became(holder: Holder) -> None:
    base = holder.model("base", "tiny")
    with holder.training("base", "tiny", becomes="learned") as model:
        assert model is base
    assert holder.model("learned", "no-such-model") is base
    assert holder.model("base", "tiny") is not base


def test_a_model_whose_training_broke_off_is_held_as_none(holder: Holder) -> None:
    base = holder.model("base", "tiny")
    with pytest.raises(KeyboardInterrupt), holder.training("base", "tiny", becomes="learned"):
        raise KeyboardInterrupt
    assert holder.model("base", "tiny") is not base
