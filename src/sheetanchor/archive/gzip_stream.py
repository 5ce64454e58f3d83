"""Gzip in parallel: independent members of one mebibyte, compressed by isal on several threads.

RFC 1952 allows a file of many members; gzip, tar and zlib read it as one stream. What is
compressed already goes into members of stored blocks, which costs a checksum and a copy only.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import cast

from isal import igzip_lib

from sheetanchor.archive.streams import ByteSource
from sheetanchor.errors import HostileArchiveError

BLOCK_BYTES = 1 << 20
LEVEL = 2
"""isal's default: the ratio of zlib's level 4 to 5 at ten times the speed."""

_STORED_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_STORED_BLOCK_BYTES = 65535
_MAGIC = b"\x1f\x8b"
_READ_BYTES = 256 << 10
_MAX_THREADS = 8
_READY_BYTES = 128 << 10
_GZIP_ERROR = cast("type[Exception]", igzip_lib.error)


class GzipWriter:
    """Writes gzip members to `sink`, always from the caller's thread and in order.

    Holds at most two blocks per thread in memory. A context manager: leaving it without an
    error flushes, leaving it with one drops what is still being compressed.
    """

    def __init__(self, sink: Callable[[bytes], object], threads: int | None = None) -> None:
        count = threads or min(os.cpu_count() or 1, _MAX_THREADS)
        self._sink = sink
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="gzip")
        self._pending: deque[Future[bytes]] = deque()
        self._window = 2 * count
        self._block = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Compress `data`."""
        self._block += data
        if len(self._block) < BLOCK_BYTES:
            return
        view = memoryview(self._block)
        whole = len(view) - len(view) % BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            self._submit(bytes(view[start : start + BLOCK_BYTES]))
        rest = bytes(view[whole:])
        view.release()
        self._block = bytearray(rest)

    def write_stored(self, data: bytes | memoryview) -> None:
        """Add `data`, which does not compress, as it is."""
        self.flush()
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            self._sink(stored_member(view[start : start + BLOCK_BYTES]))

    def write_members(self, members: bytes) -> None:
        """Add bytes that are gzip members, or parts of one, already. Call `flush` before the first."""
        self._sink(members)

    def flush(self) -> None:
        """Hand all that was written to the sink; the last block may be short."""
        if self._block:
            self._submit(bytes(self._block))
            self._block = bytearray()
        while self._pending:
            self._sink(self._pending.popleft().result())

    def abort(self) -> None:
        """Drop what is still being compressed; nothing more may be written."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> GzipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.abort()

    def _submit(self, block: bytes) -> None:
        if len(self._pending) >= self._window:
            self._sink(self._pending.popleft().result())
        self._pending.append(self._pool.submit(_compress, block))


def stored_member(data: bytes | memoryview) -> bytes:
    """Return one gzip member that holds `data` in stored blocks (RFC 1951, 3.2.4)."""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = [_STORED_HEADER]
    starts = range(0, len(view), _STORED_BLOCK_BYTES) or range(1)
    for start in starts:
        piece = view[start : start + _STORED_BLOCK_BYTES]
        last = start + _STORED_BLOCK_BYTES >= len(view)
        pieces.append(struct.pack("<BHH", last, len(piece), len(piece) ^ 0xFFFF))
        pieces.append(piece)
    pieces.append(struct.pack("<LL", zlib.crc32(view), len(view) & 0xFFFFFFFF))
    return b"".join(pieces)


class GzipReader:
    """Reads a gzip stream of any number of members; every member's checksum is checked.

    Never holds more than a few hundred KiB, whatever the ratio. Raises HostileArchiveError for
    what is not gzip, is damaged, ends early, or is followed by something else.
    """

    def __init__(self, source: ByteSource, what: str) -> None:
        self._source = source
        self._what = what
        self._unused = b""
        self._ready = b""
        self._taken = 0
        self._member: igzip_lib.IgzipDecompressor | None = None
        self._ended = False
        self._members = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; b"" at the end of the last member."""
        if self._taken == len(self._ready):
            self._ready, self._taken = self._next_piece(max(size, _READY_BYTES)), 0
            if len(self._ready) <= size:
                self._taken = len(self._ready)
                return self._ready
        data = self._ready[self._taken : self._taken + size]
        self._taken += len(data)
        return data

    def _next_piece(self, size: int) -> bytes:
        while not self._ended:
            if self._member is None and not self._next_member():
                break
            assert self._member is not None
            piece = self._decompress(self._member, size)
            if self._member.eof:
                self._unused = self._member.unused_data
                self._member = None
            if piece:
                return piece
        return b""

    def _decompress(self, member: igzip_lib.IgzipDecompressor, size: int) -> bytes:
        data = b""
        if member.needs_input:
            data, self._unused = self._unused or self._source.read(_READ_BYTES), b""
            if not data:
                raise HostileArchiveError(f"{self._what}: ends in the middle (truncated gzip data)")
        try:
            piece: bytes = member.decompress(data, size)
        except _GZIP_ERROR as error:
            raise HostileArchiveError(f"{self._what}: damaged gzip data ({error})") from error
        return piece

    def _next_member(self) -> bool:
        while len(self._unused) < len(_MAGIC):
            more = self._source.read(_READ_BYTES)
            if not more:
                break
            self._unused += more
        if not self._unused and self._members:
            self._ended = True
            return False
        if not self._unused.startswith(_MAGIC):
            raise HostileArchiveError(
                f"{self._what}: " + ("bytes after its end" if self._members else "not gzip")
            )
        self._members += 1
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True


def _compress(block: bytes) -> bytes:
    return bytes(igzip_lib.compress(block, LEVEL, flag=igzip_lib.COMP_GZIP))
