"""Storing content of any length: read into slabs, cut, and handed to the worker threads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import BinaryIO

from sheetanchor.errors import RepositoryError
from sheetanchor.repository.buffers import Slab
from sheetanchor.repository.chunker import Chunker
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.writer import Account, BlobWriter

Readinto = Callable[[memoryview], int | None]

INLINE_SIZE = 64 * 1024
"""Bytes up to which a task of its own costs more than storing the blob at once."""

READ_SIZE = 1024 * 1024
"""Bytes of one read; some kernel files refuse larger ones."""


class PendingContent:
    """The blobs of one file, perhaps not all stored yet."""

    def __init__(self, parts: list[Future[Id]] | tuple[Id, ...]) -> None:
        self._parts = parts

    def wait(self, check: Callable[[], None]) -> tuple[Id, ...]:
        """Return the blob ids, waiting for them. Raises what stopped the writer."""
        if isinstance(self._parts, tuple):
            return self._parts
        try:
            self._parts = tuple(part.result() for part in self._parts)
        except CancelledError as error:
            check()
            raise RepositoryError("the write session was ended") from error
        return self._parts


@dataclass(frozen=True)
class StoredStream:
    """A stream that was read to its end."""

    content: PendingContent
    size: int
    sha256: str


class StreamWriter:
    """Stores one content after the other; for one thread."""

    def __init__(self, writer: BlobWriter, chunker: Chunker, account: Account) -> None:
        self._writer = writer
        self._account = account
        self._chunker = chunker
        self._slab: Slab | None = None
        self._used = 0

    def write_small(self, data: bytes) -> PendingContent:
        """Store the whole content of a small file as one blob, in this thread."""
        if not data:
            return PendingContent(())
        return PendingContent((self._writer.save(BlobType.DATA, data, self._account),))

    def write_medium(self, readinto: Readinto, size: int) -> tuple[PendingContent, int]:
        """Store one blob of about `size` bytes; return it with the number of bytes read.

        A file that has grown meanwhile is stored up to `size` + 1 bytes, by which the caller
        can tell. `size` must be below the chunker's minimum.
        """
        if self._slab is not None and self._used + size + 1 > len(self._slab.view):
            self.release()
        if self._slab is None:
            self._slab = Slab(self._writer.slabs, self._writer.check)
        space = self._slab.view[self._used : self._used + size + 1]
        count = fill(readinto, space)
        if count == 0:
            return PendingContent(()), 0
        future = self._writer.submit(self._slab, space[:count], self._account)
        self._used += count
        return PendingContent([future]), count

    def write(self, source: BinaryIO) -> StoredStream:
        """Store a stream of unknown length, reading it to its end; hashes the whole of it too."""
        self.release()
        whole = hashlib.sha256()
        futures: list[Future[Id]] = []
        size = 0
        for slab, lengths in self._cut_slabs(readinto_of(source)):
            at = 0
            for length in lengths:
                chunk = slab.view[at : at + length]
                futures.append(self._writer.submit(slab, chunk, self._account))
                at += length
            whole.update(slab.view[:at])
            size += at
        return StoredStream(PendingContent(futures), size, whole.hexdigest())

    def release(self) -> None:
        """Let go of the slab that medium files share, so that waiting for one cannot block."""
        if self._slab is not None:
            self._slab.release()
            self._slab = None
            self._used = 0

    def _cut_slabs(self, readinto: Readinto) -> Iterator[tuple[Slab, list[int]]]:
        carry = b""
        final = False
        while not final:
            slab = Slab(self._writer.slabs, self._writer.check)
            try:
                slab.view[: len(carry)] = carry
                used = len(carry) + fill(readinto, slab.view[len(carry) :])
                final = used < len(slab.view)
                lengths = self._chunker.cut(slab.view[:used], final=final)
                yield slab, lengths
                carry = bytes(slab.view[sum(lengths) : used])
            finally:
                slab.release()


def fill(readinto: Readinto, space: memoryview) -> int:
    """Read until `space` is full or the source ends; return the number of bytes read."""
    count = 0
    while count < len(space):
        step = readinto(space[count : count + READ_SIZE])
        if not step:
            break
        count += step
    return count


def readinto_of(source: BinaryIO) -> Readinto:
    """Return the source's `readinto`, or one made from its `read`."""
    readinto = getattr(source, "readinto", None)
    if readinto is not None:
        return readinto  # type: ignore[no-any-return]

    def by_read(space: memoryview) -> int:
        data = source.read(len(space))
        space[: len(data)] = data
        return len(data)

    return by_read
