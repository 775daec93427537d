"""Folders and files that machines share under a URL, in S3 or on a disk; each appears whole.

A folder's files are written under a name made of their content, and the manifest that names them
last. An object store replaces an object in one piece and a disk renames a file in one piece;
nothing else is asked of either.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

import fsspec

from forget.errors import BadInput
from forget.settings.identity import digest

log = logging.getLogger(__name__)

PATIENCE = {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "12"}
"""Environment of a process that connects to S3, where the user has not set it otherwise.

An object store that is away for a minute costs a trial a minute, not its life.
"""

LEASE_SECONDS = 60.0
"""The time that a process which claimed a name may be silent before others take it for dead."""


class Manifest(TypedDict):
    """The list of a folder's files."""

    version: str
    """Digest of `files`."""
    files: dict[str, str]
    """SHA-256 by name."""


def within(folder: Path, name: str) -> Path:
    """Return `folder`/`name`, where the name comes from elsewhere.

    Raises:
        BadInput: it would lead out of the folder.
    """
    parts = Path(name).parts
    if not parts or ".." in parts or Path(name).is_absolute() or "\0" in name:
        raise BadInput(
            f"{folder}: the name {name!r} leads out of it; whoever gave it is not to be trusted"
        )
    return folder / name


class Remote:
    """A folder under an fsspec URL, e.g. "s3://bucket/studies".

    Credentials and endpoint come from the environment.

    Raises:
        BadInput: no file system is known, or installed, for the URL's scheme; or it holds a
            password, which specs, Ray and messages would pass on.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).password:
            raise BadInput(
                "the store's URL holds a password: set it in the environment, "
                "e.g. as AWS_SECRET_ACCESS_KEY"
            )
        # Others write meanwhile: what was listed a moment ago is no longer true; and an instance
        # keeps its first endpoint.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True} | (
            {"auto_mkdir": True} if url.startswith("file:") else {}
        )
        for name, value in PATIENCE.items():  # botocore reads them when it connects.
            os.environ.setdefault(name, value)
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url.rstrip("/"), **options)
        except (ImportError, ValueError) as error:
            raise BadInput(
                f'the store "{url}" cannot be used: {error}; give a folder or an s3:// URL'
            ) from None

    def put(self, name: str, file: Path) -> None:
        """Write or replace a file in one piece."""
        self._place(name, lambda path: self.fs.put_file(str(file), path))

    def get(self, name: str, file: Path) -> bool:
        """Fetch a file in one piece; return False where there is none."""
        draft = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.fs.get_file(self._path(name), str(draft))
            draft.replace(file)
        except FileNotFoundError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def size(self, name: str) -> int:
        """Return the bytes of a file; 0 where there is none."""
        try:
            return int(self.fs.info(self._path(name))["size"])
        except FileNotFoundError:
            return 0

    def files(self, pattern: str) -> set[str]:
        """Return the names of the files that fit, e.g. "trials/*/outcome.json"."""
        return {path[len(self.root) + 1 :] for path in map(str, self.fs.glob(self._path(pattern)))}

    def push(self, name: str, folder: Path) -> str:
        """Write or replace a folder in one piece; return its version, a digest of its content."""
        files = {
            str(path.relative_to(folder)): _sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        version, before = digest(files), self.version(name)
        if version != before:
            for file in files:
                self.fs.put_file(str(folder / file), f"{self._path(name)}.{version}/{file}")
            self._write(f"{name}.manifest", {"version": version, "files": files})
            if before:
                self.clear(f"{name}.{before}")
        return version

    def version(self, name: str) -> str | None:
        """Return the version of a folder; None where there is none."""
        found = self._manifest(name)
        return found["version"] if found else None

    def pull(self, name: str, folder: Path) -> str | None:
        """Fill an empty folder; return the version that it now holds, None where there is none.

        Raises:
            OSError: a file is not what the manifest says.
            BadInput: the manifest names a file outside the folder.
        """
        while manifest := self._manifest(name):
            version = manifest["version"]
            # A folder that was replaced while it was read is read again.
            with suppress(FileNotFoundError):
                for file, sha256 in manifest["files"].items():
                    path = within(folder, file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self.fs.get_file(f"{self._path(name)}.{version}/{file}", str(path))
                    if _sha256(path) != sha256:
                        raise OSError(
                            f"{self._path(name)}: {file} is damaged; "
                            "remove it, and it will be made again"
                        )
                return version
            if self.version(name) == version:
                raise OSError(
                    f"{self._path(name)}: a file is missing; "
                    "remove its manifest, and it will be made again"
                )
        return None

    def remove(self, name: str) -> None:
        """Remove a folder, if there is one, and what those left who died while they wrote it."""
        if self.version(name):
            self.fs.rm_file(self._path(f"{name}.manifest"))
        for path in map(str, self.fs.glob(self._path(f"{name}.*"))):
            self.clear(path[len(self.root) + 1 :])

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Claim a name to work on, and give False where another process has claimed it.

        The claim holds until the block ends or the process dies.
        """
        path, me = self._path(f"{name}.claim"), uuid.uuid4().hex
        try:
            # "x": of several who try at once, one succeeds.
            with self.fs.open(path, "xb") as file:
                file.write(me.encode())
        except OSError as error:
            # EINVAL is what s3fs makes of a precondition that does not hold.
            if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                raise
            yield False
            return
        done = threading.Event()

        def beat() -> None:
            while not done.wait(LEASE_SECONDS / 6):
                try:
                    self.fs.pipe_file(path, f"{me} {time.time()}".encode())
                # Every file system has errors of its own, and the next beat may succeed.
                except Exception as error:
                    log.warning("%s: no sign of life could be left: %s", path, error)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            done.set()
            thread.join()
            self.break_claim(name)

    def claim(self, name: str) -> bytes | None:
        """Return the last sign of life of whoever claimed the name; None where nobody did."""
        try:
            return bytes(self.fs.cat_file(self._path(f"{name}.claim")))
        except FileNotFoundError:
            return None

    def break_claim(self, name: str) -> None:
        """Remove the claim of a process that has died."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._path(f"{name}.claim"))

    def _manifest(self, name: str) -> Manifest | None:
        """Return the manifest of a folder; None where there is none.

        Raises:
            BadInput: its version is no digest. It is a part of paths, of what is deleted as well.
        """
        try:
            found: Manifest = json.loads(self.fs.cat_file(self._path(f"{name}.manifest")))
        except FileNotFoundError:
            return None
        if not re.fullmatch("[0-9a-f]{16}", found["version"]):
            raise BadInput(
                f"{self._path(name)}.manifest was not written by forget: "
                "remove it, and it will be made again"
            )
        return found

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        self._place(name, lambda path: self.fs.pipe_file(path, json.dumps(fields).encode()))

    def _place(self, name: str, write: Callable[[str], None]) -> None:
        path = self._path(name)
        if "s3" in self.fs.protocol:  # S3 writes an object in one piece; a disk renames a file so.
            write(path)
        else:
            draft = f"{path}.{uuid.uuid4().hex}"
            write(draft)
            self.fs.mv(draft, path)

    def clear(self, name: str) -> None:
        """Remove everything under the name, file by file."""
        with suppress(FileNotFoundError):
            self.fs.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        within(Path(self.root), name)
        return f"{self.root}/{name}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
