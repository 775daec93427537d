"""Identities of trials whose settings leave something to the machine."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from forget.models import devices
from forget.preflight import decide, expand, identify, settled
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.store import Store

AUTO = Trial(task="world", model="tiny")

Machine = Callable[[bool], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make this machine one that has no GPU, and whose processor is faster in bf16 or lacks it."""

    def become(bf16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(devices, "throughput", lambda half, gpu: 2.0 if half else 1.0)

    return become


def test_precision_is_settled_before_a_trial_is_identified(machine: Machine) -> None:
    for bf16, precision in ((True, "bf16"), (False, "fp32")):
        machine(bf16)
        assert settled(AUTO).precision == precision
        assert identify(AUTO) == identify(overlay(AUTO, {"precision": precision}))
    assert settled(overlay(AUTO, {"precision": "bf16"})).precision == "bf16"


def test_a_processor_that_has_bf16_and_is_slower_in_it_takes_fp32(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(True)
    assert settled(AUTO).precision == "bf16"
    monkeypatch.setattr(devices, "throughput", lambda half, gpu: 0.5 if half else 1.0)
    assert settled(AUTO).precision == "fp32"
    assert settled(overlay(AUTO, {"precision": "bf16"})).precision == "bf16"


def test_two_machines_give_two_answers_two_names(machine: Machine) -> None:
    found = set()
    for bf16 in (True, False):
        machine(bf16)
        found.add(identify(AUTO))
    assert len({one.trial for one in found}) == len({one.learned for one in found}) == 2


def test_a_sweep_goes_on_in_the_precision_of_its_first_run(
    machine: Machine, tmp_path: Path
) -> None:
    sweep = Sweep(name="auto", base={"task": "world", "model": "tiny"})
    store = Store(tmp_path)
    machine(True)
    first = expand(sweep, store)
    machine(False)
    assert expand(sweep, store).identities != first.identities
    decide(first, store)
    assert expand(sweep, store) == first
    # A cluster's nodes, asked by a driver, are heard where nobody has decided yet.
    assert expand(sweep, store, "fp32") == first
    assert expand(sweep, None, "bf16").identities == first.identities
    # Another sweep of the store decides for itself.
    other = sweep.model_copy(update={"name": "other"})
    assert expand(other, store).trials[0].precision == "fp32"


def test_a_gpu_that_trials_do_not_take_decides_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for gpus, precision in ((0, "fp32"), (1, "bf16")):
        sweep = Sweep.model_validate(
            {"name": "s", "base": AUTO.model_dump(), "resources": {"gpus": gpus}}
        )
        assert expand(sweep).trials[0].precision == precision


def test_a_trial_that_retains_neutral_text_is_named_by_that_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, retains = AUTO, overlay(AUTO, {"retain.text": True})
    before = identify(plain), identify(retains)
    assert before[0].learned == before[1].learned
    monkeypatch.setattr("forget.preflight.prose", lambda: "Another text.")
    assert identify(plain) == before[0]
    assert identify(retains).trial != before[1].trial
    assert identify(retains).learned == before[1].learned
