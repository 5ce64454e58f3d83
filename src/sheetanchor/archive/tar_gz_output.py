"""The outer `.tar.gz` and `.tar.gz.enc`, written side by side in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from sheetanchor.archive import tar_format
from sheetanchor.archive.encryption import EncryptingWriter
from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.spool import open_new, write_all
from sheetanchor.archive.streams import HashingSink
from sheetanchor.archive.tar_format import Header
from sheetanchor.secret import Secret


class OutputFile:
    """A single file of the archive, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_new(path)
        self._hashing = HashingSink(lambda data: write_all(self._file, data, path))

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._hashing.write(data)

    def close(self) -> None:
        """Make the file durable and close it; a second call does nothing."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def abandon(self) -> None:
        """Close without making durable what is thrown away."""
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._hashing.size

    @property
    def sha256(self) -> str:
        """Hex digest of what was written."""
        return self._hashing.sha256


class TarGzOutput:
    """Turns members into the gzipped tar and hands that to the plain and the encrypted file."""

    def __init__(
        self, folder: str, mtime: int, plain: OutputFile | None, sealed: EncryptingWriter | None
    ) -> None:
        self._folder = folder.encode("ascii")
        self._mtime = mtime
        self._plain = plain
        self._sealed = sealed
        self._gzip = GzipWriter(self._emit)
        self._gzip.write(self._header(b"", tar_format.DIRECTORY, 0o700, 0))
        self._folders: set[bytes] = set()

    def add(self, member: str, size: int, chunks: Iterable[bytes], *, compressed: bool, stored: bool) -> None:
        """Add a member of `size` bytes.

        `compressed`: `chunks` are the member's content as gzip members already. `stored`: the
        content does not compress and is kept as it is.
        """
        name = member.encode("utf-8", "surrogateescape")
        self._add_folders(name)
        self._gzip.write(self._header(name, tar_format.REGULAR, 0o600, size))
        if compressed or stored:
            self._gzip.flush()
        write: Callable[[bytes], None] = self._gzip.write
        if compressed:
            write = self._gzip.write_members
        elif stored:
            write = self._gzip.write_stored
        for data in chunks:
            write(data)
        self._gzip.write(tar_format.padding(size))

    def finish(self) -> bytes | None:
        """End the tar; return the text of the `.hmac` file where there is an encrypted one."""
        with self._gzip:
            self._gzip.write(tar_format.END)
        return self._sealed.finish() if self._sealed else None

    def abort(self) -> None:
        """Drop what is still being compressed."""
        self._gzip.abort()

    def _emit(self, data: bytes) -> None:
        if self._plain:
            self._plain.write(data)
        if self._sealed:
            self._sealed.write(data)

    def _add_folders(self, name: bytes) -> None:
        parts = name.split(b"/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = b"/".join(parts[:count])
            if folder not in self._folders:
                self._folders.add(folder)
                self._gzip.write(self._header(folder + b"/", tar_format.DIRECTORY, 0o700, 0))

    def _header(self, name: bytes, kind: bytes, mode: int, size: int) -> bytes:
        header = Header(self._folder + b"/" + name, mode, 0, 0, size, self._mtime, kind)
        return tar_format.encode(header, {})


def secret_output(path: Path, key: Secret) -> tuple[OutputFile, EncryptingWriter]:
    """Open the encrypted file."""
    file = OutputFile(path)
    return file, EncryptingWriter(file.write, key)
