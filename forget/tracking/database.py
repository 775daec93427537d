"""The database of runs, where no server stands before it: made whole, and its errors in words."""

from __future__ import annotations

import errno
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import mlflow
from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from forget.settings import addresses

ERRORS = (SQLAlchemyError, CommandError, OSError)
"""Errors that a database or the disk under it raises through MLflow, besides MLflow's own."""

OURS = "set MLFLOW_TRACKING_URI to sqlite:///<file> in a folder of yours"
"""The cure for a place where the user may not write."""


@dataclass(frozen=True)
class Trouble:
    """A database that cannot be used."""

    why: str
    """The end of a sentence that names the database: the fault, and a cure."""
    passes: bool
    """True where the same request may succeed later, without anybody mending the database."""


BY_CODE = {
    sqlite3.SQLITE_BUSY: Trouble("another process keeps the database locked", passes=True),
    sqlite3.SQLITE_LOCKED: Trouble("another process keeps the database locked", passes=True),
    sqlite3.SQLITE_FULL: Trouble("the disk is full, make room", passes=True),
    sqlite3.SQLITE_IOERR: Trouble("the disk fails to read or to write it", passes=True),
    sqlite3.SQLITE_READONLY: Trouble(
        f"the database may only be read; make it and its folder writable, or {OURS}", passes=False
    ),
    sqlite3.SQLITE_CANTOPEN: Trouble(f"the file cannot be opened; {OURS}", passes=False),
}
BY_CODE[sqlite3.SQLITE_PERM] = BY_CODE[sqlite3.SQLITE_CANTOPEN]
BY_CODE[sqlite3.SQLITE_CORRUPT] = BY_CODE[sqlite3.SQLITE_NOTADB] = Trouble(
    "the file is damaged, or no database at all; move it away, and a new one gets by `forget sync` "
    "what the store has of a study",
    passes=False,
)
"""Troubles by SQLite's primary result code."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
"""Error numbers of files that cannot be made or written, whoever asks."""


def prepare(uri: str) -> None:
    """Make the SQLite file that the address names, unless it is there; it appears whole.

    MLflow makes its tables one after another, for seconds: of two processes that do so at once one
    dies, and one that is killed leaves tables that no later one can use.

    Raises:
        OSError: the file can neither be opened nor made.
    """
    file = addresses.database(uri)
    if file is None:
        return
    path = file.absolute()
    if path.exists():
        # MLflow would try to open a file that is not for the user for minutes.
        path.open("rb").close()
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        draft.touch(exist_ok=False)
        made = SqlAlchemyStore(addresses.sqlite(draft), (path.parent / "mlartifacts").as_uri())
        made.engine.dispose()
        # Another process may have been first; its database is as good.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def trouble(error: BaseException) -> Trouble | None:
    """Say what is wrong with the database of which a request failed; None where it is another."""
    for cause in _causes(error):
        if isinstance(cause, sqlite3.Error):
            # Of an extended code the last byte is the primary one.
            code = getattr(cause, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in BY_CODE:
                return BY_CODE[code & 0xFF]
        elif isinstance(cause, CommandError) or (
            isinstance(cause, MlflowException) and "database schema" in str(cause)
        ):
            return Trouble(
                f"another version of MLflow made the database, and here is {mlflow.__version__}; "
                "use that version, or, if it was an older one, run `mlflow db upgrade` with this "
                "address",
                passes=False,
            )
        elif isinstance(cause, OSError) and cause.errno in (*FULL, *FORBIDDEN):
            what = f"{cause.filename or 'a file of it'}: {cause.strerror}"
            if cause.errno in FULL:
                return Trouble(f"{what}, make room", passes=True)
            return Trouble(
                f"{what}; make it writable, or set MLFLOW_TRACKING_URI and FORGET_STORE to places "
                "of yours",
                passes=False,
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; SQLAlchemy keeps the driver's own."""
    while error is not None:
        yield error
        error = error.__cause__ or getattr(error, "orig", None)
