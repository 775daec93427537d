"""The tracking server: where it is, what a request to it may hold, and what becomes of one that it does not answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException

from forget.errors import BadInput
from forget.redaction import without_secrets

BATCH = 1000
"""Metrics a request: MLflow's limit."""
OUR_MISTAKES = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""Error codes that a server gives when it is there and right."""


class Unreachable(BadInput):
    """The tracking server does not answer, or refuses the user."""


def tracking_uri() -> str:
    """$MLFLOW_TRACKING_URI, or the SQLite file mlflow.db in the working directory. Absolute: workers run elsewhere."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def ui_command() -> tuple[list[str], dict[str, str]]:
    """The command that serves MLflow's pages over the local store, to this machine alone, and what to add to its environment.

    Raises:
        BadInput: $MLFLOW_TRACKING_URI is a server, which has its own pages.
    """
    uri = tracking_uri()
    if uri.startswith("http"):
        raise BadInput(
            f"MLFLOW_TRACKING_URI is the server {without_secrets(uri)}: open that address in a browser"
        )
    # Nobody asks for a password here. The database's own may be in the address, which `ps` must not
    # show.
    serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    folder = artifacts(uri)
    return [*serve, "--artifacts-destination", folder] if folder else serve, {
        "MLFLOW_BACKEND_STORE_URI": uri
    }


def artifacts(uri: str) -> str | None:
    """The folder for files beside a SQLite database; None where the server has its own place."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).parent / "mlartifacts").as_uri()


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Raises Unreachable for what a server that is away makes of a request. What is our own mistake stays as it is."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        if getattr(error, "error_code", None) in OUR_MISTAKES:
            raise
        reason = without_secrets(str(error).partition("\n")[0])[:300]
        raise Unreachable(
            f"{without_secrets(uri)}: the tracking server cannot be reached ({reason})"
        ) from error


@contextmanager
def unless_it_exists() -> Iterator[None]:
    """Passes over the answer that what was to be made is there already: another process was first."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def default_server(uri: str) -> Iterator[None]:
    """For the few functions of MLflow that know only the process's own server."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # its annotation forgets None
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
