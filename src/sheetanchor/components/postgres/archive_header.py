"""The head of a custom-format dump: which server it was made of.

Layout: ReadHead in PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c. Integers are a sign byte
and `intsize` bytes, least significant first; strings are an integer length and the bytes.
"""

from __future__ import annotations

import re

from sheetanchor.errors import ArchiveError

MAGIC = b"PGDMP"
_TIME_FIELDS = 7


def server_version_of(head: bytes) -> int:
    """Return the dumped server's version as 150020 for 15.20. Raises ArchiveError."""
    reader = _Head(head)
    if reader.take(len(MAGIC)) != MAGIC:
        raise ArchiveError("this is not a PostgreSQL dump in custom format")
    major, minor, _revision, reader.int_size, _offset_size, _format = reader.take(6)
    if (major, minor) >= (1, 15):
        reader.take(1)
    else:
        reader.integer()
    for _ in range(_TIME_FIELDS):
        reader.integer()
    reader.text()
    version = re.match(rb"(\d+)\.(\d+)", reader.text())
    if version is None:
        raise ArchiveError("the PostgreSQL dump does not say of which version it is")
    return int(version.group(1)) * 10000 + int(version.group(2))


class _Head:
    """A cursor over the first bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self.int_size = 4

    def take(self, size: int) -> bytes:
        piece = self._data[self._position : self._position + size]
        self._position += size
        if len(piece) != size:
            raise ArchiveError("the PostgreSQL dump is cut off in its head")
        return piece

    def integer(self) -> int:
        sign, *rest = self.take(1 + self.int_size)
        value = int.from_bytes(bytes(rest), "little")
        return -value if sign else value

    def text(self) -> bytes:
        length = self.integer()
        return self.take(length) if length > 0 else b""
