"""Addresses in the environment as the commands meet them. No Ray runs while these tests do."""

from pathlib import Path

import pytest
from conftest import Forget


@pytest.mark.parametrize(
    "words",
    ["plan smoke", "sweep smoke", "report smoke", "sync smoke", "ui", "compare a b", "doctor"],
)
def test_every_command_over_a_study_refuses_an_address_that_no_server_has(
    words: str, forget: Forget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "127.0.0.1:5000")
    code, out, error = forget(*words.split())
    assert code == (1 if words == "doctor" else 2)
    assert 'MLFLOW_TRACKING_URI is "127.0.0.1:5000", which has no scheme' in out + error
    assert 'did you mean "http://127.0.0.1:5000"?' in out + error
    assert error.count("\n") == (words != "doctor")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "garbage", "host:99999999", "ray://h:1"])
def test_a_cluster_that_the_environment_names_and_is_not_there_is_refused(
    address: str, forget: Forget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, error = forget("sweep", "smoke")
    assert code == 2
    assert f'"{address}"' in error
    assert "RAY_ADDRESS names it: unset it" in error or "is a Ray client" in error
    assert error.count("\n") == 1
