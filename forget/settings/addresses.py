"""Addresses from the environment: of the tracking server, of a Ray cluster, of the store.

Each is read here alone, and one that is mistyped is refused with the one that is likely meant.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from forget.errors import BadInput, nearest, shown
from forget.redaction import without_secrets

TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
SERVERS, DATABASES = ("http", "https"), ("mssql", "mysql", "postgresql", "sqlite")
"""Schemes of a tracking server, and of a database that serves as one."""
SHARED = ("abfs", "az", "file", "gcs", "gs", "hdfs", "s3", "s3a")
"""Schemes of places that several machines can write to."""
SQLITE = "sqlite:///"
FILE = "mlflow.db"
"""The database in the working directory, where no address is given."""


def check(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse addresses that no command over a study could use.

    Raises:
        BadInput: that of the tracking server, or another server for the registry of models.
    """
    uri = tracking(environment)
    registry = environment.get(REGISTRY, "").strip()
    if registry and registry.rstrip("/") not in (uri.rstrip("/"), _given(environment).rstrip("/")):
        raise BadInput(
            f"{REGISTRY} is {_quoted(registry)}, but the models of a study are registered where "
            f"its runs are: unset it, or set {TRACKING}"
        )


def tracking(environment: Mapping[str, str] = os.environ) -> str:
    """Return $MLFLOW_TRACKING_URI, or that of the SQLite file mlflow.db in this directory.

    The path of a file is absolute, since workers run elsewhere.

    Raises:
        BadInput: no server and no database has such an address.
    """
    given = _given(environment)
    scheme, separator, rest = given.partition("://")
    scheme = scheme.lower()
    if separator and scheme in SERVERS:
        return _server(given, scheme, rest)
    if given.lower().startswith(SQLITE):
        return _sqlite(given)
    name = scheme.partition("+")[0]
    if name in DATABASES[:-1] and rest.strip("/"):
        return f"{scheme}://{rest}"
    raise _mistaken(given)


def database(uri: str) -> Path | None:
    """Return the file of a SQLite database; None where the address is a server's."""
    path = uri.partition("?")[0].removeprefix(SQLITE)
    return None if path == uri.partition("?")[0] else Path(unquote(path))


def sqlite(file: Path) -> str:
    """Return the address of a SQLite database, given by its absolute path."""
    place = str(file)
    # The slashes as well: MLflow makes the folder above the file by the name as it stands here.
    if re.search("[?%]", place):
        place = f"/{quote(place[1:], safe='')}"
    return f"{SQLITE}{place}"


