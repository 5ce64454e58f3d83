"""The served directory: objects that appear whole and proven, and are never replaced."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from sheetanchor.repository.backend.base import Kind, StoredObject, is_object_name
from sheetanchor.repository.ids import is_hex_id
from sheetanchor.repository.server.refused import RefusedError, refusal
from sheetanchor.repository.server.target import Target

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o400
_BESIDE = "~tmp-"
"""Marks a file that is being written, as the directory backend does; no name holds a "~"."""
_ABANDONED_SECONDS = 86400.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)


class ExistsError(Exception):
    """The object is there already; it stays as it is."""


@dataclass(frozen=True)
class OpenedObject:
    """A file to be sent; whoever opened it closes the descriptor."""

    descriptor: int
    size: int


class DirectoryStore:
    """Repositories below one directory. All errors of the file system become RefusedError."""

    def __init__(self, root: str) -> None:
        self._root = root

    def clear_unfinished(self, now: datetime) -> int:
        """Remove what uploads that a crash cut off left a day ago or more; return how many files."""
        cleared = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                with suppress(OSError):
                    age = now.timestamp() - os.lstat(path).st_mtime if _BESIDE in name else 0.0
                    if age > _ABANDONED_SECONDS:
                        os.unlink(path)
                        cleared += 1
        return cleared

    def create(self, target: Target) -> None:
        """Make a repository's directories, 256 of them for packs. Idempotent."""
        repository = os.path.join(self._root, *target.repository)
        kinds = [os.path.join(repository, kind) for kind in Kind if kind is not Kind.CONFIG]
        folders = [os.path.join(repository, Kind.DATA, f"{number:02x}") for number in range(256)]
        with _as_refusals():
            for directory in (*kinds, *folders):
                os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
            for directory in (os.path.join(repository, Kind.DATA), repository, os.path.dirname(repository)):
                _sync_directory(directory)

    def open(self, target: Target) -> OpenedObject:
        """Open an object; nothing that is no regular file is one."""
        with _as_refusals():
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(target.file(self._root), flags)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                raise RefusedError(HTTPStatus.NOT_FOUND, "not there")
            return OpenedObject(descriptor, status.st_size)

    def list(self, target: Target) -> list[StoredObject]:
        """Return all objects of an kind (and prefix); one that is missing holds none."""
        assert target.kind is not None
        directory = os.path.join(self._root, *target.repository, target.kind)
        with _as_refusals():
            if target.kind is Kind.OBJECTS:
                return list(_walk(directory, target.prefix))
            folders = [directory]
            if target.kind is Kind.DATA:
                folders = [os.path.join(directory, f"{number:02x}") for number in range(256)]
            return [found for folder in folders for found in _scan(folder) if is_hex_id(found.name)]

    def put(
        self, target: Target, chunks: Iterable[memoryview], digest: str | None, *, replace: bool = False
    ) -> None:
        """Store an object whole or not at all, durable on return; with `replace` also over another.

        Raises ExistsError, and RefusedError (400) when the bytes' SHA-256 is not `digest`.
        """
        path = target.file(self._root)
        temporary = f"{path}{_BESIDE}{secrets.token_hex(8)}"
        with _as_refusals():
            if not replace and os.path.lexists(path):
                raise ExistsError
            descriptor = self._new_file(target, temporary)
            try:
                _fill(descriptor, chunks, digest)
                if replace:
                    os.rename(temporary, path)
                else:
                    _publish(temporary, path)
            finally:
                os.close(descriptor)
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            _sync_directory(os.path.dirname(path))

    def exists(self, target: Target) -> bool:
        """Say whether an object is there."""
        return os.path.lexists(target.file(self._root))

    def remove(self, target: Target) -> int:
        """Remove an object and return its size; one that is absent already is no error."""
        path = target.file(self._root)
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                return 0
            os.unlink(path)
            _sync_directory(os.path.dirname(path))
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise refusal(error) from error
        return status.st_size

    def _new_file(self, target: Target, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, _FILE_MODE)
        except FileNotFoundError:
            self._make_missing(target, os.path.dirname(path))
            return os.open(path, flags, _FILE_MODE)

    def _make_missing(self, target: Target, directory: str) -> None:
        """Make a missing directory, but only in a repository: not where its disk was mounted."""
        repository = os.path.join(self._root, *target.repository)
        if not any(os.path.exists(os.path.join(repository, kind)) for kind in (Kind.CONFIG, Kind.OBJECTS)):
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no repository; is its disk mounted?")
        os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
        while len(directory) >= len(repository):
            _sync_directory(directory)
            directory = os.path.dirname(directory)


def _fill(descriptor: int, chunks: Iterable[memoryview], digest: str | None) -> None:
    hashed = hashlib.sha256()
    for chunk in chunks:
        hashed.update(chunk)
        while len(chunk):
            chunk = chunk[os.write(descriptor, chunk) :]
    if digest is not None and hashed.hexdigest() != digest:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the bytes that came are not what their SHA-256 says")
    _sync(descriptor)


def _publish(temporary: str, path: str) -> None:
    """Give a file its name, unless somebody was quicker."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise ExistsError from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links (FAT, some network shares) two writers at once may both win.
        if os.path.lexists(path):
            raise ExistsError from error
        os.rename(temporary, path)


def _scan(directory: str) -> Iterator[StoredObject]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        received_at = datetime.fromtimestamp(status.st_mtime, UTC)
                        yield StoredObject(entry.name, status.st_size, received_at)
    except (FileNotFoundError, NotADirectoryError):
        return


def _walk(directory: str, prefix: str) -> Iterator[StoredObject]:
    """Yield the sealed objects below a folder; links to elsewhere are not followed."""
    for folder, _, _ in os.walk(os.path.join(directory, prefix)):
        within = os.path.relpath(folder, directory)
        for found in _scan(folder):
            name = found.name if within == "." else f"{within}/{found.name}"
            if is_object_name(name):
                yield StoredObject(name, found.size, found.received_at)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_refusals() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError):
        # The client's connection, not the disk: it ends the request by itself.
        raise
    except OSError as error:
        raise refusal(error) from error
