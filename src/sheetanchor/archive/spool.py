"""Where a member waits until its size is known: a tar header stands before its content.

A plain folder's own file is that place when a folder is written; otherwise it is a file without
a name, so that nothing is left behind by a crash, and encrypted under a key that is only in
memory when no plain form of the archive may be on disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sheetanchor.archive.streams import CHUNK_BYTES
from sheetanchor.errors import ArchiveError, NoSpaceError

_NO_SPACE = (28, 122)
"""ENOSPC and EDQUOT."""


class Spool(Protocol):
    """Written once, then read once from its beginning."""

    def write(self, data: bytes) -> None:
        """Append `data`. Raises NoSpaceError."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield everything that was written."""
        ...

    def close(self) -> None:
        """Free what is held; durable where the file stays."""
        ...


class FolderFile:
    """A file of the plain folder."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._file = open_new(path)

    def write(self, data: bytes) -> None:
        """Append `data`."""
        write_all(self._file, data, self._path)

    def chunks(self) -> Iterator[bytes]:
        """Yield everything that was written."""
        self._file.seek(0)
        while data := self._file.read(CHUNK_BYTES):
            yield data

    def close(self) -> None:
        """Make the file durable and close it."""
        os.fsync(self._file.fileno())
        self._file.close()


class HiddenFile:
    """A file without a name in `directory`; encrypted with `random_bytes` as key, if given."""

    def __init__(self, directory: Path, random_bytes: Callable[[int], bytes] | None) -> None:
        self._directory = directory
        try:
            nameless = tempfile.TemporaryFile(buffering=0, dir=directory)  # noqa: SIM115 - lives as long as self
        except OSError as error:
            raise storage_error(directory, error) from error
        self._file = cast("BinaryIO", nameless)
        self._cipher = None
        if random_bytes is not None:
            self._cipher = Cipher(algorithms.AES256(random_bytes(32)), modes.CTR(random_bytes(16)))
        self._encryptor = self._cipher.encryptor() if self._cipher else None

    def write(self, data: bytes) -> None:
        """Append `data`."""
        sealed = self._encryptor.update(data) if self._encryptor else data
        write_all(self._file, sealed, self._directory)

    def chunks(self) -> Iterator[bytes]:
        """Yield everything that was written."""
        self._file.seek(0)
        decryptor = self._cipher.decryptor() if self._cipher else None
        while data := self._file.read(CHUNK_BYTES):
            yield decryptor.update(data) if decryptor else data

    def close(self) -> None:
        """Drop the content."""
        self._file.close()


def open_new(path: Path) -> BinaryIO:
    """Create `path` for its owner alone; it must not exist. Raises ArchiveError, NoSpaceError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    return cast("BinaryIO", os.fdopen(descriptor, "w+b", buffering=0))


def write_all(file: BinaryIO, data: bytes, where: Path) -> None:
    """Write all of `data`. Raises NoSpaceError or ArchiveError naming `where`."""
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise storage_error(where, error) from error


def storage_error(where: Path, error: OSError) -> ArchiveError | NoSpaceError:
    """Turn a file system's error into ours."""
    if error.errno in _NO_SPACE:
        return NoSpaceError(f"{where}: no space left", hint="free space there, or give another directory")
    return ArchiveError(f"{where}: {error.strerror}")
