"""Addresses that the environment gives: read, or refused with the one that is likely meant."""

from pathlib import Path

import pytest

from forget.errors import BadInput
from forget.settings import addresses

MEANT = {
    "127.0.0.1:5000": "http://127.0.0.1:5000",
    "localhost:5000": "http://localhost:5000",
    "[::1]:5000": "http://[::1]:5000",
    "tracking.example": "http://tracking.example",
    "//host:5000": "http://host:5000",
    ":5000": "http://127.0.0.1:5000",
    "http:/host": "http://host",
    "https:host": "https://host",
    "http//host:5000": "http://host:5000",
    "htps://host": "https://host",
    "http://http://host": "http://host",
    "http://host:5000/#/experiments/1": "http://host:5000/",
    '"http://host"': "http://host",
    "sqlite://relative.db": "sqlite:///relative.db",
    "sqlite:relative.db": "sqlite:///relative.db",
    "sqlite:///": "sqlite:///mlflow.db",
    "sqlite:///:memory:": "sqlite:///mlflow.db",
    "mlflow.db": "sqlite:///mlflow.db",
    "./mlruns": "sqlite:///./mlruns/mlflow.db",
    "mlruns": "sqlite:///mlruns/mlflow.db",
    "file:///data/mlruns/": "sqlite:////data/mlruns/mlflow.db",
    "postgres://host/db": "postgresql://host/db",
    # Nothing is near.
    "databricks": "http://host:5000",
    "uc:http://host": "http://host:5000",
    "foo://host": "http://host:5000",
    "garbage": "http://host:5000",
    "http://": "http://host:5000",
    "http://host:5000x": "http://host:5000",
    "http://host:99999": "http://host:5000",
    "http://a b": "http://host:5000",
    "postgresql://": "http://host:5000",
}


@pytest.mark.parametrize("given", MEANT)
def test_an_address_that_no_tracking_server_has_is_refused_with_the_one_meant(given: str) -> None:
    with pytest.raises(BadInput) as refused:
        addresses.check({"MLFLOW_TRACKING_URI": given})
    assert str(refused.value).startswith(f'MLFLOW_TRACKING_URI is "{given}", ')
    assert f'"{MEANT[given]}"' in str(refused.value)


def test_a_refused_address_shows_no_password() -> None:
    mistyped = (
        "me:hunter22@h:5000",
        "http:/me:hunter22@h",
        "http://me:hunter22/x@h",
        "x://u:hunter22@h",
    )
    for given in mistyped:
        with pytest.raises(BadInput) as refused:
            addresses.check({"MLFLOW_TRACKING_URI": given})
        assert "hunter22" not in str(refused.value)


def test_addresses_of_servers_and_databases_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "a?b%41c#d e").mkdir()
    monkeypatch.chdir(folder)
    read = {
        "": folder / "mlflow.db",
        "  ": folder / "mlflow.db",
        "sqlite:///other.db": folder / "other.db",
        "SQLITE:////data/x.db?timeout=9": Path("/data/x.db"),
        "sqlite:///~/x.db": Path.home() / "x.db",
    }
    for given, file in read.items():
        uri = addresses.tracking({"MLFLOW_TRACKING_URI": given})
        assert addresses.database(uri) == file
        # It reads back as itself: workers are given what was read.
        assert addresses.tracking({"MLFLOW_TRACKING_URI": uri}) == uri
    for server in (
        "http://host:5000",
        "https://me:pw@host/under",
        "postgresql+psycopg2://u:p@h/db",
    ):
        assert addresses.tracking({"MLFLOW_TRACKING_URI": f" {server} "}) == server
        assert addresses.database(server) is None


def test_models_are_registered_where_the_runs_are() -> None:
    here = {"MLFLOW_TRACKING_URI": "http://host:5000"}
    addresses.check(here | {"MLFLOW_REGISTRY_URI": "http://host:5000/"})
    with pytest.raises(BadInput, match='MLFLOW_REGISTRY_URI is "http://other", but'):
        addresses.check(here | {"MLFLOW_REGISTRY_URI": "http://other"})


def test_ray_is_started_here_unless_its_address_is_given() -> None:
    assert addresses.ray({}) is addresses.ray({"RAY_ADDRESS": " "}) is None
    assert addresses.ray({"RAY_ADDRESS": "local"}) is None
    assert addresses.ray({"RAY_ADDRESS": "10.0.0.1:6379 "}) == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("s3:bucket/x", 'did you mean "s3://bucket/x"'),
        ("file:/data", 'did you mean "file:///data"'),
        ("s3://", "names no place"),
        ("s3n://bucket", 'did you mean "s3"'),
        ("memory://x", "cannot hold one"),
        ("https://host/x", "cannot hold one"),
        ("~nobody-has-this-name/x", "cannot be found"),
    ],
)
def test_a_store_that_cannot_be_one_is_refused(given: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        addresses.store(given)


def test_a_store_is_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert addresses.store(" st ") == str(tmp_path / "st")
    assert addresses.store("~/st") == str(Path.home() / "st")
    assert addresses.store("s3://bucket/studies") == "s3://bucket/studies"
