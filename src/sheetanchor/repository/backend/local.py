"""A repository in a directory, laid out as restic lays it out (design, "Repository Layout").

Objects appear whole or not at all: written beside their place, synced, then renamed (or linked,
where they must not replace another), then the directory is synced.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sheetanchor.errors import (
    BackendError,
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    PassingBackendError,
    ReadOnlyBackendError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Features, Kind, StoredObject, is_name

_BESIDE = "~tmp-"
"""Marks a file that is being written; no name of any kind holds a "~"."""
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o400
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_PASSING = (errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""FAT, exFAT and some network shares have no hard links."""
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""Some network file systems cannot sync; restic tolerates that too."""


class LocalBackend:
    """Keeps objects as files, readable by their owner only."""

    def __init__(self, directory: Path) -> None:
        self._root = os.path.abspath(directory)

    @property
    def location(self) -> str:
        """Where this is, for people."""
        return self._root

    @property
    def features(self) -> Features:
        """What the storage promises."""
        return Features(conditional_put=True, concurrency=4)

    def create(self) -> None:
        """Make the directories, 256 of them for packs. Idempotent."""
        kinds = [os.path.join(self._root, kind) for kind in Kind if kind is not Kind.CONFIG]
        data = os.path.join(self._root, Kind.DATA)
        folders = [os.path.join(data, f"{number:02x}") for number in range(256)]
        try:
            for directory in (self._root, *kinds, *folders):
                os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
            for directory in (data, self._root, os.path.dirname(self._root)):
                _sync_directory(directory)
        except OSError as error:
            raise _write_error("make the directories of", self._root, error) from error

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object durably; see Backend."""
        path = self._path(kind, name)
        directory = os.path.dirname(path)
        temporary = f"{path}{_BESIDE}{secrets.token_hex(8)}"
        try:
            self._write(temporary, data)
            if if_absent:
                _link(temporary, path)
            else:
                os.rename(temporary, path)
            _sync_directory(directory)
        except FileExistsError as error:
            raise ObjectExistsError(f"{path} exists already") from error
        except FileNotFoundError as error:
            raise FinalBackendError(
                f"cannot write {path}: the repository's directory is gone", hint="is its disk still mounted?"
            ) from error
        except OSError as error:
            raise _write_error("write", path, error) from error
        finally:
            with suppress(OSError):
                os.unlink(temporary)

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        path = self._path(kind, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                wanted = max(os.fstat(descriptor).st_size - offset, 0) if length is None else length
                data = _read(descriptor, offset, wanted)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _read_error("read", path, error) from error
        if length is not None and len(data) < length:
            raise FinalBackendError(f"{path} ends before byte {offset + length}")
        return data

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        path = self._path(kind, name)
        try:
            return os.stat(path).st_size
        except OSError as error:
            raise _read_error("look at", path, error) from error

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend."""
        if kind is Kind.CONFIG:
            with suppress(ObjectAbsentError):
                yield StoredObject(CONFIG_NAME, self.size(kind, CONFIG_NAME), None)
            return
        directory = os.path.join(self._root, kind)
        if kind is Kind.DATA:
            for number in range(256):
                yield from self._list_directory(kind, os.path.join(directory, f"{number:02x}"))
        else:
            yield from self._list_directory(kind, directory)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        path = self._path(kind, name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _write_error("remove", path, error) from error

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, kind: Kind, name: str) -> str:
        if kind is Kind.CONFIG:
            return os.path.join(self._root, kind)
        if not is_name(kind, name):
            raise FinalBackendError(f"{name[:80]!r} is no name of a file of kind {kind}")
        if kind is Kind.DATA:
            return os.path.join(self._root, kind, name[:2], name)
        return os.path.join(self._root, kind, name)

    def _write(self, path: str, data: bytes | bytearray | memoryview) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, _FILE_MODE)
        except FileNotFoundError:
            self._make_missing(os.path.dirname(path))
            descriptor = os.open(path, flags, _FILE_MODE)
        try:
            view = memoryview(data).cast("B")
            while len(view):
                view = view[os.write(descriptor, view) :]
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def _make_missing(self, directory: str) -> None:
        """Make missing directories, but only in a repository: not where its disk was mounted."""
        if not any(os.path.exists(os.path.join(self._root, kind)) for kind in (Kind.CONFIG, Kind.OBJECTS)):
            raise FileNotFoundError(errno.ENOENT, "no repository", directory)
        missing = [directory]
        while not os.path.isdir(parent := os.path.dirname(missing[-1])):
            missing.append(parent)
        os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
        for made in missing:
            _sync_directory(os.path.dirname(made))

    def _list_directory(self, kind: Kind, directory: str, folder: str = "") -> Iterator[StoredObject]:
        """Yield a directory's objects; of sealed objects also those further down, named from the top."""
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = folder + entry.name
                    if not is_name(kind, name):
                        continue
                    if kind is Kind.OBJECTS and entry.is_dir(follow_symlinks=False):
                        yield from self._list_directory(kind, entry.path, f"{name}/")
                    elif (found := _stored(entry, name)) is not None:
                        yield found
        except FileNotFoundError:
            return
        except OSError as error:
            raise _read_error("list", directory, error) from error


def _stored(entry: os.DirEntry[str], name: str) -> StoredObject | None:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    return StoredObject(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _read(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    parts = [data]
    done = len(data)
    while done < length and parts[-1]:
        parts.append(os.pread(descriptor, length - done, offset + done))
        done += len(parts[-1])
    return b"".join(parts)


def _link(temporary: str, path: str) -> None:
    """Publish a file unless `path` exists; without hard links two writers at once may both win."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists", path) from error
        os.rename(temporary, path)


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


def _read_error(what: str, path: str, error: OSError) -> BackendError:
    message = f"cannot {what} {path}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ObjectAbsentError(message)
    if error.errno in _PASSING:
        return PassingBackendError(message)
    hint = "check owner and permissions of this path" if error.errno in _REFUSED else None
    return FinalBackendError(message, hint=hint)


def _write_error(what: str, path: str, error: OSError) -> BackendError:
    message = f"cannot {what} {path}: {os.strerror(error.errno or 0)}"
    if error.errno in _FULL:
        return NoSpaceError(message, hint="free space on this file system, or let retention remove backups")
    if error.errno in _REFUSED:
        return ReadOnlyBackendError(message, hint="check owner, permissions and mount of this path")
    if error.errno in _PASSING:
        return PassingBackendError(message)
    return FinalBackendError(message)
