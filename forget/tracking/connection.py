"""The tracking server: its address, clients of it, and requests that it does not answer."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from sqlalchemy.exc import SQLAlchemyError

from forget.errors import BadInput
from forget.redaction import without_secrets
from forget.settings import addresses
from forget.tracking.places import follow


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Have MLflow report its use to nobody, if it is imported in the block.

    It decides so on import, and notes an id of this machine on disk where nothing forbids it.
    """
    before = os.environ.get("MLFLOW_DISABLE_TELEMETRY")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = before or "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_DISABLE_TELEMETRY"]


# No other room of this package is imported before this one.
with _without_telemetry():
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from forget.tracking import database

PORT = 5000
"""Port of MLflow's pages on this machine."""
BATCH = 1000
"""Metrics a request: MLflow's limit."""
MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # The URL may hold a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Not seven: the journal outlasts a server that is away, so nobody need wait for it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""Environment of a process that talks to the server, where the user has not set it otherwise."""
OUR_MISTAKES = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""Error codes of a working server that rejects our request."""


class Unreachable(BadInput):
    """The tracking server does not answer, or refuses the user."""


class Unusable(Unreachable):
    """The database of runs has to be mended first: to try again later does not help."""


def tracking_uri() -> str:
    """Return the address of the tracking server (forget.settings.addresses).

    Raises:
        BadInput: the environment gives one that no server has.
    """
    addresses.check()
    return addresses.tracking()


def connect(uri: str) -> MlflowClient:
    """Return a client of the server, after teaching MLflow its MANNERS.

    Raises:
        Unreachable: a database that cannot be opened.
    """
    _teach_manners()
    with reaching(uri):
        database.prepare(uri)
        if file := addresses.database(uri):
            follow(file, _beside(file))
        # By itself it would look for the registry of models elsewhere.
        return MlflowClient(uri, uri)


def _teach_manners() -> None:
    for name, value in MANNERS.items():
        os.environ.setdefault(name, value)
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])


def ui_command(port: int = PORT) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves MLflow's pages over the local store, to this machine alone.

    Args:
        port: where it listens.

    Returns:
        The command, and what to add to its environment.

    Raises:
        BadInput: $MLFLOW_TRACKING_URI is a server, which has its own pages, or a database that
            cannot be opened.
    """
    uri = tracking_uri()
    if uri.startswith("http"):
        raise BadInput(
            f"MLFLOW_TRACKING_URI is the server {without_secrets(uri)}: "
            "open that address in a browser"
        )
    connect(uri)
    # Nobody asks for a password here. The database's own may be in the address, which `ps` must not
    # show.
    serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    serve += ["--port", str(port)]
    folder = artifacts(uri)
    return [*serve, "--artifacts-destination", folder] if folder else serve, {
        "MLFLOW_BACKEND_STORE_URI": uri
    }


def artifacts(uri: str) -> str | None:
    """Return the folder for files beside a SQLite database; None where the server has its own."""
    file = addresses.database(uri)
    return _beside(file).as_uri() if file else None


def _beside(file: Path) -> Path:
    """Return the folder for files beside a database."""
    return file.parent / "mlartifacts"


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Raise Unreachable for what a server that is away makes of a request.

    The error of a request that was our own mistake is raised as it is.

    Raises:
        Unusable: a database that has to be mended first.
    """
    try:
        yield
    except (MlflowException, requests.RequestException, *database.ERRORS) as error:
        if found := database.trouble(error):
            raise (Unreachable if found.passes else Unusable)(
                f"{without_secrets(uri)}: {found.why}"
            ) from error
        away = (MlflowException, requests.RequestException, SQLAlchemyError)
        if getattr(error, "error_code", None) in OUR_MISTAKES or not isinstance(error, away):
            raise
        reason = without_secrets(str(error).partition("\n")[0])[:300]
        raise Unreachable(
            f"{without_secrets(uri)}: the tracking server cannot be reached ({reason})"
        ) from error


@contextmanager
def unless_it_exists() -> Iterator[None]:
    """Pass over the answer that the thing to be made is there: another process was first."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def default_server(uri: str) -> Iterator[None]:
    """Make the server this process's own, for the few functions of MLflow that know no other."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # its annotation forgets None
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
