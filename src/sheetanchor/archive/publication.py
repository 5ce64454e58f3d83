"""Files that appear whole or not at all: written in a hidden directory, then moved into place.

The hidden directory is locked by the process that writes, so that a later run can tell the
leavings of a killed one from another run at work, and removes them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from sheetanchor.archive.spool import storage_error
from sheetanchor.errors import ArchiveError

_MARK = ".partial-"


class Publication:
    """A hidden working directory below `directory`; `publish` moves finished things out of it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._lock = -1
        self.work = directory / f".{name}{_MARK}{secrets.token_hex(4)}"

    def __enter__(self) -> Publication:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            remove_leavings(self._directory)
            self.work.mkdir(mode=0o700)
            self._lock = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise storage_error(self._directory, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        os.close(self._lock)

    def publish(self, parts: list[Path], replace: Sequence[Path] = ()) -> None:
        """Move `parts` (below `work`) into the directory, in this order, durably.

        Raises ArchiveError before the first move when one of the names is taken and the part is
        not in `replace`.
        """
        for part in parts:
            if part not in replace and os.path.lexists(self._directory / part.name):
                raise taken(self._directory / part.name)
        try:
            for part in parts:
                _sync_tree(part)
            for part in parts:
                os.rename(part, self._directory / part.name)
            _sync(self._directory)
        except OSError as error:
            raise storage_error(self._directory, error) from error


def taken(path: Path) -> ArchiveError:
    """Return the error for a name that is in use."""
    return ArchiveError(f"{path} exists already", hint="remove it, or export to another directory")


def remove_leavings(directory: Path) -> None:
    """Remove the hidden directories of runs that no longer live."""
    for path in directory.glob(f".*{_MARK}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def _sync_tree(path: Path) -> None:
    """Make a file, or a folder whose files are durable already, durable."""
    if path.is_dir():
        for parent, _, _ in os.walk(path):
            _sync(Path(parent))
    else:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
