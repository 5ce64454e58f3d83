"""Small byte streams that the archive's readers and writers are built of."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 1 << 20


class ByteSource(Protocol):
    """What is read from: `read` may return fewer bytes than asked, b"" only at the end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...


class SourceStream(io.RawIOBase):
    """A ByteSource as a real Python stream; wrap it in io.BufferedReader."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as one read of the source goes."""
        view = memoryview(buffer).cast("B")
        data = self._source.read(len(view))
        view[: len(data)] = data
        return len(data)


class HashingSource:
    """Passes a source through, hashing and counting what is read."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        """Read from the source."""
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def sha256(self) -> str:
        """Hex digest of what was read."""
        return self._hash.hexdigest()


class HashingSink:
    """Passes written bytes on, hashing and counting them."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write to the sink."""
        self._hash.update(data)
        self.size += len(data)
        self._sink(data)

    @property
    def sha256(self) -> str:
        """Hex digest of what was written."""
        return self._hash.hexdigest()


def as_stream(source: ByteSource, size: int = CHUNK_BYTES) -> io.BufferedReader:
    """Return `source`, of about `size` bytes, as a buffered stream."""
    return io.BufferedReader(SourceStream(source), max(min(size, CHUNK_BYTES), 1))


def read_exactly(source: ByteSource, size: int) -> bytes:
    """Return `size` bytes, fewer only where the source ends."""
    data = source.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing:
        data = source.read(missing)
        if not data:
            break
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)
