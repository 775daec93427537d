"""Storage of what trials share and leave: every entry appears whole or not at all.

A store is a folder, or a URL that all machines of a cluster see. Of a URL each machine keeps a copy
in a folder of its own, which it fills as it needs and from which it writes back: whoever reads or
computes something works on plain files.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from forget.errors import BadInput
from forget.settings import addresses
from forget.settings.identity import digest
from forget.storage import checksums
from forget.storage.folders import clear_drafts, unwritable, whole_folder, write_text
from forget.storage.remote import LEASE_SECONDS, Remote, within

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Pause between two looks at what another machine is making."""


class Store:
    """Content-addressed folders: a name says how the entry was computed.

    Whoever needs an entry first computes it; the others read it.
    """

    def __init__(self, where: Path | str | None = None) -> None:
        """Find the store; nothing is made yet.

        Args:
            where: a folder or a URL such as s3://bucket/studies; by default $FORGET_STORE, or
                .forget in this directory.

        Raises:
            BadInput: a URL that cannot be used, or a file where a folder should be.
        """
        given = str(where or os.environ.get("FORGET_STORE", "").strip() or ".forget")
        self.where = addresses.store(given)
        self.remote = Remote(self.where) if "://" in self.where else None
        if self.remote:
            copies = os.environ.get("FORGET_CACHE", "").strip() or "~/.cache/forget"
            self.root = addresses.folder(copies, "FORGET_CACHE:") / digest(self.where)
        else:
            self.root = Path(self.where)
        above = next(
            folder for folder in (self.root, *self.root.parents) if os.path.lexists(folder)
        )
        if not os.path.isdir(above):
            raise BadInput(f"the store {self.root} cannot be a folder: {above} is none")

    def read_only(self) -> str | None:
        """Say in a sentence why the user cannot write to the store; None where nothing is amiss."""
        if (place := unwritable(self.root)) is None:
            return None
        cure = "FORGET_CACHE" if self.remote else "FORGET_STORE"
        return (
            f"the store {self.root} cannot be written, {place} may only be read: "
            f"set {cure} to a folder of yours"
        )

    def fetch_file(self, name: str) -> Path:
        """Return the path of a file, fetched unless it is here; it may not exist."""
        path = self.path(name)
        if self.remote and not path.exists():
            self.remote.get(name, path)
        return path

    def decided(self, name: str) -> str | None:
        """Return what `decide` was told under a name; None where nobody has decided yet."""
        path = self.fetch_file(f"decided/{name}")
        return path.read_text(encoding="utf-8") if path.exists() else None

    def decide(self, name: str, value: str) -> str:
        """Keep a value for all who use the store, now and later; return it, or an earlier one."""
        path = self.path(f"decided/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if (earlier := self.decided(name)) is not None:
                return earlier
            write_text(path, value)
            self.publish_file(f"decided/{name}")
        return value

    def fetch_growing(self, name: str) -> Path:
        """Fetch a file that only grows: the longer of the local and the remote copy wins."""
        path = self.path(name)
        if self.remote and self.remote.size(name) > (path.stat().st_size if path.exists() else 0):
            self.remote.get(name, path)
        return path

    def publish_file(self, name: str) -> None:
        """Let the other machines have the file, if there is one."""
        if self.remote and self.path(name).exists():
            self.remote.put(name, self.path(name))

    def delete_file(self, name: str) -> None:
        """Delete a file, here and in the remote store."""
        if self.remote:
            self.remote.clear(name)
        self.path(name).unlink(missing_ok=True)

    def fetch_folder(self, name: str) -> Path | None:
        """Fetch a folder as it was last replaced, by whichever machine.

        Returns:
            None where there is none, or only a damaged one, which is thrown away.
        """
        path = self.path(name)
        self._drop_damaged(path)
        if self.remote and (version := self.remote.version(name)) != (mine := _version(path)):
            if version:
                with whole_folder(path) as draft:
                    version = self.remote.pull(name, draft)
                write_text(_version_file(path), str(version))
            elif mine:
                # Another machine discarded it. A folder without a version was never sent: it is
                # this machine's alone.
                self._drop(path)
        return path if path.exists() else None

    @contextmanager
    def replace(self, name: str) -> Iterator[Path]:
        """Give an empty folder, which replaces the one of that name if the block ends well.

        One process at a time does so with a name: locks see to it.
        """
        path = self.path(name)
        clear_drafts(path.parent, path.name)
        with whole_folder(path) as draft:
            yield draft
        self.publish_folder(name)

    def publish_folder(self, name: str) -> None:
        """Let the other machines have the folder, if there is one."""
        path = self.path(name)
        if self.remote and path.exists():
            write_text(_version_file(path), self.remote.push(name, path))

    def drop_copy(self, name: str) -> None:
        """Delete the local copy of a folder that the remote store has."""
        if self.remote and _version(self.path(name)):
            self._drop(self.path(name))

    def delete(self, name: str) -> None:
        """Delete the folder, here and in the remote store."""
        if self.remote:
            self.remote.remove(name)
        self._drop(self.path(name))

    def has(self, kind: str, key: str) -> bool:
        """Tell whether `once` would only read."""
        folder = self.path(f"{kind}/{key}")
        here = folder.exists() and not checksums.damage(folder, quick=True)
        return here or bool(self.remote and self.remote.version(f"{kind}/{key}"))

    def once(self, kind: str, key: str, make: Callable[[Path | None], None]) -> Path:
        """Return the folder `kind/key`, made by `make(empty folder)` unless it exists.

        Others who ask meanwhile wait.

        All processes of a trial ask together: the main one looks and writes, the others help to
        make what is missing, with `make(None)`.
        """
        folder = self.path(f"{kind}/{key}")
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            self._make_once(folder, make)
            return folder
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        process = PartialState()
        told = False

        def tell(missing: bool) -> bool:
            nonlocal told
            told = True
            return broadcast_object_list([missing])[0]

        def make_together(draft: Path) -> None:
            tell(True)
            make(draft)

        if process.is_main_process:
            self._make_once(folder, make_together)
            if not told:
                tell(False)
        elif tell(False):
            make(None)
        process.wait_for_everyone()
        return folder

    def path(self, name: str) -> Path:
        """Return the place of an entry on this machine.

        Raises:
            BadInput: it would lead out of the store; ids come from servers and buckets, too.
        """
        return within(self.root, name)

    def cut_short(self, folder: Path, drop: bool = True) -> str:
        """Throw a folder away that was cut short, with a word about it; say in words what is wrong.

        A folder that a process makes meanwhile is left alone, and nothing is said of it.

        Args:
            drop: without it, the folder stays where it is.
        """
        # Seen while it is replaced, a folder looks damaged, too: only its lock tells.
        if checksums.damage(folder, quick=True):
            with suppress(Timeout), FileLock(self._lock(folder), timeout=0):
                found = checksums.damage(folder, quick=True)
                if drop:
                    self._drop_damaged(folder)
                return found
        return ""

    def _lock(self, folder: Path) -> Path:
        """Return the path of the lock that whoever makes the folder holds."""
        kind, key, *part = folder.relative_to(self.root).parts
        if part:
            return self.root / kind / key / "running.lock"
        # The state of learning is kept by whoever makes what is learned.
        return self.root / ("learned" if kind == "learning" else kind) / f"{key}.lock"

    def _drop(self, folder: Path) -> None:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)
        _version_file(folder).unlink(missing_ok=True)
        clear_drafts(folder.parent, folder.name)

    def _drop_damaged(self, folder: Path) -> None:
        if found := checksums.damage(folder):
            log.warning("%s is damaged (%s): it is thrown away and made again", folder, found)
            self._drop(folder)

    def _make_once(self, folder: Path, make: Callable[[Path], None]) -> None:
        if os.path.lexists(folder) and not checksums.damage(folder):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        name = str(folder.relative_to(self.root))
        # One process of this machine, and of all machines the one that holds the claim.
        with FileLock(f"{folder}.lock"):
            self._drop_damaged(folder)
            while not folder.exists():
                with self.remote.claimed(name) if self.remote else nullcontext(True) as mine:
                    if self.fetch_folder(name):
                        return
                    if mine:
                        with self.replace(name) as draft:
                            make(draft)
                        return
                self._wait(name)

    def _wait(self, name: str) -> None:
        """Wait until another machine has made the folder, given up, or been silent for too long."""
        assert self.remote
        seen, since = self.remote.claim(name), time.monotonic()
        while seen and not self.remote.version(name):
            if time.monotonic() - since > LEASE_SECONDS:
                self.remote.break_claim(name)
                return
            time.sleep(POLL_SECONDS)
            if (now := self.remote.claim(name)) != seen:
                seen, since = now, time.monotonic()


def _version_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.version")


def _version(folder: Path) -> str | None:
    """Return the version of this machine's copy; None where there is none, or it was never sent."""
    path = _version_file(folder)
    return path.read_text() if path.exists() and folder.exists() else None