def ray(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return $RAY_ADDRESS; None where Ray is to be started here."""
    address = environment.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def store(where: str, beside: Path | None = None, named: str = "") -> str:
    """Return a store's absolute folder, or its URL.

    Args:
        where: as it is written.
        beside: the folder to which a relative path belongs; by default the working directory.
        named: where it is written, for messages.

    Raises:
        BadInput: a URL that is misspelt, or of a place that cannot be written to.
    """
    where = where.strip()
    scheme, separator, rest = where.partition("://")
    if separator and scheme.lower() in SHARED:
        if not rest.strip("/"):
            raise BadInput(
                f"{named}the store {shown(where)} names no place; give e.g. s3://bucket/studies"
            )
        if scheme.lower() == "file" and not rest.startswith("/"):
            guess = f"file://{Path(rest).absolute()}"
            raise BadInput(
                f'{named}the store {shown(where)} is no absolute path; did you mean "{guess}"?'
            )
        return where
    if separator:
        known = nearest(scheme, SHARED)
        raise BadInput(
            f"{named}the store {_quoted(where)} has a scheme that cannot hold one: "
            f"give a folder, or a URL such as s3://bucket/studies{known}"
        )
    if found := re.match(rf"({'|'.join(SHARED)}):/*(?=[^/])", where, re.IGNORECASE):
        slashes = ":///" if found[1].lower() == "file" else "://"
        guess = f"{found[1].lower()}{slashes}{where[found.end() :]}"
        raise BadInput(f'{named}the store {shown(where)} is no folder; did you mean "{guess}"?')
    return str(folder(where, f"{named}the store", beside))


def folder(path: str | Path, what: str, beside: Path | None = None) -> Path:
    """Return the absolute path of a file or folder.

    Args:
        path: as it is written; "~" is its user's home.
        what: the thing whose path it is, for messages.
        beside: the folder to which a relative path belongs; by default the working directory.

    Raises:
        BadInput: a home that nobody has, a link to itself, or a zero byte.
    """
    try:
        place = (beside or Path()) / Path(path).expanduser()
        place.resolve()
        return Path(os.path.abspath(place))
    except (ValueError, RuntimeError, OSError) as error:
        raise BadInput(f"{what} {shown(str(path))} cannot be found: {error}") from None


def _given(environment: Mapping[str, str]) -> str:
    return environment.get(TRACKING, "").strip() or f"{SQLITE}{FILE}"


def _server(given: str, scheme: str, rest: str) -> str:
    """Return the address of a server whose parts have been looked at."""
    uri = f"{scheme}://{rest}"
    plain = re.split("[?#]", uri)[0]
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if "@" in rest and "@" not in rest.partition("/")[0].partition("?")[0].partition("#")[0]:
        raise _refused(given, "where a password's /, ? and # have to be written %2F, %3F and %23")
    if not host or port == 0 or re.search(r"\s", uri):
        raise _refused(given, "whose host or port is none")
    if "://" in rest:
        raise _refused(given, "which has two schemes", rest)
    # Copied from a browser, an address goes on with the page that was open.
    if plain != uri:
        raise _refused(given, "which goes on with a page of the server", plain)
    return uri


def _sqlite(given: str) -> str:
    """Return the address of a SQLite file, whose path is absolute."""
    path, mark, query = given[len(SQLITE) :].partition("?")
    if path in ("", ":memory:"):
        raise _refused(given, "a database that ends with its process", f"{SQLITE}{FILE}")
    place = folder(unquote(path), f"{TRACKING}: the database")
    return f"{sqlite(place)}{mark}{query}"


NO_RUNS = "a folder, and MLflow keeps no runs in files any more"
NO_SCHEME = "which has no scheme"
MISTAKES = (
    (r"[\"'<](.*?)[\"'>]?", "which is in quotes", r"\1"),
    (r"(databricks|uc)\b.*", "to which this platform does not log", ""),
    (r"http(s?)(?!://)[:/\\]+(.+)", "misspelt", r"http\1://\2"),
    (r"sqlite[:/]/?/?([^/].*)", "misspelt", rf"{SQLITE}\1"),
    (r"(?:file:/?/?)?(.+\.(?:db|sqlite3?))", NO_SCHEME, rf"{SQLITE}\1"),
    (r"file:(?://)?(.+?)/*", NO_RUNS, rf"{SQLITE}\1/{FILE}"),
    (r"//?([\w.-]+:\d+.*)", NO_SCHEME, r"http://\1"),
    (r":?(\d{2,5})", NO_SCHEME, r"http://127.0.0.1:\1"),
    (r"((?:[./~]|mlruns\b).*?)/*", NO_RUNS, rf"{SQLITE}\1/{FILE}"),
    (r"([^\s:]*:?[^\s:/]+@\S+)", NO_SCHEME, r"http://\1"),
    (
        r"((?:\[[\da-f:]+\]|[\w.-]+):\d.*|localhost.*|[\w-]+\.[\w.-]+(?:/.*)?)",
        NO_SCHEME,
        r"http://\1",
    ),
)
"""Addresses that begin as none does: pattern, what is wrong, what is likely meant."""


def _mistaken(given: str) -> BadInput:
    scheme, separator, rest = given.partition("://")
    for pattern, problem, meant in MISTAKES:
        if found := re.fullmatch(pattern, given, re.IGNORECASE):
            return _refused(given, problem, found.expand(meant))
    if separator and rest:
        near = difflib.get_close_matches(scheme.lower(), (*SERVERS, *DATABASES), n=1)
        guess = f"{near[0]}://{rest}" if near else ""
        return _refused(given, f'whose scheme "{scheme:.20}" is none that MLflow knows', guess)
    return _refused(given, "neither a server nor a database")


def _refused(given: str, problem: str, guess: str = "") -> BadInput:
    """Return the error that says what is wrong with the tracking server's address."""
    cure = f"did you mean {_quoted(guess)}?"
    if not guess:
        cure = f'give a server, e.g. "http://host:5000", or unset it for {FILE} in this directory'
    return BadInput(f"{TRACKING} is {_quoted(given)}, {problem}; {cure}")


def _quoted(address: str) -> str:
    """Return an address as a sentence quotes it, without the user and password that it may hold."""
    address = without_secrets(address)
    if "://" not in address and "@" in address:
        address = f"***{address[address.rindex('@') :]}"
    return f'"{address[:200]}"'
